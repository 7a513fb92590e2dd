//! What an evaluation decides, collected alert by alert.

use super::Entry;
use crate::lifecycle::{self, Input, Stepped, Timers};
use sentinel_model::alert::{Alert, AlertState, Fingerprint, Transition};

/// How long a value or a summary may be newer in memory than in the store.
pub const REFRESH_MS: i64 = 60_000;

/// What a step decided. Nothing of it is in force before
/// [`RuleAlerts::accept`](super::RuleAlerts::accept).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effects {
    /// Alerts to be stored as they are now.
    pub store: Vec<Alert>,
    /// Alerts whose value or words alone are newer than stored; they need not be stored.
    pub refreshed: Vec<Alert>,
    /// Alerts that are ok: to be removed from the store.
    pub forgotten: Vec<Fingerprint>,
    /// What happened.
    pub transitions: Vec<Transition>,
    /// Alerts that began to fire or were resolved after firing: what somebody is told.
    pub news: Vec<Alert>,
    /// Instances that were not looked at: more than [`MAX_INSTANCES`](super::MAX_INSTANCES), or a
    /// second one with the same labels (of these the first counts).
    pub ignored: usize,
}

impl Effects {
    /// Whether there is anything to store.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.store.is_empty() && self.forgotten.is_empty() && self.transitions.is_empty()
    }

    /// Whether nothing at all changes, in memory neither.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.is_silent() && self.refreshed.is_empty() && self.ignored == 0
    }
}

/// A step under way: what is decided alert by alert.
pub(super) struct Step {
    pub(super) now: i64,
    rules_version: u64,
    pub(super) timers: Timers,
    pub(super) effects: Effects,
}

impl Step {
    pub(super) fn new(now: i64, rules_version: u64, timers: Timers) -> Self {
        Self { now, rules_version, timers, effects: Effects::default() }
    }

    /// What an input makes of an alert, or of none.
    pub(super) fn take(&mut self, entry: Option<&Entry>, input: &Input<'_>) {
        let before = entry.map(|entry| &entry.alert);
        let Stepped { alert: after, must_store } =
            lifecycle::step(before, self.now, self.timers, input);
        self.record(before, after.as_ref());
        let stale = entry.is_some_and(|e| (self.now - e.stored_at).abs() >= REFRESH_MS);
        match after {
            Some(alert) if must_store => self.effects.store.push(alert),
            Some(alert) if before.is_some_and(|b| differs(b, &alert)) => {
                if stale {
                    self.effects.store.push(alert);
                } else {
                    self.effects.refreshed.push(alert);
                }
            }
            Some(_) => {}
            None => self.effects.forgotten.extend(before.map(|b| b.fingerprint)),
        }
    }

    fn record(&mut self, before: Option<&Alert>, after: Option<&Alert>) {
        let (from, to) = (before.map(|a| a.state), after.map(|a| a.state));
        let Some(alert) = after.or(before) else { return };
        // That a resolved alert is not remembered any more is no event.
        if from == to || (from, to) == (Some(AlertState::Resolved), None) {
            return;
        }
        // Resolved stands for ok here unless the alert comes from firing.
        let shown = |state: Option<AlertState>| state.filter(|s| *s != AlertState::Resolved);
        let over = from == Some(AlertState::Firing);
        self.effects.transitions.push(Transition {
            fingerprint: alert.fingerprint,
            rule: alert.rule.clone(),
            incident: alert.incident,
            from: shown(from),
            to: if over { to } else { shown(to) },
            at: self.now,
            value: alert.value,
            rules_version: self.rules_version,
        });
        if over || to == Some(AlertState::Firing) {
            self.effects.news.push(alert.clone());
        }
    }
}

/// Whether two states of an alert differ at all, NaN being the same as NaN.
fn differs(before: &Alert, after: &Alert) -> bool {
    before.last_active != after.last_active
        || before.value.to_bits() != after.value.to_bits()
        || before.summary != after.summary
        || before.annotations != after.annotations
}
