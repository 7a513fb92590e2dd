//! Delivering notifications, against the real store.

mod support;

use sentinel_alerting::delivery::{OnUnknown, Outcome};
use sentinel_model::alert::{Delivery, DeliveryState};
use sentinel_store::Store as _;
use sentinel_store::alerting::{AlertingChange, NotificationFilter};
use sentinel_worker::kv::SlotStates;
use sentinel_worker::notify::{Notifications, NotifyParts};
use sentinel_worker::stages::{Attempt, NotifierStage, Stages};
use sentinel_worker::term::Term;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::alerts::decided;
use support::{NotifierFn, Rig, START, slot, until};
use tokio::sync::watch;

/// More than any test has open at once, but the one that wants to see what happens then.
const QUEUED: usize = 60;

fn delivered() -> Option<Attempt> {
    Some(Attempt::made(Outcome::Delivered { message: "taken".into() }))
}

fn retry() -> Option<Attempt> {
    Some(Attempt::made(Outcome::Retry { message: "503".into(), after_ms: None }))
}

/// A notifier that takes nothing until the switch is on.
fn ill() -> (Arc<NotifierFn>, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    let answer = move |_: &_, _, _| {
        if is_well.load(Ordering::SeqCst) { delivered() } else { retry() }
    };
    (NotifierFn::new(answer), well)
}

fn stages(rig: &Rig, notifiers: &[(&str, &Arc<NotifierFn>)], on_unknown: OnUnknown) {
    let stage =
        |notifier: &Arc<NotifierFn>| NotifierStage { on_unknown, notifier: notifier.clone() };
    let notifiers = notifiers.iter().map(|(name, n)| (slot(name), stage(n))).collect();
    rig.stages.store(Arc::new(Stages { notifiers, ..Stages::default() }));
}

/// Notifications that go on as long as the sender lives.
async fn start(rig: &Rig) -> (Notifications, watch::Sender<bool>) {
    let (stop, stopping) = watch::channel(false);
    let parts = NotifyParts {
        store: rig.store.clone(),
        stages: rig.stages.clone(),
        clock: rig.clock.clone(),
        metrics: rig.metrics.clone(),
        queued: QUEUED,
        states: Arc::new(SlotStates::new(rig.store.clone())),
        term: Term::default(),
    };
    (Notifications::start(parts, stopping).await, stop)
}

async fn decide(rig: &Rig, to: &Notifications, deliveries: Vec<Delivery>) {
    let change = AlertingChange { decided: deliveries.clone(), ..AlertingChange::default() };
    rig.store.save_alerting(change).await.unwrap();
    to.enqueue(deliveries);
}

async fn stored(rig: &Rig, id: &str) -> Delivery {
    let all = rig.store.notifications(NotificationFilter::All, 1_000).await.unwrap();
    all.into_iter().find(|d| d.notification.id == id).unwrap()
}

async fn until_state(rig: &Rig, id: &str, state: DeliveryState) -> Delivery {
    until(&format!("{id} is {state:?}"), async || stored(rig, id).await.state == state).await;
    stored(rig, id).await
}

/// How many each notifier has open; those that are delivered are so in the journal first.
fn open(notifications: &Notifications) -> Vec<(String, usize)> {
    notifications.status().iter().map(|lane| (lane.notifier.to_string(), lane.open)).collect()
}

#[tokio::test]
async fn a_notification_is_journaled_as_begun_before_it_leaves() {
    let rig = Rig::new().await;
    let silent = NotifierFn::new(|_, _, _| None);
    stages(&rig, &[("pager", &silent)], OnUnknown::Retry);
    let (notifications, _stop) = start(&rig).await;
    rig.store.refuse(true);
    // It is in the journal already; only the note that it is being sent cannot be written.
    notifications.enqueue(vec![decided("n1", "pager", 1)]);
    until("the journal was asked", async || rig.metrics.store_failures.get() > 0).await;
    assert!(silent.asked.lock().is_empty(), "nothing leaves before it is written");
    rig.store.refuse(false);
    decide(&rig, &notifications, vec![decided("n1", "pager", 1)]).await;
    until("it is sent", async || !silent.asked.lock().is_empty()).await;
    assert_eq!(stored(&rig, "n1").await.state, DeliveryState::Sending);
}

#[tokio::test]
async fn a_failed_attempt_is_made_again_with_the_same_id_after_its_wait() {
    let rig = Rig::new().await;
    let moody = NotifierFn::new(|_, attempt, _| if attempt < 3 { retry() } else { delivered() });
    stages(&rig, &[("pager", &moody)], OnUnknown::Retry);
    let (notifications, _stop) = start(&rig).await;
    decide(&rig, &notifications, vec![decided("n1", "pager", 1)]).await;
    for attempts in 1..=2 {
        until("it failed", async || stored(&rig, "n1").await.attempts == attempts).await;
        let waits = until_state(&rig, "n1", DeliveryState::Pending).await;
        assert!(waits.next_attempt > START && waits.message == "503");
        rig.clock.advance(2_000);
        notifications.notifiers_changed();
    }
    let done = until_state(&rig, "n1", DeliveryState::Delivered).await;
    assert_eq!((done.attempts, done.message.as_str(), done.may_be_repeat), (3, "taken", false));
    let expected = [1, 2, 3].map(|attempt| ("n1".to_owned(), attempt, false));
    assert_eq!(*moody.asked.lock(), expected);
}

#[tokio::test]
async fn after_a_crash_what_was_under_way_is_sent_again_as_a_possible_repeat() {
    for (on_unknown, state) in
        [(OnUnknown::Retry, DeliveryState::Delivered), (OnUnknown::Hold, DeliveryState::Dead)]
    {
        let rig = Rig::new().await;
        let silent = NotifierFn::new(|_, _, _| None);
        stages(&rig, &[("pager", &silent)], on_unknown);
        let (notifications, _stop) = start(&rig).await;
        decide(&rig, &notifications, vec![decided("n1", "pager", 1)]).await;
        until("it is under way", async || !silent.asked.lock().is_empty()).await;
        // The process dies here: the first worker never hears an answer.
        let answers = NotifierFn::new(|_, _, _| delivered());
        stages(&rig, &[("pager", &answers)], on_unknown);
        let (again, _stop) = start(&rig).await;
        rig.clock.advance(10_000);
        again.notifiers_changed();
        let done = until_state(&rig, "n1", state).await;
        assert!(done.may_be_repeat);
        let sent = answers.asked.lock().clone();
        let expected = vec![("n1".to_owned(), 2, true)];
        assert_eq!(sent, if on_unknown == OnUnknown::Retry { expected } else { Vec::new() });
    }
}

#[tokio::test]
async fn a_target_that_never_answers_delays_no_other() {
    let rig = Rig::new().await;
    let silent = NotifierFn::new(|_, _, _| None);
    let quick = NotifierFn::new(|_, _, _| delivered());
    stages(&rig, &[("pager", &silent), ("chat", &quick)], OnUnknown::Retry);
    let (notifications, _stop) = start(&rig).await;
    let mut all = Vec::new();
    for n in 0..50 {
        all.push(decided(&format!("p{n}"), "pager", n));
        all.push(decided(&format!("c{n}"), "chat", n));
    }
    decide(&rig, &notifications, all).await;
    until("the quick one has all", async || quick.asked.lock().len() == 50).await;
    until_state(&rig, "c49", DeliveryState::Delivered).await;
    until("the quick one is done", async || open(&notifications)[0].1 == 0).await;
    assert_eq!(open(&notifications), [("chat".to_owned(), 0), ("pager".to_owned(), 50)]);
}

#[tokio::test]
async fn resolved_waits_until_firing_has_arrived() {
    let rig = Rig::new().await;
    let (moody, well) = ill();
    stages(&rig, &[("pager", &moody)], OnUnknown::Retry);
    let (notifications, _stop) = start(&rig).await;
    decide(&rig, &notifications, vec![decided("firing", "pager", 1)]).await;
    until("it failed", async || stored(&rig, "firing").await.attempts == 1).await;
    until_state(&rig, "firing", DeliveryState::Pending).await;
    well.store(true, Ordering::SeqCst);
    let mut resolved = decided("resolved", "pager", 1);
    resolved.notification.time += 1;
    decide(&rig, &notifications, vec![resolved, decided("other", "pager", 2)]).await;
    until_state(&rig, "other", DeliveryState::Delivered).await;
    rig.clock.advance(60_000);
    notifications.notifiers_changed();
    until_state(&rig, "resolved", DeliveryState::Delivered).await;
    let order: Vec<_> = moody.asked.lock().iter().map(|asked| asked.0.clone()).collect();
    assert_eq!(order, ["firing", "other", "firing", "resolved"]);
}

#[tokio::test]
async fn a_notification_waits_for_a_notifier_that_is_configured_later() {
    let rig = Rig::new().await;
    let (notifications, _stop) = start(&rig).await;
    decide(&rig, &notifications, vec![decided("n1", "pager", 1)]).await;
    until("an attempt failed", async || stored(&rig, "n1").await.attempts == 1).await;
    assert!(stored(&rig, "n1").await.message.contains("no notifier slot \"pager\""));
    let quick = NotifierFn::new(|_, _, _| delivered());
    stages(&rig, &[("pager", &quick)], OnUnknown::Retry);
    rig.clock.advance(2_000);
    notifications.notifiers_changed();
    until_state(&rig, "n1", DeliveryState::Delivered).await;
}

#[tokio::test]
async fn what_never_will_be_taken_is_dead_at_once() {
    let rig = Rig::new().await;
    let closed = NotifierFn::new(|_, _, _| {
        Some(Attempt::made(Outcome::Permanent { message: "404".into() }))
    });
    stages(&rig, &[("pager", &closed)], OnUnknown::Retry);
    let (notifications, stop) = start(&rig).await;
    decide(&rig, &notifications, vec![decided("n1", "pager", 1)]).await;
    let dead = until_state(&rig, "n1", DeliveryState::Dead).await;
    assert_eq!((dead.attempts, dead.message.as_str()), (1, "404"));
    stop.send(true).unwrap();
    notifications.drained().await;
    assert!(rig.store.notifications(NotificationFilter::Open, 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_new_does_not_pass_what_is_still_in_the_journal() {
    let rig = Rig::new().await;
    let (moody, well) = ill();
    stages(&rig, &[("pager", &moody)], OnUnknown::Retry);
    let (notifications, _stop) = start(&rig).await;
    let many = QUEUED as u64 + 1;
    let all = (0..many).map(|n| decided(&format!("n{n}"), "pager", n)).collect();
    decide(&rig, &notifications, all).await;
    well.store(true, Ordering::SeqCst);
    until("there is room again", async || notifications.status()[0].open < QUEUED).await;
    // Tells of the alert whose first notification did not fit.
    let mut resolved = decided("resolved", "pager", many - 1);
    resolved.notification.time += 1;
    decide(&rig, &notifications, vec![resolved]).await;
    until("all are told", async || {
        rig.clock.advance(2_000);
        notifications.notifiers_changed();
        stored(&rig, "resolved").await.state == DeliveryState::Delivered
    })
    .await;
    let asked = moody.asked.lock();
    let last = |id: &str| asked.iter().rposition(|one| one.0 == id).unwrap();
    assert!(last(&format!("n{}", many - 1)) < last("resolved"));
    let first = asked.iter().position(|one| one.0 == "resolved").unwrap();
    assert_eq!(first, last("resolved"), "told once");
}

#[tokio::test]
async fn however_many_another_has_open_a_notifier_gets_its_own_after_a_restart() {
    let rig = Rig::new().await;
    let silent = NotifierFn::new(|_, _, _| None);
    let quick = NotifierFn::new(|_, _, _| delivered());
    let many = 3 * QUEUED as u64;
    let mut all: Vec<Delivery> = (0..many).map(|n| decided(&format!("p{n}"), "pager", n)).collect();
    all.extend((0..many).map(|n| decided(&format!("c{n}"), "chat", n)));
    let change = AlertingChange { decided: all, ..AlertingChange::default() };
    rig.store.save_alerting(change).await.unwrap();
    stages(&rig, &[("pager", &silent), ("chat", &quick)], OnUnknown::Retry);
    let (notifications, _stop) = start(&rig).await;
    until("the quick one has all", async || quick.asked.lock().len() as u64 == many).await;
    until_state(&rig, &format!("c{}", many - 1), DeliveryState::Delivered).await;
    let asked: Vec<_> = quick.asked.lock().iter().map(|(id, ..)| id.clone()).collect();
    let mut once = asked.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), asked.len(), "each once");
    until("the quick one is done", async || open(&notifications)[0].1 == 0).await;
    assert_eq!(open(&notifications), [("chat".to_owned(), 0), ("pager".to_owned(), QUEUED)]);
}

#[tokio::test]
async fn what_is_decided_while_the_journal_is_read_is_not_forgotten_in_it() {
    let rig = Rig::new().await;
    let (moody, well) = ill();
    stages(&rig, &[("pager", &moody)], OnUnknown::Retry);
    let (notifications, _stop) = start(&rig).await;
    let all = (0..QUEUED as u64 + 1).map(|n| decided(&format!("n{n}"), "pager", n)).collect();
    decide(&rig, &notifications, all).await;
    let hold = rig.store.reads.write().await;
    well.store(true, Ordering::SeqCst);
    until("the journal is read", async || {
        rig.clock.advance(2_000);
        notifications.notifiers_changed();
        rig.store.waiting.load(Ordering::SeqCst) == 1
    })
    .await;
    decide(&rig, &notifications, vec![decided("late", "pager", 1_000)]).await;
    drop(hold);
    until("it is told", async || {
        rig.clock.advance(2_000);
        notifications.notifiers_changed();
        stored(&rig, "late").await.state == DeliveryState::Delivered
    })
    .await;
    assert_eq!(moody.asked.lock().iter().filter(|one| one.0 == "late").count(), 1);
}
