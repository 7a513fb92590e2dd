//! What to do next: a state machine without I/O, clock or chance.
//!
//! ```text
//! offered ── not believed, not newer ──▶ said in the report; whoever brought it is left alone
//!    │                                   for a while
//!    ▼ newest, saved
//! judged ─── not for this host ────────▶ refused; judged again when the host's place changed
//!    │
//!    ▼ work: apply, all or nothing
//! ended ──── failed ───────────────────▶ refused; again when something changed, or after a wait
//!    │                                   that doubles
//!    ▼ applied
//! good, saved
//! ```
//!
//! A start begins with the last good set (work: keep), and only then looks at a newer one. The
//! good set is kept again whenever something changed that may let a missing slot of it run.
//!
//! | at once | only one piece of work; a newer set makes it hurry, so that it stops fetching |
//! |---|---|
//! | saving | before work that depends on it; nothing begins while a save is open or has failed |
//! | numbers | `newest` only grows; a set below it, or another under its number, is not taken |

mod again;
mod terms;

pub use terms::{Effect, Input, Outcome, Work};

use crate::memory::{Known, Memory};
use crate::place::Place;
use again::Again;
use sentinel_trust::fleet::{HostReport, RefusedSet, Wish};
use std::collections::BTreeMap;

/// Wait after the first time that a set's plugins could not be fetched, and the longest, in
/// milliseconds; twice as long each time.
const FETCH_AGAIN: (i64, i64) = (2_000, 300_000);
/// As [`FETCH_AGAIN`], for a set whose plugins did not load.
const LOAD_AGAIN: (i64, i64) = (30_000, 900_000);
/// Wait after the state could not be saved, in milliseconds.
const SAVE_AGAIN: i64 = 5_000;
/// Longest reason in a report, in characters.
const MAX_WHY: usize = 2_000;

/// Work under way.
#[derive(Debug)]
struct Busy {
    id: u64,
    set: Known,
    keep: bool,
    left_out: BTreeMap<String, String>,
    /// The circumstances in which it began.
    seen: u64,
}

/// What a host does about its fleet.
#[derive(Debug)]
pub struct Machine {
    memory: Memory,
    place: Place,
    /// The set whose slots run; 0 for none.
    applied: u64,
    /// Slots of it that do not, and why.
    missing: BTreeMap<String, String>,
    busy: Option<Busy>,
    works: u64,
    /// Counts what may have changed an outcome.
    circumstances: u64,
    keep: Again,
    apply: Again,
    /// Why the newest set does not run.
    refused: Option<String>,
    /// What was offered last and does not count.
    unbelieved: Option<RefusedSet>,
    saving: Saving,
}

#[derive(Debug, PartialEq, Eq)]
enum Saving {
    Done,
    Open,
    Failed { again: i64, why: String },
}

impl Machine {
    /// Of a host that begins with this.
    #[must_use]
    pub fn new(memory: Memory, place: Place, now: i64) -> Self {
        let mut machine = Self {
            memory,
            place,
            applied: 0,
            missing: BTreeMap::new(),
            busy: None,
            works: 0,
            circumstances: 0,
            keep: Again::default(),
            apply: Again::default(),
            refused: None,
            unbelieved: None,
            saving: Saving::Done,
        };
        machine.look_again(now);
        machine
    }

    /// Number of the newest set seen: what a carrier is asked to go beyond.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.memory.highest()
    }

    /// Whether the last good set was begun with, as far as it could be.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.applied > 0 || self.memory.good.is_none()
    }

    /// When [`Input::Woke`] is to come, unless something else does before.
    #[must_use]
    pub fn wakes_at(&self) -> Option<i64> {
        match &self.saving {
            Saving::Failed { again, .. } => Some(*again),
            Saving::Open => None,
            Saving::Done if self.busy.is_some() => None,
            Saving::Done => {
                let apply = self.apply.due.filter(|_| self.pending().is_some());
                let keep = self.keep.due.filter(|_| self.memory.good.is_some());
                apply.into_iter().chain(keep).min()
            }
        }
    }

    /// What operators are told.
    #[must_use]
    pub fn report(&self) -> HostReport {
        let pending = self.pending();
        let said = |number: u64, why: &str| RefusedSet {
            number,
            why: why.chars().take(MAX_WHY).collect(),
        };
        let unsaved = match &self.saving {
            Saving::Failed { why, .. } => Some(why),
            Saving::Done | Saving::Open => None,
        };
        let newest = pending.and_then(|set| {
            let why = unsaved.or(self.refused.as_ref())?;
            Some(said(set.number(), why))
        });
        let unkept = || Some(said(self.applied, unsaved?));
        let missing = || {
            let why: Vec<&str> = self.missing.values().map(String::as_str).collect();
            (!why.is_empty()).then(|| said(self.applied, &why.join("; ")))
        };
        let applying = self.busy.as_ref().filter(|busy| !busy.keep).map(|busy| busy.set.number());
        HostReport {
            applied: self.applied,
            refused: newest.or_else(unkept).or_else(missing).or_else(|| self.unbelieved.clone()),
            applying,
        }
    }

    /// The newest set where it is not the one that is good.
    fn pending(&self) -> Option<&Known> {
        let good = self.memory.good.as_ref().map_or(0, Known::number);
        self.memory.newest.as_ref().filter(|newest| newest.number() > good)
    }

    /// Takes note of what happened and says what to do. `lot`, from 0 up to 1, spreads waits.
    pub fn step(&mut self, now: i64, lot: f64, input: Input) -> Vec<Effect> {
        let mut effects = match input {
            Input::Offered(sealed) => self.offered(now, &sealed),
            Input::Placed(place) => {
                if *place != self.place {
                    self.place = *place;
                    self.look_again(now);
                }
                Vec::new()
            }
            Input::PluginsChanged => {
                self.look_again(now);
                Vec::new()
            }
            Input::Ended { work, outcome } => self.ended(now, lot, work, outcome),
            Input::Saved(Ok(())) => {
                self.saving = Saving::Done;
                Vec::new()
            }
            Input::Saved(Err(why)) => {
                let why = format!("what this host knows of its fleet cannot be kept: {why}");
                self.saving = Saving::Failed { again: now + SAVE_AGAIN, why };
                Vec::new()
            }
            Input::Woke => match &self.saving {
                Saving::Failed { again, .. } if *again <= now => vec![self.save()],
                Saving::Failed { .. } | Saving::Open | Saving::Done => Vec::new(),
            },
        };
        effects.extend(self.next(now));
        effects
    }

    fn save(&mut self) -> Effect {
        self.saving = Saving::Open;
        Effect::Save(self.memory.clone())
    }

    /// Something changed that may give another outcome.
    fn look_again(&mut self, now: i64) {
        self.circumstances += 1;
        self.keep.at_once(now);
        self.apply.at_once(now);
    }

    fn offered(&mut self, now: i64, sealed: &[u8]) -> Vec<Effect> {
        let set = match Known::open(sealed, &self.memory.operators) {
            Ok(set) => set,
            Err(why) => return self.not_believed(0, why.to_string()),
        };
        let (number, highest) = (set.number(), self.highest());
        if number < highest {
            let why = format!(
                "the desired set {number} was offered again and this host already has {highest}; a set that was replaced never comes back under its number"
            );
            return self.not_believed(number, why);
        }
        if number == highest {
            let same =
                [&self.memory.newest, &self.memory.good].into_iter().flatten().any(|known| {
                    known.number() == number && known.sealed().set() == set.sealed().set()
                });
            if same {
                return vec![Effect::LeaveCarrier];
            }
            let why = format!(
                "there are two desired sets with number {number}, and this host had the other first; a change of it has a higher number"
            );
            return self.not_believed(number, why);
        }
        self.memory.newest = Some(set);
        (self.refused, self.unbelieved) = (None, None);
        self.apply = Again { due: Some(now), failures: 0 };
        let mut effects = vec![self.save()];
        if self.busy.is_some() {
            effects.push(Effect::Hurry);
        }
        effects
    }

    fn not_believed(&mut self, number: u64, why: String) -> Vec<Effect> {
        tracing::warn!(number, why, "a desired set that was offered does not count");
        self.unbelieved = Some(RefusedSet { number, why: why.chars().take(MAX_WHY).collect() });
        vec![Effect::LeaveCarrier]
    }

    fn ended(&mut self, now: i64, lot: f64, work: u64, outcome: Outcome) -> Vec<Effect> {
        let Some(busy) = self.busy.take_if(|busy| busy.id == work) else { return Vec::new() };
        let changed = busy.seen != self.circumstances;
        let number = busy.set.number();
        match outcome {
            Outcome::Applied => {
                tracing::info!(number, "desired set applied");
                (self.applied, self.missing) = (number, BTreeMap::new());
                self.memory.good = Some(busy.set);
                self.keep = Again { due: changed.then_some(now), failures: 0 };
                return vec![self.save()];
            }
            Outcome::Kept(missing) => self.kept(busy, missing, now, lot),
            Outcome::NotFetched(why) | Outcome::NotApplied(why) if busy.keep => {
                self.kept(busy, BTreeMap::from([(String::new(), why)]), now, lot);
            }
            Outcome::Overtaken if busy.keep => self.keep.at_once(now),
            Outcome::Overtaken => self.apply.at_once(now),
            Outcome::NotFetched(why) => self.failed(number, why, now, lot, FETCH_AGAIN, changed),
            Outcome::NotApplied(why) => self.failed(number, why, now, lot, LOAD_AGAIN, changed),
        }
        Vec::new()
    }

    fn kept(&mut self, busy: Busy, missing: BTreeMap<String, String>, now: i64, lot: f64) {
        (self.applied, self.missing) = (busy.set.number(), missing);
        self.missing.extend(busy.left_out);
        self.keep.due = None;
        if busy.seen != self.circumstances {
            self.keep.at_once(now);
        } else if self.missing.is_empty() {
            self.keep.failures = 0;
        } else {
            self.keep.later(now, lot, FETCH_AGAIN);
        }
    }

    fn failed(
        &mut self,
        number: u64,
        why: String,
        now: i64,
        lot: f64,
        waits: (i64, i64),
        changed: bool,
    ) {
        if self.pending().is_none_or(|newest| newest.number() != number) {
            // A newer one came meanwhile: what became of this one is nobody's affair.
            return;
        }
        if self.refused.as_ref() != Some(&why) {
            tracing::error!(
                number,
                why,
                applied = self.applied,
                "desired set not applied; what ran goes on"
            );
        }
        self.refused = Some(why);
        self.apply.later(now, lot, waits);
        if changed {
            self.apply.at_once(now);
        }
    }

    /// The next piece of work, where there is one and nothing else is under way.
    fn next(&mut self, now: i64) -> Option<Effect> {
        if self.busy.is_some() || self.saving != Saving::Done {
            return None;
        }
        let begun = self.has_begun();
        if begun && self.apply.is_due(now) {
            self.apply.due = None;
            if let Some(set) = self.pending().cloned() {
                match self.place.whole(set.sealed().set()) {
                    Ok(wishes) => return Some(self.begin(set, wishes, BTreeMap::new(), false)),
                    Err(why) => self.refuse(&set, why),
                }
            }
        }
        if !begun || self.keep.is_due(now) {
            self.keep.due = None;
            if let Some(set) = self.memory.good.clone() {
                match self.place.share(set.sealed().set()) {
                    Ok(share) => {
                        return Some(self.begin(set, share.wishes, share.left_out, true));
                    }
                    Err(why) => {
                        // What runs goes on; at a start, that is nothing.
                        self.applied = set.number();
                        self.missing = BTreeMap::from([(String::new(), why)]);
                        return self.next(now);
                    }
                }
            }
        }
        None
    }

    fn refuse(&mut self, set: &Known, why: String) {
        if self.refused.as_ref() != Some(&why) {
            tracing::error!(number = set.number(), why, "desired set refused on this host");
        }
        self.refused = Some(why);
    }

    fn begin(
        &mut self,
        set: Known,
        wishes: Vec<Wish>,
        left_out: BTreeMap<String, String>,
        keep: bool,
    ) -> Effect {
        self.works += 1;
        let work = Work { id: self.works, number: set.number(), keep, wishes };
        let seen = self.circumstances;
        self.busy = Some(Busy { id: work.id, set, keep, left_out, seen });
        Effect::Begin(work)
    }
}
