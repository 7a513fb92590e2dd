//! Which rules are evaluated when: at their intervals, and when samples came that they read.

use super::book::Chapter;
use super::calls::{self, Call};
use super::{Evaluation, MIN_INTERVAL_MS};
use sentinel_model::ids::SlotName;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Index of the condition and of the rule, by the time of evaluation.
type Due = BTreeMap<i64, Vec<(u32, usize)>>;

/// How long after the first sample that came the rules that read it are evaluated, in
/// milliseconds: what comes meanwhile is evaluated with it.
pub(super) const GATHER_MS: i64 = 200;
/// The most conditions in one call of an evaluator.
const CONDITIONS_A_CALL: usize = 1_000;

impl Evaluation {
    /// How long until the next rule is due, or somebody has to be told.
    pub(super) fn wait(&self) -> Duration {
        let now = self.parts.clock.now();
        let idle =
            |chapter: &(&SlotName, &Chapter)| chapter.1.loaded && !self.busy.contains(chapter.0);
        let chapters = self.book.chapters.iter().filter(idle);
        let next = chapters.map(|(_, chapter)| chapter.next).chain(self.alerts.next());
        let next = next.chain(self.gather_at);
        let wait = next.map(|at| at.saturating_sub(now)).min().unwrap_or(MIN_INTERVAL_MS);
        // A clock may be set meanwhile.
        Duration::from_millis(wait.clamp(1, MIN_INTERVAL_MS) as u64)
    }

    /// Finds out which rules read the samples that came, once it is time.
    pub(super) fn gather(&mut self) {
        let now = self.parts.clock.now();
        // A time that no wait leads to comes from a clock that was set meanwhile.
        if self.gather_at.is_none_or(|at| at > now && at <= now + GATHER_MS) {
            return;
        }
        self.gather_at = None;
        for selector in self.parts.windows.write().take_touched() {
            self.fresh.extend(self.book.readers.get(&selector).into_iter().flatten());
        }
    }

    /// Begins the evaluations that are due.
    pub(super) fn launch(&mut self) {
        if self.prepared.is_some() {
            return;
        }
        let now = self.parts.clock.now();
        let slots: Vec<SlotName> = self.book.chapters.keys().cloned().collect();
        for slot in slots {
            let chapter = &self.book.chapters[&slot];
            if !chapter.loaded || self.busy.contains(&slot) {
                continue;
            }
            let due = if chapter.is_time(now) {
                self.due(&slot, now)
            } else {
                self.due_for_samples(&slot, now)
            };
            let mut calls = Vec::new();
            for (at, rules) in due {
                let parts = rules.chunks(CONDITIONS_A_CALL);
                calls.extend(parts.map(|part| Call { at, rules: part.to_vec() }));
            }
            if !calls.is_empty() {
                let evaluator = Arc::clone(&self.book.chapters[&slot].evaluator);
                let metrics = self.parts.metrics.clone();
                self.busy.insert(slot.clone());
                let windows = Arc::clone(&self.parts.windows);
                let called = calls::call(slot, evaluator, calls, windows, metrics);
                self.in_flight.push(Box::pin(called));
            }
        }
    }

    /// The rules of a chapter that are due, be it for samples that came: looks at all of them.
    fn due(&mut self, slot: &SlotName, now: i64) -> Due {
        let mut due = Due::new();
        let Some(chapter) = self.book.chapters.get_mut(slot) else { return due };
        (chapter.next, chapter.looked_at) = (i64::MAX, now);
        for (index, &at) in chapter.rules.iter().enumerate() {
            let schedule = &mut self.schedules[at];
            let is_fresh = self.fresh.remove(&at);
            let taken = schedule.take(now);
            chapter.next = chapter.next.min(schedule.next());
            if let Some(taken) = taken {
                if taken.missed > 0 {
                    self.missed += taken.missed as u64;
                    self.missed_at.insert(self.book.rules[at].name.clone(), now);
                    let missed = self.parts.metrics.evaluations.with_label_values(&["missed"]);
                    missed.inc_by(taken.missed as u64);
                }
                // What came since counts as well.
                let as_of = if is_fresh { now } else { taken.at };
                due.entry(as_of).or_default().push((index as u32, at));
            } else if is_fresh {
                due.entry(now).or_default().push((index as u32, at));
            }
        }
        due
    }

    /// The rules of a chapter that read samples which came: looks at those alone.
    fn due_for_samples(&mut self, slot: &SlotName, now: i64) -> Due {
        let mut due = Due::new();
        let chapter = &self.book.chapters[slot];
        self.fresh.retain(|at| match chapter.rules.binary_search(at) {
            Ok(index) => {
                due.entry(now).or_default().push((index as u32, *at));
                false
            }
            Err(_) => true,
        });
        due
    }
}
