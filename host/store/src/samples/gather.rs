//! Turning batches by time into columns by series: the work of packing that needs no database.
//!
//! Where the rows of a series in an hour come from batches of one shape, each with one time
//! for all rows and later than the one before, its values are read off the batches, and all
//! series of the shape share one column of times. Anything else (several shapes, samples out
//! of order or twice, a chunk that is there already) is collected, sorted and settled.

use super::buckets::{HOUR, bucket, key};
use super::tail::{Decoded, Entry, Ranked, Shape, Times, rank, settle};
use crate::format::chunk::MAX_CHUNK;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most chunks of one slice: a transaction of about 1 MB, some 20 ms.
const SLICE: usize = 2_000;

/// A chunk, decoded.
pub(crate) struct Chunk {
    pub(crate) times: Arc<Vec<i64>>,
    pub(crate) values: Vec<f64>,
}

/// A batch to pack.
pub(crate) struct Picked {
    pub(crate) entry: Entry,
    /// Rows at or after this time stay in the tail; None packs all.
    pub(crate) before: Option<i64>,
}

impl Picked {
    fn data(&self) -> &Decoded {
        self.entry.data.as_ref().expect("its columns were read before")
    }

    fn takes(&self, time: i64) -> bool {
        self.before.is_none_or(|before| time < before)
    }

    /// What stays, all rows in its order. None where nothing stays.
    pub(crate) fn rest(&self) -> Option<Entry> {
        let (data, ids) = (self.data(), &self.entry.shape.ids);
        let rows: Vec<usize> = (0..ids.len()).filter(|&r| !self.takes(data.times.at(r))).collect();
        if rows.is_empty() {
            return None;
        }
        let shape = Shape::new(rows.iter().map(|&r| ids[r]).collect());
        let times: Vec<i64> = rows.iter().map(|&r| data.times.at(r)).collect();
        let values: Box<[f64]> = rows.iter().map(|&r| data.values[r]).collect();
        let data = Decoded { times: Times::new(&times), values };
        let Entry { id, stream, committed_at, .. } = self.entry;
        Some(Entry::new(id, stream, committed_at, shape, data))
    }
}

/// The reduction of a series in a bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rollup {
    pub(crate) key: i64,
    pub(crate) count: i64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) sum: f64,
    pub(crate) last: f64,
    pub(crate) last_at: i64,
}

/// How an engine stores the columns of a chunk.
pub(crate) trait Encode: Send + 'static {
    /// A stored column of times.
    type Times: Send + 'static;
    /// A stored column of values.
    type Values: Send + 'static;
    /// Times, strictly increasing, at least one.
    fn times(&mut self, times: &[i64]) -> Self::Times;
    /// As many values.
    fn values(&mut self, values: &[f64]) -> Self::Values;
}

/// What one transaction writes.
pub(crate) struct Slice<E: Encode> {
    /// Id and column.
    pub(crate) times: Vec<(i64, E::Times)>,
    /// Key, id of the times, column.
    pub(crate) chunks: Vec<(i64, i64, E::Values)>,
    pub(crate) rollups: Vec<Rollup>,
    /// How many samples more there are in chunks.
    pub(crate) added: i64,
    /// Samples beyond [`MAX_CHUNK`], dropped.
    pub(crate) dropped: u64,
}

impl<E: Encode> Slice<E> {
    fn new() -> Self {
        Self { times: Vec::new(), chunks: Vec::new(), rollups: Vec::new(), added: 0, dropped: 0 }
    }
}

struct Group {
    shape: Arc<Shape>,
    /// Indexes of batches with rows in the bucket, in order of commits.
    batches: Vec<usize>,
    /// The times, where all its series share them.
    shared: Option<Vec<i64>>,
    /// Id of the shared times once they are written.
    times_id: Option<i64>,
}

/// One bucket of a round.
pub(crate) struct Hour {
    pub(crate) bucket: i64,
    groups: Vec<Group>,
    /// Series, group, row; in order of series.
    places: Vec<(u32, u32, u32)>,
    /// Ids of the columns of times written so far.
    columns: HashMap<Vec<i64>, i64>,
    next_times: i64,
}

/// A round: batches of one unit that are packed together.
pub(crate) struct Round<E> {
    pub(crate) picked: Vec<Picked>,
    encode: E,
}

impl<E: Encode> Round<E> {
    pub(crate) fn new(picked: Vec<Picked>, encode: E) -> Self {
        Self { picked, encode }
    }

    /// The buckets that get samples, each with the batches that have them.
    pub(crate) fn hours(&self) -> BTreeMap<i64, Vec<usize>> {
        let mut hours: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        let mut add = |index: usize, time: i64| {
            let batches = hours.entry(bucket(time)).or_default();
            if batches.last() != Some(&index) {
                batches.push(index);
            }
        };
        for (index, picked) in self.picked.iter().enumerate() {
            match &picked.data().times {
                Times::One(time) if picked.takes(*time) => add(index, *time),
                Times::One(_) => {}
                Times::Many(times) => {
                    times.iter().filter(|&&t| picked.takes(t)).for_each(|&t| add(index, t));
                }
            }
        }
        hours
    }

    /// Prepares a bucket; `next_times` is the id of its next column of times.
    pub(crate) fn hour(&self, bucket: i64, batches: Vec<usize>, next_times: i64) -> Hour {
        let mut groups: Vec<Group> = Vec::new();
        let mut at: HashMap<*const Shape, usize> = HashMap::new();
        for index in batches {
            let shape = &self.picked[index].entry.shape;
            let group = *at.entry(Arc::as_ptr(shape)).or_insert_with(|| {
                let shape = Arc::clone(shape);
                groups.push(Group { shape, batches: vec![], shared: None, times_id: None });
                groups.len() - 1
            });
            groups[group].batches.push(index);
        }
        let mut places = Vec::new();
        for (number, group) in (0u32..).zip(&mut groups) {
            group.shared = self.shared_times(&group.batches);
            places.extend(group.shape.sorted().iter().map(|&(id, row)| (id, number, row)));
        }
        places.sort_unstable();
        Hour { bucket, groups, places, columns: HashMap::new(), next_times }
    }

    /// The times of batches that have one each, in growing order.
    fn shared_times(&self, batches: &[usize]) -> Option<Vec<i64>> {
        let time = |&index: &usize| match self.picked[index].data().times {
            Times::One(time) => Some(time),
            Times::Many(_) => None,
        };
        let times: Vec<i64> = batches.iter().map(time).collect::<Option<_>>()?;
        let grows = times.windows(2).all(|w| w[0] < w[1]);
        (grows && times.len() <= MAX_CHUNK).then_some(times)
    }

    /// The chunks of series in one bucket, merged with those that are there.
    pub(crate) fn slice(
        &mut self,
        hour: &mut Hour,
        series: std::ops::Range<usize>,
        present: &HashMap<i64, Chunk>,
    ) -> Slice<E> {
        let mut slice = Slice::new();
        let mut values = Vec::new();
        let places = hour.places[series].to_vec();
        for places in places.chunk_by(|a, b| a.0 == b.0) {
            let key = key(hour.bucket, places[0].0);
            let chunk = present.get(&key);
            let group = &hour.groups[places[0].1 as usize];
            let (times, times_id);
            if let ([(_, number, row)], None, Some(shared)) = (places, chunk, &group.shared) {
                values.clear();
                values.extend(
                    group.batches.iter().map(|&b| self.picked[b].data().values[*row as usize]),
                );
                times = shared.clone();
                times_id = hour.shared_id(*number as usize, &mut self.encode, &mut slice);
            } else {
                let samples = self.collect(hour, places, chunk, &mut slice.dropped);
                if samples.is_empty() {
                    continue;
                }
                times = samples.iter().map(|s| s.0).collect();
                values = samples.iter().map(|s| s.2).collect();
                times_id = hour.own_id(&times, &mut self.encode, &mut slice);
            }
            slice.added += times.len() as i64 - chunk.map_or(0, |c| c.values.len() as i64);
            slice.rollups.push(rollup(key, hour.bucket, &times, &values));
            slice.chunks.push((key, times_id, self.encode.values(&values)));
        }
        slice
    }

    /// All samples of one series in one bucket, those of the present chunk being the oldest.
    fn collect(
        &self,
        hour: &Hour,
        places: &[(u32, u32, u32)],
        chunk: Option<&Chunk>,
        dropped: &mut u64,
    ) -> Vec<Ranked> {
        let mut samples: Vec<Ranked> = Vec::new();
        if let Some(chunk) = chunk {
            samples.extend(chunk.times.iter().zip(&chunk.values).map(|(&t, &v)| (t, 0, v)));
        }
        for &(_, group, row) in places {
            let row = row as usize;
            for &index in &hour.groups[group as usize].batches {
                let picked = &self.picked[index];
                let (time, value) = (picked.data().times.at(row), picked.data().values[row]);
                if bucket(time) == hour.bucket && picked.takes(time) {
                    samples.push((time, rank(picked.entry.id, row), value));
                }
            }
        }
        settle(&mut samples);
        if samples.len() > MAX_CHUNK {
            let over = samples.len() - MAX_CHUNK;
            samples.drain(..over);
            *dropped += over as u64;
        }
        samples
    }
}

impl Hour {
    /// Ranges of places, each with the chunks of one slice.
    pub(crate) fn slices(&self) -> Vec<std::ops::Range<usize>> {
        let (mut out, mut start, mut count) = (Vec::new(), 0, 0);
        for (at, place) in self.places.iter().enumerate() {
            if at > 0 && self.places[at - 1].0 != place.0 {
                count += 1;
                if count == SLICE {
                    out.push(start..at);
                    (start, count) = (at, 0);
                }
            }
        }
        if start < self.places.len() {
            out.push(start..self.places.len());
        }
        out
    }

    /// The keys of the chunks of one slice.
    pub(crate) fn keys(&self, places: std::ops::Range<usize>) -> Vec<i64> {
        let mut keys: Vec<i64> =
            self.places[places].iter().map(|p| key(self.bucket, p.0)).collect();
        keys.dedup();
        keys
    }

    fn shared_id<E: Encode>(&mut self, group: usize, encode: &mut E, slice: &mut Slice<E>) -> i64 {
        if let Some(id) = self.groups[group].times_id {
            return id;
        }
        let times = self.groups[group].shared.take().unwrap_or_default();
        let id = self.own_id(&times, encode, slice);
        self.groups[group].shared = Some(times);
        self.groups[group].times_id = Some(id);
        id
    }

    fn own_id<E: Encode>(&mut self, times: &[i64], encode: &mut E, slice: &mut Slice<E>) -> i64 {
        if let Some(&id) = self.columns.get(times) {
            return id;
        }
        let id = self.next_times;
        self.next_times += 1;
        slice.times.push((id, encode.times(times)));
        self.columns.insert(times.to_vec(), id);
        id
    }
}

fn rollup(key: i64, bucket: i64, times: &[i64], values: &[f64]) -> Rollup {
    let (mut min, mut max, mut sum) = (f64::INFINITY, f64::NEG_INFINITY, 0.0);
    for &value in values {
        // `min` and `max` pass over what is not a number.
        min = value.min(min);
        max = value.max(max);
        sum += value;
    }
    if min > max {
        (min, max) = (f64::NAN, f64::NAN);
    }
    let last = values.len() - 1;
    let last_at = times[last].wrapping_sub(bucket * HOUR);
    Rollup { key, count: values.len() as i64, min, max, sum, last: values[last], last_at }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollup_passes_over_what_is_not_a_number() {
        let all = rollup(1, 0, &[5, 6, 7], &[2.0, f64::NAN, 1.0]);
        assert_eq!((all.min, all.max, all.last, all.last_at, all.count), (1.0, 2.0, 1.0, 7, 3));
        assert!(all.sum.is_nan());
        let none = rollup(1, 0, &[5], &[f64::NAN]);
        assert!(none.min.is_nan() && none.max.is_nan() && none.last.is_nan());
    }
}
