//! Committed records, by their streams and numbers.

use super::SqliteStore;
use super::slots::dead_letter;
use crate::StoreError;
use crate::ingest::{AgentStream, DeadLetter, LedgerEntry};
use sentinel_model::ids::{AgentId, Epoch};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// A record's number as it is stored; none is above.
fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

impl SqliteStore {
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
