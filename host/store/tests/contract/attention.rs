use super::T0;
use sentinel_model::alert::{
    Delivery, DeliveryState, Fingerprint, Notification, NotificationStatus,
};
use sentinel_model::attention::{Acknowledgement, Attempt, HandOver, Silence};
use sentinel_model::ids::SlotName;
use sentinel_model::series::Labels;
use sentinel_store::alerting::{Act, AlertingChange, Decisions, NotificationFilter};
use sentinel_store::{Store, StoreError};

fn silence(id: &str, ends_at: i64) -> Silence {
    Silence {
        id: id.into(),
        matchers: vec!["agent=\"a\"".into()],
        starts_at: T0,
        ends_at,
        author: "ann".into(),
        reason: "maintenance".into(),
        created_at: T0,
        ended_by: None,
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
            alerts: Vec::new(),
        },
        state,
        attempts: 3,
        may_be_repeat: true,
        next_attempt: T0,
        opened_at: T0,
        message: "503".into(),
    }
}

async fn decisions(store: &dyn Store) -> Decisions {
    store.decisions(None).await.unwrap().expect("nothing is known yet")
}

fn is_conflict(result: Result<(), StoreError>) -> bool {
    matches!(result, Err(StoreError::Conflict(_)))
}

pub(crate) async fn silences_are_made_once_and_ended_once(store: &dyn Store) {
    assert_eq!(decisions(store).await, Decisions::default());
    for one in [silence("s1", T0 + 10), silence("s2", T0 + 20)] {
        store.act(Act::Silence(one), T0).await.unwrap();
    }
    let end = |id: &str| Act::EndSilence { id: id.into(), by: "bob".into() };
    assert!(is_conflict(store.act(Act::Silence(silence("s1", T0 + 99)), T0).await));
    assert!(is_conflict(store.act(end("s3"), T0).await));
    let before = decisions(store).await;
    assert_eq!((before.revision, before.silences.len()), (2, 2));
    assert_eq!(before.silences[0].id, "s2");
    store.act(end("s2"), T0 + 5).await.unwrap();
    assert!(is_conflict(store.act(end("s2"), T0 + 5).await), "it is over");
    let ended = Silence { ends_at: T0 + 5, ended_by: Some("bob".into()), ..silence("s2", 0) };
    let now = decisions(store).await;
    assert_eq!((now.revision, &now.silences), (3, &vec![silence("s1", T0 + 10), ended]));
    assert_eq!(store.decisions(Some(3)).await.unwrap(), None, "nothing changed since");
    assert_eq!(store.decisions(Some(2)).await.unwrap(), Some(now));
}

pub(crate) async fn an_alert_has_one_owner_at_a_time(store: &dyn Store) {
    let first = Acknowledgement {
        fingerprint: Fingerprint(u64::MAX),
        incident: 7,
        owner: "ann".into(),
        note: "mine".into(),
        at: T0,
        until: Some(T0 + 60),
        before: Vec::new(),
    };
    store.act(Act::Acknowledge(first.clone()), T0).await.unwrap();
    let passed =
        HandOver { from: "ann".into(), to: "bob".into(), note: "shift".into(), at: T0 + 1 };
    let second =
        Acknowledgement { owner: "bob".into(), at: T0 + 1, before: vec![passed], ..first.clone() };
    store.act(Act::Acknowledge(second.clone()), T0 + 1).await.unwrap();
    let other = Acknowledgement { fingerprint: Fingerprint(1), ..first };
    store.act(Act::Acknowledge(other.clone()), T0 + 1).await.unwrap();
    let mut found = decisions(store).await.acknowledgements;
    found.sort_by_key(|one| one.fingerprint);
    assert_eq!(found, [other.clone(), second]);
    store.act(Act::Release(Fingerprint(u64::MAX)), T0 + 2).await.unwrap();
    assert!(is_conflict(store.act(Act::Release(Fingerprint(u64::MAX)), T0 + 2).await));
    assert_eq!(decisions(store).await.acknowledgements, [other]);
}

pub(crate) async fn attempts_are_kept_in_their_order(store: &dyn Store) {
    let attempt = |number: u32, outcome: &str| Attempt {
        number,
        at: T0 + i64::from(number),
        took_ms: 12,
        outcome: outcome.into(),
        message: "503".into(),
        may_be_repeat: number > 1,
    };
    let made = [
        ("n1".to_owned(), attempt(1, "retry")),
        ("n2".to_owned(), attempt(1, "delivered")),
        ("n1".to_owned(), attempt(2, "unknown")),
        ("n1".to_owned(), attempt(1, "delivered")),
    ];
    for one in made.clone() {
        let change = AlertingChange { attempts: vec![one], ..AlertingChange::default() };
        store.save_alerting(change).await.unwrap();
    }
    let of_first = [made[0].1.clone(), made[2].1.clone(), made[3].1.clone()];
    assert_eq!(store.attempts("n1").await.unwrap(), of_first);
    assert!(store.attempts("n3").await.unwrap().is_empty());
}

pub(crate) async fn only_a_dead_letter_is_taken_up_again(store: &dyn Store) {
    let states = [DeliveryState::Dead, DeliveryState::Delivered, DeliveryState::Sending];
    let decided = states.iter().zip(["n1", "n2", "n3"]).map(|(s, id)| delivery(id, *s)).collect();
    let change = AlertingChange { decided, ..AlertingChange::default() };
    store.save_alerting(change).await.unwrap();
    let again = |id: &str| Delivery {
        attempts: 0,
        next_attempt: T0 + 9,
        opened_at: T0 + 9,
        ..delivery(id, DeliveryState::Pending)
    };
    for id in ["n2", "n3", "n4"] {
        assert!(is_conflict(store.act(Act::Letter(again(id)), T0 + 9).await), "{id}");
    }
    store.act(Act::Letter(again("n1")), T0 + 9).await.unwrap();
    let one =
        async |id: &str| store.notifications(NotificationFilter::One(id.into()), 9).await.unwrap();
    assert_eq!(one("n1").await, [again("n1")]);
    assert!(is_conflict(store.act(Act::Letter(again("n1")), T0 + 9).await), "it is open again");
    assert_eq!(one("n2").await, [delivery("n2", DeliveryState::Delivered)]);
    assert!(one("n4").await.is_empty());
    let dropped = delivery("n5", DeliveryState::Dropped);
    let change = AlertingChange { decided: vec![dropped.clone()], ..AlertingChange::default() };
    store.save_alerting(change).await.unwrap();
    assert_eq!(one("n5").await, [dropped]);
}

pub(crate) async fn a_notification_that_no_rule_decided_is_told_once(store: &dyn Store) {
    let test = delivery("t1", DeliveryState::Pending);
    store.act(Act::Tell(test.clone()), T0).await.unwrap();
    let changed = Delivery { message: "other".into(), ..test.clone() };
    store.act(Act::Tell(changed), T0).await.unwrap();
    let open = store.notifications(NotificationFilter::Open, 9).await.unwrap();
    assert_eq!((open, decisions(store).await.revision), (vec![test], 2));
}

pub(crate) async fn what_is_over_ages_out_and_what_is_open_stays(store: &dyn Store) {
    let attempt = Attempt {
        number: 1,
        at: T0,
        took_ms: 1,
        outcome: "retry".into(),
        message: "503".into(),
        may_be_repeat: false,
    };
    let states = [("n1", DeliveryState::Dropped), ("n2", DeliveryState::Pending)];
    let change = AlertingChange {
        decided: states.iter().map(|(id, state)| delivery(id, *state)).collect(),
        attempts: states.iter().map(|(id, _)| ((*id).to_owned(), attempt.clone())).collect(),
        ..AlertingChange::default()
    };
    store.save_alerting(change).await.unwrap();
    let later = T0 + 200 * 86_400_000;
    for one in [silence("s1", T0 + 10), silence("s2", later + 10)] {
        store.act(Act::Silence(one), T0).await.unwrap();
    }
    store.maintain(later).await.unwrap();
    let left = store.notifications(NotificationFilter::All, 9).await.unwrap();
    assert_eq!(left, [delivery("n2", DeliveryState::Pending)]);
    assert!(store.attempts("n1").await.unwrap().is_empty());
    assert_eq!(store.attempts("n2").await.unwrap(), [attempt]);
    assert_eq!(decisions(store).await.silences, [silence("s2", later + 10)]);
}
