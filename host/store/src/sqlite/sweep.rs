//! Sweeping: series of which nothing is left, and streams that nobody sends into any more.
//!
//! A series goes once all buckets up to the last day of which it had samples are dropped, and the
//! tail has none of it. That is decided with the writer held, so no commit is under way, and what
//! commits remember of it (the registry, shapes) is forgotten before the next one begins. A series
//! that comes back is a new one.
//!
//! A stream goes when nothing was committed into it for as long as anything is kept, nothing in
//! the database names it, and its agent has a newer one. An agent that sends into such a stream
//! after all is asked to begin anew, and says itself what it no longer has.

use super::commit::Writer;
use super::maintain::Upkeep;
use super::retain::before;
use super::script::{Script, transaction};
use super::{Shared, SqliteStore};
use crate::samples::buckets::{bucket, day};
use crate::{Maintenance, StoreError};
use sentinel_model::ids::{AgentId, Epoch};
use sqlx::{Executor, Row};

/// The most series that one call removes.
const SERIES: usize = 4_000;
/// The most streams that one call removes.
const STREAMS: i64 = 1_000;

/// A stream that may go.
struct Quiet {
    id: i64,
    agent: String,
    epoch: Vec<u8>,
}

impl SqliteStore {
    /// Whether more is waiting.
    pub(super) async fn sweep(
        &self,
        upkeep: &mut Upkeep,
        now: i64,
        done: &mut Maintenance,
    ) -> Result<bool, StoreError> {
        if upkeep.swept_at == Some(bucket(now)) {
            return Ok(false);
        }
        let options = &self.0.options;
        let floor = bucket(before(now, options.keep_rollups.0));
        let kept = {
            let buckets = self.0.buckets.read();
            let oldest = [buckets.raw.first(), buckets.rollups.first()];
            oldest.into_iter().flatten().copied().min().unwrap_or(floor)
        };
        let day = day(floor.min(kept));
        let quiet = before(now, options.keep_rollups.0.max(options.keep_history.0));
        let (series, streams) = self
            .write(move |shared, writer| {
                Box::pin(async move {
                    let series = writer.sweep_series(shared, day).await?;
                    let streams = writer.sweep_streams(shared, quiet).await?;
                    Ok((series, streams))
                })
            })
            .await?;
        done.dropped += (series + streams.len()) as u64;
        for id in &streams {
            upkeep.trimmed.remove(id);
        }
        let more = series == SERIES || streams.len() as i64 == STREAMS;
        if !more {
            upkeep.swept_at = Some(bucket(now));
        }
        Ok(more)
    }
}

impl Writer {
    /// Removes series last seen before a day; how many.
    async fn sweep_series(&mut self, shared: &Shared, day: i64) -> Result<usize, StoreError> {
        let mut gone = shared.registry.read().unseen(day);
        if !gone.is_empty() {
            shared.tail.read().take_present(&mut gone);
        }
        gone.truncate(SERIES);
        if gone.is_empty() {
            return Ok(0);
        }
        let mut script = Script::new();
        script
            .sql("DELETE FROM series WHERE id IN (SELECT value FROM json_each(?));")
            .bind(serde_json::to_string(&gone)?);
        transaction(&mut self.conn, vec![script]).await?;
        shared.registry.write().remove(&gone);
        self.shapes.clear();
        Ok(gone.len())
    }

    /// Removes streams into which nothing was committed since `quiet`; which. One that was only
    /// ever asked to be sent again has no time of its own: it goes with the one after it.
    async fn sweep_streams(&mut self, shared: &Shared, quiet: i64) -> Result<Vec<i64>, StoreError> {
        let sql = "SELECT s.id, s.agent, s.epoch FROM streams s WHERE s.last_commit < ? \
                   AND EXISTS (SELECT 1 FROM streams n WHERE n.agent = s.agent AND n.id > s.id \
                   AND n.last_commit > 0 AND (s.last_commit > 0 OR n.last_commit < ?)) \
                   AND NOT EXISTS (SELECT 1 FROM ledger l WHERE l.stream = s.id) \
                   AND NOT EXISTS (SELECT 1 FROM dead_letters d WHERE d.stream = s.id) \
                   ORDER BY s.id LIMIT ?";
        let query = sqlx::query(sql).bind(quiet).bind(quiet).bind(STREAMS);
        let mut gone = Vec::new();
        for row in query.fetch_all(&mut self.conn).await? {
            let found =
                Quiet { id: row.try_get(0)?, agent: row.try_get(1)?, epoch: row.try_get(2)? };
            if !shared.tail.read().has_stream(found.id) {
                gone.push(found);
            }
        }
        let ids: Vec<i64> = gone.iter().map(|stream| stream.id).collect();
        if ids.is_empty() {
            return Ok(ids);
        }
        let mut script = Script::new();
        script
            .sql("DELETE FROM streams WHERE id IN (SELECT value FROM json_each(?));")
            .bind(serde_json::to_string(&ids)?);
        // That nothing refers to them was just looked at; SQLite would read all batches for each.
        self.conn.execute("PRAGMA foreign_keys = OFF").await?;
        let deleted = transaction(&mut self.conn, vec![script]).await;
        self.conn.execute("PRAGMA foreign_keys = ON").await?;
        deleted?;
        let mut streams = shared.streams.lock();
        for stream in gone {
            if let (Ok(agent), Ok(epoch)) = (AgentId::new(&stream.agent), stream.epoch.try_into()) {
                streams.remove(&(agent, Epoch(epoch)));
            }
        }
        Ok(ids)
    }
}
