//! A SQLite database, whose blobs are decoded with the documented formats
//! (`sentinel_store::format`).

use crate::alerts::position::Origin;
use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use sentinel_store::format::{Codec, batch, chunk};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Row};
use std::str::FromStr;

const CHUNKS: &str =
    "SELECT c.id, t.data, c.data FROM chunks c JOIN chunk_times t ON t.id = c.times";
const BATCHES: &str = "SELECT id, data FROM batches ORDER BY id";
/// The lower bits of a chunk's id are its series.
const SERIES: i64 = 0xff_ffff;

/// The file of a path, to be read.
pub(crate) async fn open(path: &str) -> Result<SqliteConnection> {
    ensure!(std::path::Path::new(path).is_file(), "{path} is no database");
    let options = SqliteConnectOptions::from_str(&format!("sqlite://{path}"))?;
    // Not opened for reading alone: what a killed process left in the write-ahead log counts.
    let options =
        options.pragma("query_only", "1").busy_timeout(std::time::Duration::from_secs(10));
    SqliteConnection::connect_with(&options).await.context("the database")
}

/// Shows every sample with its series, time and value: what is packed first, then batches in the
/// order in which they were committed.
pub(crate) async fn samples(
    connection: &mut SqliteConnection,
    mut visit: impl FnMut(u32, i64, f64, Origin),
) -> Result<()> {
    let mut codec = Codec::new();
    let mut rows = sqlx::query(CHUNKS).fetch(&mut *connection);
    while let Some(row) = rows.try_next().await? {
        let id: i64 = row.try_get(0)?;
        let times =
            chunk::decode_times(row.try_get(1)?).with_context(|| format!("times of {id}"))?;
        let values = chunk::decode_values(&mut codec, row.try_get(2)?, times.len());
        let values = values.with_context(|| format!("chunk {id}"))?;
        for (time, value) in times.iter().zip(values) {
            visit((id & SERIES) as u32, *time, value, Origin::Packed);
        }
    }
    drop(rows);
    let mut rows = sqlx::query(BATCHES).fetch(&mut *connection);
    while let Some(row) = rows.try_next().await? {
        let id: i64 = row.try_get(0)?;
        let stored = batch::decode(&mut codec, row.try_get(1)?);
        let stored = stored.with_context(|| format!("batch {id}"))?;
        for ((series, time), value) in stored.ids.iter().zip(&stored.times).zip(&stored.values) {
            visit(*series, *time, *value, Origin::Batch { id, transaction: 0 });
        }
    }
    Ok(())
}
