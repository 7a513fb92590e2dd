//! A PostgreSQL with TimescaleDB. `cargo xtask services` brings the Apache edition, which refuses what
//! is Community's. `SENTINEL_TIMESCALE` names a list of services, like that of `SENTINEL_SERVICES`, of another.

use crate::{Postgres, Services};
use anyhow::Result;

const SETTINGS: &[&str] = &[
    "shared_preload_libraries=timescaledb",
    "timescaledb.telemetry_level=off",
    // A background worker a database, and the tests make many.
    "max_worker_processes=64",
    "timescaledb.max_background_workers=48",
    "max_locks_per_transaction=256",
    // What compiles queries is not fetched.
    "jit=off",
];

/// What `timescaledb.license` is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimescaleEdition {
    /// What is under the Apache licence alone.
    Apache,
    /// All of it.
    Community,
}

impl TimescaleEdition {
    fn license(self) -> &'static str {
        match self {
            Self::Apache => "timescaledb.license=apache",
            Self::Community => "timescaledb.license=timescale",
        }
    }
}

impl Services {
    /// Those of a PostgreSQL that has TimescaleDB, with programs of its release.
    ///
    /// # Errors
    /// Where there are none.
    pub fn timescale() -> Result<Self> {
        Self::named("SENTINEL_TIMESCALE", "services/timescale/services.json")
    }
}

impl Postgres {
    /// As [`Postgres::start_in_memory`], of [`Services::timescale`] and with an edition.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_timescale(services: &Services, edition: TimescaleEdition) -> Result<Self> {
        let settings = [SETTINGS, &[edition.license()]].concat();
        Self::start_in_memory(services, &settings)
    }

    /// Makes an empty database with the extension; its URL.
    ///
    /// # Errors
    /// Where the server does not.
    pub fn timescale_database(&self) -> Result<String> {
        let url = self.database()?;
        self.query(&url, "CREATE EXTENSION timescaledb")?;
        Ok(url)
    }
}
