//! Evaluating rules, against the real store.

mod support;

use sentinel_model::alert::AlertState;
use sentinel_model::rule::Rule;
use sentinel_runtime::evaluator::{Aggregate, Need, Plan, Query};
use sentinel_store::Store as _;
use sentinel_worker::stages::EvaluatorError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use support::running::{Running, apply, evaluator, journal, outcome, rule, stage, until_told};
use support::{EvaluatorFn, Rig, START, slot, until};

#[tokio::test]
async fn an_alert_is_told_once_from_firing_to_resolved_whatever_restarts() {
    let rig = Rig::new().await;
    let holds = Arc::new(AtomicBool::new(true));
    let evaluator = evaluator(&holds);
    let notifier = stage(&rig, 1, &evaluator);
    apply(&rig, 1, vec![Rule { hold: "20s".parse().unwrap(), ..rule("high") }]).await;
    let mut running = Running::start(&rig, Duration::ZERO).await;
    for _ in 0..4 {
        let before = evaluator.evaluated.lock().get("high").map_or(0, Vec::len);
        running.look();
        until("it was evaluated", async || {
            evaluator.evaluated.lock().get("high").is_some_and(|times| times.len() > before)
        })
        .await;
        // The worker restarts between any two evaluations.
        running.stop().await;
        rig.clock.advance(10_000);
        running = Running::start(&rig, Duration::ZERO).await;
    }
    until_told(&rig, 1).await;
    let alerts = rig.store.alerts(0).await.unwrap();
    assert_eq!((alerts[0].state, alerts[0].fired_at), (AlertState::Firing, Some(START + 20_000)));
    holds.store(false, Ordering::SeqCst);
    running.advance(&rig, 10_000);
    until_told(&rig, 2).await;
    let history = rig.store.history(10).await.unwrap();
    let states: Vec<_> = history.iter().rev().map(|t| (t.from, t.to)).collect();
    use AlertState::{Firing, Pending, Resolved};
    let expected =
        [(None, Some(Pending)), (Some(Pending), Some(Firing)), (Some(Firing), Some(Resolved))];
    assert_eq!(states, expected);
    assert_eq!(notifier.asked.lock().len(), 2);
    let told = &journal(&rig).await[0].notification;
    assert_eq!(told.alerts[0].labels.get("severity"), Some("page"));
}

#[tokio::test]
async fn while_alerts_cannot_be_stored_nobody_is_told_and_then_once() {
    let rig = Rig::new().await;
    let evaluator = evaluator(&Arc::new(AtomicBool::new(true)));
    let notifier = stage(&rig, 1, &evaluator);
    apply(&rig, 1, vec![rule("high")]).await;
    rig.store.refuse(true);
    let running = Running::start(&rig, Duration::ZERO).await;
    until("the trouble is said", async || running.status.read().store_trouble.is_some()).await;
    assert!(notifier.asked.lock().is_empty());
    rig.store.refuse(false);
    running.advance(&rig, 10_000);
    until_told(&rig, 1).await;
    running.advance(&rig, 10_000);
    until("it goes on", async || evaluator.evaluated.lock()["high"].len() >= 3).await;
    running.stop().await;
    assert_eq!(notifier.asked.lock().len(), 1);
}

#[tokio::test]
async fn rules_that_cannot_be_evaluated_say_so_and_keep_their_alerts() {
    let rig = Rig::new().await;
    let fails = Arc::new(AtomicBool::new(false));
    let failing = fails.clone();
    let check = |text: &str| {
        if text.contains("bad") {
            return Err(EvaluatorError::Refused("no such function".into()));
        }
        Ok(Plan { needs: Vec::new(), warnings: Vec::new() })
    };
    let evaluator = EvaluatorFn::new(check, move |_, _| {
        if failing.load(Ordering::SeqCst) { Err("it broke".into()) } else { Ok(outcome(true)) }
    });
    let notifier = stage(&rig, 1, &evaluator);
    let lost = Rule { evaluator: slot("other"), ..rule("lost") };
    apply(&rig, 1, vec![rule("bad"), rule("good"), lost]).await;
    let running = Running::start(&rig, Duration::ZERO).await;
    until_told(&rig, 1).await;
    fails.store(true, Ordering::SeqCst);
    running.advance(&rig, 10_000);
    until("it is said", async || running.status.read().errors.len() == 3).await;
    let status = running.status.read().clone();
    assert_eq!((status.rules, status.evaluated, status.active_alerts), (3, 1, 1));
    assert_eq!(status.errors["bad"], "no such function");
    assert_eq!(status.errors["good"], "it broke");
    assert!(status.errors["lost"].contains("no evaluator slot \"other\""));
    running.stop().await;
    assert_eq!(notifier.asked.lock().len(), 1);
    assert_eq!(rig.store.alerts(0).await.unwrap()[0].state, AlertState::Firing);
}

#[tokio::test]
async fn alerts_of_a_rule_that_is_removed_are_resolved_and_told() {
    let rig = Rig::new().await;
    let evaluator = evaluator(&Arc::new(AtomicBool::new(true)));
    let _notifier = stage(&rig, 1, &evaluator);
    apply(&rig, 1, vec![rule("high"), rule("other")]).await;
    let running = Running::start(&rig, Duration::ZERO).await;
    until_told(&rig, 2).await;
    rig.clock.advance(1_000);
    apply(&rig, 2, vec![rule("other")]).await;
    running.look();
    until_told(&rig, 3).await;
    let resolved = &journal(&rig).await[2].notification.alerts[0];
    assert_eq!((resolved.rule.as_str(), resolved.state), ("high", AlertState::Resolved));
    running.stop().await;
}

#[tokio::test]
async fn a_new_evaluator_gets_the_rules_and_the_alerts_go_on() {
    let rig = Rig::new().await;
    let holds = Arc::new(AtomicBool::new(true));
    let (first, second) = (evaluator(&holds), evaluator(&holds));
    stage(&rig, 1, &first);
    apply(&rig, 1, vec![rule("high")]).await;
    let running = Running::start(&rig, Duration::ZERO).await;
    until_told(&rig, 1).await;
    let notifier = stage(&rig, 2, &second);
    running.look();
    until("it is in use", async || {
        running.advance(&rig, 10_000);
        second.evaluated.lock().contains_key("high")
    })
    .await;
    running.stop().await;
    assert!(notifier.asked.lock().is_empty(), "nothing is told again");
}

#[tokio::test]
async fn a_timer_that_runs_goes_on_when_the_evaluator_is_replaced() {
    let rig = Rig::new().await;
    let holds = Arc::new(AtomicBool::new(true));
    let (first, second) = (evaluator(&holds), evaluator(&holds));
    stage(&rig, 1, &first);
    apply(&rig, 1, vec![Rule { hold: "20s".parse().unwrap(), ..rule("high") }]).await;
    let running = Running::start(&rig, Duration::ZERO).await;
    let alert = async || rig.store.alerts(0).await.unwrap().into_iter().next();
    until("it is pending", async || alert().await.is_some()).await;
    assert_eq!(alert().await.unwrap().state, AlertState::Pending);
    stage(&rig, 2, &second);
    running.look();
    until("the other makes it fire", async || {
        running.advance(&rig, 10_000);
        second.evaluated.lock().contains_key("high")
            && alert().await.is_some_and(|alert| alert.state == AlertState::Firing)
    })
    .await;
    assert_eq!(alert().await.unwrap().active_since, START, "it began to count at the first");
    running.stop().await;
}

#[tokio::test]
async fn each_rule_is_evaluated_at_its_own_times_also_after_the_clock_was_set_back() {
    let rig = Rig::new().await;
    let evaluator = evaluator(&Arc::new(AtomicBool::new(false)));
    stage(&rig, 1, &evaluator);
    let every =
        |name: &str, interval: &str| Rule { interval: interval.parse().unwrap(), ..rule(name) };
    apply(&rig, 1, vec![every("often", "10s"), every("seldom", "1m")]).await;
    let running = Running::start(&rig, Duration::ZERO).await;
    let count = |rule: &str| evaluator.evaluated.lock().get(rule).map_or(0, Vec::len);
    let evaluated = async |often: usize, seldom: usize| {
        until(&format!("they were evaluated {often} and {seldom} times"), async || {
            count("often") == often && count("seldom") == seldom
        })
        .await;
    };
    evaluated(1, 1).await;
    for often in 2..=6 {
        running.advance(&rig, 10_000);
        until("the one is due", async || count("often") == often).await;
    }
    running.advance(&rig, 10_000);
    evaluated(7, 2).await;
    running.advance(&rig, -3_600_000);
    evaluated(8, 3).await;
    running.advance(&rig, 10_000);
    evaluated(9, 3).await;
    running.stop().await;
}

#[tokio::test]
async fn after_a_start_no_alert_ends_before_all_samples_can_be_there() {
    let rig = Rig::new().await;
    let holds = Arc::new(AtomicBool::new(true));
    let evaluator = evaluator(&holds);
    stage(&rig, 1, &evaluator);
    apply(&rig, 1, vec![rule("high")]).await;
    let running = Running::start(&rig, Duration::ZERO).await;
    until_told(&rig, 1).await;
    running.stop().await;
    holds.store(false, Ordering::SeqCst);
    let evaluations = || evaluator.evaluated.lock()["high"].len();
    let (before, settle) = (evaluations(), Duration::from_secs(30));
    rig.clock.advance(10_000);
    let running = Running::start(&rig, settle).await;
    until("it was evaluated", async || evaluations() > before).await;
    running.advance(&rig, 10_000);
    until("it was evaluated", async || evaluations() > before + 1).await;
    assert_eq!(journal(&rig).await.len(), 1);
    running.advance(&rig, 20_000);
    until_told(&rig, 2).await;
    running.stop().await;
}

#[tokio::test]
async fn evaluators_see_what_was_stored_before_and_what_is_committed_since() {
    let rig = Rig::new().await;
    let mut ingest = rig.ingest();
    ingest.take(&[1, 2, 3].map(|seq| rig.sample(seq, 1))).await;
    let selector: Arc<_> = Arc::new("requests_total{agent=\"web-1\"}".parse().unwrap());
    let need = Need { selector: Arc::clone(&selector), window_ms: 60_000 };
    let seen = Arc::new(AtomicU32::new(0));
    let evaluator =
        EvaluatorFn::new(move |_| Ok(Plan { needs: vec![need.clone()], warnings: Vec::new() }), {
            let (windows, seen) = (rig.windows.clone(), seen.clone());
            move |_, at| {
                let aggregate = Aggregate::Count;
                let selector = Arc::clone(&selector);
                let query = Query { selector, window_ms: 60_000, offset_ms: 0, aggregate };
                let answer = windows.read().ask(at, &query).map_err(|e| e.to_string())?;
                seen.store(answer.value.first().copied().unwrap_or(0.0) as u32, Ordering::SeqCst);
                Ok(outcome(false))
            }
        });
    stage(&rig, 1, &evaluator);
    apply(&rig, 1, vec![rule("count")]).await;
    rig.clock.advance(10_000);
    let running = Running::start(&rig, Duration::ZERO).await;
    until("what was stored is seen", async || seen.load(Ordering::SeqCst) == 3).await;
    ingest.take(&[4, 5].map(|seq| rig.sample(seq, 1))).await;
    // Before the clock moves: what comes after the evaluation waits for its next time.
    until("they came", async || rig.windows.read().size().1 == 5).await;
    running.advance(&rig, 10_000);
    until("what came since is seen", async || seen.load(Ordering::SeqCst) == 5).await;
    assert_eq!(running.status.read().errors.len(), 0);
    running.stop().await;
}
