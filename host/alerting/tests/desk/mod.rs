//! A router with the alerts and the store that it needs.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use sentinel_alerting::routing::{
    Effects, InhibitConfig, People, RouteConfig, Router, Routing, RoutingConfig, RuleFacts,
    SpanConfig,
};
use sentinel_model::alert::{Alert, AlertState, Delivery, Fingerprint, NotificationStatus};
use sentinel_model::ids::SlotName;
use sentinel_model::series::Labels;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

pub fn slots(names: &[&str]) -> Vec<SlotName> {
    names.iter().map(|name| SlotName::new(name).unwrap()).collect()
}

#[derive(Deserialize)]
struct File {
    routes: Option<RouteConfig>,
    #[serde(default)]
    inhibit: Vec<InhibitConfig>,
    #[serde(default)]
    mute_times: BTreeMap<String, Vec<SpanConfig>>,
}

pub fn routing(file: serde_json::Value) -> Arc<Routing> {
    let file: File = serde_json::from_value(file).unwrap();
    let config = RoutingConfig {
        routes: file.routes.as_ref(),
        inhibit: &file.inhibit,
        mute_times: &file.mute_times,
    };
    Arc::new(config.read().unwrap())
}

pub struct Desk {
    pub router: Router,
    pub alerts: BTreeMap<Fingerprint, Alert>,
    pub stored: BTreeMap<String, String>,
    routing: Arc<Routing>,
    rules: BTreeMap<String, RuleFacts>,
    people: People,
}

impl Desk {
    /// Everybody are `mail` and `pager`.
    pub fn new(file: serde_json::Value) -> Self {
        let mut desk = Self {
            router: Router::default(),
            alerts: BTreeMap::new(),
            stored: BTreeMap::new(),
            routing: routing(file),
            rules: BTreeMap::new(),
            people: People::default(),
        };
        desk.restart(0);
        desk
    }

    pub fn restart(&mut self, now: i64) {
        let (router, errors) = Router::restore(self.stored.clone());
        assert!(errors.is_empty(), "{errors:?}");
        self.router = router;
        self.router.tell_everybody(slots(&["mail", "pager"]));
        self.router.heed(now, self.people.clone());
        self.apply(now);
    }

    fn apply(&mut self, now: i64) {
        let (routing, rules) = (Arc::clone(&self.routing), self.rules.clone());
        self.router.configure(now, routing, rules, self.alerts.values());
    }

    pub fn configure(&mut self, file: serde_json::Value, now: i64) {
        self.routing = routing(file);
        self.apply(now);
    }

    pub fn rule(&mut self, name: &str, notify: Option<&[&str]>) {
        let facts = RuleFacts { notify: notify.map(slots), ..RuleFacts::default() };
        self.rules.insert(name.to_owned(), facts);
        self.apply(0);
    }

    /// A rule with fields of its own.
    pub fn rule_with(&mut self, name: &str, facts: RuleFacts) {
        self.rules.insert(name.to_owned(), facts);
        self.apply(0);
    }

    pub fn people(&mut self, now: i64, people: People) {
        self.people = people.clone();
        self.router.heed(now, people);
    }

    fn fingerprint(rule: &str, labels: &[(&str, &str)]) -> (Fingerprint, Labels) {
        let labels: Labels = labels.iter().copied().collect();
        (Fingerprint::of(rule, &labels), labels)
    }

    pub fn alert(&self, rule: &str, labels: &[(&str, &str)]) -> &Alert {
        &self.alerts[&Self::fingerprint(rule, labels).0]
    }

    /// A new incident of an alert.
    pub fn fire(&mut self, now: i64, rule: &str, labels: &[(&str, &str)]) {
        let (fingerprint, labels) = Self::fingerprint(rule, labels);
        let incident = self.alerts.get(&fingerprint).map_or(0, |alert| alert.incident) + 1;
        let alert = Alert {
            fingerprint,
            rule: rule.into(),
            state: AlertState::Firing,
            labels,
            annotations: Labels::default(),
            summary: String::new(),
            value: 1.0,
            active_since: now,
            fired_at: Some(now),
            last_active: now,
            resolved_at: None,
            incident,
        };
        self.router.observe(now, &alert);
        self.alerts.insert(fingerprint, alert);
    }

    pub fn resolve(&mut self, now: i64, rule: &str, labels: &[(&str, &str)]) {
        self.change(rule, labels, |alert| {
            (alert.state, alert.resolved_at) = (AlertState::Resolved, Some(now));
        });
    }

    pub fn change(&mut self, rule: &str, labels: &[(&str, &str)], change: impl FnOnce(&mut Alert)) {
        let alert = self.alerts.get_mut(&Self::fingerprint(rule, labels).0).unwrap();
        change(alert);
        self.router.observe(0, alert);
    }

    /// What a step decides, without storing it.
    pub fn propose(&mut self, now: i64) -> Effects {
        let alerts = &self.alerts;
        self.router.step(now, &|_, fingerprint| alerts.get(&fingerprint))
    }

    /// A step that is stored.
    pub fn step(&mut self, now: i64) -> Vec<Delivery> {
        let effects = self.propose(now);
        self.stored.extend(effects.groups.iter().cloned());
        for key in &effects.closed {
            self.stored.remove(key);
        }
        let decided = effects.decided.clone();
        self.router.accept(effects);
        decided
    }
}

/// What deliveries tell, sorted: notifier, status, and each alert as `rule{agent}`, with a minus
/// where it is over.
pub fn told(deliveries: &[Delivery]) -> Vec<String> {
    let one = |delivery: &Delivery| {
        let told = &delivery.notification;
        let mut alerts: Vec<String> = told
            .alerts
            .iter()
            .map(|alert| {
                let sign = if alert.state == AlertState::Resolved { "-" } else { "" };
                let agent = alert.labels.get("agent").unwrap_or("");
                format!("{sign}{}{{{agent}}}", alert.rule)
            })
            .collect();
        alerts.sort_by_key(|text| (text.starts_with('-'), text.clone()));
        let status = match told.status {
            NotificationStatus::Firing => "firing",
            NotificationStatus::Resolved => "resolved",
        };
        format!("{} {status} {}", told.notifier, alerts.join(" "))
    };
    let mut all: Vec<String> = deliveries.iter().map(one).collect();
    all.sort();
    all
}
