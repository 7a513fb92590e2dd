//! Who is told of which alerts, when, and when not: routes, groups, inhibition, silences,
//! acknowledgements, escalation.
//!
//! [`Router`] keeps every group of alerts with what was told of it. Its use is a cycle:
//! [`Router::observe`] says how alerts are now; [`Router::step`] gives what is to be told at a
//! time, and changes nothing that lasts; once that is stored, in one transaction with the alerts,
//! [`Router::accept`] puts it in force. What was not accepted is given again by the next step.
//!
//! All that has to survive is in the stored groups: after a restart the same steps give the same
//! notifications under the same ids. What follows from alerts alone (which group an alert is in,
//! which inhibit others) is found anew.

mod config;
mod explain;
mod inhibition;
mod ledger;
mod people;
mod times;
mod tree;

pub use config::{
    EACH, EscalationConfig, InhibitConfig, MAX_DEPTH, MAX_ESCALATIONS, MAX_INHIBITIONS, MAX_ROUTES,
    Problem, RouteConfig, RoutingConfig,
};
pub use explain::{Held, StatedRouting, Way};
pub use ledger::Lookup;
pub use people::People;
pub use times::SpanConfig;
pub use tree::{Routing, RuleFacts};

use inhibition::{Inhibitors, SourceOf};
use ledger::{Ledger, Seen, View};
use sentinel_model::alert::{Alert, AlertState, Delivery, Fingerprint};
use sentinel_model::ids::SlotName;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tree::{Pace, Place};

/// Why a stored group is not gone on with.
#[derive(Debug, thiserror::Error)]
#[error("what was told of the group {key:?} cannot be read ({source}); it is told anew")]
pub struct RestoreError {
    /// The group's key.
    pub key: String,
    source: serde_json::Error,
}

/// Where a group is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// By its rule.
    Rule,
    /// By a route.
    Route(usize),
    /// By a route that there is no more: only what was told is still told as over.
    Gone,
}

#[derive(Debug, Clone)]
struct Group {
    ledger: Ledger,
    target: Target,
    /// Its alerts that fire.
    firing: BTreeSet<Fingerprint>,
    is_stored: bool,
    /// Some of them are muted, or nobody is there to be told.
    held: bool,
    timer: Option<i64>,
}

/// An alert that fires, and where it is told.
#[derive(Debug, Clone)]
struct Member {
    rule: String,
    incident: u64,
    keys: Vec<String>,
    source_of: SourceOf,
}

/// What a step decided. Nothing of it is in force before [`Router::accept`].
#[derive(Debug, Clone, Default)]
pub struct Effects {
    /// Groups to be stored as they are now: key, and JSON.
    pub groups: Vec<(String, String)>,
    /// Keys of groups to be removed from the store.
    pub closed: Vec<String>,
    /// New notifications.
    pub decided: Vec<Delivery>,
    seen: Vec<(String, Seen)>,
}

/// All groups, and what decides what is told of them.
#[derive(Debug, Clone, Default)]
pub struct Router {
    routing: Arc<Routing>,
    rules: BTreeMap<String, RuleFacts>,
    everybody: Vec<SlotName>,
    people: People,
    /// When a silence or acknowledgement ends next.
    people_change: Option<i64>,
    groups: BTreeMap<String, Group>,
    members: HashMap<Fingerprint, Member>,
    inhibitors: Inhibitors,
    /// Groups that told of alerts that are told elsewhere now.
    strays: BTreeSet<String>,
    /// Groups to be looked at.
    dirty: BTreeSet<String>,
    timers: BTreeSet<(i64, String)>,
}

impl Router {
    /// With the groups as they were stored: keys and JSON. Groups that cannot be read are named.
    #[must_use]
    pub fn restore(
        stored: impl IntoIterator<Item = (String, String)>,
    ) -> (Self, Vec<RestoreError>) {
        let (mut router, mut errors) = (Self::default(), Vec::new());
        for (key, body) in stored {
            match serde_json::from_str::<Ledger>(&body) {
                Ok(ledger) => {
                    router.dirty.insert(key.clone());
                    let group = Group {
                        target: Target::Gone,
                        ledger,
                        firing: BTreeSet::new(),
                        is_stored: true,
                        held: false,
                        timer: None,
                    };
                    router.groups.insert(key, group);
                }
                Err(source) => errors.push(RestoreError { key, source }),
            }
        }
        (router, errors)
    }

    /// Sets routes and rules at `now`; `alerts` are all that there are.
    pub fn configure<'a>(
        &mut self,
        now: i64,
        routing: Arc<Routing>,
        rules: BTreeMap<String, RuleFacts>,
        alerts: impl IntoIterator<Item = &'a Alert>,
    ) {
        (self.routing, self.rules) = (routing, rules);
        self.inhibitors = Inhibitors::new(&self.routing, &self.rules);
        self.members.clear();
        for (key, group) in &mut self.groups {
            group.firing.clear();
            group.target = target(&self.routing, &group.ledger);
            self.dirty.insert(key.clone());
        }
        for alert in alerts {
            self.observe(now, alert);
        }
    }

    /// Sets who is told where neither rule nor route says.
    pub fn tell_everybody(&mut self, everybody: Vec<SlotName>) {
        if self.everybody != everybody {
            self.everybody = everybody;
            self.wake_held();
        }
    }

    /// Takes what people decided at `now`.
    pub fn heed(&mut self, now: i64, people: People) {
        self.people_change = people.next_end(now);
        self.people = people;
        self.wake_held();
    }

    /// What people decided, as it was last taken.
    #[must_use]
    pub fn people(&self) -> &People {
        &self.people
    }

    /// An alert as it is at `now`. Said twice it changes nothing; said of an older state of it
    /// (what was decided could not be stored) it takes the newer one back.
    pub fn observe(&mut self, now: i64, alert: &Alert) {
        let known = self.members.get(&alert.fingerprint).map(|member| member.incident);
        match (alert.state == AlertState::Firing, known) {
            (true, Some(incident)) if incident == alert.incident => {}
            (true, _) => {
                self.leave(alert.fingerprint);
                self.join(now, alert);
            }
            (false, Some(_)) => self.leave(alert.fingerprint),
            (false, None) => {}
        }
    }

    /// An alert of which nothing is known any more.
    pub fn forget(&mut self, fingerprint: Fingerprint) {
        self.leave(fingerprint);
    }

    fn join(&mut self, now: i64, alert: &Alert) {
        let places = self.routing.places(alert, self.rules.get(&alert.rule));
        let mut keys = Vec::with_capacity(places.len());
        for Place { key, labels, route, notify } in places {
            let route = route.map(|at| (at, self.routing.routes[at].id.clone()));
            let group = self.groups.entry(key.clone()).or_insert_with(|| Group {
                ledger: Ledger::open(
                    route.as_ref().map(|(_, id)| id.clone()),
                    notify.clone(),
                    labels,
                    now,
                ),
                target: Target::Rule,
                firing: BTreeSet::new(),
                is_stored: false,
                held: false,
                timer: None,
            });
            // Of a rule that is gone it stays known whom it named.
            if self.rules.contains_key(&alert.rule) {
                group.ledger.named = notify;
            }
            group.target = route.map_or(Target::Rule, |(at, _)| Target::Route(at));
            group.firing.insert(alert.fingerprint);
            self.dirty.insert(key.clone());
            keys.push(key);
        }
        let source_of = self.inhibitors.join(&self.routing, alert);
        let member = Member { rule: alert.rule.clone(), incident: alert.incident, keys, source_of };
        self.members.insert(alert.fingerprint, member);
    }

    fn leave(&mut self, fingerprint: Fingerprint) {
        let Some(member) = self.members.remove(&fingerprint) else { return };
        self.dirty.extend(self.strays.iter().cloned());
        for key in member.keys {
            if let Some(group) = self.groups.get_mut(&key) {
                group.firing.remove(&fingerprint);
                self.dirty.insert(key);
            }
        }
        if member.source_of.is_empty() {
            return;
        }
        self.inhibitors.leave(fingerprint, member.source_of);
        self.wake_held();
    }

    fn wake_held(&mut self) {
        let held = self.groups.iter().filter(|(_, group)| group.held);
        self.dirty.extend(held.map(|(key, _)| key.clone()));
    }

    /// When a step is due at the latest, if nothing is observed before.
    #[must_use]
    pub fn next(&self) -> Option<i64> {
        let timer = self.timers.first().map(|(at, _)| *at);
        timer.into_iter().chain(self.people_change).min()
    }

    /// Whether a step at `now` may have something to say.
    #[must_use]
    pub fn is_due(&self, now: i64) -> bool {
        !self.dirty.is_empty() || self.next().is_some_and(|at| at <= now)
    }

    /// How many groups there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is no group.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// What is to be told at `now`. `lookup` gives alerts as they were last observed.
    pub fn step<'a>(&mut self, now: i64, lookup: &Lookup<'a>) -> Effects {
        while let Some((at, key)) = self.timers.first().cloned()
            && at <= now
        {
            self.timers.pop_first();
            if let Some(group) = self.groups.get_mut(&key) {
                group.timer = None;
                self.dirty.insert(key);
            }
        }
        if self.people_change.is_some_and(|at| at <= now) {
            self.people_change = self.people.next_end(now);
            self.wake_held();
        }
        let mut effects = Effects::default();
        for key in &self.dirty {
            let Some(group) = self.groups.get(key) else { continue };
            let mut seen = self.look(now, key, group, lookup);
            if seen.ledger.is_none() && !group.is_stored && !seen.closed {
                seen.ledger = Some(group.ledger.clone());
            }
            if seen.closed {
                effects.closed.push(key.clone());
            } else if let Some(ledger) = &seen.ledger {
                let body = serde_json::to_string(ledger).expect("a ledger is plain data");
                effects.groups.push((key.clone(), body));
            }
            effects.decided.append(&mut seen.decided);
            effects.seen.push((key.clone(), seen));
        }
        effects
    }

    fn look<'a>(&self, now: i64, key: &str, group: &Group, lookup: &Lookup<'a>) -> Seen {
        let route = match group.target {
            Target::Route(at) => Some(&self.routing.routes[at]),
            Target::Rule | Target::Gone => None,
        };
        let routed = route.and_then(|route| route.notify.as_ref());
        let notify = group.ledger.named.as_ref().or(routed).unwrap_or(&self.everybody);
        let firing = group.firing.iter().filter_map(|fingerprint| {
            let alert = lookup(&self.members.get(fingerprint)?.rule, *fingerprint)?;
            Some((
                alert,
                self.people.mute(alert, now) || self.inhibitors.is_inhibited(&self.routing, alert),
            ))
        });
        let view = View {
            now,
            key,
            pace: route.map_or(Pace::AT_ONCE, |route| route.pace),
            escalate: route.map_or(&[], |route| &route.escalate),
            is_mute: route.is_some_and(|route| self.routing.is_mute(route, now)),
            notify,
            firing: firing.collect(),
        };
        group.ledger.look(&view, lookup)
    }

    /// Puts a step in force: called once its effects are durable.
    pub fn accept(&mut self, effects: Effects) {
        for (key, seen) in effects.seen {
            self.dirty.remove(&key);
            let Some(group) = self.groups.get_mut(&key) else { continue };
            if let Some(timer) = group.timer.take() {
                self.timers.remove(&(timer, key.clone()));
            }
            if seen.closed && group.firing.is_empty() {
                self.groups.remove(&key);
                self.strays.remove(&key);
                continue;
            }
            if let Some(ledger) = seen.ledger {
                (group.ledger, group.is_stored) = (ledger, true);
            }
            group.held = seen.held;
            if seen.stray {
                self.strays.insert(key.clone());
            } else {
                self.strays.remove(&key);
            }
            if let Some(next) = seen.next {
                group.timer = Some(next);
                self.timers.insert((next, key));
            }
        }
    }
}

/// Where a group that was stored is told now.
fn target(routing: &Routing, ledger: &Ledger) -> Target {
    match &ledger.route {
        None if routing.routes.is_empty() => Target::Rule,
        None => Target::Gone,
        Some(id) => {
            let found = routing.routes.iter().position(|route| route.id == *id);
            found.map_or(Target::Gone, Target::Route)
        }
    }
}
