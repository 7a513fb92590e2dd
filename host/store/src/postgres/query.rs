//! Answering: tail, chunks and rollups of series as one.

use super::PostgresStore;
use super::failure::{Again, Did, Failure, retried};
use super::read::Listed;
use crate::StoreError;
use crate::query::{MAX_POINTS, MAX_SERIES, Points, SeriesInfo, SeriesRange, Step, TimeRange};
use crate::samples::buckets::{bucket, key};
use crate::samples::merge::{Sink, merge};
use crate::samples::tail::{Entry, Ranked, places, settle, take};
use sentinel_model::series::Selector;
use sqlx::postgres::PgConnection;

/// The most chunks of one statement.
const CHUNKS_AT_ONCE: usize = 4096;

fn too_much(what: &'static str, found: usize, max: usize) -> StoreError {
    StoreError::TooMuch { what, found: found as u64, max: max as u64 }
}

impl PostgresStore {
    pub(super) async fn select(&self, selector: &Selector) -> Result<Vec<SeriesInfo>, StoreError> {
        let ids = self.select_ids(selector).await?;
        let registry = self.0.registry.read();
        Ok(ids.into_iter().filter_map(|id| registry.info(id)).collect())
    }

    pub(super) async fn select_ids(&self, selector: &Selector) -> Result<Vec<u32>, StoreError> {
        self.still_open()?;
        self.refresh().await?;
        let ids = self.0.registry.read().select(selector);
        if ids.len() > MAX_SERIES {
            return Err(too_much("series", ids.len(), MAX_SERIES));
        }
        Ok(ids)
    }

    pub(super) async fn names(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.still_open()?;
        self.refresh().await?;
        Ok(self.0.registry.read().names(prefix))
    }

    pub(super) async fn read_samples(
        &self,
        series: &[u32],
        range: TimeRange,
    ) -> Result<Vec<Points>, StoreError> {
        if series.len() > MAX_SERIES {
            return Err(too_much("series", series.len(), MAX_SERIES));
        }
        let mut ids = series.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let points = self.gather(&ids, range, None, false).await?;
        let at = |id: &u32| ids.partition_point(|i| i < id);
        Ok(series.iter().map(|id| points[at(id)].clone()).collect())
    }

    pub(super) async fn read_range(
        &self,
        selector: &Selector,
        range: TimeRange,
        step: Option<Step>,
    ) -> Result<Vec<SeriesRange>, StoreError> {
        let infos = self.select(selector).await?;
        let ids: Vec<u32> = infos.iter().map(|i| i.id).collect();
        let step = step.map(|s| i64::try_from(s.0.max(1)).unwrap_or(i64::MAX));
        let points = self.gather(&ids, range, step, true).await?;
        let ranges = infos.into_iter().zip(points);
        Ok(ranges.map(|(info, points)| SeriesRange { info, points }).collect())
    }

    /// The samples of series, ascending and each once.
    async fn gather(
        &self,
        series: &[u32],
        range: TimeRange,
        step: Option<i64>,
        with_rollups: bool,
    ) -> Result<Vec<Points>, StoreError> {
        self.still_open()?;
        if range.start >= range.end || series.is_empty() {
            return Ok(vec![Points::default(); series.len()]);
        }
        retried(Again::Whenever, || async move {
            let mut conn = self.0.pool.acquire().await?;
            self.gather_with(&mut conn, series, range, step, with_rollups).await
        })
        .await
    }

    /// The tail is looked at first: what is packed meanwhile is then seen twice rather than not
    /// at all.
    async fn gather_with(
        &self,
        conn: &mut PgConnection,
        series: &[u32],
        range: TimeRange,
        step: Option<i64>,
        with_rollups: bool,
    ) -> Did<Vec<Points>> {
        let (from, to) = (bucket(range.start.saturating_add(1)), bucket(range.end));
        let (listed, floors) = self.list_of(conn, series, range, (from, to)).await?;
        let mut tail = self.tail(conn, series, range, listed).await?;
        let raw = (from.max(floors.raw), to);
        let rollups = match with_rollups {
            true => (from.max(floors.rollups), to.min(floors.raw - 1)),
            false => (1, 0),
        };
        let at_once = (CHUNKS_AT_ONCE / floors.hours.max(1) as usize).max(1);
        let (mut out, mut count) = (Vec::with_capacity(series.len()), 0);
        for (series, tail) in series.chunks(at_once).zip(tail.chunks_mut(at_once)) {
            let mut chunks: Vec<_> =
                self.read_chunks(conn, series, raw).await?.into_iter().collect();
            chunks.sort_unstable_by_key(|chunk| chunk.0);
            let mut rollups = self.read_rollups(conn, series, rollups).await?;
            let mut stored: Vec<Vec<(i64, f64)>> = vec![Vec::new(); series.len()];
            for (&id, stored) in series.iter().zip(&mut stored) {
                let lasts = rollups.remove(&id).unwrap_or_default();
                debug_assert!(lasts.windows(2).all(|w| w[0].bucket < w[1].bucket));
                stored.extend(lasts.iter().map(|last| (last.time, last.value)));
            }
            for (chunk_key, chunk) in chunks {
                let id = crate::samples::buckets::series(chunk_key);
                debug_assert_eq!(chunk_key, key(chunk_key >> 24, id));
                let at = series.partition_point(|i| *i < id);
                let samples = chunk.times.iter().copied().zip(chunk.values);
                stored[at].extend(samples);
            }
            for (stored, tail) in stored.into_iter().zip(tail) {
                settle(tail);
                let sink = Sink { points: Points::default(), range, step };
                let points = merge(stored.into_iter(), tail, sink);
                count += points.times.len();
                out.push(points);
            }
            if count > MAX_POINTS {
                return Err(Failure::Store(too_much("points", count, MAX_POINTS)));
            }
        }
        Ok(out)
    }

    async fn tail(
        &self,
        conn: &mut PgConnection,
        series: &[u32],
        range: TimeRange,
        listed: Vec<Listed>,
    ) -> Did<Vec<Vec<Ranked>>> {
        let mut entries: Vec<Entry> = listed.into_iter().map(|one| one.entry).collect();
        entries.retain(|entry| !places(&entry.shape, series).is_empty());
        self.read_batches(conn, &mut entries).await?;
        let mut out = vec![Vec::new(); series.len()];
        for entry in &entries {
            let Some(data) = &entry.data else { continue };
            let places = places(&entry.shape, series);
            take(entry.id, data, &places, range.start, range.end, &mut out);
        }
        Ok(out)
    }
}
