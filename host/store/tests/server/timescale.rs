//! A PostgreSQL with TimescaleDB. `cargo xtask services` brings the Apache edition, which refuses what
//! is Community's. `SENTINEL_TIMESCALE` names a list of services, like that of `SENTINEL_SERVICES`, of another:
//! suites of the Community edition are soak's, and fail without one.

use sentinel_test_services::{Postgres, Services};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

/// What `timescaledb.license` is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edition {
    Apache,
    Community,
}

fn services() -> Services {
    let list = std::env::var_os("SENTINEL_TIMESCALE").map_or_else(
        || {
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../target/services/timescale/services.json")
        },
        PathBuf::from,
    );
    Services::read(&list).unwrap()
}

/// A server of an edition, which ends with the last test that has it.
pub(crate) fn shared(edition: Edition) -> Arc<Postgres> {
    static SERVERS: [Mutex<Weak<Postgres>>; 2] = [Mutex::new(Weak::new()), Mutex::new(Weak::new())];
    let mut server = SERVERS[edition as usize].lock().unwrap();
    server.upgrade().unwrap_or_else(|| {
        let license = match edition {
            Edition::Apache => "timescaledb.license=apache",
            Edition::Community => "timescaledb.license=timescale",
        };
        let settings = [
            "shared_preload_libraries=timescaledb",
            license,
            "timescaledb.telemetry_level=off",
            // A background worker a database, and the tests make many.
            "max_worker_processes=64",
            "timescaledb.max_background_workers=48",
            "max_locks_per_transaction=256",
            // What compiles queries is not fetched.
            "jit=off",
        ];
        let started = Arc::new(Postgres::start_in_memory(&services(), &settings).unwrap());
        *server = Arc::downgrade(&started);
        started
    })
}

/// An empty database with the extension; its URL.
pub(crate) fn database(server: &Postgres) -> String {
    let url = server.database().unwrap();
    server.query(&url, "CREATE EXTENSION timescaledb").unwrap();
    url
}
