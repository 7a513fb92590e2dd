//! Packing: batches of hours that are over become chunks, one a series and hour. A round writes
//! its chunks and deletes its batches in one transaction.

use super::PostgresStore;
use super::columns::{Arrays, Numbers};
use super::copy::Rows;
use super::failure::{Did, Failure};
use super::ledger::stored_times;
use super::level::Layout;
use super::partitions::{AHEAD, CHUNKS, ROLLUPS, TIMES, ensure};
use super::series::{keep_shapes, numbers};
use crate::samples::buckets::{bucket as hour_of, day, key, series};
use crate::samples::gather::{Hour, Picked, Round, Slice};
use crate::samples::pick::pick;
use crate::samples::tail::Entry;
use crate::{Maintenance, StoreError};
use hashbrown::HashMap;
use sqlx::Acquire;
use sqlx::postgres::PgConnection;
use std::collections::BTreeMap;
use std::time::Instant;

/// Where an hour is written.
#[derive(Debug, Clone, Copy)]
struct Place {
    bucket: i64,
    layout: Layout,
    /// So far ahead that it gets no partition.
    is_ahead: bool,
}

impl PostgresStore {
    /// Packs what is due of one unit's batches; whether more of it is.
    pub(super) async fn pack(
        &self,
        conn: &mut PgConnection,
        batches: Vec<Entry>,
        cutoff: i64,
        now: i64,
        done: &mut Maintenance,
    ) -> Did<bool> {
        let (picked, is_cut) = pick(batches, cutoff, now);
        if picked.is_empty() {
            return Ok(false);
        }
        let (mut entries, before): (Vec<Entry>, Vec<_>) =
            picked.into_iter().map(|p| (p.entry, p.before)).unzip();
        let wanted = entries.len();
        self.read_batches(conn, &mut entries).await?;
        if entries.len() < wanted {
            return Err(Failure::Moved);
        }
        let picked = entries.into_iter().zip(before);
        let picked = picked.map(|(entry, before)| Picked { entry, before }).collect();
        let round = Round::new(picked, Arrays::default());
        let sql = "SELECT value FROM meta WHERE key = 'raw_floor'";
        let floor: i64 = sqlx::query_scalar(sql).fetch_one(&mut *conn).await?;
        let mut hours = round.hours();
        let kept = hours.split_off(&floor);
        for (bucket, batches) in hours {
            tracing::warn!(bucket, "samples older than raw retention are dropped");
            done.dropped += batches.len() as u64;
        }
        for &hour in kept.keys().filter(|hour| **hour < hour_of(now) + AHEAD) {
            for parted in [TIMES, CHUNKS, ROLLUPS] {
                ensure(conn, self.0.found.layout, parted, hour).await?;
            }
        }
        // What stays has shapes, and those transactions of their own.
        let rest = self.rest(conn, &round).await?;
        let start = Instant::now();
        let packed = self.write_round(conn, round, kept, rest, now).await?;
        done.longest_lock_us = done.longest_lock_us.max(start.elapsed().as_micros() as u64);
        done.batches_packed += packed.batches_packed;
        done.samples_packed += packed.samples_packed;
        done.dropped += packed.dropped;
        Ok(is_cut)
    }

    /// What stays of batches that are packed in part, with the row of its shape.
    async fn rest(&self, conn: &mut PgConnection, round: &Round<Arrays>) -> Did<Vec<(i64, Entry)>> {
        let parts = round.picked.iter().filter(|p| p.before.is_some());
        let rest: Vec<Entry> = parts.filter_map(Picked::rest).collect();
        if rest.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = rest.iter().map(|entry| &entry.shape.ids).collect();
        let rows = keep_shapes(conn, &ids).await?.ok_or(Failure::Moved)?;
        Ok(rows.into_iter().zip(rest).collect())
    }

    async fn write_round(
        &self,
        conn: &mut PgConnection,
        mut round: Round<Arrays>,
        hours: BTreeMap<i64, Vec<usize>>,
        rest: Vec<(i64, Entry)>,
        now: i64,
    ) -> Did<Maintenance> {
        let mut done = Maintenance::default();
        let mut seen: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        let mut tx = conn.begin().await?;
        for (bucket, batches) in hours {
            let is_ahead = bucket >= hour_of(now) + AHEAD;
            let place = Place { bucket, layout: self.0.found.layout, is_ahead };
            let sql = "SELECT EXISTS (SELECT 1 FROM hours WHERE bucket = $1)";
            let is_known: bool = sqlx::query_scalar(sql).bind(bucket).fetch_one(&mut *tx).await?;
            let next = match is_known {
                true => next_times(&mut tx, bucket).await?,
                false => 1,
            };
            let mut hour = round.hour(bucket, batches, next);
            for places in hour.slices() {
                let ids = ids_of(&hour, places.clone());
                let present = match is_known {
                    true => self.read_chunks(&mut tx, &ids, (bucket, bucket)).await?,
                    false => HashMap::new(),
                };
                let replaced: Vec<u32> = present.keys().map(|key| series(*key)).collect();
                let work = tokio::task::spawn_blocking(move || {
                    let slice = round.slice(&mut hour, places, &present);
                    (round, hour, slice)
                });
                let slice;
                (round, hour, slice) = work.await.map_err(|e| StoreError::Engine(e.to_string()))?;
                done.dropped += slice.dropped;
                done.samples_packed += slice.added.max(0) as u64;
                write_slice(&mut tx, place, slice, &replaced).await?;
                let day = day(bucket);
                seen.entry(day)
                    .or_default()
                    .extend(self.0.registry.read().unseen_of(ids.into_iter(), day));
            }
        }
        for (day, ids) in &seen {
            let sql = "UPDATE series SET seen = $1 WHERE id = ANY($2) AND seen < $1";
            sqlx::query(sql).bind(day).bind(numbers(ids)).execute(&mut *tx).await?;
        }
        let gone = finish(&mut tx, &round.picked, &rest).await?;
        tx.commit().await?;
        done.batches_packed = gone.len() as u64;
        for (day, ids) in seen {
            self.0.registry.write().saw(&ids, day);
        }
        self.0.cache.lock().forget(&gone);
        Ok(done)
    }
}

fn ids_of(hour: &Hour, places: std::ops::Range<usize>) -> Vec<u32> {
    hour.keys(places).into_iter().map(series).collect()
}

async fn next_times(conn: &mut PgConnection, bucket: i64) -> Did<i64> {
    let sql = "SELECT coalesce(max(id), 0) + 1 FROM chunk_times WHERE bucket = $1";
    Ok(sqlx::query_scalar(sql).bind(bucket).fetch_one(conn).await?)
}

/// Writes chunks and rollups; those that were there already are replaced.
async fn write_slice(
    conn: &mut PgConnection,
    place: Place,
    slice: Slice<Arrays>,
    replaced: &[u32],
) -> Did<()> {
    let Place { bucket, layout, is_ahead } = place;
    if !replaced.is_empty() {
        // Another process's clock may have put them elsewhere.
        for table in CHUNKS.homes(layout).chain(ROLLUPS.homes(layout)) {
            let sql = format!("DELETE FROM {table} WHERE bucket = $1 AND series = ANY($2)");
            let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(bucket).bind(numbers(replaced));
            query.execute(&mut *conn).await?;
        }
    }
    let count = slice.chunks.len() - replaced.len();
    let mut rows = Rows::new();
    for (id, times) in &slice.times {
        rows.row(3).number(bucket).number(*id).array(times);
    }
    rows.send(conn, TIMES.home(layout, is_ahead), "bucket, id, times").await?;
    let mut rows = Rows::new();
    for (key, times, column) in &slice.chunks {
        rows.row(9).number(bucket).number(*times).number(column.base).number(column.step);
        rows.number(series(*key) as i32).number(column.scale);
        let (small, wide, raw) = match &column.numbers {
            Numbers::None => (None, None, None),
            Numbers::Small(small) => (Some(&small[..]), None, None),
            Numbers::Wide(wide) => (None, Some(&wide[..]), None),
            Numbers::Raw(raw) => (None, None, Some(&raw[..])),
        };
        rows.optional(small).optional(wide).optional(raw);
    }
    let columns = "bucket, times, base, step, series, scale, small, wide, raw";
    rows.send(conn, CHUNKS.home(layout, is_ahead), columns).await?;
    let mut rows = Rows::new();
    for r in &slice.rollups {
        debug_assert_eq!(r.key, key(bucket, series(r.key)));
        rows.row(8).number(bucket).number(series(r.key) as i32).number(r.count as i32);
        rows.number(r.min).number(r.max).number(r.sum).number(r.last).number(r.last_at);
    }
    let columns = "bucket, series, count, min, max, sum, last, last_at";
    rows.send(conn, ROLLUPS.home(layout, is_ahead), columns).await?;
    let sql = "INSERT INTO hours (bucket, chunks, samples) VALUES ($1, $2, $3) \
               ON CONFLICT (bucket) DO UPDATE SET chunks = hours.chunks + excluded.chunks, \
               samples = hours.samples + excluded.samples";
    let query = sqlx::query(sql).bind(bucket).bind(count as i64).bind(slice.added);
    query.execute(conn).await?;
    Ok(())
}

/// Deletes what is packed, and writes anew what is packed in part. The batches that are gone,
/// ascending.
async fn finish(
    conn: &mut PgConnection,
    picked: &[Picked],
    rest: &[(i64, Entry)],
) -> Did<Vec<i64>> {
    for (row, entry) in rest {
        let Some(data) = &entry.data else { continue };
        let (first, last) = data.times.span();
        let sql = "UPDATE batches SET shape = $2, first = $3, last = $4, times = $5, values = $6 \
                   WHERE id = $1";
        let query = sqlx::query(sql).bind(entry.id).bind(row).bind(first).bind(last);
        let query = query.bind(stored_times(data)).bind(&data.values[..]);
        if query.execute(&mut *conn).await?.rows_affected() != 1 {
            return Err(Failure::Moved);
        }
    }
    let stays: Vec<i64> = rest.iter().map(|r| r.1.id).collect();
    let mut gone: Vec<i64> =
        picked.iter().map(|p| p.entry.id).filter(|id| !stays.contains(id)).collect();
    gone.sort_unstable();
    // Whoever reads the tail finds out that it is not whole any more.
    let sql = "UPDATE meta SET value = greatest(value, (SELECT b.xid::text::bigint FROM batches b \
               WHERE b.id = ANY($1) ORDER BY b.xid DESC LIMIT 1)) WHERE key = 'packed_to'";
    let all: Vec<i64> = picked.iter().map(|p| p.entry.id).collect();
    sqlx::query(sql).bind(&all).execute(&mut *conn).await?;
    let query = sqlx::query("DELETE FROM batches WHERE id = ANY($1)").bind(&gone);
    // Fewer: another process has packed them.
    if query.execute(conn).await?.rows_affected() != gone.len() as u64 {
        return Err(Failure::Moved);
    }
    Ok(gone)
}
