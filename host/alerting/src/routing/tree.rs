//! The tree of routes: which of them take an alert, and in which group it is told there.
//!
//! An alert comes to the first route. There it goes to the first route below that matches; if that
//! one *continues*, also to the next that matches, and so on. Where no route below matches, the
//! route itself takes it. Hence every alert is taken at least once.
//!
//! Without routes each rule is a route: all that one evaluation decides is told at once, to those
//! whom the rule names, and nothing is repeated.
//!
//! A rule that names its notifiers is told to those by the first route that takes its alerts, and
//! by no other.

use super::times::Span;
use crate::matching::{Matchers, label};
use sentinel_model::alert::Alert;
use sentinel_model::ids::SlotName;
use sentinel_model::rule::{GROUP_EACH, Inhibits, Rule};
use sentinel_model::series::Labels;
use std::collections::BTreeMap;

/// When a group is told, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// How long a new group waits for more.
    pub(super) wait: i64,
    /// The least time between two notifications.
    pub(super) interval: i64,
    /// When what fires is told again; 0 is never.
    pub(super) repeat: i64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { wait: 30_000, interval: 300_000, repeat: 4 * 3_600_000 }
    }
}

impl Pace {
    /// Everything at once, nothing again.
    pub(super) const AT_ONCE: Self = Self { wait: 0, interval: 0, repeat: 0 };
}

/// How alerts are grouped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GroupBy {
    /// Each by itself.
    Each,
    /// By the values of these labels, sorted.
    Labels(Vec<String>),
}

impl GroupBy {
    /// As it is written.
    pub(super) fn of(names: &[String]) -> Self {
        if names == [GROUP_EACH] {
            return Self::Each;
        }
        let mut names = names.to_vec();
        names.sort_unstable();
        names.dedup();
        Self::Labels(names)
    }

    /// The labels of an alert's group, and the end of the group's key.
    fn group(&self, alert: &Alert) -> (Labels, String) {
        match self {
            Self::Each => {
                (alert.labels.clone(), format!(" {} {}", alert.fingerprint, alert.labels))
            }
            Self::Labels(names) => {
                let labels: Labels =
                    names.iter().map(|name| (name.as_str(), label(alert, name))).collect();
                let key = format!(" {labels}");
                (labels, key)
            }
        }
    }
}

/// One step of an escalation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Escalation {
    pub(super) after: i64,
    pub(super) notify: Vec<SlotName>,
}

/// One route.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Route {
    pub(super) id: String,
    pub(super) matchers: Matchers,
    pub(super) notify: Option<Vec<SlotName>>,
    pub(super) group_by: GroupBy,
    pub(super) pace: Pace,
    pub(super) mute: Vec<String>,
    pub(super) escalate: Vec<Escalation>,
    pub(super) continues: bool,
    /// Indexes of the routes below it.
    pub(super) below: Vec<usize>,
}

/// Alerts that are not told while others fire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inhibition {
    pub(super) source: Matchers,
    pub(super) target: Matchers,
    pub(super) equal: Vec<String>,
}

impl Inhibition {
    /// The values that source and target must share.
    pub(super) fn key(&self, alert: &Alert) -> Vec<String> {
        self.equal.iter().map(|name| label(alert, name).to_owned()).collect()
    }
}

/// Whom a rule tells and how, and its own labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleFacts {
    /// Notifiers that the rule names.
    pub notify: Option<Vec<SlotName>>,
    /// The labels that all its alerts share.
    pub labels: Labels,
    /// How its alerts are grouped, in place of what the route says.
    pub group_by: Option<Vec<String>>,
    /// Rules whose alerts are not told while one of this fires.
    pub inhibits: Vec<Inhibits>,
}

impl From<&Rule> for RuleFacts {
    fn from(rule: &Rule) -> Self {
        Self {
            notify: rule.notify.clone(),
            labels: rule.own_labels().into_owned(),
            group_by: rule.group_by.clone(),
            inhibits: rule.inhibits.clone(),
        }
    }
}

/// Where an alert is told: a group, and how it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) key: String,
    /// The labels that the group's alerts share.
    pub(super) labels: Labels,
    /// Index of the route; `None` where each rule is one.
    pub(super) route: Option<usize>,
    /// Whom the rule names.
    pub(super) notify: Option<Vec<SlotName>>,
}

/// Checked routes, inhibitions and times. The default has no routes: each rule is one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Routing {
    pub(super) routes: Vec<Route>,
    pub(super) inhibit: Vec<Inhibition>,
    times: BTreeMap<String, Vec<Span>>,
}

impl Routing {
    pub(super) fn new(
        routes: Vec<Route>,
        inhibit: Vec<Inhibition>,
        times: BTreeMap<String, Vec<Span>>,
    ) -> Self {
        Self { routes, inhibit, times }
    }

    /// Whether one of a route's mute times holds.
    pub(super) fn is_mute(&self, route: &Route, now: i64) -> bool {
        route.mute.iter().any(|name| self.is_time(name, now))
    }

    /// Whether a time of the week, by its name, holds.
    pub(super) fn is_time(&self, name: &str, now: i64) -> bool {
        self.times.get(name).into_iter().flatten().any(|span| span.contains(now))
    }

    /// The routes that take an alert, in their order.
    fn takes(&self, at: usize, alert: &Alert, into: &mut Vec<usize>) {
        let before = into.len();
        for &below in &self.routes[at].below {
            let route = &self.routes[below];
            if route.matchers.matches(alert) {
                self.takes(below, alert, into);
                if !route.continues {
                    break;
                }
            }
        }
        if into.len() == before {
            into.push(at);
        }
    }

    /// The groups in which an alert is told.
    pub(super) fn places(&self, alert: &Alert, facts: Option<&RuleFacts>) -> Vec<Place> {
        let named = facts.and_then(|facts| facts.notify.clone());
        let grouped = facts.and_then(|facts| facts.group_by.as_deref()).map(GroupBy::of);
        if self.routes.is_empty() {
            let (labels, end) = match &grouped {
                Some(group_by) => group_by.group(alert),
                None => {
                    let labels = facts.map(|facts| facts.labels.clone()).unwrap_or_default();
                    (labels, String::new())
                }
            };
            let key = format!("rule {}{end}", alert.rule);
            return vec![Place { key, labels, route: None, notify: named }];
        }
        let mut taken = Vec::new();
        self.takes(0, alert, &mut taken);
        if named.is_some() {
            taken.truncate(1);
        }
        let place = |at: usize| {
            let route = &self.routes[at];
            let mut key = format!("route {}", route.id);
            if let Some(named) = &named {
                let names: Vec<&str> = named.iter().map(SlotName::as_str).collect();
                key += &format!(" to {}", names.join(","));
            }
            let (labels, end) = grouped.as_ref().unwrap_or(&route.group_by).group(alert);
            key += &end;
            Place { key, labels, route: Some(at), notify: named.clone() }
        };
        taken.into_iter().map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::{RouteConfig, RoutingConfig};
    use super::*;
    use crate::fixture::alert;
    use serde_json::json;

    fn routing(routes: serde_json::Value) -> Routing {
        let routes: RouteConfig = serde_json::from_value(routes).unwrap();
        let times = BTreeMap::new();
        let config = RoutingConfig { routes: Some(&routes), inhibit: &[], mute_times: &times };
        config.read().unwrap()
    }

    fn tree() -> Routing {
        routing(json!({
            "notify": ["chat"], "group_by": ["agent"],
            "routes": [
                {"match": ["severity=page"], "notify": ["pager"], "continue": true, "routes": [
                    {"match": ["team=db"], "notify": ["dba"]},
                ]},
                {"match": ["team=db"], "notify": ["db-chat"], "group_by": ["..."]},
                {"match": ["team=~.+"], "group_by": []},
            ],
        }))
    }

    #[test]
    fn an_alert_goes_to_the_first_route_that_matches_and_on_where_it_continues() {
        let tree = tree();
        for (labels, expected) in [
            (&[("agent", "a")][..], &[&["chat"][..]][..]),
            (&[("severity", "page")], &[&["pager"]]),
            (&[("severity", "page"), ("team", "db")], &[&["dba"], &["db-chat"]]),
            (&[("severity", "page"), ("team", "web")], &[&["pager"], &["chat"]]),
            (&[("team", "db")], &[&["db-chat"]]),
            (&[("team", "web")], &[&["chat"]]),
        ] {
            let places = tree.places(&alert("r", labels), None);
            let told: Vec<Vec<&str>> = places
                .iter()
                .map(|p| tree.routes[p.route.unwrap()].notify.as_ref().unwrap())
                .map(|notify| notify.iter().map(SlotName::as_str).collect())
                .collect();
            assert_eq!(told, expected, "{labels:?}");
        }
    }

    #[test]
    fn groups_are_told_apart_by_route_and_labels_alone() {
        let tree = tree();
        let key = |labels: &[(&str, &str)]| tree.places(&alert("r", labels), None)[0].key.clone();
        assert_eq!(key(&[("agent", "a"), ("cpu", "0")]), key(&[("agent", "a"), ("cpu", "1")]));
        assert_ne!(key(&[("agent", "a")]), key(&[("agent", "b")]));
        assert_ne!(key(&[("agent", "a")]), key(&[("agent", "a"), ("team", "web")]));
        let each = |cpu| key(&[("team", "db"), ("cpu", cpu)]);
        assert_ne!(each("0"), each("1"));
        let place = &tree.places(&alert("r", &[("cpu", "0")]), None)[0];
        assert_eq!(place.labels, [("agent", "")].into_iter().collect());
    }

    #[test]
    fn a_rule_that_names_its_notifiers_is_told_to_those_alone() {
        let named = vec![SlotName::new("own").unwrap()];
        let facts = RuleFacts { notify: Some(named.clone()), ..RuleFacts::default() };
        let both = alert("r", &[("severity", "page"), ("team", "db")]);
        let places = tree().places(&both, Some(&facts));
        assert_eq!(places.len(), 1);
        assert_eq!(places[0].notify, Some(named.clone()));
        let own = Routing::default().places(&both, Some(&facts));
        assert_eq!((own[0].key.as_str(), own[0].route), ("rule r", None));
        assert_eq!(own[0].notify, Some(named));
    }

    #[test]
    fn a_route_keeps_its_identity_when_others_come_and_go() {
        let id = |tree: &Routing, team: &str| {
            let place = tree.places(&alert("r", &[("team", team)]), None).pop().unwrap();
            place.key
        };
        let before = routing(json!({"routes": [{"match": ["team=a"]}, {"match": ["team=b"]}]}));
        let after = routing(json!({"routes": [
            {"match": ["team=c"]}, {"match": ["team=b"]}, {"match": ["team=a"], "notify": ["x"]},
        ]}));
        for team in ["a", "b"] {
            assert_eq!(id(&before, team), id(&after, team));
        }
        let twice = routing(json!({"routes": [
            {"match": ["team=a"], "continue": true}, {"match": ["team=a"]},
        ]}));
        let places = twice.places(&alert("r", &[("team", "a")]), None);
        assert_ne!(places[0].key, places[1].key);
    }

    #[test]
    fn what_a_route_does_not_say_is_as_above_it() {
        let tree = routing(json!({
            "group_wait": "10s", "repeat_interval": "0", "escalate": [{"after": "5m", "notify": ["boss"]}],
            "routes": [{"match": ["a=b"], "group_interval": "1m", "escalate": []}],
        }));
        let (root, below) = (&tree.routes[0], &tree.routes[1]);
        assert_eq!(root.pace, Pace { wait: 10_000, interval: 300_000, repeat: 0 });
        assert_eq!(below.pace, Pace { wait: 10_000, interval: 60_000, repeat: 0 });
        assert_eq!((root.escalate.len(), below.escalate.len()), (1, 0));
    }
}
