use super::*;
use crate::fixture::alert;
use crate::routing::{People, RuleFacts};
use sentinel_model::alert::Fingerprint;
use sentinel_model::attention::{Acknowledgement, Silence};
use sentinel_model::rule::Inhibits;
use serde_json::json;
use std::sync::Arc;

/// 1970-01-01 is a Thursday.
const NOON: i64 = 12 * 3_600_000;

fn slots(names: &[&str]) -> Vec<SlotName> {
    names.iter().map(|name| SlotName::new(name).unwrap()).collect()
}

fn routed(routes: serde_json::Value) -> StatedRouting {
    serde_json::from_value(json!({
        "routes": routes,
        "mute_times": {"lunch": [{"weekdays": ["thu"], "times": ["12:00-13:00"]}]},
        "everybody": ["mail"],
    }))
    .unwrap()
}

/// A router over alerts, and what it knows of them.
struct Desk {
    router: Router,
    alerts: Vec<Alert>,
}

impl Desk {
    fn new(now: i64, stated: &StatedRouting, alerts: Vec<Alert>) -> Self {
        let inhibits = vec![Inhibits { rules: vec!["slow".into()], equal: vec!["agent".into()] }];
        let down = RuleFacts { inhibits, ..RuleFacts::default() };
        let rules = [("down".to_owned(), down), ("slow".to_owned(), RuleFacts::default())];
        let mut router = Router::default();
        router.tell_everybody(stated.everybody.clone());
        router.configure(now, Arc::new(stated.read().unwrap()), rules.into(), &alerts);
        Self { router, alerts }
    }

    /// Takes the step that is due, and gives whom it told.
    fn step(&mut self, now: i64) -> Vec<SlotName> {
        let Self { router, alerts } = self;
        let alerts: &[Alert] = alerts;
        let effects = router.step(now, &|_, which| alerts.iter().find(|a| a.fingerprint == which));
        let told = effects.decided.iter().map(|one| one.notification.notifier.clone()).collect();
        router.accept(effects);
        told
    }

    fn way(&self, now: i64, alert: &Alert) -> Way {
        let alerts: &[Alert] = &self.alerts;
        let lookup = |_: &str, which: Fingerprint| alerts.iter().find(|a| a.fingerprint == which);
        let mut ways = self.router.explain(now, alert, &lookup);
        assert_eq!(ways.len(), 1);
        ways.remove(0)
    }
}

#[test]
fn what_is_told_next_is_what_the_router_then_tells() {
    let routes = json!({
        "notify": ["chat"], "group_by": ["agent"], "group_wait": "30s", "repeat_interval": "1h",
        "escalate": [{"after": "15m", "notify": ["boss"]}],
    });
    let slow = alert("slow", &[("agent", "a")]);
    let mut desk = Desk::new(NOON, &routed(routes), vec![slow.clone()]);
    desk.step(NOON);
    let (mut at, mut told) = (NOON, Vec::new());
    for _ in 0..4 {
        let way = desk.way(at, &slow);
        assert_eq!((way.held.as_slice(), way.group.get("agent")), (&[][..], Some("a")));
        assert_eq!(desk.step(way.next.unwrap() - 1), slots(&[]));
        at = way.next.unwrap();
        assert_eq!(desk.step(at), way.next_to);
        told.push(((at - NOON) / 1000, way.next_to[0].to_string()));
    }
    let expected = [(30, "chat"), (930, "boss"), (3_630, "chat"), (7_230, "chat")];
    assert_eq!(told, expected.map(|(at, who)| (at, who.to_owned())));
    let way = desk.way(at, &slow);
    assert_eq!((way.told_at, way.said_at, way.escalated), (Some(NOON + 30_000), Some(at), 1));
}

#[test]
fn whatever_holds_an_alert_is_named_and_then_nothing_is_told_next() {
    let (slow, down) = (alert("slow", &[("agent", "a")]), alert("down", &[("agent", "a")]));
    let silence = Silence {
        id: "sil_1".into(),
        matchers: vec!["agent=a".into()],
        starts_at: 0,
        ends_at: NOON + 60_000,
        author: "ann".into(),
        reason: "disks".into(),
        created_at: 0,
        ended_by: None,
    };
    let acknowledged = Acknowledgement {
        fingerprint: slow.fingerprint,
        incident: slow.incident,
        owner: "bob".into(),
        note: String::new(),
        at: 0,
        until: None,
        before: Vec::new(),
    };
    let stated = routed(json!({"notify": [], "mute": ["lunch"]}));
    let mut desk = Desk::new(NOON, &stated, vec![slow.clone(), down.clone()]);
    desk.router.heed(NOON, People::new(vec![silence], vec![acknowledged]));
    let way = desk.way(NOON + 1, &slow);
    let expected = vec![
        Held::Silenced {
            id: "sil_1".into(),
            until: NOON + 60_000,
            author: "ann".into(),
            reason: "disks".into(),
        },
        Held::Acknowledged { owner: "bob".into(), until: None },
        Held::Inhibited { by: vec![("down".into(), down.labels.clone())] },
        Held::MuteTime { names: vec!["lunch".into()], until: Some(NOON + 3_600_000) },
        Held::Nobody,
    ];
    assert_eq!((way.held, way.next, way.next_to), (expected, None, Vec::new()));

    let pending = Alert { state: AlertState::Pending, fired_at: None, ..down };
    let desk = Desk::new(NOON, &routed(json!({"notify": ["chat"]})), vec![pending.clone()]);
    let way = desk.way(NOON, &pending);
    assert_eq!((way.held, way.notify), (vec![Held::NotFiring], slots(&["chat"])));
}

#[test]
fn without_routes_a_rule_is_told_at_once_to_everybody_and_never_again() {
    let slow = alert("slow", &[("agent", "a")]);
    let stated = StatedRouting { everybody: slots(&["mail"]), ..StatedRouting::default() };
    let mut desk = Desk::new(NOON, &stated, vec![slow.clone()]);
    let way = desk.way(NOON, &slow);
    assert_eq!((way.route, way.next, way.next_to), (None, Some(NOON), slots(&["mail"])));
    assert_eq!(desk.step(NOON), slots(&["mail"]));
    assert_eq!(desk.way(NOON, &slow).next, None);
}
