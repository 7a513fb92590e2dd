//! Reading what is stored of series: batches of the tail, chunks, rollups.

use super::PostgresStore;
use super::columns::{Column, Numbers};
use super::failure::{Did, Failure};
use super::series::numbers;
use crate::StoreError;
use crate::query::TimeRange;
use crate::samples::buckets::{HOUR, key};
use crate::samples::gather::Chunk;
use crate::samples::tail::{Decoded, Entry, Times};
use hashbrown::HashMap;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{QueryBuilder, Row};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Batches read at once.
const PAGE: usize = 500;
/// Chunks that are few: series times hours.
const FEW: usize = 16;
/// Series by which shapes are looked up; with more of them all shapes are taken.
const MAX_LOOKED_UP: usize = 1_000;

/// A batch, with the agent whose it is.
pub(super) struct Listed {
    pub(super) agent: String,
    pub(super) entry: Entry,
}

/// The last sample of a bucket, from its rollup.
pub(super) struct Last {
    pub(super) bucket: i64,
    pub(super) time: i64,
    pub(super) value: f64,
}

pub(super) fn decoded(row: &PgRow, times: usize, values: usize) -> Did<Decoded> {
    let (times, values): (Vec<i64>, Vec<f64>) = (row.try_get(times)?, row.try_get(values)?);
    let times = match times[..] {
        [time] => Times::One(time),
        _ if times.len() == values.len() => Times::new(&times),
        _ => {
            let what = format!("a batch has {} times for {} values", times.len(), values.len());
            return Err(StoreError::Damaged { what }.into());
        }
    };
    Ok(Decoded { times, values: values.into() })
}

/// What is left of raw samples and of rollups, and how many hours are packed in a range.
pub(super) struct Floors {
    pub(super) raw: i64,
    pub(super) rollups: i64,
    pub(super) hours: i64,
}

const LIST: &str = "SELECT b.id, b.stream, b.committed_at, b.first, b.last, b.shape, s.agent \
                    FROM batches b JOIN streams s ON s.id = b.stream";

impl PostgresStore {
    /// Batches that are not packed, in order of their ids; columns only where they are in memory.
    pub(super) async fn list(&self, conn: &mut PgConnection) -> Did<Vec<Listed>> {
        let rows =
            QueryBuilder::new(LIST).push(" ORDER BY b.id").build().fetch_all(&mut *conn).await?;
        self.listed(conn, &rows).await
    }

    /// Those of them that may have samples of series in `start < time <= end`, and what else there is of `from..=to`:
    /// in one question, which costs a reader less than two.
    pub(super) async fn list_of(
        &self,
        conn: &mut PgConnection,
        series: &[u32],
        range: TimeRange,
        (from, to): (i64, i64),
    ) -> Did<(Vec<Listed>, Floors)> {
        let mut query = QueryBuilder::new("WITH listed AS (");
        query.push(LIST).push(" WHERE b.last > ").push_bind(range.start);
        query.push(" AND b.first <= ").push_bind(range.end);
        if series.len() <= MAX_LOOKED_UP {
            query.push(" AND b.shape IN (SELECT id FROM shapes WHERE series && ");
            query.push_bind(numbers(series)).push(")");
        }
        query.push(
            ") SELECT listed.*, floors.* FROM (SELECT \
             (SELECT value FROM meta WHERE key = 'raw_floor'), \
             (SELECT value FROM meta WHERE key = 'rollup_floor'), \
             (SELECT count(*) FROM hours WHERE bucket BETWEEN ",
        );
        query.push_bind(from).push(" AND ").push_bind(to);
        query.push(")) AS floors LEFT JOIN listed ON true ORDER BY listed.id");
        let mut rows = query.build().fetch_all(&mut *conn).await?;
        let Some(row) = rows.first() else { return Err(Failure::Moved) };
        let floors =
            Floors { raw: row.try_get(7)?, rollups: row.try_get(8)?, hours: row.try_get(9)? };
        if row.try_get::<Option<i64>, _>(0)?.is_none() {
            rows.clear();
        }
        Ok((self.listed(conn, &rows).await?, floors))
    }

    /// Rows of [`LIST`].
    async fn listed(&self, conn: &mut PgConnection, rows: &[PgRow]) -> Did<Vec<Listed>> {
        let shapes: Vec<i64> = rows.iter().map(|row| row.try_get(5)).collect::<Result<_, _>>()?;
        let known = self.shapes(conn, shapes.iter().copied()).await?;
        let mut out = Vec::with_capacity(rows.len());
        let cache = self.0.cache.lock();
        for (row, shape_row) in rows.iter().zip(shapes) {
            // One that was packed since has lost its shape.
            let Some(shape) = known.get(&shape_row) else { continue };
            let id = row.try_get(0)?;
            let entry = Entry {
                id,
                stream: row.try_get(1)?,
                committed_at: row.try_get(2)?,
                first: row.try_get(3)?,
                last: row.try_get(4)?,
                shape: Arc::clone(shape),
                data: cache.get((id, shape_row)),
            };
            out.push(Listed { agent: row.try_get(6)?, entry });
        }
        Ok(out)
    }

    /// Puts the columns into entries that have none. One that is not in the database any more
    /// was packed meanwhile, and goes.
    pub(super) async fn read_batches(
        &self,
        conn: &mut PgConnection,
        entries: &mut Vec<Entry>,
    ) -> Did<()> {
        let absent: Vec<i64> = entries.iter().filter(|e| e.data.is_none()).map(|e| e.id).collect();
        let mut read: HashMap<i64, (i64, Decoded)> = HashMap::new();
        for ids in absent.chunks(PAGE) {
            let sql = "SELECT id, shape, times, values FROM batches WHERE id = ANY($1)";
            for row in sqlx::query(sql).bind(ids).fetch_all(&mut *conn).await? {
                read.insert(row.try_get(0)?, (row.try_get(1)?, decoded(&row, 2, 3)?));
            }
        }
        let shapes = self.shapes(conn, read.values().map(|found| found.0)).await?;
        let mut cache = self.0.cache.lock();
        entries.retain_mut(|entry| {
            if entry.data.is_none()
                && let Some((row, data)) = read.remove(&entry.id)
                && let Some(shape) = shapes.get(&row)
                && (data.values.len() == shape.ids.len())
            {
                // One that was packed in part meanwhile has another shape now.
                entry.shape = Arc::clone(shape);
                let data = Arc::new(data);
                cache.put((entry.id, row), Arc::clone(&data));
                entry.data = Some(data);
            }
            entry.data.is_some()
        });
        Ok(())
    }

    /// The chunks of series in `from..=to`, by key.
    pub(super) async fn read_chunks(
        &self,
        conn: &mut PgConnection,
        series: &[u32],
        (from, to): (i64, i64),
    ) -> Did<HashMap<i64, Chunk>> {
        let mut chunks = HashMap::new();
        if from > to || series.is_empty() {
            return Ok(chunks);
        }
        let sql = "SELECT series, bucket, times, base, step, scale, small, wide, raw, CASE WHEN $4 THEN \
                   (SELECT t.times FROM chunk_times t WHERE t.bucket = c.bucket AND t.id = c.times) END \
                   FROM chunks c WHERE series = ANY($1) AND bucket BETWEEN $2 AND $3";
        // Times that chunks share are sent once. Of a few chunks they come with each: another question would take longer.
        let hours = usize::try_from(to - from + 1).unwrap_or(usize::MAX);
        let is_few = series.len().saturating_mul(hours) <= FEW;
        let query = sqlx::query(sql).bind(numbers(series)).bind(from).bind(to).bind(is_few);
        let rows = query.fetch_all(&mut *conn).await?;
        let mut wanted = BTreeSet::new();
        let mut times = ChunkTimes::new();
        for row in &rows {
            let key = (row.try_get(1)?, row.try_get(2)?);
            match row.try_get::<Option<_>, _>(9)? {
                Some(found) => drop(times.insert(key, Arc::new(found))),
                None => drop(wanted.insert(key)),
            }
        }
        read_times(conn, &wanted, &mut times).await?;
        for row in &rows {
            let series = row.try_get::<i32, _>(0)?.unsigned_abs();
            let (bucket, id): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
            let Some(times) = times.get(&(bucket, id)) else {
                let what = format!("the chunk of series {series} in hour {bucket} has no times");
                return Err(StoreError::Damaged { what }.into());
            };
            let values = column(row)?.values(times.len())?;
            chunks.insert(key(bucket, series), Chunk { times: Arc::clone(times), values });
        }
        Ok(chunks)
    }

    /// The last samples of series in `from..=to`, by series.
    pub(super) async fn read_rollups(
        &self,
        conn: &mut PgConnection,
        series: &[u32],
        (from, to): (i64, i64),
    ) -> Did<HashMap<u32, Vec<Last>>> {
        let mut found: HashMap<u32, Vec<Last>> = HashMap::new();
        if from > to || series.is_empty() {
            return Ok(found);
        }
        let sql = "SELECT series, bucket, last, last_at FROM rollups \
                   WHERE series = ANY($1) AND bucket BETWEEN $2 AND $3 ORDER BY series, bucket";
        let query = sqlx::query(sql).bind(numbers(series)).bind(from).bind(to);
        for row in query.fetch_all(conn).await? {
            let bucket: i64 = row.try_get(1)?;
            let time = (bucket * HOUR).wrapping_add(row.try_get(3)?);
            let last = Last { bucket, time, value: row.try_get(2)? };
            found.entry(row.try_get::<i32, _>(0)?.unsigned_abs()).or_default().push(last);
        }
        Ok(found)
    }
}

fn column(row: &PgRow) -> Did<Column> {
    let numbers = if let Some(small) = row.try_get(6)? {
        Numbers::Small(small)
    } else if let Some(wide) = row.try_get(7)? {
        Numbers::Wide(wide)
    } else {
        row.try_get::<Option<_>, _>(8)?.map_or(Numbers::None, Numbers::Raw)
    };
    Ok(Column { base: row.try_get(3)?, step: row.try_get(4)?, scale: row.try_get(5)?, numbers })
}

/// The times of chunks, by hour and number.
type ChunkTimes = HashMap<(i64, i64), Arc<Vec<i64>>>;

async fn read_times(
    conn: &mut PgConnection,
    wanted: &BTreeSet<(i64, i64)>,
    times: &mut ChunkTimes,
) -> Did<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let (buckets, ids): (Vec<i64>, Vec<i64>) = wanted.iter().copied().unzip();
    let sql = "SELECT t.bucket, t.id, t.times FROM unnest($1::bigint[], $2::bigint[]) \
               AS n(bucket, id) JOIN chunk_times t ON t.bucket = n.bucket AND t.id = n.id";
    for row in sqlx::query(sql).bind(buckets).bind(ids).fetch_all(conn).await? {
        times.insert((row.try_get(0)?, row.try_get(1)?), Arc::new(row.try_get(2)?));
    }
    Ok(())
}
