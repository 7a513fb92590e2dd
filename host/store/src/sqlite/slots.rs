//! Plugins' state, what roles say of themselves, and dead letters.

use super::SqliteStore;
use super::script::Script;
use crate::StoreError;
use crate::alerting::SlotWrite;
use crate::ingest::DeadLetter;
use sentinel_model::ids::{AgentId, Epoch};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::collections::BTreeMap;

/// A write to a slot's state.
pub(super) fn insert_slot_write(script: &mut Script, write: SlotWrite) {
    match write.value {
        Some(value) => script
            .sql("INSERT OR REPLACE INTO slot_state (slot, key, value) VALUES (?,?,?);")
            .bind(write.slot)
            .bind(write.key)
            .bind(value),
        None => script
            .sql("DELETE FROM slot_state WHERE slot = ? AND key = ?;")
            .bind(write.slot)
            .bind(write.key),
    };
}

impl SqliteStore {
    pub(super) async fn read_slot(
        &self,
        slot: &str,
    ) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        let sql = "SELECT key, value FROM slot_state WHERE slot = ?";
        let rows = sqlx::query(sql).bind(slot).fetch_all(&self.0.pool).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    pub(super) async fn write_status(
        &self,
        name: &str,
        json: &str,
        now: i64,
    ) -> Result<(), StoreError> {
        let mut script = Script::new();
        script
            .sql("INSERT OR REPLACE INTO statuses (name, json, at) VALUES (?,?,?);")
            .bind(name)
            .bind(json)
            .bind(now);
        self.transact(vec![script]).await.map(|_| ())
    }

    pub(super) async fn read_statuses(&self) -> Result<Vec<(String, String, i64)>, StoreError> {
        let sql = "SELECT name, json, at FROM statuses ORDER BY name";
        let rows = sqlx::query(sql).fetch_all(&self.0.pool).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect()
    }

    pub(super) async fn read_dead_letters(
        &self,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let sql = "SELECT s.agent, s.epoch, d.seq, d.at, d.reason, d.payload FROM dead_letters d \
                   JOIN streams s ON s.id = d.stream ORDER BY d.at DESC, d.rowid DESC LIMIT ?";
        let rows = sqlx::query(sql).bind(limit).fetch_all(&self.0.pool).await?;
        rows.iter().map(dead_letter).collect()
    }
}

pub(super) fn dead_letter(row: &SqliteRow) -> Result<DeadLetter, StoreError> {
    let damaged = |what: String| StoreError::Damaged { what };
    let epoch: &[u8] = row.try_get(1)?;
    Ok(DeadLetter {
        agent: AgentId::new(row.try_get(0)?).map_err(|e| damaged(e.to_string()))?,
        epoch: Epoch(epoch.try_into().map_err(|_| damaged("an epoch is not 16 bytes".into()))?),
        seq: row.try_get::<i64, _>(2)? as u64,
        at: row.try_get(3)?,
        reason: row.try_get(4)?,
        payload: row.try_get(5)?,
    })
}
