//! Reading [`Stored`] out of either database. No query of Sentinel's is asked.

use super::position::Origin;
use super::stored::{EvaluationRow, Labels, Sample, Series, Stored, kept, transition};
use crate::{database, sqlite};
use anyhow::{Context, Result};
use futures::TryStreamExt;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Row};
use std::collections::HashMap;

/// The questions that are the same in both.
const RULES: &str = "SELECT version, rules FROM rules";
const EVALUATIONS: &str = "SELECT term, number, at, rules_version, rules, failed, settled, \
                           position, until FROM evaluations ORDER BY id";
const TRANSITIONS: &str = "SELECT transition FROM transitions ORDER BY id";
const ALERTS: &str = "SELECT alert FROM alerts";
const NOTIFICATIONS: &str = "SELECT notification FROM notifications ORDER BY number";
const PACKED_TO: &str = "SELECT value FROM meta WHERE key = 'packed_to'";

/// What is in a chunk, decoded as the view `metrics_time` does.
const CHUNKS: &str = "SELECT c.series, u.time, \
     coalesce(u.raw, (c.base + c.step * coalesce(u.small, u.wide, 0))::double precision / c.scale) \
     FROM chunks c JOIN chunk_times t ON t.bucket = c.bucket AND t.id = c.times \
     CROSS JOIN LATERAL unnest(t.times, c.small, c.wide, c.raw) AS u(time, small, wide, raw) \
     WHERE c.series = ANY($1)";

/// Reads the database of a `postgres://` URL, or the SQLite file of a path.
///
/// # Errors
/// Where it cannot be read, or what it holds cannot be decoded.
pub async fn read(place: &str) -> Result<Stored> {
    if database::is_postgres(place) {
        let mut connection = PgConnection::connect(place).await.context("the database")?;
        let mut transaction = database::one_moment(&mut connection).await?;
        from_postgres(&mut transaction).await
    } else {
        let mut connection = sqlite::open(place).await?;
        let mut transaction = connection.begin().await?;
        from_sqlite(&mut transaction).await
    }
}

/// Reads what is written in the same way in both: everything but samples.
macro_rules! journal {
    ($connection:expr) => {{
        let mut stored = Stored::default();
        for row in sqlx::query(RULES).fetch_all(&mut *$connection).await? {
            stored.rules.insert(row.try_get(0)?, serde_json::from_str(row.try_get(1)?)?);
        }
        for row in sqlx::query(EVALUATIONS).fetch_all(&mut *$connection).await? {
            let row = EvaluationRow {
                term: row.try_get(0)?,
                number: row.try_get(1)?,
                at: row.try_get(2)?,
                rules_version: row.try_get(3)?,
                rules: row.try_get(4)?,
                failed: row.try_get(5)?,
                settled: row.try_get(6)?,
                position: row.try_get(7)?,
                until: row.try_get(8)?,
            };
            stored.evaluations.push(row.read()?);
        }
        for row in sqlx::query(TRANSITIONS).fetch_all(&mut *$connection).await? {
            stored.transitions.push(transition(row.try_get(0)?)?);
        }
        for row in sqlx::query(ALERTS).fetch_all(&mut *$connection).await? {
            stored.alerts.push(kept(row.try_get(0)?)?);
        }
        for row in sqlx::query(NOTIFICATIONS).fetch_all(&mut *$connection).await? {
            stored.notifications.push(kept(row.try_get(0)?)?);
        }
        let packed = sqlx::query(PACKED_TO).fetch_one(&mut *$connection).await?;
        stored.packed_to = packed.try_get(0)?;
        stored
    }};
}

/// Series by their ids, being filled.
#[derive(Default)]
struct Filling(HashMap<u32, Series>);

impl Filling {
    fn know(&mut self, id: u32, name: String, labels: Labels) {
        self.0.insert(id, Series { name, labels, samples: Vec::new() });
    }

    fn add(&mut self, id: u32, time: i64, value: f64, origin: Origin) {
        if let Some(series) = self.0.get_mut(&id) {
            series.samples.push(Sample { time, value, origin });
        }
    }

    fn done(self) -> Vec<Series> {
        let mut all: Vec<Series> = self.0.into_values().collect();
        for series in &mut all {
            // Of two at one time the one that was committed later counts: the sort is stable.
            series.samples.sort_by_key(|sample| sample.time);
        }
        all
    }
}

async fn from_postgres(connection: &mut PgConnection) -> Result<Stored> {
    let mut stored = journal!(connection);
    let mut filling = Filling::default();
    let metrics: Vec<String> = stored.metrics().into_iter().collect();
    let sql = "SELECT id, name, labels::text FROM series WHERE name = ANY($1)";
    for row in sqlx::query(sql).bind(metrics).fetch_all(&mut *connection).await? {
        let id: i32 = row.try_get(0)?;
        filling.know(id as u32, row.try_get(1)?, serde_json::from_str(row.try_get(2)?)?);
    }
    let ids: Vec<i32> = filling.0.keys().map(|id| *id as i32).collect();
    let mut rows = sqlx::query(CHUNKS).bind(ids).fetch(&mut *connection);
    while let Some(row) = rows.try_next().await? {
        let id: i32 = row.try_get(0)?;
        filling.add(id as u32, row.try_get(1)?, row.try_get(2)?, Origin::Packed);
    }
    drop(rows);
    let sql = "SELECT b.id, b.xid::text, h.series, b.times, b.values FROM batches b \
               JOIN shapes h ON h.id = b.shape ORDER BY b.id";
    let mut rows = sqlx::query(sql).fetch(&mut *connection);
    while let Some(row) = rows.try_next().await? {
        let transaction = row.try_get::<String, _>(1)?.parse()?;
        let origin = Origin::Batch { id: row.try_get(0)?, transaction };
        let series: Vec<i32> = row.try_get(2)?;
        let (times, values): (Vec<i64>, Vec<f64>) = (row.try_get(3)?, row.try_get(4)?);
        for (at, (id, value)) in series.iter().zip(values).enumerate() {
            // One time a row, or one for all.
            let time = times.get(at).or(times.first()).context("a batch without a time")?;
            filling.add(*id as u32, *time, value, origin);
        }
    }
    drop(rows);
    stored.series = filling.done();
    Ok(stored)
}

async fn from_sqlite(connection: &mut SqliteConnection) -> Result<Stored> {
    let mut stored = journal!(connection);
    let mut filling = Filling::default();
    let sql = "SELECT id, name, labels FROM series WHERE name = ?";
    for metric in stored.metrics() {
        for row in sqlx::query(sql).bind(metric).fetch_all(&mut *connection).await? {
            let id: i64 = row.try_get(0)?;
            filling.know(id as u32, row.try_get(1)?, serde_json::from_str(row.try_get(2)?)?);
        }
    }
    let add = |id: u32, time: i64, value: f64, origin: Origin| filling.add(id, time, value, origin);
    sqlite::samples(connection, add).await?;
    stored.series = filling.done();
    Ok(stored)
}
