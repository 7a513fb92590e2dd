//! Plugins' state, what roles say of themselves, and dead letters.

use super::failure::{Again, Did, retried};
use super::{PostgresStore, text};
use crate::StoreError;
use crate::alerting::SlotWrite;
use crate::ingest::DeadLetter;
use sentinel_model::ids::{AgentId, Epoch};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use std::collections::BTreeMap;

/// Writes to slots' states, in their order.
pub(super) async fn write_states(conn: &mut PgConnection, writes: &[SlotWrite]) -> Did<()> {
    for write in writes {
        let sql = match write.value {
            Some(_) => {
                "INSERT INTO slot_state (slot, key, value) VALUES ($1, $2, $3) \
                 ON CONFLICT (slot, key) DO UPDATE SET value = excluded.value"
            }
            None => "DELETE FROM slot_state WHERE slot = $1 AND key = $2",
        };
        let query = sqlx::query(sql).bind(text::kept(&write.slot)).bind(text::kept(&write.key));
        let query = match &write.value {
            Some(value) => query.bind(value),
            None => query,
        };
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

impl PostgresStore {
    pub(super) async fn read_slot(
        &self,
        slot: &str,
    ) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        self.still_open()?;
        retried(Again::Whenever, || async move {
            let sql = "SELECT key, value FROM slot_state WHERE slot = $1";
            let rows = sqlx::query(sql).bind(text::kept(slot)).fetch_all(&self.0.pool).await?;
            let pair =
                |row: &PgRow| -> Did<_> { Ok((text::given(row.try_get(0)?), row.try_get(1)?)) };
            rows.iter().map(pair).collect()
        })
        .await
    }

    pub(super) async fn write_status(
        &self,
        name: &str,
        json: &str,
        now: i64,
    ) -> Result<(), StoreError> {
        self.still_open()?;
        retried(Again::Whenever, || async move {
            let sql = "INSERT INTO statuses (name, json, at) VALUES ($1, $2, $3) \
                       ON CONFLICT (name) DO UPDATE SET json = excluded.json, at = excluded.at";
            let query = sqlx::query(sql).bind(text::kept(name)).bind(text::kept(json)).bind(now);
            query.execute(&self.0.pool).await?;
            Ok(())
        })
        .await
    }

    pub(super) async fn read_statuses(&self) -> Result<Vec<(String, String, i64)>, StoreError> {
        let rows = self.rows("SELECT name, json, at FROM statuses ORDER BY name").await?;
        let status = |row: &PgRow| {
            Ok((text::given(row.try_get(0)?), text::given(row.try_get(1)?), row.try_get(2)?))
        };
        rows.iter().map(status).collect()
    }

    pub(super) async fn read_dead_letters(
        &self,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let sql = "SELECT s.agent, s.epoch, d.seq, d.at, d.reason, d.payload FROM dead_letters d \
                   JOIN streams s ON s.id = d.stream ORDER BY d.at DESC, d.id DESC LIMIT ";
        self.rows(&format!("{sql}{limit}")).await?.iter().map(dead_letter).collect()
    }
}

pub(super) fn dead_letter(row: &PgRow) -> Result<DeadLetter, StoreError> {
    let damaged = |what: String| StoreError::Damaged { what };
    let epoch: &[u8] = row.try_get(1)?;
    Ok(DeadLetter {
        agent: AgentId::new(row.try_get(0)?).map_err(|e| damaged(e.to_string()))?,
        epoch: Epoch(epoch.try_into().map_err(|_| damaged("an epoch is not 16 bytes".into()))?),
        seq: row.try_get::<i64, _>(2)? as u64,
        at: row.try_get(3)?,
        reason: text::given(row.try_get(4)?),
        payload: row.try_get(5)?,
    })
}
