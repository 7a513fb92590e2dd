//! A set that was applied is on trial: a slot that it changed and that fails undoes it as a
//! whole.
//!
//! | on trial | then |
//! |---|---|
//! | a slot fails that the proven set has just so, or not on trial | nothing: going back would not help |
//! | a slot fails that a set since changed | back to the newest set before that has it otherwise |
//! | another set is applied | that one is on trial, with this one to go back to |
//! | the time is over, and a slot is failing | looked at again soon, for a bounded time |
//! | the time is over | proven: what was before is forgotten |
//! | a restart | the time begins again |

use super::{Effect, Machine, Saving};
use crate::memory::{Known, Trial};
use sentinel_trust::fleet::Wish;
use std::collections::{BTreeMap, BTreeSet};

/// How long a set is on trial once it was applied, in milliseconds.
pub const PROBATION_MS: i64 = 60_000;
/// How long at most, while a slot fails and is not given up yet, in milliseconds.
const AT_MOST_MS: i64 = 15 * 60_000;
/// How often slots are looked at that decide a trial late, in milliseconds.
const LOOK_MS: i64 = 5_000;
/// Most sets that are not proven and can be gone back to; of more, the oldest is forgotten.
const MAX_BEFORE: usize = 3;

/// How the slots of the fleet are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlotHealth {
    /// Slots whose plugin was given up, and why.
    pub failed: BTreeMap<String, String>,
    /// Whether a slot fails, and it is not decided yet what becomes of it.
    pub failing: bool,
}

impl SlotHealth {
    /// Adds a slot: the plugin that was asked for, and why it was given up, if it was; else
    /// whether it fails.
    pub fn add(
        &mut self,
        slot: &str,
        plugin: &dyn std::fmt::Display,
        given_up: Option<&str>,
        failing: bool,
    ) {
        if let Some(why) = given_up {
            self.failed.insert(slot.to_owned(), format!("slot `{slot}`: {plugin} failed: {why}"));
        }
        self.failing |= failing && given_up.is_none();
    }
}

/// The time of a trial.
#[derive(Debug)]
pub(super) struct Clock {
    over: i64,
    at_most: i64,
    /// When it is to be looked whether it is over.
    pub(super) look: i64,
}

impl Clock {
    pub(super) const fn begin(now: i64) -> Self {
        let over = now.saturating_add(PROBATION_MS);
        Self { over, at_most: now.saturating_add(AT_MOST_MS), look: over }
    }
}

impl Machine {
    /// A set was applied.
    pub(super) fn on_trial(&mut self, set: Option<Known>, now: i64) {
        let before = std::mem::replace(&mut self.memory.good, set);
        let trial = match self.memory.trial.take() {
            None => Trial { proven: before, before: Vec::new() },
            Some(mut trial) => {
                trial.before.extend(before);
                if trial.before.len() > MAX_BEFORE {
                    trial.before.remove(0);
                }
                trial
            }
        };
        (self.memory.trial, self.memory.undone) = (Some(trial), None);
        self.clock = Clock::begin(now);
    }

    /// Asks how the slots are once the time of a trial is over.
    pub(super) fn look_at_trial(&mut self, now: i64) -> Option<Effect> {
        let rests = self.busy.is_none() && self.saving == Saving::Done;
        let due = self.memory.trial.is_some() && self.clock.look <= now;
        (due && rests).then(|| {
            self.clock.look = now.saturating_add(LOOK_MS);
            Effect::Look
        })
    }

    /// The slots are so.
    pub(super) fn judge(&mut self, now: i64, health: &SlotHealth) -> Vec<Effect> {
        let (Some(trial), Some(good)) = (&self.memory.trial, &self.memory.good) else {
            return Vec::new();
        };
        if self.busy.is_some() || self.saving != Saving::Done || self.applied != good.number() {
            return Vec::new();
        }
        let changed = |slot: &str| !self.same(slot, Some(good), trial.proven.as_ref());
        let failed: BTreeMap<&str, &str> = health
            .failed
            .iter()
            .filter(|(slot, _)| changed(slot))
            .map(|(slot, why)| (&**slot, &**why))
            .collect();
        if !failed.is_empty() {
            return vec![self.undo(&failed, now)];
        }
        if now < self.clock.over || (health.failing && now < self.clock.at_most) {
            return Vec::new();
        }
        tracing::info!(number = good.number(), "desired set proven");
        self.memory.trial = None;
        vec![self.save()]
    }

    /// Goes back to the newest set in which none of these slots is as it is now.
    fn undo(&mut self, failed: &BTreeMap<&str, &str>, now: i64) -> Effect {
        let (good, trial) = (self.memory.good.take(), self.memory.trial.take());
        let Trial { proven, mut before } = trial.expect("it is on trial");
        let number = good.as_ref().map_or(0, Known::number);
        let other =
            |set: &Known| failed.keys().all(|slot| !self.same(slot, good.as_ref(), Some(set)));
        let back = loop {
            match before.pop() {
                Some(set) if other(&set) => break Some(set),
                Some(_) => {}
                None => break None,
            }
        };
        let why: Vec<&str> = failed.values().copied().collect();
        let to = match back.as_ref().or(proven.as_ref()) {
            Some(set) => format!("to set {}", set.number()),
            None => "to none: it was the first".to_owned(),
        };
        let why = format!("{}; the set was rolled back as a whole, {to}", why.join("; "));
        tracing::error!(number, why, "desired set rolled back");
        // One that was undone before this is none to try again.
        self.memory.undone = Some(match self.memory.undone.take() {
            Some(last) if last.number > number => {
                super::said(last.number, &format!("{}; then set {number}: {why}", last.why))
            }
            Some(_) | None => super::said(number, &why),
        });
        if back.is_some() {
            (self.memory.good, self.memory.trial) = (back, Some(Trial { proven, before }));
        } else {
            self.memory.good = proven;
        }
        self.clock = Clock::begin(now);
        self.rolling = true;
        self.save()
    }

    /// Whether the good set changed a slot here, and is on trial for it.
    pub(super) fn may_go_back(&self) -> bool {
        let (Some(trial), Some(good)) = (&self.memory.trial, &self.memory.good) else {
            return false;
        };
        let sets = [Some(good), trial.proven.as_ref()];
        let groups = sets.into_iter().flatten().flat_map(|set| &set.sealed().set().groups);
        let wishes = groups.flat_map(|group| &group.slots);
        let slots: BTreeSet<&str> = wishes.map(|wish| wish.slot.as_str()).collect();
        slots.into_iter().any(|slot| !self.same(slot, Some(good), trial.proven.as_ref()))
    }

    /// Whether two sets put the same into a slot of this host.
    fn same(&self, slot: &str, one: Option<&Known>, other: Option<&Known>) -> bool {
        let content = |set: Option<&Known>| {
            let groups = set?.sealed().set().groups.iter();
            let wishes = groups.filter(|group| group.matches(&self.place.labels));
            let ours = |wish: &&Wish| wish.slot == slot && self.place.kinds.contains(&wish.kind);
            let wish = wishes.flat_map(|group| &group.slots).find(ours)?;
            (!wish.disabled).then(|| (wish.digest, wish.config.clone(), wish.grants.clone()))
        };
        content(one) == content(other)
    }
}
