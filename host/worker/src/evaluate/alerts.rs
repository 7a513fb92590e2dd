//! The alerts of all rules, and the transactions that change them.

use sentinel_alerting::evaluation::{Effects, Observation, RuleAlerts};
use sentinel_alerting::grouping::{self, Route};
use sentinel_model::alert::{Alert, AlertState};
use sentinel_model::ids::SlotName;
use sentinel_model::rule::Rule;
use sentinel_model::series::Labels;
use sentinel_store::alerting::AlertingChange;
use std::collections::BTreeMap;
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
pub(super) struct Decision {
    pub(super) rule: String,
    pub(super) at: i64,
    pub(super) effects: Effects,
}

/// The alerts of all rules by name.
#[derive(Default)]
pub(super) struct Alerts {
    rules: BTreeMap<String, Kept>,
    version: u64,
}

impl Alerts {
    pub(super) fn restore(stored: Vec<Alert>) -> Self {
        let mut by_rule: BTreeMap<String, Vec<Alert>> = BTreeMap::new();
        for alert in stored {
            by_rule.entry(alert.rule.clone()).or_default().push(alert);
        }
        let kept = |alerts| Kept { alerts: RuleAlerts::restore(alerts), ..Kept::default() };
        let rules = by_rule.into_iter().map(|(name, alerts)| (name, kept(alerts))).collect();
        Self { rules, version: 0 }
    }

    /// Sets which rules are in force.
    pub(super) fn set_rules(&mut self, rules: &[Arc<Rule>], version: u64) {
        self.version = version;
        self.rules.values_mut().for_each(|kept| kept.in_force = false);
        for rule in rules {
            let kept = self.rules.entry(rule.name.clone()).or_default();
            (kept.rule, kept.in_force) = (Some(Arc::clone(rule)), true);
        }
        self.rules.retain(|_, kept| kept.in_force || !kept.alerts.is_empty());
    }

    /// What an evaluation as of `at` means for a rule.
    pub(super) fn decide(
        &self,
        rule: &str,
        at: i64,
        observation: &Observation,
    ) -> Option<Decision> {
        let kept = self.rules.get(rule)?;
        let effects = match (&kept.rule, kept.in_force) {
            (Some(rule), true) => kept.alerts.step(at, rule, self.version, observation),
            (Some(_) | None, _) => kept.alerts.withdraw(at, self.version),
        };
        Some(Decision { rule: rule.to_owned(), at, effects })
    }

    /// What time alone changes: alerts of rules that are gone or have other labels.
    pub(super) fn decide_leftovers(&self, now: i64) -> Vec<Decision> {
        let decide = |name: &String| self.decide(name, now, &Observation::Failed);
        let decisions = self.rules.keys().filter_map(decide);
        decisions.filter(|decision| !decision.effects.is_silent()).collect()
    }

    /// Decisions as one transaction, with the notifications that they mean. `everybody` is
    /// told where the rule does not say who.
    pub(super) fn transaction(
        &self,
        decisions: &[Decision],
        everybody: &[SlotName],
        now: i64,
    ) -> AlertingChange {
        let mut change = AlertingChange::default();
        for Decision { rule, effects, .. } in decisions {
            change.alerts.extend(effects.store.iter().cloned());
            change.forgotten.extend(&effects.forgotten);
            change.transitions.extend(effects.transitions.iter().cloned());
            let rule = self.rules.get(rule).and_then(|kept| kept.rule.as_deref());
            let none = Labels::default();
            let route = Route {
                notifiers: rule.and_then(|r| r.notify.as_deref()).unwrap_or(everybody),
                group: rule.map_or(&none, |r| &r.labels),
            };
            change.decided.extend(grouping::decide(now, route, &effects.news));
        }
        change
    }

    /// Puts decisions in force: called once they are stored.
    pub(super) fn accept(&mut self, decisions: &[Decision]) {
        for Decision { rule, at, effects } in decisions {
            if let Some(kept) = self.rules.get_mut(rule) {
                kept.alerts.accept(*at, effects);
            }
        }
        self.rules.retain(|_, kept| kept.in_force || !kept.alerts.is_empty());
    }

    /// How many alerts are pending or firing.
    pub(super) fn active(&self) -> usize {
        let alerts = self.rules.values().flat_map(|kept| kept.alerts.iter());
        alerts.filter(|alert| alert.state != AlertState::Resolved).count()
    }
}
