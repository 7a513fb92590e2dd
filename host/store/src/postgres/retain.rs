//! Retention: floors hide what is too old at once, and partitions below them are dropped.

use super::PostgresStore;
use super::failure::Did;
use super::maintain::Upkeep;
use super::partitions::{CHUNKS, ROLLUPS, TIMES};
use crate::Maintenance;
use crate::evaluations;
use crate::samples::buckets::bucket;
use sqlx::postgres::PgConnection;
use sqlx::{Acquire, Row};

/// Ledger rows beyond the bound that are worth a DELETE.
const LEDGER_SLACK: u64 = 500;
/// Streams of which the whole ledger goes in one call.
const STREAMS: i64 = 20;

pub(super) fn before(now: i64, keep: u64) -> i64 {
    now.saturating_sub(i64::try_from(keep).unwrap_or(i64::MAX))
}

impl PostgresStore {
    /// Moves the floors, before anything below is dropped.
    pub(super) async fn set_floors(
        &self,
        conn: &mut PgConnection,
        now: i64,
        done: &mut Maintenance,
    ) -> Did<()> {
        let raw = bucket(before(now, self.0.options.keep_raw.0));
        let rollups = bucket(before(now, self.0.options.keep_rollups.0));
        let mut tx = conn.begin().await?;
        let sql = "UPDATE meta SET value = $2 WHERE key = $1 AND value <> $2";
        let moved = sqlx::query(sql).bind("raw_floor").bind(raw).execute(&mut *tx).await?;
        sqlx::query(sql).bind("rollup_floor").bind(rollups).execute(&mut *tx).await?;
        if moved.rows_affected() == 1 {
            let sql = "WITH gone AS (DELETE FROM hours WHERE bucket < $1 RETURNING chunks) \
                       SELECT coalesce(sum(chunks), 0)::bigint FROM gone";
            let gone: i64 = sqlx::query_scalar(sql).bind(raw).fetch_one(&mut *tx).await?;
            done.dropped += gone as u64;
        }
        tx.commit().await?;
        Ok(())
    }

    pub(super) async fn retain(
        &self,
        conn: &mut PgConnection,
        upkeep: &mut Upkeep,
        now: i64,
        done: &mut Maintenance,
    ) -> Did<()> {
        self.trim_ledgers(conn, upkeep, done).await?;
        if upkeep.cut_at == Some(bucket(now)) {
            return Ok(());
        }
        let raw = bucket(before(now, self.0.options.keep_raw.0));
        let rollups = bucket(before(now, self.0.options.keep_rollups.0));
        for (parted, floor) in [(CHUNKS, raw), (TIMES, raw), (ROLLUPS, rollups)] {
            self.drop_below(conn, parted, floor).await?;
        }
        // Times that lay ahead of all partitions, and were never reached by one.
        for (sql, floor) in [
            ("DELETE FROM chunks_ahead WHERE bucket < $1", raw),
            ("DELETE FROM chunk_times_ahead WHERE bucket < $1", raw),
            ("DELETE FROM rollups_ahead WHERE bucket < $1", rollups),
        ] {
            sqlx::query(sql).bind(floor).execute(&mut *conn).await?;
        }
        self.cut_history(conn, now, done).await?;
        upkeep.cut_at = Some(bucket(now));
        Ok(())
    }

    async fn trim_ledgers(
        &self,
        conn: &mut PgConnection,
        upkeep: &mut Upkeep,
        done: &mut Maintenance,
    ) -> Did<()> {
        let keep = self.0.options.ledger_rows;
        let sql = "SELECT id, committed FROM streams WHERE committed > $1";
        let rows = sqlx::query(sql).bind(keep as i64).fetch_all(&mut *conn).await?;
        for row in rows {
            let (stream, committed): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            let to = (committed as u64).saturating_sub(keep);
            let trimmed = upkeep.trimmed.entry(stream).or_default();
            if to < *trimmed + LEDGER_SLACK {
                continue;
            }
            let query = sqlx::query("DELETE FROM ledger WHERE stream = $1 AND last <= $2");
            let query = query.bind(stream).bind(to as i64);
            done.dropped += query.execute(&mut *conn).await?.rows_affected();
            *trimmed = to;
        }
        Ok(())
    }

    async fn cut_history(
        &self,
        conn: &mut PgConnection,
        now: i64,
        done: &mut Maintenance,
    ) -> Did<()> {
        let quiet = before(now, self.0.options.keep_raw.0);
        let history = before(now, self.0.options.keep_history.0);
        // Alerts outlive their notifications: an alert that begins anew counts its incidents
        // from the start, and would be told under ids that are known.
        let alerts = before(history, self.0.options.keep_history.0);
        let sql = "DELETE FROM ledger WHERE stream IN (SELECT id FROM streams s \
                   WHERE last_commit < $1 AND EXISTS \
                   (SELECT 1 FROM ledger l WHERE l.stream = s.id) LIMIT $2)";
        let query = sqlx::query(sql).bind(quiet).bind(STREAMS);
        done.dropped += query.execute(&mut *conn).await?.rows_affected();
        for (sql, before) in [
            ("DELETE FROM dead_letters WHERE at < $1", history),
            ("DELETE FROM transitions WHERE at < $1", history),
            ("DELETE FROM audit WHERE at < $1", history),
            ("DELETE FROM evaluations WHERE at < $1", now.saturating_sub(evaluations::KEPT_MS)),
            (
                "DELETE FROM attempts WHERE notification IN (SELECT id FROM notifications \
                 WHERE decided_at < $1 AND state IN ('delivered', 'dead', 'dropped'))",
                history,
            ),
            (
                "DELETE FROM notifications WHERE decided_at < $1 \
                 AND state IN ('delivered', 'dead', 'dropped')",
                history,
            ),
            ("DELETE FROM silences WHERE ends_at < $1", history),
            ("DELETE FROM alerts WHERE state = 'resolved' AND resolved_at < $1", alerts),
        ] {
            let query = sqlx::query(sql).bind(before);
            done.dropped += query.execute(&mut *conn).await?.rows_affected();
        }
        let sql = "DELETE FROM acknowledgements WHERE fingerprint NOT IN \
                   (SELECT fingerprint FROM alerts)";
        done.dropped += sqlx::query(sql).execute(&mut *conn).await?.rows_affected();
        Ok(())
    }
}
