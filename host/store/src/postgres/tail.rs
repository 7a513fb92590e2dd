//! The tail: what transactions have committed since a snapshot.
//!
//! A position is a snapshot, or what is left of the difference between two: then it has the second one too, and the id
//! of the last batch that was read. Reading a snapshot waits for nobody, so a long transaction holds nothing up; what
//! it commits belongs to the first snapshot that sees it.

use super::PostgresStore;
use super::failure::{Again, Did, Failure, retried};
use super::read::decoded;
use crate::StoreError;
use crate::query::SeriesInfo;
use crate::tail::{TailBatch, TailPage, TailPosition};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use std::sync::Arc;

/// Between the parts of a position; in no snapshot.
const PART: char = '|';
/// The most batches of which the database is told that their columns are in memory.
const KNOWN: usize = 256;

/// A position, taken apart.
struct Span<'a> {
    seen: &'a str,
    /// What is being read, and the last batch of it that was.
    reading: Option<(&'a str, i64)>,
}

impl<'a> Span<'a> {
    fn of(position: &'a TailPosition) -> Result<Self, StoreError> {
        let mut parts = position.0.split(PART);
        let seen = parts.next().unwrap_or_default();
        let reading = match (parts.next(), parts.next()) {
            (None, _) => None,
            (Some(until), last) => {
                let last = last.and_then(|last| last.parse().ok());
                let what = || StoreError::Conflict(format!("{:?} is no position", position.0));
                Some((until, last.ok_or_else(what)?))
            }
        };
        Ok(Self { seen, reading })
    }
}

/// Whether the server reads it as a snapshot: `XMIN:XMAX:XIP,XIP`, ascending.
fn is_snapshot(text: &str) -> bool {
    let mut parts = text.split(':');
    let number = |part: Option<&str>| part.and_then(|part| part.parse::<i64>().ok());
    let (xmin, xmax) = (number(parts.next()), number(parts.next()));
    let (Some(xmin), Some(xmax), Some(list), None) = (xmin, xmax, parts.next(), parts.next())
    else {
        return false;
    };
    let running: Option<Vec<i64>> = match list {
        "" => Some(Vec::new()),
        list => list.split(',').map(|one| one.parse().ok()).collect(),
    };
    let Some(running) = running else { return false };
    0 < xmin
        && xmin <= xmax
        && running.iter().all(|one| (xmin..xmax).contains(one))
        && running.is_sorted_by(|a, b| a < b)
}

async fn snapshot(conn: &mut PgConnection) -> Did<String> {
    Ok(sqlx::query_scalar("SELECT pg_current_snapshot()::text").fetch_one(conn).await?)
}

/// Batches that the second snapshot sees and the first does not, in order of their ids, after the last one: id, shape,
/// times, values, and whether it is one of those known, which have neither.
async fn fetch(
    conn: &mut PgConnection,
    (seen, until): (&str, &str),
    (last, limit): (i64, u32),
    known: &[i64],
) -> Did<Vec<PgRow>> {
    let sql = "SELECT b.id, b.shape, CASE WHEN NOT k.known THEN b.times END, \
               CASE WHEN NOT k.known THEN b.values END, k.known \
               FROM batches b, LATERAL (SELECT b.id = ANY($5) AS known) AS k \
               WHERE b.xid >= pg_snapshot_xmin($1::pg_snapshot) \
               AND b.xid < pg_snapshot_xmax($2::pg_snapshot) \
               AND NOT pg_visible_in_snapshot(b.xid, $1::pg_snapshot) \
               AND pg_visible_in_snapshot(b.xid, $2::pg_snapshot) \
               AND b.id > $3 ORDER BY b.id LIMIT $4";
    let query = sqlx::query(sql).bind(seen).bind(until).bind(last).bind(i64::from(limit));
    Ok(query.bind(known).fetch_all(conn).await?)
}

impl PostgresStore {
    pub(super) async fn end_of_tail(&self) -> Result<TailPosition, StoreError> {
        self.still_open()?;
        retried(Again::Whenever, || async {
            let mut conn = self.0.pool.acquire().await?;
            Ok(TailPosition(snapshot(&mut conn).await?))
        })
        .await
    }

    pub(super) async fn reaches(&self, position: &TailPosition) -> Result<bool, StoreError> {
        self.still_open()?;
        let seen = match Span::of(position) {
            Ok(span) if is_snapshot(span.seen) => span.seen,
            Ok(_) | Err(_) => return Ok(false),
        };
        // A transaction yet to come is of another server than this one was.
        let sql = "SELECT pg_snapshot_xmin($1::pg_snapshot)::text::bigint > value \
                   AND pg_snapshot_xmax($1::pg_snapshot) <= pg_snapshot_xmax(pg_current_snapshot()) \
                   FROM meta WHERE key = 'packed_to'";
        retried(Again::Whenever, || async move {
            Ok(sqlx::query_scalar(sql).bind(seen).fetch_one(&self.0.pool).await?)
        })
        .await
    }

    pub(super) async fn read_tail(
        &self,
        after: &TailPosition,
        limit: u32,
    ) -> Result<TailPage, StoreError> {
        self.still_open()?;
        let span = &Span::of(after)?;
        retried(Again::Whenever, || async move {
            let mut conn = self.0.pool.acquire().await?;
            let (until, last) = match span.reading {
                Some((until, last)) => (until.to_owned(), last),
                None => (snapshot(&mut conn).await?, i64::MIN),
            };
            if until == span.seen {
                let next = TailPosition(until);
                return Ok(TailPage { batches: Vec::new(), next, more: false });
            }
            let (batches, last) = self.between(&mut conn, (span.seen, &until), last, limit).await?;
            let next = match last {
                Some(last) => format!("{}{PART}{until}{PART}{last}", span.seen),
                None => until,
            };
            Ok(TailPage { batches, next: TailPosition(next), more: last.is_some() })
        })
        .await
    }

    /// Up to so many batches that the second snapshot sees and the first does not; the id of the last where there may be
    /// more. Mostly they are those that this process has just committed: their columns are not sent once more.
    async fn between(
        &self,
        conn: &mut PgConnection,
        span: (&str, &str),
        last: i64,
        limit: u32,
    ) -> Did<(Vec<TailBatch>, Option<i64>)> {
        let known = self.0.cache.lock().newest(KNOWN);
        let mut rows = fetch(conn, span, (last, limit), &known).await?;
        let mut batches = self.batches(conn, &rows).await?;
        if batches.is_none() {
            rows = fetch(conn, span, (last, limit), &[]).await?;
            batches = self.batches(conn, &rows).await?;
        }
        let is_full = rows.len() as u64 >= u64::from(limit);
        let last = rows.last().filter(|_| is_full).map(|row| row.try_get(0)).transpose()?;
        Ok((batches.ok_or(Failure::Moved)?, last))
    }

    /// Rows of [`fetch`]; None where one without columns is not in memory: it was packed in part meanwhile, or had to
    /// leave.
    async fn batches(
        &self,
        conn: &mut PgConnection,
        rows: &[PgRow],
    ) -> Did<Option<Vec<TailBatch>>> {
        let shapes: Vec<i64> = rows.iter().map(|row| row.try_get(1)).collect::<Result<_, _>>()?;
        let known = self.shapes(conn, shapes.iter().copied()).await?;
        let mut batches = Vec::with_capacity(rows.len());
        for (row, shape_row) in rows.iter().zip(shapes) {
            // A batch that was packed since has lost its shape.
            let Some(shape) = known.get(&shape_row) else { continue };
            let data = match row.try_get(4)? {
                true => self.0.cache.lock().get((row.try_get(0)?, shape_row)),
                false => Some(Arc::new(decoded(row, 2, 3)?)),
            };
            let Some(data) = data else { return Ok(None) };
            if data.values.len() == shape.ids.len() {
                let times = (0..data.values.len()).map(|at| data.times.at(at)).collect();
                let (series, values) = (shape.ids.to_vec(), data.values.to_vec());
                batches.push(TailBatch { series, times, values });
            }
        }
        Ok(Some(batches))
    }

    pub(super) async fn find_series(&self, ids: &[u32]) -> Result<Vec<SeriesInfo>, StoreError> {
        self.still_open()?;
        self.refresh().await?;
        let registry = self.0.registry.read();
        Ok(ids.iter().filter_map(|id| registry.info(*id)).collect())
    }
}
