//! Windows in parts, as they are kept in the store and come back from there.
//!
//! A part has the series of which the ids lie in one stretch of [`SERIES`]; it is whole in itself and stands at its own
//! position of the tail. Parts are good for what rules read when they were made, and for nothing else: a series that
//! no selector took then is in none.
//!
//! Windows that come back go on from the earliest of the positions of their parts. What a part has seen already comes
//! again with the tail and changes nothing: of a series all that followed follows again, in its order.

use super::samples::Samples;
use super::{Place, Selected, Windows};
use sentinel_store::format::window::{
    MAX_SAMPLES, WindowColumns, WindowSeries, key_digest, needs_digest,
};
use sentinel_store::tail::TailPosition;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Ids of a part.
pub const SERIES: u32 = 256;

/// The part that a series belongs to.
#[must_use]
pub fn part_of(id: u32) -> u32 {
    id / SERIES
}

impl Windows {
    /// What rules read; `None` while some of it is not there yet, or ahead of the tail.
    #[must_use]
    pub fn needs(&self) -> Option<[u8; 16]> {
        let is_there = self.selected.iter().all(Selected::is_there);
        (is_there && self.is_whole() && self.position().is_some()).then(|| self.wanted())
    }

    /// What rules read, be it there or not.
    #[must_use]
    pub fn wanted(&self) -> [u8; 16] {
        *self.wanted.get_or_init(|| {
            let texts = self.selected.iter().map(|one| one.selector.to_string());
            let texts: Vec<String> = texts.collect();
            let all = texts.iter().zip(&self.selected);
            needs_digest(all.map(|(text, one)| (text.as_str(), one.window, one.too_many.is_some())))
        })
    }

    /// How many parts there are, from 0 on. One without samples says that: its series are not read from history.
    #[must_use]
    pub fn parts(&self) -> u32 {
        self.places.len().div_ceil(SERIES as usize) as u32
    }

    /// One of them as it is now; `None` where [`Windows::needs`] has none, and nothing where it is too large.
    #[must_use]
    pub fn part(&self, part: u32) -> Option<Option<WindowColumns>> {
        let (needs, position) = (self.needs()?, self.position()?.as_str().to_owned());
        let mut columns = WindowColumns { needs, position, series: Vec::new() };
        let (mut samples, mut before): (usize, Option<Arc<[i64]>>) = (0, None);
        let ids = part.saturating_mul(SERIES)..part.saturating_add(1).saturating_mul(SERIES);
        for id in ids {
            let Some(Place::At(at)) = self.places.get(id as usize) else { continue };
            let kept = &self.kept[*at as usize];
            let (times, values) = kept.samples.kept();
            samples += values.len();
            if samples > MAX_SAMPLES {
                return Some(None);
            }
            if values.is_empty() {
                continue;
            }
            // Series that come together have their times in common.
            let times = match before.take() {
                Some(before) if *before == *times => before,
                Some(_) | None => times.into(),
            };
            before = Some(Arc::clone(&times));
            let key = key_digest(&kept.key);
            columns.series.push(WindowSeries { id, key, times, values: values.to_vec() });
        }
        Some(Some(columns))
    }

    /// Whether every series of a part that is here is the one that it was. Those that no selector takes are not
    /// looked at.
    fn knows(&self, columns: &WindowColumns) -> bool {
        columns.series.iter().all(|series| match self.places.get(series.id as usize) {
            Some(Place::At(at)) => key_digest(&self.kept[*at as usize].key) == series.key,
            Some(Place::Unknown | Place::Unmatched) | None => true,
        })
    }

    /// Takes the samples of a part, under what came since; not so, and false, where one of its series is another by
    /// now.
    pub fn restore(&mut self, columns: WindowColumns) -> bool {
        if !self.knows(&columns) {
            return false;
        }
        for WindowSeries { id, times, values, .. } in columns.series {
            self.merge(id, &times, &values);
        }
        true
    }

    /// The ids of series here that belong to none of these parts.
    #[must_use]
    pub fn beyond(&self, parts: &BTreeSet<u32>) -> Vec<u32> {
        let ids = self.kept.iter().map(|kept| kept.id);
        ids.filter(|id| !parts.contains(&part_of(*id))).collect()
    }

    /// Forgets all samples, to have them read from history.
    pub fn clear(&mut self) {
        for kept in &mut self.kept {
            kept.samples = Samples::new(kept.span);
        }
    }

    /// Goes back to a position from which the tail is read once more.
    pub fn go_back(&mut self, position: TailPosition) {
        self.progress.reads_besides();
        self.stands_at(position);
    }
}
