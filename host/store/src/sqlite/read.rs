//! Reading what is stored of series: chunks, rollups, batches by their keys.

use super::Shared;
use crate::StoreError;
use crate::format::{batch, chunk, with_codec};
use crate::samples::buckets::{HOUR, key};
use crate::samples::gather::Chunk;
use crate::samples::tail::{Decoded, Entry, Shape, Times};
use futures::TryStreamExt;
use hashbrown::HashMap;
use sqlx::Row;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The most keys asked for in one statement.
pub(super) const KEYS_A_STATEMENT: usize = 4096;

/// The last sample of a bucket, from its rollup.
#[derive(Debug, Clone, Copy)]
pub(super) struct Last {
    pub(super) time: i64,
    pub(super) value: f64,
}

/// Numbers as a JSON array: one argument for as many keys as there are.
fn json(keys: impl IntoIterator<Item = i64>) -> String {
    let mut text = String::from("[");
    for (i, key) in keys.into_iter().enumerate() {
        let _ = write!(text, "{}{key}", if i == 0 { "" } else { "," });
    }
    text.push(']');
    text
}

impl Shared {
    /// The chunks of these keys that there are.
    pub(super) async fn read_chunks(
        &self,
        keys: &[i64],
    ) -> Result<HashMap<i64, Chunk>, StoreError> {
        let mut chunks = HashMap::new();
        for keys in keys.chunks(KEYS_A_STATEMENT) {
            let mut found: Vec<(i64, i64, Vec<u8>)> = Vec::new();
            let sql = "SELECT c.id, c.times, c.data FROM json_each(?) AS k \
                       CROSS JOIN chunks AS c ON c.id = k.value";
            let mut rows = sqlx::query(sql).bind(json(keys.iter().copied())).fetch(&self.pool);
            while let Some(row) = rows.try_next().await? {
                found.push((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
            }
            drop(rows);
            let times = self.read_times(found.iter().map(|f| f.1).collect()).await?;
            for (key, times_id, data) in found {
                let Some(times) = times.get(&times_id) else {
                    // Retention drops chunks before their times, and readers see both steps.
                    if key >> 24 < self.raw_floor.load(Ordering::Acquire) {
                        continue;
                    }
                    let what = format!("chunk {key} has lost its times {times_id}");
                    return Err(StoreError::Damaged { what });
                };
                let values = with_codec(|codec| chunk::decode_values(codec, &data, times.len()))
                    .map_err(|e| StoreError::Damaged { what: format!("chunk {key}: {e}") })?;
                chunks.insert(key, Chunk { times: Arc::clone(times), values });
            }
        }
        Ok(chunks)
    }

    async fn read_times(
        &self,
        mut ids: Vec<i64>,
    ) -> Result<HashMap<i64, Arc<Vec<i64>>>, StoreError> {
        let mut times = HashMap::new();
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Ok(times);
        }
        let sql = "SELECT t.id, t.data FROM json_each(?) AS k \
                   CROSS JOIN chunk_times AS t ON t.id = k.value";
        let mut rows = sqlx::query(sql).bind(json(ids)).fetch(&self.pool);
        while let Some(row) = rows.try_next().await? {
            let id: i64 = row.try_get(0)?;
            let decoded = chunk::decode_times(row.try_get(1)?)
                .map_err(|e| StoreError::Damaged { what: format!("times {id}: {e}") })?;
            times.insert(id, Arc::new(decoded));
        }
        Ok(times)
    }

    /// The last samples of these buckets, by key.
    pub(super) async fn read_rollups(
        &self,
        keys: &[i64],
    ) -> Result<HashMap<i64, Last>, StoreError> {
        let mut found = HashMap::new();
        for keys in keys.chunks(KEYS_A_STATEMENT) {
            let sql = "SELECT r.id, r.last, r.last_at FROM json_each(?) AS k \
                       CROSS JOIN rollups AS r ON r.id = k.value";
            let mut rows = sqlx::query(sql).bind(json(keys.iter().copied())).fetch(&self.pool);
            while let Some(row) = rows.try_next().await? {
                let id: i64 = row.try_get(0)?;
                let value = super::exact::get(&row, 1)?;
                let time = ((id >> 24) * HOUR).wrapping_add(row.try_get(2)?);
                found.insert(id, Last { time, value });
            }
        }
        Ok(found)
    }

    /// Puts the columns into entries that have lost them. One that is not in the database any
    /// more was packed meanwhile, and goes.
    pub(super) async fn read_batches(&self, entries: &mut Vec<Entry>) -> Result<(), StoreError> {
        let ids: Vec<i64> = entries.iter().filter(|e| e.data.is_none()).map(|e| e.id).collect();
        let mut read: HashMap<i64, (Vec<u32>, Decoded)> = HashMap::new();
        for ids in ids.chunks(KEYS_A_STATEMENT) {
            let sql = "SELECT b.id, b.data FROM json_each(?) AS k \
                       CROSS JOIN batches AS b ON b.id = k.value";
            let mut rows = sqlx::query(sql).bind(json(ids.iter().copied())).fetch(&self.pool);
            while let Some(row) = rows.try_next().await? {
                let id: i64 = row.try_get(0)?;
                let data = row.try_get(1)?;
                let batch = with_codec(|codec| batch::decode(codec, data))
                    .map_err(|e| StoreError::Damaged { what: format!("batch {id}: {e}") })?;
                let times = Times::new(&batch.times);
                let data = Decoded { times, values: batch.values.into() };
                read.insert(id, (batch.ids, data));
            }
        }
        entries.retain_mut(|entry| {
            if entry.data.is_none()
                && let Some((ids, data)) = read.remove(&entry.id)
            {
                // One that was packed in part meanwhile has fewer rows now.
                if *entry.shape.ids != *ids {
                    entry.shape = Shape::new(ids);
                }
                entry.data = Some(Arc::new(data));
            }
            entry.data.is_some()
        });
        Ok(())
    }
}

/// The keys of series in buckets, in order of series, then of buckets.
pub(super) fn keys(series: &[u32], buckets: &[i64]) -> Vec<i64> {
    series.iter().flat_map(|&id| buckets.iter().map(move |&b| key(b, id))).collect()
}
