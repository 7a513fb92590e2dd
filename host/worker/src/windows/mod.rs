//! Rolling windows over the series that rules read, and only those.
//!
//! Every committed batch passes by here: a series that no rule reads costs one look into a
//! table. What rules read is announced as needs; a need that is new or reaches further back is
//! filled from the store ([`load`]) while new samples arrive, in either order.
//!
//! Memory: each matched series keeps the samples of its longest window, a margin for
//! evaluations under way, and what lies in the future, at most [`samples::MAX_SAMPLES`]. Series
//! that have none left are forgotten once they are more than half.

mod blocks;
mod estimate;
pub mod load;
pub mod parts;
pub mod progress;
pub mod samples;
pub mod source;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use progress::Progress;
use samples::Samples;
use sentinel_model::batch::Batch;
use sentinel_model::series::{Labels, Selector, SeriesKey};
use sentinel_runtime::evaluator::{Answer, Need, Query, QueryError};
use sentinel_store::query::{MAX_SERIES, SeriesInfo};
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

/// How much further back than its window a series is kept, in milliseconds: evaluations look
/// from their own time, which is before now.
pub const MARGIN_MS: i64 = 60_000;
/// So many series without samples are no reason to tidy up.
const FEW: usize = 100;
/// Ids of series are below it.
const SERIES_IDS: u32 = 1 << 24;

type Map<K, V> = HashMap<K, V, RandomState>;

/// Where a series is, by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Never seen since the needs changed.
    Unknown,
    /// No selector takes it.
    Unmatched,
    /// In `kept` at this index.
    At(u32),
}

#[derive(Debug)]
struct Kept {
    id: u32,
    key: SeriesKey,
    samples: Samples,
    /// Longest window that reads it, in milliseconds.
    span: i64,
    /// The selectors that take it: indexes into `selected`.
    takers: Vec<usize>,
}

#[derive(Debug)]
struct Selected {
    selector: Arc<Selector>,
    window: u64,
    /// How far back the store has been read.
    filled: u64,
    /// Indexes into `kept`, in order of the series' ids.
    members: Vec<u32>,
    /// More series than may be answered: how many.
    too_many: Option<u64>,
}

impl Selected {
    /// Whether all that its questions read is here.
    fn is_there(&self) -> bool {
        self.filled == self.window || self.too_many.is_some()
    }

    /// Whether it takes more than may be answered since.
    fn add(&mut self, kept: &[Kept], at: u32) -> bool {
        let id = kept[at as usize].id;
        match self.members.binary_search_by_key(&id, |&m| kept[m as usize].id) {
            Ok(_) => false,
            Err(_) if self.members.len() >= MAX_SERIES => {
                self.too_many.replace(self.members.len() as u64 + 1).is_none()
            }
            Err(place) => {
                self.members.insert(place, at);
                false
            }
        }
    }
}

/// What has to be read from the store for a need that is new or reaches further back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Which series.
    pub selector: Arc<Selector>,
    /// How far back, in milliseconds.
    pub window_ms: u64,
}

/// The windows of all matched series.
#[derive(Debug, Default)]
pub struct Windows {
    selected: Vec<Selected>,
    by_selector: Map<Arc<Selector>, usize>,
    by_name: Map<String, Vec<usize>>,
    places: Vec<Place>,
    kept: Vec<Kept>,
    /// For each of `selected` whether samples came that were not asked for yet.
    touched: Vec<bool>,
    /// Told when samples come that a selector takes.
    came: Arc<Notify>,
    progress: Progress,
    /// [`Windows::wanted`], once it was asked for.
    wanted: OnceLock<[u8; 16]>,
}

fn millis(window: u64) -> i64 {
    i64::try_from(window).unwrap_or(i64::MAX)
}

impl Windows {
    /// Sets what rules read. Series that nobody reads any more are forgotten; the answer says
    /// what has to be read from the store before rules with these needs are evaluated.
    pub fn set_needs(&mut self, needs: &[Need]) -> Vec<Load> {
        let mut wanted: Map<Arc<Selector>, u64> = Map::default();
        for need in needs {
            let window = wanted.entry(Arc::clone(&need.selector)).or_default();
            *window = need.window_ms.max(*window);
        }
        let mut loads = Vec::new();
        let (mut selected, mut by_selector) = (Vec::with_capacity(wanted.len()), Map::default());
        let mut by_name: Map<String, Vec<usize>> = Map::default();
        let mut wanted: Vec<_> = wanted.into_iter().collect();
        wanted.sort_by_cached_key(|(selector, _)| selector.to_string());
        for (selector, window) in wanted {
            let old = self.by_selector.get(&selector).map(|&at| &self.selected[at]);
            // What a narrower window forgot is not there any more.
            let filled = old.map_or(0, |old| old.filled).min(window);
            if filled < window {
                loads.push(Load { selector: Arc::clone(&selector), window_ms: window });
            }
            by_selector.insert(Arc::clone(&selector), selected.len());
            by_name.entry(selector.name.clone()).or_default().push(selected.len());
            selected.push(Selected {
                selector,
                window,
                filled,
                members: Vec::new(),
                too_many: None,
            });
        }
        self.touched = vec![false; selected.len()];
        (self.selected, self.by_selector, self.by_name) = (selected, by_selector, by_name);
        self.wanted = OnceLock::new();
        self.settle();
        loads
    }

    /// Puts the kept series to the selectors anew and forgets those that none takes.
    fn settle(&mut self) {
        // What matched nothing is looked at again when it comes by.
        self.places.fill(Place::Unknown);
        for kept in std::mem::take(&mut self.kept) {
            if let Place::At(at) = self.register(kept.id, || kept.key) {
                let place = &mut self.kept[at as usize];
                place.samples = kept.samples.with_span(place.span);
            }
        }
    }

    /// Finds out where a series belongs that is not known yet.
    fn register(&mut self, id: u32, key: impl FnOnce() -> SeriesKey) -> Place {
        let index = id as usize;
        if id >= SERIES_IDS {
            return Place::Unmatched;
        }
        if self.places.len() <= index {
            self.places.resize(index + 1, Place::Unknown);
        }
        if self.places[index] != Place::Unknown {
            return self.places[index];
        }
        let key = key();
        let candidates = self.by_name.get(&key.name).map_or(&[][..], Vec::as_slice);
        let takes = |&&at: &&usize| self.selected[at].selector.matches(&key);
        let takers: Vec<usize> = candidates.iter().filter(takes).copied().collect();
        self.places[index] = Place::Unmatched;
        if !takers.is_empty() {
            let at = self.kept.len() as u32;
            self.places[index] = Place::At(at);
            let span = takers.iter().map(|&t| millis(self.selected[t].window)).max().unwrap_or(0);
            self.kept.push(Kept { id, key, samples: Samples::new(span), span, takers: Vec::new() });
            for &taker in &takers {
                if self.selected[taker].add(&self.kept, at) {
                    self.wanted = OnceLock::new();
                }
            }
            self.kept[at as usize].takers = takers;
        }
        self.places[index]
    }

    /// Takes a committed batch; `series` are the ids of its rows.
    pub fn push(&mut self, batch: &Batch, series: &[u32]) {
        let series = &series[..series.len().min(batch.len())];
        let key = |row| {
            let row = batch.row(row);
            Some(SeriesKey { name: row.name().to_owned(), labels: row.labels().collect() })
        };
        self.push_rows(series, key, |row| (batch.time[row], batch.value[row]));
    }

    /// Takes a committed batch of which only ids are known. Rows of series that are unknown here
    /// are left out: put them in by [`Windows::adopt`] before.
    pub fn push_known(&mut self, series: &[u32], times: &[i64], values: &[f64]) {
        let series = &series[..series.len().min(times.len()).min(values.len())];
        self.push_rows(series, |_| None, |row| (times[row], values[row]));
    }

    /// Whether it is not known yet if a selector takes a series.
    #[must_use]
    pub fn is_unknown(&self, id: u32) -> bool {
        let place = self.places.get(id as usize);
        !self.selected.is_empty() && place.is_none_or(|place| *place == Place::Unknown)
    }

    fn push_rows(
        &mut self,
        series: &[u32],
        key: impl Fn(usize) -> Option<SeriesKey>,
        sample: impl Fn(usize) -> (i64, f64),
    ) {
        if self.selected.is_empty() {
            return;
        }
        let mut touched = false;
        for (row, &id) in series.iter().enumerate() {
            let place = match self.places.get(id as usize) {
                Some(Place::Unmatched) => continue,
                Some(Place::At(at)) => Place::At(*at),
                Some(Place::Unknown) | None => match key(row) {
                    Some(key) => self.register(id, || key),
                    None => continue,
                },
            };
            if let Place::At(at) = place {
                let kept = &mut self.kept[at as usize];
                let (time, value) = sample(row);
                kept.samples.push(time, value);
                for &taker in &kept.takers {
                    touched |= !std::mem::replace(&mut self.touched[taker], true);
                }
            }
        }
        if touched {
            self.came.notify_one();
        }
    }

    /// Told when samples come that a selector takes, and [`Windows::take_touched`] was called
    /// since they last did.
    #[must_use]
    pub fn came(&self) -> Arc<Notify> {
        Arc::clone(&self.came)
    }

    /// The selectors that took samples since this was last asked.
    pub fn take_touched(&mut self) -> Vec<Arc<Selector>> {
        let mut found = Vec::new();
        for (selected, touched) in self.selected.iter().zip(&mut self.touched) {
            if std::mem::take(touched) {
                found.push(Arc::clone(&selected.selector));
            }
        }
        found
    }

    /// Takes series that the store knows.
    pub fn adopt(&mut self, infos: Vec<SeriesInfo>) {
        for info in infos {
            self.register(info.id, || info.key);
        }
    }

    /// Notes that a selector takes more series than may be answered.
    pub fn refuse(&mut self, selector: &Selector, found: u64) {
        if let Some(&at) = self.by_selector.get(selector) {
            self.selected[at].too_many = Some(found);
            self.wanted = OnceLock::new();
        }
    }

    /// Notes that a need was filled from the store; one of too many series never is.
    pub fn filled(&mut self, load: &Load) {
        if let Some(&at) = self.by_selector.get(&load.selector) {
            let selected = &mut self.selected[at];
            if selected.too_many.is_none() {
                selected.filled = selected.filled.max(load.window_ms).min(selected.window);
            }
        }
    }

    /// Whether no rule reads anything.
    #[must_use]
    pub fn reads_nothing(&self) -> bool {
        self.selected.is_empty()
    }

    /// Takes what the store has of a series, under what came since.
    pub fn merge(&mut self, id: u32, times: &[i64], values: &[f64]) {
        self.progress.reads_besides();
        if let Some(Place::At(at)) = self.places.get(id as usize) {
            self.kept[*at as usize].samples.merge(times, values);
        }
    }

    /// Forgets what no evaluation at `now` or later, nor one a little earlier, can read.
    pub fn forget(&mut self, now: i64) {
        for kept in &mut self.kept {
            kept.samples.forget(now.saturating_sub(kept.span).saturating_sub(MARGIN_MS));
        }
        if !self.selected.iter().all(Selected::is_there) {
            // Series that wait for what is being read are empty too.
            return;
        }
        let empty = self.kept.iter().filter(|kept| kept.samples.len() == 0).count();
        if empty > FEW && empty > self.kept.len() / 2 {
            self.kept.retain(|kept| kept.samples.len() > 0);
            self.selected.iter_mut().for_each(|selected| selected.members.clear());
            self.settle();
        }
    }

    /// Answers one question as of `at`.
    ///
    /// # Errors
    /// As the contract says.
    pub fn ask(&self, at: i64, query: &Query) -> Result<Answer, QueryError> {
        query.aggregate.check()?;
        let found = self.by_selector.get(&query.selector).map(|&at| &self.selected[at]);
        let reach = query.window_ms.saturating_add(query.offset_ms);
        let selected = found.filter(|s| reach <= s.window).ok_or(QueryError::Unplanned)?;
        if let Some(found) = selected.too_many {
            return Err(QueryError::TooMany(found));
        }
        let end = at.saturating_sub(millis(query.offset_ms));
        let start = end.saturating_sub(millis(query.window_ms));
        let mut answer = Answer::default();
        for &member in &selected.members {
            let kept = &self.kept[member as usize];
            if let Some(value) = kept.samples.aggregate(start, end, query.aggregate) {
                answer.series.push(kept.id.into());
                answer.value.push(value);
            }
        }
        Ok(answer)
    }

    /// Labels of a kept series.
    #[must_use]
    pub fn labels(&self, id: u64) -> Option<&Labels> {
        match self.places.get(usize::try_from(id).ok()?)? {
            Place::At(at) => Some(&self.kept[*at as usize].key.labels),
            Place::Unknown | Place::Unmatched => None,
        }
    }

    /// How many series and samples are kept.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.kept.len(), self.kept.iter().map(|kept| kept.samples.len()).sum())
    }
}

#[cfg(test)]
mod tests;
