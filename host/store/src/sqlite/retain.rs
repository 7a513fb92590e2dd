//! Retention: what is too old is dropped, bucket by bucket, in short transactions.

use super::SqliteStore;
use super::maintain::Upkeep;
use super::script::Script;
use crate::samples::buckets::{bucket, key};
use crate::{Maintenance, StoreError, evaluations};
use sqlx::Row;
use std::sync::atomic::Ordering;

/// Rows of one DELETE.
const ROWS: i64 = 4_000;
/// DELETEs of one call.
const SLICES: usize = 64;
/// Ledger rows beyond the bound that are worth a DELETE.
const LEDGER_SLACK: u64 = 500;
/// Streams of which the whole ledger goes in one call.
const STREAMS: i64 = 20;

pub(super) fn before(now: i64, keep: u64) -> i64 {
    now.saturating_sub(i64::try_from(keep).unwrap_or(i64::MAX))
}

impl SqliteStore {
    /// Moves the floor of raw samples, before anything below is dropped.
    pub(super) async fn set_floor(&self, now: i64) -> Result<(), StoreError> {
        let floor = bucket(before(now, self.0.options.keep_raw.0));
        if floor != self.0.raw_floor.load(Ordering::Acquire) {
            let mut script = Script::new();
            script.sql("UPDATE meta SET value = ? WHERE key = 'raw_floor';").bind(floor);
            self.transact(vec![script]).await?;
            self.0.raw_floor.store(floor, Ordering::Release);
        }
        Ok(())
    }

    pub(super) async fn retain(
        &self,
        upkeep: &mut Upkeep,
        now: i64,
        done: &mut Maintenance,
    ) -> Result<bool, StoreError> {
        let mut slices = SLICES;
        let raw = self.0.raw_floor.load(Ordering::Acquire);
        let rollups = bucket(before(now, self.0.options.keep_rollups.0));
        self.drop_below("chunks", raw, &mut slices, done).await?;
        self.drop_below("rollups", rollups, &mut slices, done).await?;
        self.trim_ledgers(upkeep, done).await?;
        if upkeep.cut_at != Some(bucket(now)) {
            self.cut_history(now, done).await?;
            upkeep.cut_at = Some(bucket(now));
        }
        Ok(slices == 0)
    }

    async fn drop_below(
        &self,
        table: &'static str,
        floor: i64,
        slices: &mut usize,
        done: &mut Maintenance,
    ) -> Result<(), StoreError> {
        let is_raw = table == "chunks";
        loop {
            let first = {
                let buckets = self.0.buckets.read();
                let set = if is_raw { &buckets.raw } else { &buckets.rollups };
                set.first().copied().filter(|b| *b < floor)
            };
            let Some(bucket) = first else { return Ok(()) };
            if *slices == 0 {
                return Ok(());
            }
            *slices -= 1;
            let end = key(bucket + 1, 0);
            let sql = format!(
                "SELECT coalesce((SELECT id FROM {table} WHERE id < {end} ORDER BY id \
                 LIMIT 1 OFFSET {ROWS}), {end})"
            );
            let to = {
                let mut conn = self.0.pool.acquire().await?;
                super::open::number(&mut conn, &sql).await?
            };
            let dropped = if is_raw {
                self.drop_chunks(to, end).await?
            } else {
                self.drop_rollups(to).await?
            };
            done.dropped += dropped;
            if to == end {
                let mut buckets = self.0.buckets.write();
                let set = if is_raw { &mut buckets.raw } else { &mut buckets.rollups };
                set.remove(&bucket);
            }
        }
    }

    /// Drops chunks with keys below `to`; their times too once that is the bucket's end.
    async fn drop_chunks(&self, to: i64, end: i64) -> Result<u64, StoreError> {
        let sql = "SELECT count(*), coalesce(sum(r.count), 0) FROM chunks c \
                   JOIN rollups r ON r.id = c.id WHERE c.id < ?";
        let row = sqlx::query(sql).bind(to).fetch_one(&self.0.pool).await?;
        let (chunks, samples): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let mut script = Script::new();
        script
            .sql("UPDATE meta SET value = value - ? WHERE key = 'packed_samples';")
            .bind(samples)
            .sql("DELETE FROM chunks WHERE id < ?;")
            .bind(to);
        if to == end {
            script.sql("DELETE FROM chunk_times WHERE id < ?;").bind(end);
        }
        self.transact(vec![script]).await?;
        self.0.packed_samples.fetch_sub(samples, Ordering::AcqRel);
        Ok(chunks as u64)
    }

    async fn drop_rollups(&self, to: i64) -> Result<u64, StoreError> {
        let mut script = Script::new();
        script.sql("DELETE FROM rollups WHERE id < ?;").bind(to);
        self.change(script).await
    }

    async fn trim_ledgers(
        &self,
        upkeep: &mut Upkeep,
        done: &mut Maintenance,
    ) -> Result<(), StoreError> {
        let keep = self.0.options.ledger_rows;
        let known: Vec<(i64, u64)> =
            self.0.streams.lock().values().map(|s| (s.id, s.state.committed)).collect();
        for (stream, committed) in known {
            let to = committed.saturating_sub(keep);
            let trimmed = upkeep.trimmed.entry(stream).or_default();
            if to < *trimmed + LEDGER_SLACK {
                continue;
            }
            let mut script = Script::new();
            script.sql("DELETE FROM ledger WHERE stream = ? AND last <= ?;");
            script.bind(stream).bind(to as i64);
            done.dropped += self.change(script).await?;
            upkeep.trimmed.insert(stream, to);
        }
        Ok(())
    }

    async fn cut_history(&self, now: i64, done: &mut Maintenance) -> Result<(), StoreError> {
        let quiet = before(now, self.0.options.keep_raw.0);
        let history = before(now, self.0.options.keep_history.0);
        // Alerts outlive their notifications: an alert that begins anew counts its incidents
        // from the start, and would be told under ids that are known.
        let alerts = before(history, self.0.options.keep_history.0);
        let mut script = Script::new();
        script
            .sql(
                "DELETE FROM ledger WHERE stream IN (SELECT id FROM streams s \
                 WHERE last_commit < ? AND EXISTS \
                 (SELECT 1 FROM ledger l WHERE l.stream = s.id) LIMIT ?);",
            )
            .bind(quiet)
            .bind(STREAMS)
            .sql("DELETE FROM dead_letters WHERE at < ?;")
            .bind(history)
            .sql("DELETE FROM transitions WHERE at < ?;")
            .bind(history)
            .sql("DELETE FROM audit WHERE at < ?;")
            .bind(history)
            .sql("DELETE FROM evaluations WHERE at < ?;")
            .bind(now.saturating_sub(evaluations::KEPT_MS))
            .sql(
                "DELETE FROM attempts WHERE notification IN (SELECT id FROM notifications \
                 WHERE decided_at < ? AND state IN ('delivered', 'dead', 'dropped'));",
            )
            .bind(history)
            .sql(
                "DELETE FROM notifications WHERE decided_at < ? \
                 AND state IN ('delivered', 'dead', 'dropped');",
            )
            .bind(history)
            .sql(
                "DELETE FROM acknowledgements WHERE fingerprint NOT IN \
                 (SELECT fingerprint FROM alerts);",
            )
            .sql("DELETE FROM silences WHERE ends_at < ?;")
            .bind(history)
            .sql("DELETE FROM alerts WHERE state = 'resolved' AND resolved_at < ?;")
            .bind(alerts);
        done.dropped += self.change(script).await?;
        Ok(())
    }
}
