//! Committed records, by their streams and numbers.

use super::SqliteStore;
use super::slots::dead_letter;
use crate::StoreError;
use crate::format::{batch, with_codec};
use crate::ingest::{AgentStream, DeadLetter, LedgerEntry};
use crate::tail::TailBatch;
use sentinel_model::ids::{AgentId, Epoch, Position};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::sync::atomic::Ordering;

/// A record's number as it is stored; none is above.
fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

impl SqliteStore {
    pub(super) async fn read_brought(
        &self,
        agent: &AgentId,
        at: Position,
    ) -> Result<Option<TailBatch>, StoreError> {
        self.still_open()?;
        let sql = "SELECT l.stream, l.rows FROM ledger l JOIN streams s ON s.id = l.stream \
                   WHERE s.agent = ? AND s.epoch = ? AND l.seq = ? AND l.state = 0 AND l.rows > 0";
        let query = sqlx::query(sql).bind(agent.as_str()).bind(&at.epoch.0[..]);
        let found = query.bind(number(at.seq)).fetch_optional(&self.0.pool).await?;
        let Some(row) = found else { return Ok(None) };
        let (stream, rows): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let Some(id) = self.batch_of(agent, stream, number(at.seq)).await? else {
            return Ok(None);
        };
        let sql = "SELECT data FROM batches WHERE id = ?";
        let Some(row) = sqlx::query(sql).bind(id).fetch_optional(&self.0.pool).await? else {
            return Ok(None);
        };
        let found =
            with_codec(|codec| batch::decode(codec, row.try_get(0)?).map_err(StoreError::from));
        let found =
            found.map_err(|error| StoreError::Damaged { what: format!("batch {id}: {error}") })?;
        let (series, times, values) = (found.ids, found.times, found.values);
        // Otherwise it was packed in part since.
        Ok((values.len() as i64 == rows).then_some(TailBatch { series, times, values }))
    }

    /// The batch of a record that brought samples: batches and records of a stream are in one order, so that it has as
    /// many batches after it as the record has records. None where some of those may be packed.
    async fn batch_of(
        &self,
        agent: &AgentId,
        stream: i64,
        seq: i64,
    ) -> Result<Option<i64>, StoreError> {
        // Memory has what was committed up to here; what comes after is counted with the ledger, in one statement.
        let end = self.0.last_batch.load(Ordering::Acquire);
        let mut ids = self.0.tail.read().unbroken(agent, stream);
        ids.retain(|id| *id <= end);
        let sql = "SELECT 0, count(*) FROM ledger WHERE stream = ?1 AND seq > ?2 AND state = 0 \
                   AND rows > 0 UNION ALL SELECT 1, value FROM meta WHERE key = 'packed_to' \
                   UNION ALL SELECT 2, id FROM batches WHERE id > ?3 AND stream = ?1";
        let query = sqlx::query(sql).bind(stream).bind(seq).bind(end);
        let mut after = 0;
        for row in query.fetch_all(&self.0.pool).await? {
            let number: i64 = row.try_get(1)?;
            match row.try_get::<i64, _>(0)? {
                0 => after = usize::try_from(number).unwrap_or(usize::MAX),
                1 if number > end => return Ok(None),
                1 => {}
                _ => ids.push(number),
            }
        }
        ids.sort_unstable();
        Ok(ids.into_iter().rev().nth(after))
    }

    pub(super) async fn read_dead_letter(
        &self,
        agent: &AgentId,
        epoch: Epoch,
        seq: u64,
    ) -> Result<Option<DeadLetter>, StoreError> {
        self.still_open()?;
        let sql = "SELECT s.agent, s.epoch, d.seq, d.at, d.reason, d.payload FROM dead_letters d \
                   JOIN streams s ON s.id = d.stream WHERE s.agent = ? AND s.epoch = ? AND d.seq = ?";
        let query = sqlx::query(sql).bind(agent.as_str()).bind(&epoch.0[..]).bind(number(seq));
        query.fetch_optional(&self.0.pool).await?.as_ref().map(dead_letter).transpose()
    }

    pub(super) async fn read_streams(
        &self,
        agent: &AgentId,
        limit: u32,
    ) -> Result<Vec<AgentStream>, StoreError> {
        self.still_open()?;
        let sql = "SELECT epoch, committed, last_commit FROM streams WHERE agent = ? \
                   ORDER BY last_commit DESC, id DESC LIMIT ?";
        let query = sqlx::query(sql).bind(agent.as_str()).bind(limit);
        let stream = |row: &SqliteRow| {
            let what = "an epoch is not 16 bytes".to_owned();
            let epoch: &[u8] = row.try_get(0)?;
            Ok(AgentStream {
                epoch: Epoch(epoch.try_into().map_err(|_| StoreError::Damaged { what })?),
                committed: row.try_get::<i64, _>(1)? as u64,
                last_commit: row.try_get(2)?,
            })
        };
        query.fetch_all(&self.0.pool).await?.iter().map(stream).collect()
    }

    pub(super) async fn read_ledger(
        &self,
        agent: &AgentId,
        epoch: Epoch,
        from: u64,
        limit: u32,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        self.still_open()?;
        let sql = "SELECT seq, last, rows, state, hash FROM ledger WHERE seq >= ? AND stream = \
                   (SELECT id FROM streams WHERE agent = ? AND epoch = ?) ORDER BY seq LIMIT ?";
        let query = sqlx::query(sql).bind(number(from)).bind(agent.as_str());
        let query = query.bind(&epoch.0[..]).bind(limit);
        let entry = |row: &SqliteRow| {
            let numbers = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            LedgerEntry::stored(numbers, row.try_get(3)?, row.try_get(4)?)
        };
        query.fetch_all(&self.0.pool).await?.iter().map(entry).collect()
    }
}
