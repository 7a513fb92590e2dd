//! The PostgreSQL that the tests of one process share.

use sentinel_test_services::{Postgres, Services};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

/// The services of this checkout.
pub(crate) fn services() -> Services {
    let list = std::env::var_os("SENTINEL_SERVICES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/services/services.json"),
        PathBuf::from,
    );
    Services::read(&list).unwrap()
}

/// A server, which ends with the last test that has it.
pub(crate) fn shared() -> Arc<Postgres> {
    static SERVER: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
    let mut server = SERVER.lock().unwrap();
    server.upgrade().unwrap_or_else(|| {
        let started = Arc::new(Postgres::start_in_memory(&services(), &[]).unwrap());
        *server = Arc::downgrade(&started);
        started
    })
}
