use super::T0;
use sentinel_model::alert::{
    Alert, AlertState, Delivery, DeliveryState, Fingerprint, Notification, NotificationStatus,
    Transition,
};
use sentinel_model::ids::SlotName;
use sentinel_model::rule::RuleSet;
use sentinel_model::series::Labels;
use sentinel_store::alerting::{AlertingChange, NotificationFilter, SlotWrite, StoredGroup};
use sentinel_store::rules::RuleVersion;
use sentinel_store::{Store, StoreError};
use serde_json::json;

fn alert(rule: &str, state: AlertState, value: f64) -> Alert {
    let labels: Labels = [("agent", "a")].into_iter().collect();
    Alert {
        fingerprint: Fingerprint::of(rule, &labels),
        rule: rule.into(),
        state,
        labels,
        annotations: Labels::default(),
        summary: "s".into(),
        value,
        active_since: T0,
        fired_at: None,
        last_active: T0,
        resolved_at: (state == AlertState::Resolved).then_some(T0 + 5),
        incident: 1,
    }
}

fn delivery(id: &str, state: DeliveryState) -> Delivery {
    Delivery {
        notification: Notification {
            id: id.into(),
            notifier: SlotName::new("hook").unwrap(),
            time: T0,
            status: NotificationStatus::Firing,
            group: Labels::default(),
            alerts: vec![
                alert("r", AlertState::Firing, 1.0),
                alert("s", AlertState::Firing, f64::INFINITY),
            ],
        },
        state,
        attempts: 0,
        may_be_repeat: false,
        next_attempt: T0,
        message: String::new(),
        opened_at: T0,
    }
}

pub(crate) async fn rules_follow_each_other(store: &dyn Store) {
    assert_eq!(store.rules().await.unwrap(), RuleSet::default());
    let rule = serde_json::from_str(r#"{"name": "r", "condition": {"above": 0.95}}"#).unwrap();
    let first = RuleSet { version: 1, applied_at: T0, rules: vec![rule] };
    store.save_rules(&first).await.unwrap();
    assert!(matches!(store.save_rules(&first).await, Err(StoreError::Conflict(_))));
    let skipping = RuleSet { version: 3, ..first.clone() };
    assert!(matches!(store.save_rules(&skipping).await, Err(StoreError::Conflict(_))));
    assert_eq!(store.rules().await.unwrap(), first);
    let second = RuleSet { version: 2, ..first };
    store.save_rules(&second).await.unwrap();
    assert_eq!(store.rules().await.unwrap(), second);
}

pub(crate) async fn the_last_hundred_versions_of_the_rules_are_kept(store: &dyn Store) {
    assert_eq!(store.rule_versions(9).await.unwrap(), []);
    assert_eq!(store.rules_of(0).await.unwrap(), None);
    // A text with every character that engines write in their own way.
    let rule = |name: u64| {
        let condition = json!({"above": name, "text": "a\u{0}\u{e000}\"[,]"});
        serde_json::from_value(json!({"name": format!("r{name}"), "condition": condition})).unwrap()
    };
    let set = |version: u64| RuleSet {
        version,
        applied_at: T0 + version as i64,
        rules: (0..version % 3).map(rule).collect(),
    };
    for version in 1..=102 {
        store.save_rules(&set(version)).await.unwrap();
    }
    let of =
        |version: u64| RuleVersion { version, applied_at: T0 + version as i64, rules: version % 3 };
    assert_eq!(store.rule_versions(2).await.unwrap(), [of(102), of(101)]);
    let kept: Vec<_> = (3..=102).rev().map(of).collect();
    assert_eq!(store.rule_versions(1_000).await.unwrap(), kept);
    for version in [3, 50, 102] {
        assert_eq!(store.rules_of(version).await.unwrap(), Some(set(version)), "{version}");
    }
    for version in [0, 2, 103, u64::MAX] {
        assert_eq!(store.rules_of(version).await.unwrap(), None, "{version}");
    }
}

pub(crate) async fn alerts_and_history_come_back_bit_by_bit(store: &dyn Store) {
    let transition = |at| Transition {
        fingerprint: Fingerprint(u64::MAX),
        rule: "r".into(),
        incident: 1,
        from: None,
        to: Some(AlertState::Pending),
        at,
        value: 0.1 + 0.2,
        rules_version: 3,
    };
    let alerts = vec![
        alert("firing", AlertState::Firing, 0.1 + 0.2),
        alert("resolved", AlertState::Resolved, f64::NEG_INFINITY),
    ];
    let change = AlertingChange {
        alerts: alerts.clone(),
        transitions: vec![transition(1), transition(2)],
        ..AlertingChange::default()
    };
    store.save_alerting(change).await.unwrap();
    let mut found = store.alerts(T0).await.unwrap();
    found.sort_by(|a, b| a.rule.cmp(&b.rule));
    assert_eq!(found, alerts);
    assert_eq!(store.alerts(T0 + 5).await.unwrap(), [alerts[0].clone()]);
    assert_eq!(store.history(9).await.unwrap(), [transition(2), transition(1)]);
    assert_eq!(store.history(1).await.unwrap(), [transition(2)]);
    let nan = alert("firing", AlertState::Pending, f64::NAN);
    let change = AlertingChange {
        alerts: vec![nan],
        forgotten: vec![alerts[1].fingerprint],
        ..AlertingChange::default()
    };
    store.save_alerting(change).await.unwrap();
    let found = store.alerts(0).await.unwrap();
    assert_eq!((found.len(), found[0].state), (1, AlertState::Pending));
    assert!(found[0].value.is_nan());
}

pub(crate) async fn a_notification_is_decided_once(store: &dyn Store) {
    let decide = |deliveries: Vec<Delivery>| AlertingChange {
        decided: deliveries,
        ..AlertingChange::default()
    };
    let (first, second) =
        (delivery("n1", DeliveryState::Pending), delivery("n2", DeliveryState::Pending));
    store.save_alerting(decide(vec![first.clone(), second.clone()])).await.unwrap();
    let mut other = first.clone();
    other.message = "again".into();
    store.save_alerting(decide(vec![other])).await.unwrap();
    let all = store.notifications(NotificationFilter::All, 9).await.unwrap();
    assert_eq!(all, [second.clone(), first.clone()]);
    let mut sent = first.clone();
    sent.state = DeliveryState::Delivered;
    sent.attempts = 2;
    sent.may_be_repeat = true;
    sent.message = "200".into();
    let change = AlertingChange { delivered: vec![sent.clone()], ..AlertingChange::default() };
    store.save_alerting(change).await.unwrap();
    let open = store.notifications(NotificationFilter::Open, 9).await.unwrap();
    assert_eq!(open, [second]);
    let delivered = NotificationFilter::State(DeliveryState::Delivered);
    assert_eq!(store.notifications(delivered, 9).await.unwrap(), [sent]);
}

pub(crate) async fn each_notifier_s_open_notifications_are_read_by_themselves(store: &dyn Store) {
    let of = |id: &str, notifier: &str, state| {
        let mut one = delivery(id, state);
        one.notification.notifier = SlotName::new(notifier).unwrap();
        one
    };
    let decided = vec![
        of("p1", "pager", DeliveryState::Pending),
        of("c1", "chat", DeliveryState::Sending),
        of("p2", "pager", DeliveryState::Sending),
        of("p3", "pager", DeliveryState::Pending),
        of("m1", "mail", DeliveryState::Dead),
    ];
    let change = AlertingChange { decided, ..AlertingChange::default() };
    store.save_alerting(change).await.unwrap();
    let mut notifiers = store.open_notifiers().await.unwrap();
    notifiers.sort();
    assert_eq!(notifiers.iter().map(SlotName::as_str).collect::<Vec<_>>(), ["chat", "pager"]);
    let open = async |slot: &str, limit| {
        let filter = NotificationFilter::OpenOf(SlotName::new(slot).unwrap());
        let found = store.notifications(filter, limit).await.unwrap();
        found.into_iter().map(|d| d.notification.id).collect::<Vec<_>>()
    };
    assert_eq!(open("pager", 9).await, ["p1", "p2", "p3"]);
    assert_eq!(open("pager", 2).await, ["p1", "p2"]);
    assert_eq!(open("chat", 1).await, ["c1"]);
    assert!(open("mail", 9).await.is_empty());
    let dead = of("p1", "pager", DeliveryState::Dead);
    let change = AlertingChange { delivered: vec![dead], ..AlertingChange::default() };
    store.save_alerting(change).await.unwrap();
    assert_eq!(open("pager", 9).await, ["p2", "p3"]);
}

pub(crate) async fn groups_are_replaced_and_closed(store: &dyn Store) {
    let group = |key: &str, body: &str| StoredGroup { key: key.into(), body: body.into() };
    let groups = vec![group("b", "1"), group("a", "2"), group("c", "3")];
    let change = AlertingChange { groups, ..AlertingChange::default() };
    assert!(!change.is_empty() && AlertingChange::default().is_empty());
    store.save_alerting(change).await.unwrap();
    let change = AlertingChange {
        groups: vec![group("b", "4")],
        closed: vec!["c".into(), "unknown".into()],
        ..AlertingChange::default()
    };
    store.save_alerting(change).await.unwrap();
    assert_eq!(store.alert_groups().await.unwrap(), [group("a", "2"), group("b", "4")]);
}

pub(crate) async fn slots_keep_their_state(store: &dyn Store) {
    let write = |key: &str, value: Option<&[u8]>| SlotWrite {
        slot: "s".into(),
        key: key.into(),
        value: value.map(<[u8]>::to_vec),
    };
    let change = |remembered| AlertingChange { remembered, ..AlertingChange::default() };
    let writes =
        change(vec![write("a", Some(b"1")), write("b", Some(b"")), write("c", Some(b"3"))]);
    assert!(!writes.is_empty());
    store.save_alerting(writes).await.unwrap();
    let again = change(vec![write("a", Some(b"9")), write("a", Some(b"2")), write("c", None)]);
    store.save_alerting(again).await.unwrap();
    let found = store.slot_state("s").await.unwrap();
    assert_eq!(found, [("a".to_owned(), b"2".to_vec()), ("b".to_owned(), vec![])].into());
    assert!(store.slot_state("t").await.unwrap().is_empty());
}

pub(crate) async fn statuses_are_replaced(store: &dyn Store) {
    store.save_status("worker", "{}", 1).await.unwrap();
    store.save_status("server", "[]", 2).await.unwrap();
    store.save_status("worker", "[1]", 3).await.unwrap();
    let expected =
        [("server".to_owned(), "[]".to_owned(), 2), ("worker".to_owned(), "[1]".to_owned(), 3)];
    assert_eq!(store.statuses().await.unwrap(), expected);
}
