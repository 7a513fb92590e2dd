//! Templates in a rule's words, and how long there is no data before that counts.

use sentinel_alerting::evaluation::{Instance, Observation, RuleAlerts};
use sentinel_model::alert::AlertState;
use sentinel_model::rule::Rule;
use sentinel_model::series::Labels;
use serde_json::{Value, json};

const MINUTE: i64 = 60_000;

fn rule(more: Value) -> Rule {
    let mut rule = json!({"name": "disk", "condition": {}});
    rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(rule).unwrap()
}

fn seen(disks: &[(&str, f64)]) -> Observation {
    let instance = |(disk, value): &(&str, f64)| Instance {
        labels: [("disk", *disk)].into_iter().collect(),
        value: *value,
        summary: String::new(),
    };
    let active = disks.iter().map(instance).collect();
    Observation::Seen { active, series_read: 5, settled: true }
}

fn nothing() -> Observation {
    Observation::Seen { active: Vec::new(), series_read: 0, settled: true }
}

fn step(alerts: &mut RuleAlerts, rule: &Rule, minute: i64, observed: &Observation) {
    let effects = alerts.step(minute * MINUTE, rule, 1, observed);
    alerts.accept(minute * MINUTE, &effects);
}

/// `name state` of what is remembered, resolved ones left out.
fn states(alerts: &RuleAlerts) -> Vec<String> {
    let shown = alerts.iter().filter(|alert| alert.state != AlertState::Resolved);
    let name = |labels: &Labels| labels.get("disk").unwrap_or("no data").to_owned();
    let mut shown: Vec<String> =
        shown.map(|alert| format!("{} {:?}", name(&alert.labels), alert.state)).collect();
    shown.sort();
    shown
}

#[test]
fn labels_and_annotations_are_filled_in_for_each_alert() {
    let rule = rule(json!({
        "labels": {"place": "{{ rule }}:{{ labels.disk }}", "team": "{{ labels.team }}"},
        "annotations": {"summary": "{{ labels.place }} is {{ value | percent }} full", "plain": "x"},
        "severity": "critical", "runbook_url": "https://wiki/{{ labels.severity }}",
    }));
    let mut alerts = RuleAlerts::default();
    for (minute, value) in [(0, 0.91), (1, 0.95)] {
        step(&mut alerts, &rule, minute, &seen(&[("/", value)]));
        let all: Vec<_> = alerts.iter().collect();
        assert_eq!(all.len(), 1, "the value does not tell alerts apart");
        assert_eq!(all[0].labels.get("place"), Some("disk:/"));
        assert_eq!(all[0].labels.get("team"), None, "an empty label is none");
        assert_eq!(all[0].labels.get("severity"), Some("critical"));
        assert_eq!(all[0].annotations.get("runbook_url"), Some("https://wiki/critical"));
        let summary = format!("disk:/ is {}% full", value * 100.0);
        assert_eq!(all[0].annotations.get("summary"), Some(summary.as_str()));
        assert_eq!(all[0].annotations.get("plain"), Some("x"));
    }
    step(&mut alerts, &rule, 2, &seen(&[]));
    assert_eq!(alerts.iter().next().unwrap().state, AlertState::Resolved);
}

#[test]
fn each_policy_waits_its_own_time_before_silence_counts() {
    // After data at minute 0, what is there at each minute of silence.
    for (policy, expected) in [
        ("ok", [vec!["/ Firing"], vec!["/ Firing"], vec![], vec![]]),
        ("keep", [vec!["/ Firing"], vec!["/ Firing"], vec![], vec![]]),
        (
            "alerting",
            [
                vec!["/ Firing", "no data Pending"],
                vec!["/ Firing", "no data Pending"],
                vec!["no data Pending"],
                vec!["no data Firing"],
            ],
        ),
    ] {
        let rule = rule(json!({"no_data": policy, "no_data_for": "3m"}));
        let mut alerts = RuleAlerts::default();
        step(&mut alerts, &rule, 0, &seen(&[("/", 1.0)]));
        for (minute, expected) in (1..).zip(expected) {
            step(&mut alerts, &rule, minute, &nothing());
            assert_eq!(states(&alerts), expected, "{policy} after {minute} minutes");
        }
        step(&mut alerts, &rule, 9, &seen(&[("/", 1.0)]));
        assert_eq!(states(&alerts), ["/ Firing"], "{policy}: data is back");
    }
}

#[test]
fn silence_that_is_waited_for_survives_a_restart() {
    let rule = rule(json!({"no_data": "ok", "no_data_for": "3m"}));
    let mut alerts = RuleAlerts::default();
    step(&mut alerts, &rule, 0, &seen(&[("/", 1.0)]));
    step(&mut alerts, &rule, 2, &nothing());
    let mut alerts = RuleAlerts::restore(alerts.iter().cloned());
    assert_eq!(states(&alerts), ["/ Firing"]);
    step(&mut alerts, &rule, 3, &nothing());
    assert_eq!(states(&alerts), Vec::<String>::new());
}
