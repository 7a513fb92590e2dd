//! The alerts of all rules, and the transactions that change them.

use sentinel_alerting::evaluation::{Effects, Observation, RuleAlerts};
use sentinel_alerting::routing::{self, People, Router, Routing, RuleFacts};
use sentinel_model::alert::{Alert, AlertState, Fingerprint};
use sentinel_model::ids::SlotName;
use sentinel_model::rule::Rule;
use sentinel_store::alerting::{AlertingChange, StoredGroup};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// One rule's alerts.
#[derive(Default)]
struct Kept {
    /// The rule as it was last known; `None` where it was gone before this process began.
    rule: Option<Arc<Rule>>,
    /// Whether it is in force.
    in_force: bool,
    alerts: RuleAlerts,
}

/// What an evaluation decided for one rule, not in force yet.
pub struct Decision {
    /// The rule's name.
    pub rule: String,
    /// As of when, unix milliseconds.
    pub at: i64,
    /// What changes.
    pub effects: Effects,
}

/// The alerts of all rules by name.
#[derive(Default)]
pub struct Alerts {
    rules: BTreeMap<String, Kept>,
    version: u64,
    router: Router,
    routing: Arc<Routing>,
}

impl Alerts {
    /// As they were stored.
    #[must_use]
    pub fn restore(stored: Vec<Alert>, groups: Vec<StoredGroup>) -> Self {
        let (router, errors) = Router::restore(groups.into_iter().map(|g| (g.key, g.body)));
        for error in errors {
            tracing::error!(%error, "a group of alerts is not gone on with");
        }
        let mut by_rule: BTreeMap<String, Vec<Alert>> = BTreeMap::new();
        for alert in stored {
            by_rule.entry(alert.rule.clone()).or_default().push(alert);
        }
        let kept = |alerts| Kept { alerts: RuleAlerts::restore(alerts), ..Kept::default() };
        let rules = by_rule.into_iter().map(|(name, alerts)| (name, kept(alerts))).collect();
        Self { rules, version: 0, router, routing: Arc::default() }
    }

    /// What is stored, in place of what is here.
    pub fn reload(&mut self, now: i64, stored: Vec<Alert>, groups: Vec<StoredGroup>) {
        let before = std::mem::replace(self, Self::restore(stored, groups));
        for (name, kept) in before.rules.into_iter().filter(|(_, kept)| kept.rule.is_some()) {
            let now = self.rules.entry(name).or_default();
            (now.rule, now.in_force) = (kept.rule, kept.in_force);
        }
        self.rules.retain(|_, kept| kept.in_force || !kept.alerts.is_empty());
        self.version = before.version;
        self.router.heed(now, before.router.people().clone());
        self.set_routing(now, before.routing);
    }

    /// Sets which rules are in force, and the routes of what they tell.
    pub fn set_rules(
        &mut self,
        now: i64,
        rules: &[Arc<Rule>],
        version: u64,
        routing: Arc<Routing>,
    ) {
        self.version = version;
        self.rules.values_mut().for_each(|kept| kept.in_force = false);
        for rule in rules {
            let kept = self.rules.entry(rule.name.clone()).or_default();
            (kept.rule, kept.in_force) = (Some(Arc::clone(rule)), true);
        }
        self.rules.retain(|_, kept| kept.in_force || !kept.alerts.is_empty());
        self.set_routing(now, routing);
    }

    /// Sets the routes.
    pub fn set_routing(&mut self, now: i64, routing: Arc<Routing>) {
        let known = self.rules.iter().filter_map(|(name, kept)| {
            Some((name.clone(), RuleFacts::from(kept.rule.as_deref()?)))
        });
        let alerts = self.rules.values().flat_map(|kept| kept.alerts.iter());
        self.router.configure(now, Arc::clone(&routing), known.collect(), alerts);
        self.routing = routing;
    }

    /// Whether these are the routes in force.
    #[must_use]
    pub fn is_routed_by(&self, routing: &Arc<Routing>) -> bool {
        Arc::ptr_eq(&self.routing, routing) || self.routing == *routing
    }

    /// Takes what people decided.
    pub fn heed(&mut self, now: i64, people: People) {
        self.router.heed(now, people);
    }

    /// Whether somebody may have to be told of something though no rule says anything new.
    #[must_use]
    pub fn is_due(&self, now: i64) -> bool {
        self.router.is_due(now)
    }

    /// When that will be so at the latest.
    #[must_use]
    pub fn next(&self) -> Option<i64> {
        self.router.next()
    }

    /// What an evaluation as of `at` means for a rule; `None` where it changes nothing.
    #[must_use]
    pub fn decide(&self, rule: &str, at: i64, observation: &Observation) -> Option<Decision> {
        let kept = self.rules.get(rule)?;
        let effects = match (&kept.rule, kept.in_force) {
            (Some(rule), true) => kept.alerts.step(at, rule, self.version, observation),
            (Some(_) | None, _) => kept.alerts.withdraw(at, self.version),
        };
        (!effects.is_nothing()).then(|| Decision { rule: rule.to_owned(), at, effects })
    }

    /// What time alone changes: alerts of rules that are gone or have other labels.
    #[must_use]
    pub fn decide_leftovers(&self, now: i64) -> Vec<Decision> {
        let decide = |name: &String| self.decide(name, now, &Observation::Failed);
        let decisions = self.rules.keys().filter_map(decide);
        decisions.filter(|decision| !decision.effects.is_silent()).collect()
    }

    /// Decisions as one transaction, with the notifications that they mean, and with those that
    /// are due besides. `everybody` is told where neither a rule nor a route says who. Either
    /// [`Alerts::accept`] or [`Alerts::reload`] must follow.
    pub fn transaction(
        &mut self,
        decisions: &[Decision],
        everybody: Vec<SlotName>,
        now: i64,
    ) -> (AlertingChange, routing::Effects) {
        let mut change = AlertingChange::default();
        let mut newest: HashMap<Fingerprint, &Alert> = HashMap::new();
        self.router.tell_everybody(everybody);
        for Decision { effects, .. } in decisions {
            change.alerts.extend(effects.store.iter().cloned());
            change.forgotten.extend(&effects.forgotten);
            change.transitions.extend(effects.transitions.iter().cloned());
            for alert in &effects.store {
                self.router.observe(now, alert);
                newest.insert(alert.fingerprint, alert);
            }
            effects.forgotten.iter().for_each(|one| self.router.forget(*one));
        }
        let rules = &self.rules;
        let told = self.router.step(now, &|rule, fingerprint| {
            let kept = || rules.get(rule)?.alerts.get(fingerprint);
            newest.get(&fingerprint).copied().or_else(kept)
        });
        let group =
            |(key, body): &(String, String)| StoredGroup { key: key.clone(), body: body.clone() };
        change.groups = told.groups.iter().map(group).collect();
        change.closed.clone_from(&told.closed);
        change.decided.clone_from(&told.decided);
        (change, told)
    }

    /// Puts decisions in force: called once they are stored.
    pub fn accept(&mut self, decisions: &[Decision], told: routing::Effects) {
        for Decision { rule, at, effects } in decisions {
            if let Some(kept) = self.rules.get_mut(rule) {
                kept.alerts.accept(*at, effects);
            }
        }
        self.router.accept(told);
        self.rules.retain(|_, kept| kept.in_force || !kept.alerts.is_empty());
    }

    /// All alerts that are remembered, of all rules.
    pub fn iter(&self) -> impl Iterator<Item = &Alert> {
        self.rules.values().flat_map(|kept| kept.alerts.iter())
    }

    /// How many groups there are.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.router.len()
    }

    /// How many alerts are pending or firing.
    #[must_use]
    pub fn active(&self) -> usize {
        self.iter().filter(|alert| alert.state != AlertState::Resolved).count()
    }
}
