//! Committed records, by their streams and numbers.

use super::PostgresStore;
use super::failure::{Again, retried};
use super::slots::dead_letter;
use crate::StoreError;
use crate::ingest::{AgentStream, DeadLetter, LedgerEntry};
use sentinel_model::ids::{AgentId, Epoch};
use sqlx::Row;
use sqlx::postgres::PgRow;

/// A record's number as it is stored; none is above.
fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

impl PostgresStore {
    pub(super) async fn read_dead_letter(
        &self,
        agent: &AgentId,
        epoch: Epoch,
        seq: u64,
    ) -> Result<Option<DeadLetter>, StoreError> {
        self.still_open()?;
        let row = retried(Again::Whenever, || async move {
            let sql = "SELECT s.agent, s.epoch, d.seq, d.at, d.reason, d.payload \
                       FROM dead_letters d JOIN streams s ON s.id = d.stream \
                       WHERE s.agent = $1 AND s.epoch = $2 AND d.seq = $3";
            let query = sqlx::query(sql).bind(agent.as_str()).bind(&epoch.0[..]);
            Ok(query.bind(number(seq)).fetch_optional(&self.0.pool).await?)
        });
        row.await?.as_ref().map(dead_letter).transpose()
    }

    pub(super) async fn read_streams(
        &self,
        agent: &AgentId,
        limit: u32,
    ) -> Result<Vec<AgentStream>, StoreError> {
        self.still_open()?;
        let rows = retried(Again::Whenever, || async move {
            let sql = "SELECT epoch, committed, last_commit FROM streams WHERE agent = $1 \
                       ORDER BY last_commit DESC, id DESC LIMIT $2";
            let query = sqlx::query(sql).bind(agent.as_str()).bind(i64::from(limit));
            Ok(query.fetch_all(&self.0.pool).await?)
        });
        let stream = |row: &PgRow| {
            let what = "an epoch is not 16 bytes".to_owned();
            let epoch: &[u8] = row.try_get(0)?;
            Ok(AgentStream {
                epoch: Epoch(epoch.try_into().map_err(|_| StoreError::Damaged { what })?),
                committed: row.try_get::<i64, _>(1)? as u64,
                last_commit: row.try_get(2)?,
            })
        };
        rows.await?.iter().map(stream).collect()
    }

    pub(super) async fn read_ledger(
        &self,
        agent: &AgentId,
        epoch: Epoch,
        from: u64,
        limit: u32,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        self.still_open()?;
        let rows = retried(Again::Whenever, || async move {
            let sql = "SELECT seq, last, rows, state, hash FROM ledger WHERE seq >= $1 AND stream = \
                       (SELECT id FROM streams WHERE agent = $2 AND epoch = $3) ORDER BY seq LIMIT $4";
            let query = sqlx::query(sql).bind(number(from)).bind(agent.as_str());
            let query = query.bind(&epoch.0[..]).bind(i64::from(limit));
            Ok(query.fetch_all(&self.0.pool).await?)
        });
        let entry = |row: &PgRow| {
            let rows = i64::from(row.try_get::<i32, _>(2)?);
            let state = i64::from(row.try_get::<i16, _>(3)?);
            let numbers = (row.try_get(0)?, row.try_get(1)?, rows);
            LedgerEntry::stored(numbers, state, row.try_get(4)?)
        };
        rows.await?.iter().map(entry).collect()
    }
}
