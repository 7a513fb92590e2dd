//! Sweeping: shapes that no batch has, series of which nothing is left, and streams that nobody
//! sends into any more.
//!
//! A commit names a shape, and PostgreSQL refuses one that is gone; a shape is made with its
//! series held, and refused where one is gone. So no sample is written for a series that was
//! swept: who remembers one is made to look again. Rows of such series stay for two days as
//! marks, so that every process takes them out of its registry.

use super::PostgresStore;
use super::failure::Did;
use super::maintain::Upkeep;
use super::retain::before;
use crate::Maintenance;
use crate::samples::buckets::{HOUR, bucket, day};
use sqlx::Acquire;
use sqlx::postgres::PgConnection;

/// The most series or streams that one call removes.
const ROWS: i64 = 4_000;
/// How long the marks of series that are gone stay, in days.
const MARKS: i64 = 2;

impl PostgresStore {
    /// Whether more is waiting.
    pub(super) async fn sweep(
        &self,
        conn: &mut PgConnection,
        upkeep: &mut Upkeep,
        now: i64,
        done: &mut Maintenance,
    ) -> Did<bool> {
        if upkeep.swept_at == Some(bucket(now)) {
            return Ok(false);
        }
        let options = &self.0.options;
        // One that a commit is about to name is refused to it, and made again.
        let sql = "DELETE FROM shapes s WHERE NOT EXISTS \
                   (SELECT 1 FROM batches b WHERE b.shape = s.id)";
        sqlx::query(sql).execute(&mut *conn).await?;
        let floor = before(now, options.keep_rollups.0);
        let series = sweep_series(conn, day(bucket(floor))).await?;
        let quiet = before(now, options.keep_rollups.0.max(options.keep_history.0));
        let streams = sweep_streams(conn, quiet).await?;
        self.refresh_with(conn).await?;
        let sql = "DELETE FROM series WHERE gone AND seen < $1";
        let marks = day(bucket(now.saturating_sub(MARKS * 24 * HOUR)));
        sqlx::query(sql).bind(marks).execute(conn).await?;
        done.dropped += series + streams;
        let more = series >= ROWS as u64 || streams >= ROWS as u64;
        if !more {
            upkeep.swept_at = Some(bucket(now));
        }
        Ok(more)
    }
}

/// Marks series last seen before a day. From then on `seen` is the day of the mark.
async fn sweep_series(conn: &mut PgConnection, day: i64) -> Did<u64> {
    let mut tx = conn.begin().await?;
    let sql = "UPDATE meta SET value = value + 1 WHERE key = 'changed' RETURNING value";
    let change: i64 = sqlx::query_scalar(sql).fetch_one(&mut *tx).await?;
    // Held first: a shape that is being made holds them too, and is seen once it stands.
    let sql = "SELECT id FROM series WHERE seen < $1 AND NOT gone ORDER BY id LIMIT $2 FOR UPDATE";
    let ids: Vec<i32> = sqlx::query_scalar(sql).bind(day).bind(ROWS).fetch_all(&mut *tx).await?;
    let sql = "UPDATE series s SET gone = true, changed = $2 WHERE s.id = ANY($1) \
               AND NOT EXISTS (SELECT 1 FROM shapes h WHERE h.series @> ARRAY[s.id])";
    let query = sqlx::query(sql).bind(ids).bind(change);
    let gone = query.execute(&mut *tx).await?.rows_affected();
    match gone {
        0 => tx.rollback().await?,
        _ => tx.commit().await?,
    }
    Ok(gone)
}

/// Removes streams into which nothing was committed since `quiet`. One that was only ever asked
/// to be sent again has no time of its own: it goes with the one after it.
async fn sweep_streams(conn: &mut PgConnection, quiet: i64) -> Did<u64> {
    let sql = "DELETE FROM streams WHERE id IN (SELECT s.id FROM streams s \
               WHERE s.last_commit < $1 AND EXISTS (SELECT 1 FROM streams n \
               WHERE n.agent = s.agent AND n.id > s.id AND n.last_commit > 0 \
               AND (s.last_commit > 0 OR n.last_commit < $1)) \
               AND NOT EXISTS (SELECT 1 FROM ledger l WHERE l.stream = s.id) \
               AND NOT EXISTS (SELECT 1 FROM dead_letters d WHERE d.stream = s.id) \
               AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.stream = s.id) \
               ORDER BY s.id LIMIT $2)";
    let query = sqlx::query(sql).bind(quiet).bind(ROWS);
    Ok(query.execute(conn).await?.rows_affected())
}
