//! Routes, silences and dead letters, against the real store.

mod support;

use sentinel_alerting::delivery::{self, Outcome};
use sentinel_alerting::routing::RouteConfig;
use sentinel_model::alert::{Delivery, DeliveryState};
use sentinel_model::attention::Silence;
use sentinel_store::Store as _;
use sentinel_store::alerting::{Act, NotificationFilter};
use sentinel_worker::config::WorkerConfig;
use sentinel_worker::stages::Attempt;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::alerts::decided;
use support::flaky::Death;
use support::running::{Running, apply, evaluator, journal, rule, stage, until_told};
use support::{NotifierFn, Rig, START, until};

/// The writes at which a process ends. One alert from firing to resolved takes six, more where
/// it waits for its group.
const WRITES: usize = 8;

fn route(rig: &Rig, routes: serde_json::Value) {
    let routes: RouteConfig = serde_json::from_value(routes).unwrap();
    let config = WorkerConfig { routes: Some(routes), ..WorkerConfig::default() };
    rig.routing.store(Arc::new(config.routing().unwrap()));
}

fn silence(to: i64) -> Silence {
    Silence {
        id: "sil_1".into(),
        matchers: vec!["severity=page".into()],
        starts_at: START,
        ends_at: to,
        author: "ann".into(),
        reason: "work".into(),
        created_at: START,
        ended_by: None,
    }
}

#[tokio::test]
async fn a_group_waits_and_is_told_once_whatever_restarts_meanwhile() {
    let rig = Rig::new().await;
    let evaluator = evaluator(&Arc::new(AtomicBool::new(true)));
    let notifier = stage(&rig, 1, &evaluator);
    route(&rig, serde_json::json!({"notify": ["pager"], "group_wait": "30s"}));
    apply(&rig, 1, vec![rule("disk"), rule("high")]).await;
    let running = Running::start(&rig, Duration::ZERO).await;
    until("the group is stored", async || rig.store.alert_groups().await.unwrap().len() == 1).await;
    running.stop().await;
    assert!(journal(&rig).await.is_empty());
    rig.clock.advance(29_000);
    let running = Running::start(&rig, Duration::ZERO).await;
    until("it evaluated", async || evaluator.evaluated.lock()["high"].len() >= 2).await;
    assert!(journal(&rig).await.is_empty());
    running.advance(&rig, 1_000);
    until_told(&rig, 1).await;
    let told = &journal(&rig).await[0].notification;
    assert_eq!((told.alerts.len(), told.time), (2, START + 30_000));
    running.stop().await;
    let running = Running::start(&rig, Duration::ZERO).await;
    running.advance(&rig, 60_000);
    until("it evaluated", async || evaluator.evaluated.lock()["high"].len() >= 4).await;
    running.stop().await;
    assert_eq!(notifier.asked.lock().len(), 1);
}

#[tokio::test]
async fn other_routes_count_from_the_moment_that_they_are_said() {
    let rig = Rig::new().await;
    let evaluator = evaluator(&Arc::new(AtomicBool::new(true)));
    stage(&rig, 1, &evaluator);
    route(&rig, serde_json::json!({"notify": ["pager"], "group_wait": "1h"}));
    apply(&rig, 1, vec![rule("high")]).await;
    let running = Running::start(&rig, Duration::ZERO).await;
    until("the group is stored", async || rig.store.alert_groups().await.unwrap().len() == 1).await;
    route(&rig, serde_json::json!({"notify": ["pager"], "group_wait": "0"}));
    running.look();
    until_told(&rig, 1).await;
    running.stop().await;
}

#[tokio::test]
async fn a_silence_is_heeded_and_its_end_too() {
    let rig = Rig::new().await;
    let evaluator = evaluator(&Arc::new(AtomicBool::new(true)));
    let notifier = stage(&rig, 1, &evaluator);
    rig.store.act(Act::Silence(silence(START + 60_000)), START).await.unwrap();
    apply(&rig, 1, vec![rule("high")]).await;
    let running = Running::start(&rig, Duration::ZERO).await;
    until("it fires", async || !rig.store.alerts(0).await.unwrap().is_empty()).await;
    running.advance(&rig, 50_000);
    until("it evaluated", async || evaluator.evaluated.lock()["high"].len() >= 2).await;
    assert!(notifier.asked.lock().is_empty());
    running.advance(&rig, 10_000);
    until_told(&rig, 1).await;
    running.stop().await;
}

#[tokio::test]
async fn a_dead_letter_is_sent_again_with_its_id_and_every_attempt_is_kept() {
    let rig = Rig::new().await;
    let evaluator = evaluator(&Arc::new(AtomicBool::new(false)));
    stage(&rig, 1, &evaluator);
    let gone = Arc::new(AtomicBool::new(true));
    let is_gone = Arc::clone(&gone);
    let moody = NotifierFn::new(move |_, _, _| {
        let message = || "410".to_owned();
        Some(Attempt::made(match is_gone.load(Ordering::SeqCst) {
            true => Outcome::Permanent { message: message() },
            false => Outcome::Delivered { message: "200".into() },
        }))
    });
    let mut stages = (**rig.stages.load()).clone();
    stages.notifiers.values_mut().for_each(|stage| stage.notifier = moody.clone());
    rig.stages.store(Arc::new(stages));
    let running = Running::start(&rig, Duration::ZERO).await;
    let one = async |state| {
        let filter = NotificationFilter::One("n1".into());
        let found = rig.store.notifications(filter, 1).await.unwrap();
        found.into_iter().find(|delivery| delivery.state == state)
    };
    // As a test of a notifier does it: nobody but the store is told.
    let test = decided("n1", "pager", 1);
    rig.store.act(Act::Tell(test), START).await.unwrap();
    running.look();
    until("it is given up", async || one(DeliveryState::Dead).await.is_some()).await;
    gone.store(false, Ordering::SeqCst);
    let dead = one(DeliveryState::Dead).await.unwrap();
    rig.clock.advance(5_000);
    let again = delivery::replay(&dead, START + 5_000).unwrap();
    rig.store.act(Act::Letter(again), START + 5_000).await.unwrap();
    running.look();
    until("it is delivered", async || one(DeliveryState::Delivered).await.is_some()).await;
    running.stop().await;
    let attempts = rig.store.attempts("n1").await.unwrap();
    let kept: Vec<_> =
        attempts.iter().map(|a| (a.number, a.outcome.as_str(), a.message.as_str())).collect();
    assert_eq!(kept, [(1, "permanent", "410"), (1, "delivered", "200")]);
    assert_eq!(moody.asked.lock().len(), 2);
}

#[tokio::test]
async fn a_receiver_that_is_down_is_asked_less_and_less() {
    let rig = Rig::new().await;
    let evaluator = evaluator(&Arc::new(AtomicBool::new(false)));
    stage(&rig, 1, &evaluator);
    let down =
        NotifierFn::new(|_, _, _| Some(Attempt::made(Outcome::Unknown { message: "no".into() })));
    let mut stages = (**rig.stages.load()).clone();
    stages.notifiers.values_mut().for_each(|stage| stage.notifier = down.clone());
    rig.stages.store(Arc::new(stages));
    let running = Running::start(&rig, Duration::ZERO).await;
    for n in 0..20 {
        rig.store.act(Act::Tell(decided(&format!("n{n}"), "pager", n)), START).await.unwrap();
    }
    running.look();
    until("it is taken for down", async || {
        running.notifications.status().iter().any(|lane| lane.is_down)
    })
    .await;
    until("what was under way ended", async || {
        let open = rig.store.notifications(NotificationFilter::Open, 50).await.unwrap();
        open.iter().all(|delivery| delivery.state == DeliveryState::Pending)
    })
    .await;
    let asked = down.asked.lock().len();
    assert!((5..=8).contains(&asked), "{asked} attempts before it is left alone");
    running.stop().await;
}

/// One alert from firing to resolved, in a process that ends at a write, and in the next one.
/// Whether it did end.
async fn life(routes: Option<&serde_json::Value>, death: Death) -> bool {
    let mut rig = Rig::new().await;
    let holds = Arc::new(AtomicBool::new(true));
    let evaluator = evaluator(&holds);
    let receiver = stage(&rig, 1, &evaluator);
    if let Some(routes) = routes {
        route(&rig, routes.clone());
    }
    apply(&rig, 1, vec![rule("high")]).await;
    let well = Arc::clone(&rig.store);
    rig.store = Arc::new(well.reborn(Some(death)));
    let mortal = Arc::clone(&rig.store);
    let mut running = Some(Running::start(&rig, Duration::ZERO).await);
    let mut died = false;
    for fires in [true, false] {
        holds.store(fires, Ordering::SeqCst);
        let told = if fires { 1 } else { 2 };
        let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
        loop {
            if mortal.is_dead() && !died {
                died = true;
                if death.goes_on {
                    continue;
                }
                running.take().expect("it runs").kill();
                rig.store = Arc::new(well.reborn(None));
                running = Some(Running::start(&rig, Duration::ZERO).await);
            }
            running.as_ref().expect("it runs").advance(&rig, 1_000);
            let journal = journal(&rig).await;
            let done = |d: &Delivery| d.state == DeliveryState::Delivered;
            if journal.len() == told && journal.iter().all(done) {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "{death:?}: {journal:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let journal = journal(&rig).await;
    assert_eq!(journal.len(), 2, "{death:?}: one entry for firing, one for resolved");
    let effects: BTreeSet<String> = receiver.asked.lock().iter().map(|one| one.0.clone()).collect();
    let entries = journal.iter().map(|d| d.notification.id.clone()).collect();
    assert_eq!(effects, entries, "{death:?}: a receiver that honours the key saw each once");
    let asked = receiver.asked.lock().clone();
    for (i, (id, _, may_be_repeat)) in asked.iter().enumerate() {
        let before = asked[..i].iter().any(|one| one.0 == *id);
        assert!(!before || *may_be_repeat, "{death:?}: a repeat is marked as one");
    }
    let running = running.expect("it runs");
    if died || death.goes_on {
        running.stop().await;
    } else {
        // It may end at a write that is still to come, and would wait for it for ever.
        running.kill();
    }
    died
}

#[tokio::test]
async fn ended_at_any_step_of_firing_there_is_one_entry_and_one_effect() {
    let grouped =
        serde_json::json!({"notify": ["pager"], "group_wait": "5s", "group_interval": "5s"});
    let ways = [(None, false, false), (Some(&grouped), true, false), (Some(&grouped), true, true)];
    for (routes, is_kept, goes_on) in ways {
        let death = |at| Death { at, is_kept, goes_on };
        let lives = (0..WRITES).map(|at| life(routes, death(at)));
        let died = futures::future::join_all(lives).await;
        let steps = died.iter().filter(|died| **died).count();
        assert!(steps >= 5, "{steps} writes from firing to resolved");
    }
}
