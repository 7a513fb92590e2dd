//! What was told of one group of alerts, and what is to be told of it now.
//!
//! | an alert of the group | told already | it is told |
//! |---|---|---|
//! | fires | no | with the group: `group_wait` after the group began, later `group_interval` after it was last told |
//! | fires, muted | no | not; with the group once it is not muted any more |
//! | fires | yes | again after `repeat_interval`; by each step of the escalation once, its time after it was first told |
//! | fires, muted | yes | not |
//! | is over | yes | with the group, to everybody who was told that it fires, muted or not |
//! | is over | no | not |
//!
//! *Muted* is an alert that somebody acknowledged, that is silenced, or that is inhibited. At the
//! mute times of its route a group is not told at all; what waits is told after them.
//!
//! The ledger is stored in the transaction of the journal entries that it leads to, and of the
//! alerts that caused them. An entry's id is a function of the ledger and the alerts alone.

use super::tree::{Escalation, Pace};
use crate::grouping::{self, Key};
use sentinel_model::alert::{Alert, AlertState, Delivery, Fingerprint};
use sentinel_model::ids::SlotName;
use sentinel_model::series::Labels;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// At mute times a group is looked at again at the full minute.
const MINUTE_MS: i64 = 60_000;

/// What was told of a group, as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// The route's identity; absent where each rule is one.
    pub(super) route: Option<String>,
    /// Whom the alerts' rules name.
    pub(super) named: Option<Vec<SlotName>>,
    /// The labels that its alerts share.
    pub(super) labels: Labels,
    /// Since when something waited to be told for the first time.
    pub(super) opened_at: i64,
    /// When it was last told.
    pub(super) last_told: Option<i64>,
    /// How often it was told.
    number: u64,
    /// Who was told that something fires.
    to: BTreeSet<SlotName>,
    /// Who was told because nobody acknowledged it.
    escalated_to: BTreeSet<SlotName>,
    /// Alerts that were told as firing, and not yet as over.
    pub(super) told: BTreeMap<Fingerprint, Told>,
}

/// An alert that was told as firing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    rule: String,
    incident: u64,
    fired_at: Option<i64>,
    /// When first.
    pub(super) at: i64,
    /// When last.
    pub(super) said_at: i64,
    /// Steps of the escalation that were taken.
    pub(super) level: usize,
}

impl Told {
    pub(super) fn is_of(&self, alert: &Alert) -> bool {
        (self.incident, self.fired_at) == (alert.incident, alert.fired_at)
    }

    /// The end of what was told, whatever has begun since.
    fn end(&self, alert: &Alert) -> Alert {
        Alert {
            state: AlertState::Resolved,
            incident: self.incident,
            fired_at: self.fired_at,
            ..alert.clone()
        }
    }
}

/// What a look at a group needs beside its ledger.
pub(super) struct View<'v, 'a> {
    pub(super) now: i64,
    pub(super) key: &'v str,
    pub(super) pace: Pace,
    pub(super) escalate: &'v [Escalation],
    /// Whether the route's mute times hold.
    pub(super) is_mute: bool,
    pub(super) notify: &'v [SlotName],
    /// The group's alerts that fire, and whether each is muted.
    pub(super) firing: Vec<(&'a Alert, bool)>,
}

/// What a look at a group gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Seen {
    /// The ledger, where it is another one.
    pub(super) ledger: Option<Ledger>,
    /// Whether nothing is left to be told.
    pub(super) closed: bool,
    pub(super) decided: Vec<Delivery>,
    /// When to look again, if nothing happens before.
    pub(super) next: Option<i64>,
    /// Whether alerts are muted, or nobody is there to be told: look again when that changes.
    pub(super) held: bool,
    /// Whether alerts were told here that still fire and are told elsewhere: look again when one
    /// of them ends.
    pub(super) stray: bool,
}

/// What is told now.
#[derive(Default)]
struct Tidings<'a> {
    /// Never told before.
    news: Vec<&'a Alert>,
    repeats: Vec<&'a Alert>,
    /// Told as firing, and over.
    over: Vec<Alert>,
    /// Told as firing, and nothing is known of them any more.
    gone: Vec<Fingerprint>,
    /// By the step of the escalation.
    escalations: BTreeMap<usize, Vec<&'a Alert>>,
    timers: Vec<i64>,
    held: bool,
    stray: bool,
}

/// Finds an alert by its rule and fingerprint, as it is now.
pub type Lookup<'a> = dyn Fn(&str, Fingerprint) -> Option<&'a Alert> + 'a;

impl Ledger {
    /// A group in which something waits to be told for the first time.
    pub(super) fn open(
        route: Option<String>,
        named: Option<Vec<SlotName>>,
        labels: Labels,
        now: i64,
    ) -> Self {
        Self { route, named, labels, opened_at: now, ..Self::default() }
    }

    /// What is to be told now.
    pub(super) fn look<'a>(&self, view: &View<'_, 'a>, lookup: &Lookup<'a>) -> Seen {
        if view.firing.is_empty() && self.told.is_empty() {
            return Seen { closed: true, ..Seen::default() };
        }
        if view.is_mute {
            let next = view.now - view.now.rem_euclid(MINUTE_MS) + MINUTE_MS;
            return Seen { next: Some(next), ..Seen::default() };
        }
        let tidings = self.tidings(view, lookup);
        self.tell(view, tidings)
    }

    fn tidings<'a>(&self, view: &View<'_, 'a>, lookup: &Lookup<'a>) -> Tidings<'a> {
        let mut found = Tidings::default();
        for &(alert, muted) in &view.firing {
            match self.told.get(&alert.fingerprint).filter(|told| told.is_of(alert)) {
                _ if muted => found.held = true,
                None if view.notify.is_empty() => found.held = true,
                None => found.news.push(alert),
                Some(told) => found.go_on(view, alert, told),
            }
        }
        let firing: HashMap<_, _> = view.firing.iter().map(|(a, _)| (a.fingerprint, a)).collect();
        for (fingerprint, told) in &self.told {
            if firing.contains_key(fingerprint) {
                continue;
            }
            match lookup(&told.rule, *fingerprint) {
                // It is told elsewhere now, and its end still here.
                Some(alert) if alert.state == AlertState::Firing && told.is_of(alert) => {
                    found.stray = true;
                }
                Some(alert) => found.over.push(told.end(alert)),
                None => found.gone.push(*fingerprint),
            }
        }
        if !(found.news.is_empty() && found.over.is_empty()) {
            let Pace { wait, interval, .. } = view.pace;
            let (since, length) =
                self.last_told.map_or((self.opened_at, wait), |told| (told, interval));
            // A time that no wait leads to comes from a clock that was wrong.
            let left = since.min(view.now).saturating_add(length).saturating_sub(view.now);
            if left > 0 {
                found.timers.push(view.now.saturating_add(left));
                found.news.clear();
                found.over.clear();
            }
        }
        found
    }

    fn tell(&self, view: &View<'_, '_>, tidings: Tidings<'_>) -> Seen {
        let Tidings { news, repeats, over, gone, escalations, mut timers, held, stray } = tidings;
        let is_silent = news.is_empty() && repeats.is_empty() && over.is_empty();
        if is_silent && gone.is_empty() && escalations.is_empty() {
            return Seen { next: timers.into_iter().min(), held, stray, ..Seen::default() };
        }
        let mut after = self.clone();
        after.number += 1;
        let mut decided = Vec::new();
        let mut say = |step: usize, to: Vec<SlotName>, alerts: &[&Alert]| {
            let key = match &self.route {
                None if step == 0 => Key::Alerts,
                _ => Key::Telling { group: view.key, number: after.number, step },
            };
            decided.extend(grouping::tell(view.now, key, &to, &self.labels, alerts));
        };
        let over: Vec<&Alert> = over.iter().collect();
        let firing: Vec<&Alert> = news.iter().chain(&repeats).copied().collect();
        let notify: BTreeSet<SlotName> = view.notify.iter().cloned().collect();
        if !firing.is_empty() {
            after.to.extend(notify.iter().cloned());
        }
        // As one where the same are told of both; else each to those whom it concerns.
        if after.to == notify {
            let all: Vec<&Alert> = firing.iter().chain(&over).copied().collect();
            say(0, view.notify.to_vec(), &all);
        } else {
            say(0, view.notify.to_vec(), &firing);
            say(0, after.to.iter().cloned().collect(), &over);
        }
        for (step, alerts) in &escalations {
            let to = view.escalate[*step].notify.clone();
            after.escalated_to.extend(to.iter().cloned());
            say(step + 1, to, alerts);
        }
        let told_higher =
            |alert: &&&Alert| self.told.get(&alert.fingerprint).is_some_and(|told| told.level > 0);
        let ended: Vec<&Alert> = over.iter().filter(told_higher).copied().collect();
        let others = after.escalated_to.difference(&after.to).cloned().collect();
        say(view.escalate.len() + 1, others, &ended);
        if !is_silent {
            after.last_told = Some(view.now);
        }
        after.note(view, (&news, &repeats, &over), gone, &escalations, &mut timers);
        let closed = after.told.is_empty() && view.firing.is_empty();
        Seen { ledger: Some(after), closed, decided, next: timers.into_iter().min(), held, stray }
    }

    /// Notes what was told.
    fn note(
        &mut self,
        view: &View<'_, '_>,
        (news, repeats, over): (&[&Alert], &[&Alert], &[&Alert]),
        gone: Vec<Fingerprint>,
        escalations: &BTreeMap<usize, Vec<&Alert>>,
        timers: &mut Vec<i64>,
    ) {
        let Pace { repeat, .. } = view.pace;
        for fingerprint in over.iter().map(|alert| alert.fingerprint).chain(gone) {
            self.told.remove(&fingerprint);
        }
        for alert in news {
            let told = Told {
                rule: alert.rule.clone(),
                incident: alert.incident,
                fired_at: alert.fired_at,
                at: view.now,
                said_at: view.now,
                level: 0,
            };
            self.told.insert(alert.fingerprint, told);
            timers.extend(view.escalate.first().map(|step| view.now.saturating_add(step.after)));
        }
        for alert in repeats {
            if let Some(told) = self.told.get_mut(&alert.fingerprint) {
                told.said_at = view.now;
            }
        }
        if repeat > 0 && !(news.is_empty() && repeats.is_empty()) {
            timers.push(view.now.saturating_add(repeat));
        }
        for (step, alerts) in escalations {
            for alert in alerts {
                let Some(told) = self.told.get_mut(&alert.fingerprint) else { continue };
                told.level = told.level.max(step + 1);
                let next = view.escalate.get(told.level);
                timers.extend(next.map(|next| told.at.saturating_add(next.after)));
            }
        }
    }
}

impl<'a> Tidings<'a> {
    /// An alert that was told and goes on firing.
    fn go_on(&mut self, view: &View<'_, 'a>, alert: &'a Alert, told: &Told) {
        let Pace { repeat, .. } = view.pace;
        if repeat > 0 && !view.notify.is_empty() {
            match told.said_at.saturating_add(repeat) {
                due if due <= view.now => self.repeats.push(alert),
                later => self.timers.push(later),
            }
        }
        for (step, escalation) in view.escalate.iter().enumerate().skip(told.level) {
            match told.at.saturating_add(escalation.after) {
                due if due <= view.now => self.escalations.entry(step).or_default().push(alert),
                later => {
                    self.timers.push(later);
                    break;
                }
            }
        }
    }
}
