//! Routing as operators meet it: what is told to whom, when, and after a restart.

mod desk;

use desk::{Desk, told};
use sentinel_alerting::routing::{People, RuleFacts};
use sentinel_model::alert::{Alert, AlertState};
use sentinel_model::attention::{Acknowledgement, Silence};
use sentinel_model::rule::Rule;
use serde_json::json;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;

fn silence(matcher: &str, from: i64, to: i64) -> Silence {
    Silence {
        id: "sil_1".into(),
        matchers: vec![matcher.into()],
        starts_at: from,
        ends_at: to,
        author: "ann".into(),
        reason: "work".into(),
        created_at: from,
        ended_by: None,
    }
}

fn acknowledged(alert: &Alert, until: Option<i64>) -> Acknowledgement {
    Acknowledgement {
        fingerprint: alert.fingerprint,
        incident: alert.incident,
        owner: "ann".into(),
        note: String::new(),
        at: 0,
        until,
        before: Vec::new(),
    }
}

fn page() -> serde_json::Value {
    json!({"routes": {
        "notify": ["pager"], "group_by": ["agent"],
        "group_wait": "30s", "group_interval": "5m", "repeat_interval": "4h",
    }})
}

#[test]
fn without_routes_each_rule_tells_at_once_whom_it_names() {
    let mut desk = Desk::new(json!({}));
    desk.rule("cpu", Some(&["chat"]));
    desk.fire(0, "cpu", &[("agent", "a")]);
    desk.fire(0, "disk", &[("agent", "a")]);
    assert_eq!(
        told(&desk.step(0)),
        ["chat firing cpu{a}", "mail firing disk{a}", "pager firing disk{a}"]
    );
    desk.resolve(SECOND, "cpu", &[("agent", "a")]);
    assert_eq!(told(&desk.step(SECOND)), ["chat resolved -cpu{a}"]);
    assert_eq!(desk.router.next(), None, "nothing is repeated");
    assert_eq!(desk.router.len(), 1);
}

#[test]
fn a_group_waits_for_more_and_then_keeps_its_interval() {
    let mut desk = Desk::new(page());
    desk.fire(0, "cpu", &[("agent", "a")]);
    assert!(desk.step(0).is_empty());
    desk.fire(20 * SECOND, "disk", &[("agent", "a")]);
    desk.fire(20 * SECOND, "disk", &[("agent", "b")]);
    assert_eq!(desk.router.next(), Some(30 * SECOND));
    assert_eq!(told(&desk.step(30 * SECOND)), ["pager firing cpu{a} disk{a}"]);
    assert_eq!(told(&desk.step(50 * SECOND)), ["pager firing disk{b}"]);
    desk.resolve(60 * SECOND, "cpu", &[("agent", "a")]);
    desk.fire(61 * SECOND, "load", &[("agent", "a")]);
    assert!(desk.step(61 * SECOND).is_empty());
    assert_eq!(told(&desk.step(30 * SECOND + 5 * MINUTE)), ["pager firing load{a} -cpu{a}"]);
}

#[test]
fn what_ends_before_it_was_told_is_never_told() {
    let mut desk = Desk::new(page());
    desk.fire(0, "cpu", &[("agent", "a")]);
    desk.step(0);
    desk.resolve(10 * SECOND, "cpu", &[("agent", "a")]);
    assert!(desk.step(10 * SECOND).is_empty());
    assert!(desk.step(MINUTE).is_empty());
    assert!(desk.router.is_empty() && desk.stored.is_empty());
}

#[test]
fn what_still_fires_is_told_again_under_another_id() {
    let mut desk = Desk::new(page());
    desk.fire(0, "cpu", &[("agent", "a")]);
    let first = desk.step(30 * SECOND);
    let second = desk.step(30 * SECOND + 240 * MINUTE);
    assert_eq!(told(&second), ["pager firing cpu{a}"]);
    assert_ne!(first[0].notification.id, second[0].notification.id);
    assert_eq!(desk.router.next(), Some(30 * SECOND + 480 * MINUTE));
}

#[test]
fn a_silence_holds_alerts_back_until_it_ends() {
    let mut desk = Desk::new(page());
    desk.people(0, People::new(vec![silence("agent=a", 0, 10 * MINUTE)], Vec::new()));
    desk.fire(0, "cpu", &[("agent", "a")]);
    desk.fire(0, "cpu", &[("agent", "b")]);
    assert_eq!(told(&desk.step(MINUTE)), ["pager firing cpu{b}"]);
    assert_eq!(desk.router.next(), Some(10 * MINUTE));
    assert_eq!(told(&desk.step(10 * MINUTE)), ["pager firing cpu{a}"]);
    // What was told is told as over, silenced or not: otherwise it would stay open for ever.
    desk.people(11 * MINUTE, People::new(vec![silence("agent=a", 0, 99 * MINUTE)], Vec::new()));
    desk.resolve(12 * MINUTE, "cpu", &[("agent", "a")]);
    assert_eq!(told(&desk.step(20 * MINUTE)), ["pager resolved -cpu{a}"]);
}

#[test]
fn a_silence_that_is_taken_back_lets_go_at_once() {
    let mut desk = Desk::new(page());
    desk.people(0, People::new(vec![silence("agent=a", 0, 99 * MINUTE)], Vec::new()));
    desk.fire(0, "cpu", &[("agent", "a")]);
    assert!(desk.step(MINUTE).is_empty());
    desk.people(2 * MINUTE, People::default());
    assert!(desk.router.is_due(2 * MINUTE));
    assert_eq!(told(&desk.step(2 * MINUTE)), ["pager firing cpu{a}"]);
}

#[test]
fn an_inhibited_alert_is_told_once_nothing_inhibits_it() {
    let mut desk = Desk::new(json!({
        "routes": {"notify": ["pager"], "group_wait": "0", "group_interval": "0", "group_by": ["..."]},
        "inhibit": [{"source": ["rule=down"], "target": ["rule=~cpu|down"], "equal": ["agent"]}],
    }));
    desk.fire(0, "cpu", &[("agent", "a")]);
    desk.fire(0, "cpu", &[("agent", "b")]);
    desk.fire(0, "down", &[("agent", "a")]);
    assert_eq!(told(&desk.step(0)), ["pager firing cpu{b}", "pager firing down{a}"]);
    desk.resolve(MINUTE, "down", &[("agent", "a")]);
    assert_eq!(told(&desk.step(MINUTE)), ["pager firing cpu{a}", "pager resolved -down{a}"]);
}

fn facts(rule: serde_json::Value) -> RuleFacts {
    RuleFacts::from(&serde_json::from_value::<Rule>(rule).unwrap())
}

#[test]
fn a_rule_says_how_its_alerts_are_grouped_with_routes_and_without() {
    for routes in [json!({}), page()] {
        let has_routes = routes != json!({});
        let mut desk = Desk::new(routes);
        desk.rule_with(
            "disk",
            facts(json!({"name": "disk", "condition": {}, "group_by": ["zone"]})),
        );
        desk.rule_with("cpu", facts(json!({"name": "cpu", "condition": {}, "group_by": ["..."]})));
        for (agent, zone) in [("a", "east"), ("b", "east"), ("c", "west")] {
            desk.fire(0, "disk", &[("agent", agent), ("zone", zone)]);
            desk.fire(0, "cpu", &[("agent", agent), ("zone", zone)]);
        }
        let mut expected = vec![
            "pager firing cpu{a}",
            "pager firing cpu{b}",
            "pager firing cpu{c}",
            "pager firing disk{a} disk{b}",
            "pager firing disk{c}",
        ];
        desk.restart(0);
        let told = told(&desk.step(if has_routes { 30 * SECOND } else { 0 }));
        let pager: Vec<&str> =
            told.iter().map(String::as_str).filter(|one| one.starts_with("pager")).collect();
        expected.sort_unstable();
        assert_eq!(pager, expected, "routes: {has_routes}");
    }
}

#[test]
fn what_a_rule_inhibits_is_told_once_it_is_over() {
    let mut desk = Desk::new(page());
    let inhibits = json!([{"rules": ["slow"], "equal": ["agent"]}]);
    desk.rule_with("down", facts(json!({"name": "down", "condition": {}, "inhibits": inhibits})));
    desk.fire(0, "down", &[("agent", "a")]);
    desk.fire(0, "slow", &[("agent", "a")]);
    desk.fire(0, "slow", &[("agent", "b")]);
    assert_eq!(told(&desk.step(30 * SECOND)), ["pager firing down{a}", "pager firing slow{b}"]);
    desk.restart(MINUTE);
    assert_eq!(told(&desk.step(MINUTE)), [""; 0], "nor after a restart");
    desk.resolve(6 * MINUTE, "down", &[("agent", "a")]);
    assert_eq!(told(&desk.step(6 * MINUTE)), ["pager firing slow{a} -down{a}"]);
}

#[test]
fn at_mute_times_nobody_is_told_and_afterwards_everything() {
    let mut desk = Desk::new(json!({
        "routes": {"notify": ["pager"], "group_wait": "0", "mute": ["nights"]},
        "mute_times": {"nights": [{"times": ["00:00-06:00"]}]},
    }));
    // 1970-01-01 00:00 UTC.
    desk.fire(SECOND, "cpu", &[("agent", "a")]);
    assert!(desk.step(SECOND).is_empty());
    assert_eq!(desk.router.next(), Some(MINUTE));
    assert!(desk.step(359 * MINUTE).is_empty());
    assert_eq!(told(&desk.step(360 * MINUTE)), ["pager firing cpu{a}"]);
}

#[test]
fn what_nobody_acknowledges_is_escalated_step_by_step() {
    let mut desk = Desk::new(json!({"routes": {
        "notify": ["pager"], "group_wait": "0", "group_interval": "0", "repeat_interval": "0",
        "escalate": [{"after": "15m", "notify": ["boss"]}, {"after": "1h", "notify": ["mail", "boss"]}],
    }}));
    desk.fire(0, "cpu", &[("agent", "a")]);
    desk.fire(0, "disk", &[("agent", "a")]);
    desk.step(0);
    assert_eq!(desk.router.next(), Some(15 * MINUTE));
    desk.people(
        MINUTE,
        People::new(Vec::new(), vec![acknowledged(desk.alert("disk", &[("agent", "a")]), None)]),
    );
    assert_eq!(told(&desk.step(15 * MINUTE)), ["boss firing cpu{a}"]);
    assert!(desk.step(16 * MINUTE).is_empty());
    assert_eq!(told(&desk.step(60 * MINUTE)), ["boss firing cpu{a}", "mail firing cpu{a}"]);
    assert_eq!(desk.router.next(), None);
    desk.resolve(61 * MINUTE, "cpu", &[("agent", "a")]);
    desk.resolve(61 * MINUTE, "disk", &[("agent", "a")]);
    let over = desk.step(61 * MINUTE);
    let expected =
        ["boss resolved -cpu{a}", "mail resolved -cpu{a}", "pager resolved -cpu{a} -disk{a}"];
    assert_eq!(told(&over), expected);
}

#[test]
fn a_lapsed_acknowledgement_lets_the_escalation_go_on() {
    let mut desk = Desk::new(json!({"routes": {
        "notify": ["pager"], "group_wait": "0", "escalate": [{"after": "15m", "notify": ["boss"]}],
    }}));
    desk.fire(0, "cpu", &[("agent", "a")]);
    desk.step(0);
    let until = Some(30 * MINUTE);
    let owned = acknowledged(desk.alert("cpu", &[("agent", "a")]), until);
    desk.people(MINUTE, People::new(Vec::new(), vec![owned]));
    assert!(desk.step(15 * MINUTE).is_empty());
    assert_eq!(desk.router.next(), until);
    assert_eq!(told(&desk.step(30 * MINUTE)), ["boss firing cpu{a}"]);
}

#[test]
fn a_step_that_was_not_stored_is_given_again_under_the_same_ids() {
    let mut desk = Desk::new(page());
    desk.fire(0, "cpu", &[("agent", "a")]);
    desk.step(0);
    let lost = desk.propose(30 * SECOND);
    let again = desk.step(31 * SECOND);
    assert_eq!(told(&again), ["pager firing cpu{a}"]);
    assert_eq!(lost.decided[0].notification.id, again[0].notification.id);
    assert!(desk.step(32 * SECOND).is_empty());
}

#[test]
fn an_alert_whose_firing_could_not_be_stored_is_taken_back() {
    let mut desk = Desk::new(json!({"routes": {"notify": ["pager"], "group_wait": "0"}}));
    desk.fire(0, "cpu", &[("agent", "a")]);
    let fingerprint = desk.alert("cpu", &[("agent", "a")]).fingerprint;
    desk.propose(0);
    desk.alerts.remove(&fingerprint);
    desk.router.forget(fingerprint);
    assert!(desk.step(SECOND).is_empty());
    assert!(desk.router.is_empty() && desk.stored.is_empty());
}

#[test]
fn groups_survive_a_restart_and_another_tree() {
    let mut desk = Desk::new(page());
    desk.fire(0, "cpu", &[("agent", "a")]);
    desk.step(30 * SECOND);
    desk.restart(MINUTE);
    assert!(desk.step(MINUTE).is_empty(), "it was told");
    // The route is another one now, which tells the alert as its own; the old one's end is told
    // to those whom it told.
    desk.configure(json!({"routes": {
        "notify": ["mail"], "routes": [{"match": ["rule=cpu"], "notify": ["chat"], "group_wait": "0"}],
    }}), 2 * MINUTE);
    assert_eq!(told(&desk.step(2 * MINUTE)), ["chat firing cpu{a}"]);
    desk.restart(3 * MINUTE);
    assert!(desk.step(3 * MINUTE).is_empty());
    desk.resolve(40 * MINUTE, "cpu", &[("agent", "a")]);
    assert_eq!(told(&desk.step(40 * MINUTE)), ["chat resolved -cpu{a}", "pager resolved -cpu{a}"]);
    assert!(desk.router.is_empty() && desk.stored.is_empty());
}

#[test]
fn a_new_incident_before_the_old_one_s_end_was_told_is_news() {
    let mut desk = Desk::new(page());
    desk.fire(0, "cpu", &[("agent", "a")]);
    desk.step(30 * SECOND);
    desk.resolve(MINUTE, "cpu", &[("agent", "a")]);
    desk.step(MINUTE);
    desk.fire(2 * MINUTE, "cpu", &[("agent", "a")]);
    desk.step(2 * MINUTE);
    let news = desk.step(6 * MINUTE);
    assert_eq!(told(&news), ["pager firing cpu{a}"]);
    assert_eq!(news[0].notification.alerts[0].incident, 2);
}

#[test]
fn the_end_is_told_though_it_is_pending_again() {
    let mut desk = Desk::new(page());
    desk.fire(0, "cpu", &[("agent", "a")]);
    desk.step(30 * SECOND);
    desk.resolve(MINUTE, "cpu", &[("agent", "a")]);
    desk.change("cpu", &[("agent", "a")], |alert| alert.state = AlertState::Pending);
    desk.step(MINUTE);
    let over = desk.step(6 * MINUTE);
    assert_eq!(told(&over), ["pager resolved -cpu{a}"]);
    assert_eq!(over[0].notification.alerts[0].state, AlertState::Resolved);
}

#[test]
fn where_nobody_is_there_to_be_told_it_waits_for_somebody() {
    let mut desk = Desk::new(json!({}));
    desk.router.tell_everybody(Vec::new());
    desk.fire(0, "cpu", &[("agent", "a")]);
    assert!(desk.step(0).is_empty());
    desk.router.tell_everybody(desk::slots(&["chat"]));
    assert_eq!(told(&desk.step(MINUTE)), ["chat firing cpu{a}"]);
}

#[test]
fn a_group_that_cannot_be_read_is_named() {
    use sentinel_alerting::routing::Router;
    let (router, errors) = Router::restore([("g".to_owned(), "{".to_owned())]);
    assert!(router.is_empty());
    assert!(errors[0].to_string().contains("\"g\""), "{}", errors[0]);
}
