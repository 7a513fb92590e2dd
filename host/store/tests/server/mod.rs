//! The PostgreSQL that the tests of one process share.

use sentinel_test_services::{Postgres, Services};
use std::sync::{Arc, Mutex, Weak};

/// A server, which ends with the last test that has it.
pub(crate) fn shared() -> Arc<Postgres> {
    static SERVER: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
    let mut server = SERVER.lock().unwrap();
    server.upgrade().unwrap_or_else(|| {
        let started = Arc::new(Postgres::start_in_memory(&Services::here().unwrap(), &[]).unwrap());
        *server = Arc::downgrade(&started);
        started
    })
}
