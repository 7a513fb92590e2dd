//! The PostgreSQL engine: servers and workers on many machines share one database.
//!
//! What is stored decides; what a process remembers are series, shapes and columns, which do not
//! change under their ids. A batch is committed in one transaction with its ledger row, after
//! `UPDATE streams … WHERE committed = …` has moved its stream: of two workers with the same
//! record one commits. An hour later one process, by an advisory lock, packs batches into chunks
//! and deletes them in the same transaction.
//!
//! | table | one row | until |
//! |---|---|---|
//! | `series` | a name with labels | it has no samples, nor rollups, and two days more |
//! | `streams`, `ledger`, `dead_letters` | as in [`crate::sqlite`] | the same |
//! | `shapes` | the series of a batch's rows | no batch has it |
//! | `batches` | a committed batch | it is packed; a partition an hour |
//! | `chunks`, `chunk_times` | a series in an hour | [`PostgresOptions::keep_raw`]; a partition a day |
//! | `rollups` | the same, reduced | [`PostgresOptions::keep_rollups`]; a partition a week |
//!
//! With TimescaleDB the last three are hypertables (see [`Level`]).
//!
//! Samples are arrays that SQL reads: see the views of `migrations/postgres`. Samples are never
//! deleted by age: their partitions are dropped.
//!
//! Texts of other people are written in another way where they have a U+0000, which PostgreSQL
//! cannot keep.

mod access;
mod agents;
mod alerting;
mod cache;
mod columns;
mod commit;
mod copy;
mod evaluations;
mod failure;
mod fleet;
mod lease;
mod ledger;
mod level;
mod maintain;
mod open;
mod pack;
mod partitions;
mod plan;
mod prepare;
mod query;
mod read;
mod records;
mod retain;
mod rules;
mod series;
mod slots;
mod store;
mod sweep;
mod tail;
mod text;
mod url;
mod windows;

pub use level::Level;
pub use url::PostgresUrl;

use crate::StoreError;
use crate::samples::series::Registry;
use cache::Cache;
use commit::Writer;
use maintain::Upkeep;
use parking_lot::{Mutex, RwLock};
use sentinel_model::duration::Millis;
use sqlx::postgres::{PgConnectOptions, PgPool};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const DAY: u64 = 86_400_000;

/// How a database is kept, and how much of it one process uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresOptions {
    /// Raw samples are kept for so long, in whole hours.
    pub keep_raw: Millis,
    /// Hourly rollups are kept for so long.
    pub keep_rollups: Millis,
    /// Dead letters, alert history, finished notifications and resolved alerts likewise.
    pub keep_history: Millis,
    /// Ledger rows kept of each stream, against which a repeated record's hash is compared.
    pub ledger_rows: u64,
    /// The most samples of batches that are held decoded, about 8 bytes each.
    pub tail_samples: usize,
    /// The most bytes for remembering agents' batch shapes.
    pub shape_bytes: usize,
    /// Connections for everything but commits, which have one of their own.
    pub connections: u32,
    /// How long a connection is waited for.
    pub acquire_timeout: Duration,
    /// How long PostgreSQL works on one statement before it gives it up.
    pub statement_timeout: Duration,
    /// How long a statement waits for a lock.
    pub lock_timeout: Duration,
    /// How long PostgreSQL waits, in a transaction, for the next word of a process before it takes the transaction
    /// back: longer than the longest work between two statements of one (the columns of some thousand chunks, which
    /// take well below a second of a processor), since what stands still in one may keep others from their commits.
    pub idle_timeout: Duration,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            keep_raw: Millis(7 * DAY),
            keep_rollups: Millis(90 * DAY),
            keep_history: Millis(90 * DAY),
            ledger_rows: 10_000,
            tail_samples: 8 << 20,
            shape_bytes: 64 << 20,
            connections: 8,
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(60),
            lock_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
        }
    }
}

/// A store in a PostgreSQL database. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct PostgresStore(Arc<Shared>);

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore").field("url", &self.0.url).finish_non_exhaustive()
    }
}

struct Shared {
    url: PostgresUrl,
    options: PostgresOptions,
    connect: PgConnectOptions,
    found: level::Found,
    pool: PgPool,
    /// None after closing.
    writer: tokio::sync::Mutex<Option<Writer>>,
    registry: RwLock<Registry>,
    /// The last change of series that the registry has; held while it is brought up to date.
    changed: tokio::sync::Mutex<i64>,
    cache: Mutex<Cache>,
    /// Hours for which `batches` is known to have a partition.
    hours: Mutex<BTreeSet<i64>>,
    upkeep: tokio::sync::Mutex<Upkeep>,
}

impl PostgresStore {
    /// Connects, brings the schema up to date, and reads the series.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where the database does not answer, [`StoreError::Conflict`]
    /// where a newer version has written it.
    pub async fn open(url: PostgresUrl, options: PostgresOptions) -> Result<Self, StoreError> {
        open::open(url, options).await.map(|shared| Self(Arc::new(shared)))
    }

    /// What the database offers beyond tables.
    #[must_use]
    pub fn level(&self) -> Level {
        self.0.found.level
    }

    fn still_open(&self) -> Result<(), StoreError> {
        if self.0.pool.is_closed() { Err(closed()) } else { Ok(()) }
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".into())
}
