//! The SQLite engine: one file, one writer, everything that is asked often in memory.
//!
//! A batch is committed as one blob with its ledger row, in one transaction of one round trip;
//! an hour later it is packed into chunks, one a series and hour. Questions read the tail
//! (what is not packed, the tail) and the chunks as one.
//!
//! What stands where:
//!
//! | table | one row | until |
//! |---|---|---|
//! | `series` | a name with labels | it has no samples, nor rollups |
//! | `streams` | an (agent, epoch) with its committed offset | the longest of all times here, and its agent has a newer one |
//! | `ledger` | a committed record or skipped range, with its hash | [`StoreOptions::ledger_rows`] newer ones of its stream |
//! | `dead_letters` | a record that could not be processed | [`StoreOptions::keep_history`] |
//! | `batches` | a committed batch, `format::batch` | it is packed |
//! | `chunks`, `chunk_times` | a series in an hour, `format::chunk` | [`StoreOptions::keep_raw`] |
//! | `rollups` | the same, reduced | [`StoreOptions::keep_rollups`] |
//! | `evaluations` | a call of an evaluator | [`crate::evaluations::KEPT_MS`] |
//! | `window_parts` | windows of some series | it is written anew |
//!
//! The key of chunks and rollups is `bucket << 24 | series`, bucket being hours since 1970
//! (held within ±2^38, so that no time is refused). A process owns the file alone, by a lock
//! on `<file>.lock`: what is in memory is what is stored.

mod access;
mod agents;
mod alerting;
mod attention;
mod buckets;
mod commit;

mod evaluations;
mod exact;
mod fleet;
mod lease;
mod maintain;
mod open;
mod pack;
mod query;
mod read;
mod records;
mod retain;
mod rewind;
mod rules;
mod script;
mod slots;
mod store;
mod sweep;
mod tail;
mod windows;

use crate::StoreError;
use crate::samples::series::Registry;
use crate::samples::tail::Tail;
use buckets::Buckets;
use commit::{Streams, Writer};
use futures::future::BoxFuture;
use maintain::Upkeep;
use parking_lot::{Mutex, RwLock};
use script::{Script, counted, transaction};
use sentinel_model::duration::Millis;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Instant;

const DAY: u64 = 86_400_000;

/// How a database is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Raw samples are kept for so long, in whole hours.
    pub keep_raw: Millis,
    /// Hourly rollups are kept for so long.
    pub keep_rollups: Millis,
    /// Dead letters, alert history, finished notifications and resolved alerts likewise.
    pub keep_history: Millis,
    /// Ledger rows kept of each stream, against which a repeated record's hash is compared.
    /// One repeated later still counts as a duplicate, without that check.
    pub ledger_rows: u64,
    /// The most samples of the tail that are held decoded, about 12 bytes each.
    pub tail_samples: usize,
    /// The most bytes for remembering agents' batch shapes.
    pub shape_bytes: usize,
    /// SQLite's page cache of each connection, in KiB.
    pub cache_kib: u32,
    /// Connections for questions.
    pub readers: u32,
    /// The most pages of 4 KiB that the file may have; 0 is SQLite's own bound. Beyond it
    /// commits answer [`StoreError::Full`].
    pub max_pages: u32,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            keep_raw: Millis(7 * DAY),
            keep_rollups: Millis(90 * DAY),
            keep_history: Millis(90 * DAY),
            ledger_rows: 10_000,
            tail_samples: 8 << 20,
            shape_bytes: 64 << 20,
            cache_kib: 16 << 10,
            readers: 3,
            max_pages: 0,
        }
    }
}

/// A store in one SQLite file. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct SqliteStore(Arc<Shared>);

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.0.path).finish_non_exhaustive()
    }
}

struct Shared {
    path: PathBuf,
    options: StoreOptions,
    /// None after closing.
    writer: tokio::sync::Mutex<Option<Writer>>,
    pool: sqlx::SqlitePool,
    registry: RwLock<Registry>,
    tail: RwLock<Tail>,
    streams: Mutex<Streams>,
    buckets: RwLock<Buckets>,
    /// Chunks of buckets below are being dropped: questions use rollups there.
    raw_floor: AtomicI64,
    packed_samples: AtomicI64,
    /// The last batch that is in memory too: the tail goes up to there, so that whoever reads it finds its series and
    /// its samples.
    last_batch: AtomicI64,
    upkeep: tokio::sync::Mutex<Upkeep>,
    /// Held while the store is open.
    lock: Mutex<Option<std::fs::File>>,
}

impl SqliteStore {
    /// Opens the database at `path`, makes it where there is none (readable by its owner
    /// only), brings its schema up to date, and reads what has to be in memory.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where another process has it open or it cannot be made,
    /// [`StoreError::Damaged`] where it is not such a database.
    pub async fn open(path: impl AsRef<Path>, options: StoreOptions) -> Result<Self, StoreError> {
        open::open(path.as_ref(), options).await.map(|shared| Self(Arc::new(shared)))
    }

    /// Where the database is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Runs with the writer, to its end even if the caller gives up: a transaction is never
    /// left half-way on the connection.
    async fn write<R, F>(&self, run: F) -> Result<R, StoreError>
    where
        R: Send + 'static,
        F: for<'a> FnOnce(&'a Shared, &'a mut Writer) -> BoxFuture<'a, Result<R, StoreError>>
            + Send
            + 'static,
    {
        let shared = Arc::clone(&self.0);
        let task = tokio::spawn(async move {
            let mut writer = shared.writer.lock().await;
            let writer = writer.as_mut().ok_or_else(closed)?;
            run(&shared, writer).await
        });
        task.await.map_err(|e| StoreError::Engine(e.to_string()))?
    }

    /// Runs scripts as one transaction; for how many microseconds other writers were kept out.
    async fn transact(&self, scripts: Vec<Script>) -> Result<u64, StoreError> {
        self.write(move |_, writer| {
            Box::pin(async move {
                let start = Instant::now();
                transaction(&mut writer.conn, scripts).await?;
                Ok(start.elapsed().as_micros() as u64)
            })
        })
        .await
    }

    /// Runs a script as one transaction; the number of rows that changed.
    async fn change(&self, script: Script) -> Result<u64, StoreError> {
        self.write(move |_, writer| Box::pin(counted(&mut writer.conn, script))).await
    }

    fn still_open(&self) -> Result<(), StoreError> {
        if self.0.pool.is_closed() { Err(closed()) } else { Ok(()) }
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".into())
}
