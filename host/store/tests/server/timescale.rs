//! The PostgreSQL with TimescaleDB that the tests of one process share. Suites of the Community edition are
//! soak's, and fail where `SENTINEL_TIMESCALE` names none.

pub(crate) use sentinel_test_services::TimescaleEdition as Edition;
use sentinel_test_services::{Postgres, Services};
use std::sync::{Arc, Mutex, Weak};

/// A server of an edition, which ends with the last test that has it.
pub(crate) fn shared(edition: Edition) -> Arc<Postgres> {
    static SERVERS: [Mutex<Weak<Postgres>>; 2] = [Mutex::new(Weak::new()), Mutex::new(Weak::new())];
    let mut server = SERVERS[edition as usize].lock().unwrap();
    server.upgrade().unwrap_or_else(|| {
        let services = Services::timescale().unwrap();
        let started = Arc::new(Postgres::start_timescale(&services, edition).unwrap());
        *server = Arc::downgrade(&started);
        started
    })
}

/// An empty database with the extension; its URL.
pub(crate) fn database(server: &Postgres) -> String {
    server.timescale_database().unwrap()
}
