//! The life cycle against a slow and obvious reference, and against itself restarted.

use proptest::prelude::*;
use sentinel_alerting::evaluation::{Effects, Instance, NO_DATA_LABEL, Observation, RuleAlerts};
use sentinel_model::alert::{Alert, AlertState, Fingerprint, Transition};
use sentinel_model::duration::Millis;
use sentinel_model::rule::{NoData, Rule};
use sentinel_model::series::Labels;
use std::collections::BTreeMap;

const NAMES: [&str; 3] = ["a", "b", "c"];

fn rule(hold: u64, keep: u64, no_data: NoData) -> Rule {
    let mut rule: Rule = serde_json::from_value(serde_json::json!({
        "name": "r", "condition": {}, "labels": {"severity": "page"},
    }))
    .unwrap();
    (rule.hold, rule.keep_firing_for, rule.no_data) = (Millis(hold), Millis(keep), no_data);
    rule
}

fn instance(name: &str, value: f64) -> Instance {
    Instance { labels: [("name", name)].into_iter().collect(), value, summary: name.into() }
}

/// One evaluation: milliseconds since the one before, and which instances hold; `None` where
/// it failed.
type Round = (i64, Option<[bool; 3]>, bool);

fn rounds(max: usize) -> impl Strategy<Value = Vec<Round>> {
    let round = (1i64..40, prop::option::weighted(0.9, any::<[bool; 3]>()), any::<bool>());
    prop::collection::vec(round, 1..max)
}

fn observation(round: &Round) -> Observation {
    let Some(holds) = round.1 else { return Observation::Failed };
    let active: Vec<_> =
        NAMES.iter().zip(holds).filter(|(_, h)| *h).map(|(n, _)| instance(n, 1.0)).collect();
    // Without an instance it is the round's to say whether there is data.
    Observation::Seen {
        series_read: u32::from(!active.is_empty() || round.2),
        active,
        settled: true,
    }
}

/// What is stored, as the store does it.
#[derive(Default)]
struct Stored {
    alerts: BTreeMap<Fingerprint, Alert>,
    history: Vec<Transition>,
}

impl Stored {
    fn save(&mut self, effects: &Effects) {
        for alert in &effects.store {
            self.alerts.insert(alert.fingerprint, alert.clone());
        }
        for fingerprint in &effects.forgotten {
            self.alerts.remove(fingerprint);
        }
        self.history.extend(effects.transitions.iter().cloned());
    }
}

/// What an alert is to people: state, and the times of its last incident.
type Shown = (AlertState, i64, Option<i64>, Option<i64>, u64);

fn shown<'a>(alerts: impl Iterator<Item = &'a Alert>) -> BTreeMap<Fingerprint, Shown> {
    let shown = |a: &Alert| (a.state, a.active_since, a.fired_at, a.resolved_at, a.incident);
    alerts.map(|a| (a.fingerprint, shown(a))).collect()
}

/// Evaluates everything, restarting before the rounds of which `restart` says so.
fn run(rule: &Rule, rounds: &[Round], restart: impl Fn(usize) -> bool) -> (RuleAlerts, Stored) {
    let (mut live, mut stored, mut now) = (RuleAlerts::default(), Stored::default(), 1_000_000);
    for (i, round) in rounds.iter().enumerate() {
        now += round.0;
        if restart(i) {
            live = RuleAlerts::restore(stored.alerts.values().cloned());
        }
        let effects = live.step(now, rule, 1, &observation(round));
        stored.save(&effects);
        live.accept(now, &effects);
    }
    (live, stored)
}

/// What one instance's alert must be after the last of its observations: time, and whether the
/// condition holds. Looks at everything from the beginning, each time.
fn reference(seen: &[(i64, bool)], hold: i64, keep: i64) -> Option<AlertState> {
    let run_start = |end: usize| {
        let mut start = end;
        while start > 0 && seen[start - 1].1 == seen[end].1 {
            start -= 1;
        }
        seen[start].0
    };
    let mut fires = vec![false; seen.len()];
    let mut fired_ever = false;
    for i in 0..seen.len() {
        let ran = seen[i].0 - run_start(i);
        let goes_on = i > 0 && fires[i - 1];
        fires[i] = match seen[i].1 {
            true => goes_on || ran >= hold,
            false => goes_on && ran < keep,
        };
        fired_ever |= fires[i];
    }
    let last = seen.len().checked_sub(1)?;
    match (fires[last], seen[last].1, fired_ever) {
        (true, _, _) => Some(AlertState::Firing),
        (false, true, _) => Some(AlertState::Pending),
        (false, false, true) => Some(AlertState::Resolved),
        (false, false, false) => None,
    }
}

/// What a rule's no-data policy makes of the rounds: per instance, time and whether it holds.
fn reference_rounds(rounds: &[Round], no_data: NoData) -> BTreeMap<String, Vec<(i64, bool)>> {
    let mut out: BTreeMap<String, Vec<(i64, bool)>> = BTreeMap::new();
    let mut now = 1_000_000;
    for round in rounds {
        now += round.0;
        let Some(holds) = round.1 else { continue };
        let silent = holds == [false; 3] && !round.2;
        for (name, holds) in NAMES.iter().zip(holds) {
            let seen = out.entry((*name).to_owned()).or_default();
            let before = seen.last().is_some_and(|l| l.1);
            seen.push((now, holds || silent && no_data == NoData::Keep && before));
        }
        let alarm = silent && no_data == NoData::Alert;
        out.entry(NO_DATA_LABEL.to_owned()).or_default().push((now, alarm));
    }
    out
}

fn fingerprint(rule: &Rule, name: &str) -> Fingerprint {
    let labels: Labels = match name {
        NO_DATA_LABEL => [(NO_DATA_LABEL, "true"), ("severity", "page")].into_iter().collect(),
        name => [("name", name), ("severity", "page")].into_iter().collect(),
    };
    Fingerprint::of(&rule.name, &labels)
}

fn policies() -> impl Strategy<Value = NoData> {
    prop_oneof![Just(NoData::Ok), Just(NoData::Alert), Just(NoData::Keep)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn alerts_are_what_the_reference_says(
        rounds in rounds(40), hold in 0u64..100, keep in 0u64..100, no_data in policies(),
    ) {
        let rule = rule(hold, keep, no_data);
        for end in 1..=rounds.len() {
            let (live, stored) = run(&rule, &rounds[..end], |_| false);
            let states: BTreeMap<_, _> = live.iter().map(|a| (a.fingerprint, a.state)).collect();
            let mut expected = BTreeMap::new();
            for (name, seen) in reference_rounds(&rounds[..end], no_data) {
                if let Some(state) = reference(&seen, hold as i64, keep as i64) {
                    expected.insert(fingerprint(&rule, &name), state);
                }
            }
            prop_assert_eq!(&states, &expected);
            prop_assert_eq!(shown(live.iter()), shown(stored.alerts.values()));
        }
    }

    #[test]
    fn a_restart_anywhere_changes_nothing(
        rounds in rounds(40), hold in 0u64..100, keep in 0u64..100, no_data in policies(),
        restarts in prop::collection::vec(any::<bool>(), 40),
    ) {
        let rule = rule(hold, keep, no_data);
        let (whole, kept) = run(&rule, &rounds, |_| false);
        let (restarted, stored) = run(&rule, &rounds, |i| restarts[i]);
        prop_assert_eq!(shown(whole.iter()), shown(restarted.iter()));
        prop_assert_eq!(kept.history, stored.history);
    }

    #[test]
    fn whatever_the_clock_does_each_incident_is_told_once_from_firing_to_resolved(
        rounds in rounds(60), hold in 0u64..100, keep in 0u64..100,
        jumps in prop::collection::vec(-200i64..200, 60),
    ) {
        let rule = rule(hold, keep, NoData::Ok);
        let (mut live, mut now) = (RuleAlerts::default(), 1_000_000);
        let mut told: BTreeMap<(Fingerprint, u64), Vec<AlertState>> = BTreeMap::new();
        for (round, jump) in rounds.iter().zip(&jumps) {
            now += round.0 + jump;
            let effects = live.step(now, &rule, 1, &observation(round));
            for alert in &effects.news {
                told.entry((alert.fingerprint, alert.incident)).or_default().push(alert.state);
                prop_assert!(alert.resolved_at.is_none_or(|end| Some(end) >= alert.fired_at));
            }
            live.accept(now, &effects);
            let pending = live.iter().filter(|a| a.state == AlertState::Pending);
            for alert in pending.filter(|_| round.1.is_some()) {
                prop_assert!(alert.active_since <= now, "no timer begins in the future");
            }
        }
        for states in told.values() {
            let whole = [AlertState::Firing, AlertState::Resolved];
            prop_assert!(states[..] == whole[..states.len()], "{:?}", states);
        }
    }

    #[test]
    fn what_was_not_accepted_is_decided_again(
        rounds in rounds(30), hold in 0u64..100, keep in 0u64..100,
        fails in prop::collection::vec(any::<bool>(), 30),
    ) {
        // The store refuses some writes: the evaluation is repeated at the same time.
        let rule = rule(hold, keep, NoData::Ok);
        let (mut live, mut stored, mut now) = (RuleAlerts::default(), Stored::default(), 1_000_000);
        for (i, round) in rounds.iter().enumerate() {
            now += round.0;
            if fails[i] {
                let lost = live.step(now, &rule, 1, &observation(round));
                prop_assert_eq!(&lost, &live.step(now, &rule, 1, &observation(round)));
            }
            let effects = live.step(now, &rule, 1, &observation(round));
            stored.save(&effects);
            live.accept(now, &effects);
        }
        let (whole, kept) = run(&rule, &rounds, |_| false);
        prop_assert_eq!(shown(live.iter()), shown(whole.iter()));
        prop_assert_eq!(stored.history, kept.history);
    }
}

fn seen(names: &[&str]) -> Observation {
    let active = names.iter().map(|n| instance(n, 1.0)).collect();
    Observation::Seen { active, series_read: 3, settled: true }
}

fn fired(rule: &Rule, names: &[&str]) -> RuleAlerts {
    let mut alerts = RuleAlerts::default();
    let effects = alerts.step(0, rule, 1, &seen(names));
    alerts.accept(0, &effects);
    alerts
}

#[test]
fn a_failed_evaluation_changes_nothing_and_ends_no_timer() {
    let rule = rule(0, 0, NoData::Ok);
    let alerts = fired(&rule, &["a"]);
    assert_eq!(alerts.step(9_000_000, &rule, 1, &Observation::Failed), Effects::default());
}

#[test]
fn alerts_of_a_rule_that_is_gone_resolve_and_are_told() {
    let mut alerts = fired(&rule(0, 1_000_000, NoData::Ok), &["a", "b"]);
    let effects = alerts.withdraw(5, 2);
    assert_eq!(effects.news.len(), 2);
    assert!(effects.news.iter().all(|a| a.state == AlertState::Resolved));
    alerts.accept(5, &effects);
    assert!(alerts.withdraw(6, 2).is_silent(), "once");
    let later = 5 + sentinel_alerting::lifecycle::RESOLVED_KEPT_MS;
    let effects = alerts.withdraw(later, 2);
    alerts.accept(later, &effects);
    assert!(alerts.is_empty() && effects.transitions.is_empty());
}

#[test]
fn alerts_under_other_labels_than_the_rules_resolve_even_while_it_cannot_be_evaluated() {
    let mut changed = rule(0, 1_000_000, NoData::Keep);
    let alerts = fired(&changed, &["a"]);
    changed.labels.set("severity", "ticket");
    let silent = Observation::Seen { active: Vec::new(), series_read: 0, settled: true };
    for observation in [Observation::Failed, silent] {
        let effects = alerts.step(5, &changed, 2, &observation);
        assert_eq!(effects.news.len(), 1);
        assert_eq!(effects.news[0].state, AlertState::Resolved);
    }
    let effects = alerts.step(5, &changed, 2, &seen(&["a"]));
    assert_eq!(effects.news.len(), 2, "the old one is over, a new one fires");
}

#[test]
fn alerts_of_a_rule_with_another_condition_wait_for_its_evaluation() {
    let mut changed = rule(0, 0, NoData::Ok);
    let alerts = fired(&changed, &["a", "b"]);
    changed.condition = serde_json::json!({"other": 1});
    changed.annotations.set("summary", "new words");
    let effects = alerts.step(5, &changed, 2, &seen(&["a"]));
    let told: Vec<_> = effects.news.iter().map(|a| (a.labels.get("name"), a.state)).collect();
    assert_eq!(told, [(Some("b"), AlertState::Resolved)]);
    assert_eq!(effects.refreshed[0].annotations.get("summary"), Some("new words"));
}

#[test]
fn instances_that_the_rules_labels_make_alike_are_one_alert_and_counted() {
    let mut same = rule(0, 0, NoData::Ok);
    same.labels.set("name", "all");
    let effects = RuleAlerts::default().step(0, &same, 1, &seen(&["a", "b", "c"]));
    assert_eq!((effects.news.len(), effects.ignored), (1, 2));
    assert_eq!(effects.news[0].summary, "a");
}

#[test]
fn until_all_samples_are_there_alerts_begin_and_do_not_end() {
    let unsettled = |names: &[&str], series_read| {
        let active = names.iter().map(|n| instance(n, 1.0)).collect();
        Observation::Seen { active, series_read, settled: false }
    };
    for no_data in [NoData::Ok, NoData::Alert, NoData::Keep] {
        let rule = rule(0, 0, no_data);
        let alerts = fired(&rule, &["a"]);
        assert!(alerts.step(5, &rule, 1, &unsettled(&[], 0)).is_silent(), "no data");
        assert!(alerts.step(5, &rule, 1, &unsettled(&["c"], 0)).is_silent(), "absent");
        let effects = alerts.step(5, &rule, 1, &unsettled(&["b"], 2));
        let told: Vec<_> = effects.news.iter().map(|a| (a.labels.get("name"), a.state)).collect();
        assert_eq!(told, [(Some("b"), AlertState::Firing)]);
    }
}

#[test]
fn values_alone_are_stored_now_and_then() {
    let rule = rule(0, 0, NoData::Ok);
    let mut alerts = fired(&rule, &["a"]);
    let mut stored_at = Vec::new();
    for now in (15_000..=135_000).step_by(15_000) {
        let effects = alerts.step(now, &rule, 1, &seen(&["a"]));
        assert!(effects.transitions.is_empty());
        if !effects.is_silent() {
            stored_at.push(now);
        }
        alerts.accept(now, &effects);
    }
    assert_eq!(stored_at, [60_000, 120_000]);
    assert_eq!(alerts.iter().next().unwrap().last_active, 135_000);
}
