//! Why somebody is told of an alert, when next, or why nobody is: what the next step of a
//! [`Router`] would look at, in values that can be shown. Changes nothing.

use super::config::{InhibitConfig, Problem, RouteConfig, RoutingConfig};
use super::ledger::{Ledger, Lookup};
use super::times::SpanConfig;
use super::tree::{Place, Route, Routing};
use super::{Pace, Router};
use sentinel_model::alert::{Alert, AlertState};
use sentinel_model::ids::SlotName;
use sentinel_model::series::Labels;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How far ahead the end of a mute time is looked for (eight days: a week, and a change of clocks).
const MUTE_AHEAD_MINUTES: i64 = 8 * 24 * 60;
const MINUTE_MS: i64 = 60_000;
/// Alerts that are named as inhibiting one other, at most.
const MAX_NAMED: usize = 20;

/// Routes as whoever uses them states them, so that others can explain what follows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatedRouting {
    /// The first route; where absent each rule says whom it tells.
    pub routes: Option<RouteConfig>,
    /// Inhibitions.
    pub inhibit: Vec<InhibitConfig>,
    /// Times by their names.
    pub mute_times: BTreeMap<String, Vec<SpanConfig>>,
    /// Who is told where neither rule nor route says.
    pub everybody: Vec<SlotName>,
}

impl StatedRouting {
    /// Checks all of it.
    ///
    /// # Errors
    /// As [`RoutingConfig::read`].
    pub fn read(&self) -> Result<Routing, Vec<Problem>> {
        let Self { routes, inhibit, mute_times, .. } = self;
        RoutingConfig { routes: routes.as_ref(), inhibit, mute_times }.read()
    }
}

/// One way of an alert to people: the group in which it is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Way {
    /// The conditions of the routes on the way; absent where each rule is a route.
    pub route: Option<String>,
    /// The labels that the group's alerts share.
    pub group: Labels,
    /// Who is told.
    pub notify: Vec<SlotName>,
    /// When it was first told that the alert fires; absent where it was not.
    pub told_at: Option<i64>,
    /// When it was last told.
    pub said_at: Option<i64>,
    /// Steps of the escalation that were taken.
    pub escalated: usize,
    /// When it is told next, if nothing changes: at `now` where that is due. Absent where it is
    /// not told again, or is held.
    pub next: Option<i64>,
    /// Who is told then.
    pub next_to: Vec<SlotName>,
    /// Why it is not told now; several may hold.
    pub held: Vec<Held>,
}

/// Why an alert is not told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Held {
    /// It does not fire: it is pending, or over.
    NotFiring,
    /// A silence means it.
    Silenced {
        /// The silence's id.
        id: String,
        /// Unix milliseconds.
        until: i64,
        /// Who made it.
        author: String,
        /// Why.
        reason: String,
    },
    /// Somebody has it in hand.
    Acknowledged {
        /// Who.
        owner: String,
        /// When that lapses; with the alert where absent.
        until: Option<i64>,
    },
    /// Other alerts that fire tell enough.
    Inhibited {
        /// Rules and labels of these, some of them where they are many.
        by: Vec<(String, Labels)>,
    },
    /// A mute time of its route holds.
    MuteTime {
        /// Names of those that do.
        names: Vec<String>,
        /// When none holds any more; absent where that is more than a week ahead.
        until: Option<i64>,
    },
    /// Neither rule nor route nor worker names anybody.
    Nobody,
}

impl Router {
    /// Every way of an alert to people, as of `now`. `lookup` gives alerts as they were last
    /// observed.
    #[must_use]
    pub fn explain(&self, now: i64, alert: &Alert, lookup: &Lookup<'_>) -> Vec<Way> {
        let places = self.routing.places(alert, self.rules.get(&alert.rule));
        places.into_iter().map(|place| self.way(now, alert, place, lookup)).collect()
    }

    fn way(&self, now: i64, alert: &Alert, place: Place, lookup: &Lookup<'_>) -> Way {
        let Place { key, labels, route, notify } = place;
        let route = route.map(|at| &self.routing.routes[at]);
        let routed = route.and_then(|route| route.notify.clone());
        let notify = notify.or(routed).unwrap_or_else(|| self.everybody.clone());
        let mut held = self.held(now, alert, route, lookup);
        if notify.is_empty() {
            held.push(Held::Nobody);
        }
        let ledger = self.groups.get(&key).map(|group| &group.ledger);
        let told = ledger.and_then(|ledger| ledger.told.get(&alert.fingerprint));
        let told = told.filter(|told| told.is_of(alert));
        let mut way = Way {
            route: route.map(|route| route.id.clone()),
            group: labels,
            told_at: told.map(|told| told.at),
            said_at: told.map(|told| told.said_at),
            escalated: told.map_or(0, |told| told.level),
            next: None,
            next_to: Vec::new(),
            held,
            notify,
        };
        if way.held.is_empty() {
            way.look_ahead(now, route, ledger);
        }
        way
    }

    fn held(
        &self,
        now: i64,
        alert: &Alert,
        route: Option<&Route>,
        lookup: &Lookup<'_>,
    ) -> Vec<Held> {
        let mut held = Vec::new();
        if alert.state != AlertState::Firing {
            held.push(Held::NotFiring);
        }
        held.extend(self.people.silences_of(alert, now).map(|silence| Held::Silenced {
            id: silence.id.clone(),
            until: silence.ends_at,
            author: silence.author.clone(),
            reason: silence.reason.clone(),
        }));
        if let Some(found) = self.people.acknowledgement_of(alert, now) {
            held.push(Held::Acknowledged { owner: found.owner.clone(), until: found.until });
        }
        if self.inhibitors.is_inhibited(&self.routing, alert) {
            let sources = self.inhibitors.sources_of(&self.routing, alert);
            let by = sources.into_iter().take(MAX_NAMED).filter_map(|fingerprint| {
                let rule = &self.members.get(&fingerprint)?.rule;
                Some((rule.clone(), lookup(rule, fingerprint)?.labels.clone()))
            });
            held.push(Held::Inhibited { by: by.collect() });
        }
        if let Some(route) = route.filter(|route| self.routing.is_mute(route, now)) {
            let names = route.mute.iter().filter(|name| self.routing.is_time(name, now));
            let minute = now - now.rem_euclid(MINUTE_MS);
            let mut minutes = (1..=MUTE_AHEAD_MINUTES).map(|ahead| minute + ahead * MINUTE_MS);
            let until = minutes.find(|at| !self.routing.is_mute(route, *at));
            held.push(Held::MuteTime { names: names.cloned().collect(), until });
        }
        held
    }
}

impl Way {
    /// When it is told next, and to whom, of an alert that fires and that nothing holds.
    fn look_ahead(&mut self, now: i64, route: Option<&Route>, ledger: Option<&Ledger>) {
        let Pace { wait, interval, repeat } = route.map_or(Pace::AT_ONCE, |route| route.pace);
        let (Some(told), Some(said)) = (self.told_at, self.said_at) else {
            let since = ledger.map_or((now, wait), |ledger| match ledger.last_told {
                Some(last) => (last, interval),
                None => (ledger.opened_at, wait),
            });
            self.next = Some(since.0.min(now).saturating_add(since.1).max(now));
            self.next_to.clone_from(&self.notify);
            return;
        };
        if repeat > 0 {
            self.next = Some(said.saturating_add(repeat).max(now));
            self.next_to.clone_from(&self.notify);
        }
        let step = route.and_then(|route| route.escalate.get(self.escalated));
        if let Some(step) = step {
            let at = told.saturating_add(step.after).max(now);
            if self.next.is_none_or(|next| at < next) {
                (self.next, self.next_to) = (Some(at), step.notify.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests;
