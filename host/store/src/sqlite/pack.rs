//! Packing: batches of hours that are over become chunks, one a series and hour.
//!
//! A round ([`crate::samples::pick`]) writes its chunks slice by slice, and deletes the batches
//! after the last: a crash between leaves samples in both, which reading and the next round
//! settle to the same.

use super::SqliteStore;
use super::script::Script;
use crate::format::chunk::{encode_times, encode_values};
use crate::format::{Codec, batch};
use crate::samples::buckets::{day, key, series};
use crate::samples::gather::{Encode, Hour, Picked, Round, Slice};
use crate::samples::pick::pick;
use crate::samples::tail::{Entry, Unit};
use crate::{Maintenance, StoreError};
use hashbrown::HashMap;
use std::sync::atomic::Ordering;

/// Rows of one INSERT.
const ROWS: usize = 250;
/// Batches deleted in one transaction.
const BATCHES: usize = 1_000;

impl SqliteStore {
    /// Packs what is due of one unit; whether more of it is.
    pub(super) async fn pack(
        &self,
        unit: &Unit,
        (cutoff, now): (i64, i64),
        done: &mut Maintenance,
    ) -> Result<bool, StoreError> {
        let (mut picked, is_cut) = pick(self.0.tail.read().batches(unit), cutoff, now);
        if picked.is_empty() {
            return Ok(false);
        }
        let (mut entries, before): (Vec<Entry>, Vec<_>) =
            picked.drain(..).map(|p| (p.entry, p.before)).unzip();
        let wanted = entries.len();
        self.0.read_batches(&mut entries).await?;
        if entries.len() < wanted {
            let what = format!("{} batches of the tail are gone", wanted - entries.len());
            return Err(StoreError::Damaged { what });
        }
        let picked = entries.into_iter().zip(before);
        let picked = picked.map(|(entry, before)| Picked { entry, before }).collect();
        let mut round = Round::new(picked, Blobs::new());
        let floor = self.0.raw_floor.load(Ordering::Acquire);
        for (bucket, batches) in round.hours() {
            if bucket < floor {
                tracing::warn!(bucket, "samples older than raw retention are dropped");
                done.dropped += batches.len() as u64;
                continue;
            }
            let is_new = !self.0.buckets.read().raw.contains(&bucket);
            let next_times = if is_new { key(bucket, 0) } else { self.next_times(bucket).await? };
            let hour = round.hour(bucket, batches, next_times);
            round = self.pack_hour(round, hour, is_new, done).await?;
        }
        self.finish(unit, round, done).await?;
        Ok(is_cut)
    }

    async fn next_times(&self, bucket: i64) -> Result<i64, StoreError> {
        let (first, end) = (key(bucket, 0), key(bucket + 1, 0));
        let sql = format!(
            "SELECT coalesce(max(id) + 1, {first}) FROM chunk_times \
             WHERE id >= {first} AND id < {end}"
        );
        let mut conn = self.0.pool.acquire().await?;
        super::open::number(&mut conn, &sql).await
    }

    async fn pack_hour(
        &self,
        mut round: Round<Blobs>,
        mut hour: Hour,
        is_new: bool,
        done: &mut Maintenance,
    ) -> Result<Round<Blobs>, StoreError> {
        for places in hour.slices() {
            let present = match is_new {
                true => HashMap::new(),
                false => self.0.read_chunks(&hour.keys(places.clone())).await?,
            };
            let work = tokio::task::spawn_blocking(move || {
                let slice = round.slice(&mut hour, places, &present);
                (round, hour, slice)
            });
            let slice;
            (round, hour, slice) = work.await.map_err(|e| StoreError::Engine(e.to_string()))?;
            done.dropped += slice.dropped;
            let (added, bucket) = (slice.added, hour.bucket);
            let day = day(bucket);
            let ids = slice.rollups.iter().map(|r| series(r.key));
            let seen = self.0.registry.read().unseen_of(ids, day);
            let mut scripts = write(slice);
            if !seen.is_empty() {
                scripts.push(see(&seen, day)?);
            }
            let locked = self.transact(scripts).await?;
            self.0.registry.write().saw(&seen, day);
            done.longest_lock_us = done.longest_lock_us.max(locked);
            done.samples_packed += added.max(0) as u64;
            self.0.packed_samples.fetch_add(added, Ordering::AcqRel);
            let mut buckets = self.0.buckets.write();
            buckets.raw.insert(bucket);
            buckets.rollups.insert(bucket);
        }
        Ok(round)
    }

    /// Deletes what is packed, and writes anew what is packed in part.
    async fn finish(
        &self,
        unit: &Unit,
        round: Round<Blobs>,
        done: &mut Maintenance,
    ) -> Result<(), StoreError> {
        for picked in round.picked.chunks(BATCHES) {
            let mut gone: Vec<i64> = picked.iter().map(|p| p.entry.id).collect();
            gone.sort_unstable();
            let rest: Vec<(Vec<u8>, Entry)> = crate::format::with_codec(|codec| {
                let rest = picked.iter().filter(|p| p.before.is_some()).filter_map(Picked::rest);
                rest.map(|entry| (encoded(codec, &entry), entry)).collect()
            });
            let mut script = Script::new();
            for (blob, entry) in &rest {
                script.sql("UPDATE batches SET data = ? WHERE id = ?;");
                script.bind(blob.as_slice()).bind(entry.id);
            }
            let stays: Vec<i64> = rest.iter().map(|r| r.1.id).collect();
            let deleted: Vec<i64> = gone.iter().copied().filter(|id| !stays.contains(id)).collect();
            script
                .sql("DELETE FROM batches WHERE id IN (SELECT value FROM json_each(?));")
                .bind(serde_json::to_string(&deleted)?)
                .sql("UPDATE meta SET value = max(value, ?) WHERE key = 'packed_to';")
                .bind(gone.last().copied().unwrap_or_default());
            let locked = self.transact(vec![script]).await?;
            done.longest_lock_us = done.longest_lock_us.max(locked);
            done.batches_packed += deleted.len() as u64;
            let rest = rest.into_iter().map(|r| r.1).collect();
            self.0.tail.write().replace(unit, &gone, rest);
        }
        Ok(())
    }
}

/// A batch as it is stored.
fn encoded(codec: &mut Codec, entry: &Entry) -> Vec<u8> {
    let data = entry.data.as_ref().expect("what stays has its columns");
    let times: Vec<i64> = (0..data.values.len()).map(|row| data.times.at(row)).collect();
    batch::encode(codec, &entry.shape.encoded, &times, &data.values)
}

/// Columns as compressed blobs.
struct Blobs {
    codec: Codec,
    integers: Vec<i64>,
}

impl Blobs {
    fn new() -> Self {
        Self { codec: Codec::new(), integers: Vec::new() }
    }
}

impl Encode for Blobs {
    type Times = Vec<u8>;
    type Values = Vec<u8>;

    fn times(&mut self, times: &[i64]) -> Vec<u8> {
        encode_times(times)
    }

    fn values(&mut self, values: &[f64]) -> Vec<u8> {
        encode_values(&mut self.codec, &mut self.integers, values)
    }
}

/// Notes the day of which series have samples now: once a day each.
fn see(series: &[u32], day: i64) -> Result<Script, StoreError> {
    let mut script = Script::new();
    script
        .sql("UPDATE series SET seen = ? WHERE id IN (SELECT value FROM json_each(?));")
        .bind(day)
        .bind(serde_json::to_string(series)?);
    Ok(script)
}

fn write(slice: Slice<Blobs>) -> Vec<Script> {
    let mut scripts = Vec::new();
    for rows in slice.times.chunks(ROWS) {
        let mut script = Script::new();
        script.rows("INSERT INTO chunk_times (id, data) VALUES", 2, rows.len());
        for (id, data) in rows {
            script.bind(*id).bind(data.as_slice());
        }
        scripts.push(script);
    }
    for rows in slice.chunks.chunks(ROWS) {
        let mut script = Script::new();
        script.rows("INSERT OR REPLACE INTO chunks (id, times, data) VALUES", 3, rows.len());
        for (key, times, data) in rows {
            script.bind(*key).bind(*times).bind(data.as_slice());
        }
        scripts.push(script);
    }
    let insert = "INSERT OR REPLACE INTO rollups (id, count, min, max, sum, last, last_at) VALUES";
    for rows in slice.rollups.chunks(ROWS) {
        let mut script = Script::new();
        script.rows(insert, 7, rows.len());
        for r in rows {
            script.bind(r.key).bind(r.count).bind_exact(r.min).bind_exact(r.max);
            script.bind_exact(r.sum).bind_exact(r.last).bind(r.last_at);
        }
        scripts.push(script);
    }
    let mut sum = Script::new();
    sum.sql("UPDATE meta SET value = value + ? WHERE key = 'packed_samples';").bind(slice.added);
    scripts.push(sum);
    scripts
}
