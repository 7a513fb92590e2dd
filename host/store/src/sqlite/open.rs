//! Opening: the lock, the file, the schema, and what has to be in memory.

use super::buckets::{self, Buckets};
use super::commit::{Streams, Writer};
use super::maintain::Upkeep;
use super::{Shared, StoreOptions};
use crate::StoreError;
use crate::format::{Codec, batch};
use crate::samples::series::Registry;
use crate::samples::shapes::Shapes;
use crate::samples::tail::{Decoded, Entry, Shape, Tail, Times};
use futures::TryStreamExt;
use parking_lot::{Mutex, RwLock};
use sentinel_model::ids::AgentId;
use sentinel_model::series::Labels;
use sqlx::migrate::MigrateError;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Row};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/sqlite");

/// How long a connection waits for another to finish; only backups and shells are others.
const BUSY: Duration = Duration::from_secs(5);
/// Pages in the write-ahead log at which the writer itself moves them to their place; upkeep
/// does it earlier, off the writer's path.
const CHECKPOINT_PAGES: &str = "4000";
/// Bytes to which the write-ahead log is cut after it was moved.
const LOG_LIMIT: &str = "33554432";

fn private(path: &Path, options: &mut OpenOptions) -> Result<File, StoreError> {
    let cannot = |e| StoreError::Unavailable(format!("cannot open {}: {e}", path.display()));
    options.mode(0o600).open(path).map_err(cannot)
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = private(name.as_ref(), OpenOptions::new().create(true).append(true))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::Unavailable(format!(
            "{} is open already, here or in another process; close it there first",
            path.display()
        ))),
        Err(std::fs::TryLockError::Error(e)) => {
            Err(StoreError::Unavailable(format!("cannot lock {}: {e}", path.display())))
        }
    }
}

/// SQLite gives its other files the mode of this one.
fn create(path: &Path) -> Result<(), StoreError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(StoreError::Unavailable(format!("cannot make {}: {e}", path.display()))),
    }
}

fn connect_options(path: &Path, options: &StoreOptions) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY)
        .foreign_keys(true)
        .statement_cache_capacity(128)
        .pragma("cache_size", format!("-{}", options.cache_kib))
        .pragma("temp_store", "MEMORY")
        .disable_statement_logging()
}

fn writing(path: &Path, options: &StoreOptions) -> SqliteConnectOptions {
    let connect = connect_options(path, options)
        .page_size(4096)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("journal_size_limit", LOG_LIMIT);
    match options.max_pages {
        0 => connect,
        pages => connect.pragma("max_page_count", pages.to_string()),
    }
}

fn migrate_error(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) => e.into(),
        MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => {
            StoreError::Conflict(format!(
                "the database was written by a newer version of Sentinel ({error}); use that one"
            ))
        }
        other => StoreError::Engine(other.to_string()),
    }
}

/// The last batch that there ever was, as far as positions of the tail go.
const LAST_BATCH: &str = "SELECT max(coalesce((SELECT max(id) FROM batches), 0), \
     (SELECT value FROM meta WHERE key = 'packed_to'))";

pub(super) async fn open(path: &Path, mut options: StoreOptions) -> Result<Shared, StoreError> {
    // What a bucket had is known from its rollups when its chunks are dropped.
    options.keep_rollups = options.keep_rollups.max(options.keep_raw);
    let lock = lock(path)?;
    create(path)?;
    let mut conn = writing(path, &options).connect().await?;
    MIGRATIONS.run(&mut conn).await.map_err(migrate_error)?;
    let upkeep = writing(path, &options).connect().await?;
    let pool = SqlitePoolOptions::new()
        .max_connections(options.readers.max(1))
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(connect_options(path, &options).read_only(true))
        .await?;
    let registry = load_series(&mut conn).await?;
    let mut codec = Codec::new();
    let mut tail = load_tail(&mut conn, &mut codec, options.tail_samples).await?;
    tail.packed_to(number(&mut conn, "SELECT value FROM meta WHERE key = 'packed_to'").await?);
    let raw = buckets::load(&mut conn, "chunks").await?;
    let rollups = buckets::load(&mut conn, "rollups").await?;
    let writer = Writer {
        shapes: Shapes::new(options.shape_bytes),
        codec,
        next_batch: number(&mut conn, LAST_BATCH).await? + 1,
        next_stream: number(&mut conn, "SELECT coalesce(max(id), 0) FROM streams").await? + 1,
        conn,
    };
    let mut shared = Shared {
        path: path.to_owned(),
        options,
        writer: tokio::sync::Mutex::new(None),
        pool,
        registry: RwLock::new(registry),
        tail: RwLock::new(tail),
        streams: Mutex::new(Streams::new()),
        buckets: RwLock::new(Buckets { raw, rollups }),
        raw_floor: AtomicI64::new(0),
        packed_samples: AtomicI64::new(0),
        last_batch: AtomicI64::new(writer.next_batch - 1),
        upkeep: tokio::sync::Mutex::new(Upkeep::new(upkeep)),
        lock: Mutex::new(Some(lock)),
    };
    load_meta(&mut shared, writer).await?;
    Ok(shared)
}

async fn load_meta(shared: &mut Shared, mut writer: Writer) -> Result<(), StoreError> {
    let meta = "SELECT value FROM meta WHERE key = ";
    let conn = &mut writer.conn;
    let floor = number(conn, &format!("{meta}'raw_floor'")).await?;
    let packed = number(conn, &format!("{meta}'packed_samples'")).await?;
    shared.raw_floor = AtomicI64::new(floor);
    shared.packed_samples = AtomicI64::new(packed);
    shared.writer = tokio::sync::Mutex::new(Some(writer));
    Ok(())
}

/// The integer that a question answers.
pub(super) async fn number(conn: &mut SqliteConnection, sql: &str) -> Result<i64, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(conn).await?;
    Ok(row.try_get(0)?)
}

async fn load_series(conn: &mut SqliteConnection) -> Result<Registry, StoreError> {
    let mut registry = Registry::new();
    let mut rows =
        sqlx::query("SELECT id, name, labels, kind, seen FROM series ORDER BY id").fetch(conn);
    while let Some(row) = rows.try_next().await? {
        let labels: Labels = serde_json::from_str(row.try_get(2)?)?;
        let entry = (row.try_get(3)?, row.try_get(4)?);
        registry.load(row.try_get(0)?, row.try_get(1)?, labels.iter(), entry);
    }
    Ok(registry)
}

async fn load_tail(
    conn: &mut SqliteConnection,
    codec: &mut Codec,
    bound: usize,
) -> Result<Tail, StoreError> {
    let mut tail = Tail::new(bound);
    let sql = "SELECT b.id, b.stream, b.committed_at, b.data, s.agent \
               FROM batches b JOIN streams s ON s.id = b.stream ORDER BY b.id";
    let mut rows = sqlx::query(sql).fetch(conn);
    while let Some(row) = rows.try_next().await? {
        let id = row.try_get(0)?;
        let agent: &str = row.try_get(4)?;
        let damaged = |what| StoreError::Damaged { what: format!("batch {id}: {what}") };
        let agent = AgentId::new(agent).map_err(|e| damaged(e.to_string()))?;
        let batch = batch::decode(codec, row.try_get(3)?).map_err(|e| damaged(e.to_string()))?;
        let data = Decoded { times: Times::new(&batch.times), values: batch.values.into() };
        let (stream, committed_at) = (row.try_get(1)?, row.try_get(2)?);
        tail.push(&agent, Entry::new(id, stream, committed_at, Shape::new(batch.ids), data));
    }
    Ok(tail)
}
