//! The tail: batches by their ids, which grow in the order of commits while the file is open.

use super::SqliteStore;
use crate::StoreError;
use crate::format::{batch, with_codec};
use crate::query::SeriesInfo;
use crate::tail::{TailBatch, TailPage, TailPosition};
use sqlx::Row;
use std::sync::atomic::Ordering;

fn id(position: &TailPosition) -> Result<i64, StoreError> {
    let no_id = |_| StoreError::Conflict(format!("{:?} is no position", position.0));
    position.0.parse().map_err(no_id)
}

impl SqliteStore {
    pub(super) async fn reaches(&self, position: &TailPosition) -> Result<bool, StoreError> {
        self.still_open()?;
        let Ok(position) = id(position) else { return Ok(false) };
        let sql = "SELECT value FROM meta WHERE key = 'packed_to'";
        let packed: i64 = sqlx::query_scalar(sql).fetch_one(&self.0.pool).await?;
        let last = self.0.last_batch.load(Ordering::Acquire);
        // One beyond the last is of a file that was put back meanwhile.
        Ok((packed..=last).contains(&position))
    }

    pub(super) async fn end_of_tail(&self) -> Result<TailPosition, StoreError> {
        self.still_open()?;
        Ok(TailPosition(self.0.last_batch.load(Ordering::Acquire).to_string()))
    }

    pub(super) async fn read_tail(
        &self,
        after: &TailPosition,
        limit: u32,
    ) -> Result<TailPage, StoreError> {
        self.still_open()?;
        let mut last = id(after)?;
        let sql = "SELECT id, data FROM batches WHERE id > ? AND id <= ? ORDER BY id LIMIT ?";
        // What a commit has written and not taken over into memory yet comes with the next page.
        let end = self.0.last_batch.load(Ordering::Acquire);
        let rows =
            sqlx::query(sql).bind(last).bind(end).bind(limit).fetch_all(&self.0.pool).await?;
        let mut batches = Vec::with_capacity(rows.len());
        for row in &rows {
            last = row.try_get(0)?;
            let batch =
                with_codec(|codec| batch::decode(codec, row.try_get(1)?).map_err(StoreError::from))
                    .map_err(|e| StoreError::Damaged { what: format!("batch {last}: {e}") })?;
            let (series, times, values) = (batch.ids, batch.times, batch.values);
            batches.push(TailBatch { series, times, values });
        }
        let more = rows.len() as u64 >= u64::from(limit);
        Ok(TailPage { batches, next: TailPosition(last.to_string()), more })
    }

    pub(super) fn find_series(&self, ids: &[u32]) -> Result<Vec<SeriesInfo>, StoreError> {
        self.still_open()?;
        let registry = self.0.registry.read();
        Ok(ids.iter().filter_map(|id| registry.info(*id)).collect())
    }
}
