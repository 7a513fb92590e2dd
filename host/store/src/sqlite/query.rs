//! Answering: tail, chunks and rollups of series as one.

use super::SqliteStore;
use super::read::{KEYS_A_STATEMENT, keys};
use crate::StoreError;
use crate::query::{MAX_POINTS, MAX_SERIES, Points, SeriesInfo, SeriesRange, Step, TimeRange};
use crate::samples::buckets::{bucket, key};
use crate::samples::merge::{Sink, merge};
use crate::samples::tail::{Ranked, places, settle, take};
use sentinel_model::series::Selector;
use std::sync::atomic::Ordering;

/// The buckets that a question touches, by what is left of them.
struct Touched {
    raw: Vec<i64>,
    rollups: Vec<i64>,
}

impl SqliteStore {
    pub(super) fn select(&self, selector: &Selector) -> Result<Vec<SeriesInfo>, StoreError> {
        let ids = self.select_ids(selector)?;
        let registry = self.0.registry.read();
        Ok(ids.into_iter().filter_map(|id| registry.info(id)).collect())
    }

    pub(super) fn select_ids(&self, selector: &Selector) -> Result<Vec<u32>, StoreError> {
        self.still_open()?;
        let ids = self.0.registry.read().select(selector);
        if ids.len() > MAX_SERIES {
            let (found, max) = (ids.len() as u64, MAX_SERIES as u64);
            return Err(StoreError::TooMuch { what: "series", found, max });
        }
        Ok(ids)
    }

    pub(super) async fn read_samples(
        &self,
        series: &[u32],
        range: TimeRange,
    ) -> Result<Vec<Points>, StoreError> {
        if series.len() > MAX_SERIES {
            let (found, max) = (series.len() as u64, MAX_SERIES as u64);
            return Err(StoreError::TooMuch { what: "series", found, max });
        }
        let mut ids = series.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let mut points = self.gather(&ids, range, None, false).await?;
        if ids == series {
            return Ok(points);
        }
        let mut left: Vec<usize> = vec![0; ids.len()];
        let at: Vec<usize> = series.iter().map(|id| ids.partition_point(|i| i < id)).collect();
        at.iter().for_each(|&i| left[i] += 1);
        let mut give = |i: usize| {
            left[i] -= 1;
            if left[i] == 0 { std::mem::take(&mut points[i]) } else { points[i].clone() }
        };
        Ok(at.into_iter().map(&mut give).collect())
    }

    pub(super) async fn read_range(
        &self,
        selector: &Selector,
        range: TimeRange,
        step: Option<Step>,
    ) -> Result<Vec<SeriesRange>, StoreError> {
        let infos = self.select(selector)?;
        let ids: Vec<u32> = infos.iter().map(|i| i.id).collect();
        let step = step.map(|s| i64::try_from(s.0.max(1)).unwrap_or(i64::MAX));
        let points = self.gather(&ids, range, step, true).await?;
        let ranges = infos.into_iter().zip(points);
        Ok(ranges.map(|(info, points)| SeriesRange { info, points }).collect())
    }

    /// The samples of series, ascending and each once. The tail is looked at first: what is
    /// packed meanwhile is then seen twice rather than not at all.
    async fn gather(
        &self,
        series: &[u32],
        range: TimeRange,
        step: Option<i64>,
        with_rollups: bool,
    ) -> Result<Vec<Points>, StoreError> {
        self.still_open()?;
        if range.start >= range.end {
            return Ok(vec![Points::default(); series.len()]);
        }
        let (mut tail, mut absent) = self.0.tail.read().collect(series, range.start, range.end);
        self.0.read_batches(&mut absent).await?;
        for entry in &absent {
            let Some(data) = &entry.data else { continue };
            let places = places(&entry.shape, series);
            take(entry.id, data, &places, range.start, range.end, &mut tail);
        }
        let touched = self.touched(range, with_rollups);
        let buckets = touched.raw.len() + touched.rollups.len();
        let at_once = (KEYS_A_STATEMENT / buckets.max(1)).max(1);
        let (mut out, mut count) = (Vec::with_capacity(series.len()), 0);
        for (series, tail) in series.chunks(at_once).zip(tail.chunks_mut(at_once)) {
            for points in self.gather_some(series, tail, &touched, range, step).await? {
                count += points.times.len();
                out.push(points);
            }
            if count > MAX_POINTS {
                let (found, max) = (count as u64, MAX_POINTS as u64);
                return Err(StoreError::TooMuch { what: "points", found, max });
            }
        }
        Ok(out)
    }

    fn touched(&self, range: TimeRange, with_rollups: bool) -> Touched {
        let floor = self.0.raw_floor.load(Ordering::Acquire);
        let span = bucket(range.start.saturating_add(1))..=bucket(range.end);
        let buckets = self.0.buckets.read();
        let is_raw = |b: &i64| *b >= floor;
        let raw: Vec<i64> = buckets.raw.range(span.clone()).copied().filter(is_raw).collect();
        let rollups = buckets.rollups.range(span).copied();
        let rollups = rollups.filter(|b| with_rollups && raw.binary_search(b).is_err()).collect();
        Touched { raw, rollups }
    }

    async fn gather_some(
        &self,
        series: &[u32],
        tail: &mut [Vec<Ranked>],
        touched: &Touched,
        range: TimeRange,
        step: Option<i64>,
    ) -> Result<Vec<Points>, StoreError> {
        let mut chunks = self.0.read_chunks(&keys(series, &touched.raw)).await?;
        let rollups = self.0.read_rollups(&keys(series, &touched.rollups)).await?;
        let mut buckets: Vec<i64> = [&touched.raw[..], &touched.rollups[..]].concat();
        buckets.sort_unstable();
        let mut out = Vec::with_capacity(series.len());
        for (&id, tail) in series.iter().zip(tail) {
            settle(tail);
            let mut stored = Vec::new();
            for &bucket in &buckets {
                if let Some(chunk) = chunks.remove(&key(bucket, id)) {
                    stored.push((chunk.times, chunk.values));
                } else if let Some(last) = rollups.get(&key(bucket, id)) {
                    stored.push((vec![last.time].into(), vec![last.value]));
                }
            }
            let samples = stored
                .iter()
                .flat_map(|(times, values)| times.iter().copied().zip(values.iter().copied()));
            let sink = Sink { points: Points::default(), range, step };
            out.push(merge(samples, tail, sink));
        }
        Ok(out)
    }
}
