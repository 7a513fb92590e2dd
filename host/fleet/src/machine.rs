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
//! good, saved, on trial ── a slot fails ▶ work: roll back to the set before, as a whole; refused
//!    │                                   until another set is decided or the host's place changed
//!    ▼ the time of the trial is over
//! proven: stays, whatever fails
//! ```
//!
//! A start begins with the last good set (work: keep), and only then looks at a newer one. The
//! good set is kept again whenever something changed that may let a missing slot of it run.
//!
//! | at once | only one piece of work; a newer set makes it hurry, so that it stops fetching |
//! |---|---|
//! | saving | before work that depends on it; nothing begins while a save is open or has failed |
//! | numbers | `newest` only grows; a set below it, or another under its number, is not taken |
//! | stops | what the newest set disables is stopped at once and stays so, whatever set runs |

mod again;
mod offers;
mod report;
mod stops;
mod terms;
mod trial;

pub use terms::{Effect, Input, Outcome, Task, Work};
pub use trial::{PROBATION_MS, SlotHealth};

use crate::memory::{Known, Memory};
use crate::place::Place;
use again::Again;
use report::said;
use sentinel_trust::Digest;
use sentinel_trust::fleet::{RefusedSet, Wish};
use std::collections::{BTreeMap, BTreeSet};
use trial::Clock;

/// Wait after the first time that a set's plugins could not be fetched, and the longest, in
/// milliseconds; twice as long each time.
const FETCH_AGAIN: (i64, i64) = (2_000, 300_000);
/// As [`FETCH_AGAIN`], for a set whose plugins did not load.
const LOAD_AGAIN: (i64, i64) = (30_000, 900_000);
/// Wait after the state could not be saved, in milliseconds.
const SAVE_AGAIN: i64 = 5_000;
/// Work under way.
#[derive(Debug)]
struct Busy {
    id: u64,
    /// None: no slot of the fleet is to run.
    set: Option<Known>,
    task: Task,
    left_out: BTreeMap<String, String>,
    /// Slots that were disabled whatever the set says.
    stops: BTreeSet<String>,
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
    /// The time of the trial that the good set is on; see [`Memory::trial`].
    clock: Clock,
    /// The good set is to take the place of one that was undone.
    rolling: bool,
    /// Slots were stopped, and the good set is to be kept without them before anything else.
    stopped: bool,
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
            clock: Clock::begin(now),
            rolling: false,
            stopped: false,
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

    /// What this host may come to run of its fleet: of the sets that it can go on with or go
    /// back to.
    #[must_use]
    pub fn needs(&self) -> BTreeSet<Digest> {
        let groups = self.memory.sets().flat_map(|set| &set.sealed().set().groups);
        let here = groups.filter(|group| group.matches(&self.place.labels));
        let ours = |wish: &&Wish| self.place.kinds.contains(&wish.kind);
        here.flat_map(|group| &group.slots).filter(ours).map(|wish| wish.digest).collect()
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
                let trial = self.memory.trial.as_ref().map(|_| self.clock.look);
                [apply, keep, trial].into_iter().flatten().min()
            }
        }
    }

    /// The newest set where it is not the one that is good, nor one that was undone.
    fn pending(&self) -> Option<&Known> {
        let good = self.memory.good.as_ref().map_or(0, Known::number);
        let undone = self.memory.undone.as_ref().map_or(0, |undone| undone.number);
        self.memory.newest.as_ref().filter(|newest| newest.number() > good.max(undone))
    }

    /// Takes note of what happened and says what to do. `lot`, from 0 up to 1, spreads waits.
    pub fn step(&mut self, now: i64, lot: f64, input: Input) -> Vec<Effect> {
        let mut effects = match input {
            Input::Offered(sealed) => self.offered(now, &sealed),
            Input::Placed(place) => self.placed(now, *place),
            Input::Slots(health) => self.judge(now, &health),
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
        effects.extend(self.look_at_trial(now));
        effects
    }

    fn placed(&mut self, now: i64, place: Place) -> Vec<Effect> {
        if place == self.place {
            return Vec::new();
        }
        self.place = place;
        self.look_again(now);
        // Another host may run what this one could not.
        let undone = self.memory.undone.take();
        undone.map(|_| self.save()).into_iter().collect()
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

    fn ended(&mut self, now: i64, lot: f64, work: u64, outcome: Outcome) -> Vec<Effect> {
        let Some(busy) = self.busy.take_if(|busy| busy.id == work) else { return Vec::new() };
        let changed = busy.seen != self.circumstances;
        let number = busy.number();
        // What was disabled since it began may have come in by it.
        let behind = busy.stops != self.stops();
        let mut effects = Vec::new();
        match (busy.task, outcome) {
            (Task::Apply, Outcome::Applied) => {
                tracing::info!(number, "desired set applied");
                (self.applied, self.missing) = (number, BTreeMap::new());
                self.keep = Again { due: changed.then_some(now), failures: 0 };
                self.on_trial(busy.set, now);
                effects.push(self.save());
            }
            (Task::Keep | Task::RollBack, Outcome::Applied) => {
                self.kept(busy, BTreeMap::new(), now, lot);
            }
            (_, Outcome::Kept(missing)) => self.kept(busy, missing, now, lot),
            (Task::Keep | Task::RollBack, Outcome::NotFetched(why) | Outcome::NotApplied(why)) => {
                self.kept(busy, BTreeMap::from([(String::new(), why)]), now, lot)
            }
            (Task::Keep | Task::RollBack, Outcome::Overtaken) => self.keep.at_once(now),
            (Task::Apply, Outcome::Overtaken) => self.apply.at_once(now),
            (Task::Apply, Outcome::NotFetched(why)) => {
                self.failed(number, why, now, lot, FETCH_AGAIN, changed);
            }
            (Task::Apply, Outcome::NotApplied(why)) => {
                self.failed(number, why, now, lot, LOAD_AGAIN, changed);
            }
        }
        effects.extend(behind.then(|| self.stop()).flatten());
        effects.extend(self.memory.trial.as_ref().map(|_| Effect::Look));
        effects
    }

    fn kept(&mut self, busy: Busy, missing: BTreeMap<String, String>, now: i64, lot: f64) {
        (self.applied, self.missing) = (busy.number(), missing);
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
        if std::mem::take(&mut self.rolling) {
            return self.keep(now, Task::RollBack);
        }
        let begun = self.has_begun();
        if std::mem::take(&mut self.stopped) && begun && self.memory.good.is_some() {
            self.keep.due = None;
            return self.keep(now, Task::Keep);
        }
        if begun && self.apply.is_due(now) {
            self.apply.due = None;
            if let Some(set) = self.pending().cloned() {
                match self.place.whole(set.sealed().set()) {
                    Ok(wishes) => {
                        return Some(self.begin(Some(set), wishes, BTreeMap::new(), Task::Apply));
                    }
                    Err(why) => self.refuse(&set, why),
                }
            }
        }
        if !begun || self.keep.is_due(now) {
            self.keep.due = None;
            if self.memory.good.is_some() {
                return self.keep(now, Task::Keep);
            }
        }
        None
    }

    /// Begins to keep the good set, or to put it in place of one that was undone; without one,
    /// no slot is to run.
    fn keep(&mut self, now: i64, task: Task) -> Option<Effect> {
        let Some(set) = self.memory.good.clone() else {
            let nothing = task == Task::RollBack;
            return nothing.then(|| self.begin(None, Vec::new(), BTreeMap::new(), task));
        };
        match self.place.share(set.sealed().set()) {
            Ok(share) => Some(self.begin(Some(set), share.wishes, share.left_out, task)),
            Err(why) => {
                // What runs goes on; at a start, that is nothing.
                self.applied = set.number();
                self.missing = BTreeMap::from([(String::new(), why)]);
                self.next(now)
            }
        }
    }

    fn refuse(&mut self, set: &Known, why: String) {
        if self.refused.as_ref() != Some(&why) {
            tracing::error!(number = set.number(), why, "desired set refused on this host");
        }
        self.refused = Some(why);
    }

    fn begin(
        &mut self,
        set: Option<Known>,
        mut wishes: Vec<Wish>,
        left_out: BTreeMap<String, String>,
        task: Task,
    ) -> Effect {
        let stops = self.stops();
        for wish in wishes.iter_mut().filter(|wish| stops.contains(&wish.slot)) {
            wish.disabled = true;
        }
        self.works += 1;
        let number = set.as_ref().map_or(0, Known::number);
        let work = Work { id: self.works, number, task, wishes };
        let seen = self.circumstances;
        self.busy = Some(Busy { id: work.id, set, task, left_out, stops, seen });
        Effect::Begin(work)
    }
}

impl Busy {
    fn number(&self) -> u64 {
        self.set.as_ref().map_or(0, Known::number)
    }
}
