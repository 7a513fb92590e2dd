//! Commits that have rules evaluated, and Sentinel's own troubles as alerts.

mod support;

use sentinel_alerting::delivery;
use sentinel_alerting::delivery::Outcome as Sent;
use sentinel_model::alert::{Alert, AlertState, DeliveryState};
use sentinel_model::rule::Rule;
use sentinel_runtime::evaluator::{Aggregate, Need, Plan, Query};
use sentinel_store::Store as _;
use sentinel_store::agents::{AgentState, Claim, NewAgent};
use sentinel_store::alerting::{Act, NotificationFilter};
use sentinel_worker::clock::Clock as _;
use sentinel_worker::config::SelfWatchConfig;
use sentinel_worker::stages::Attempt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::alerts::decided;
use support::running::{Running, apply, evaluator, outcome, rule, stage};
use support::{EvaluatorFn, NotifierFn, Rig, START, agent, until};

/// How long a sample's way to the notifier may take, half of the times.
const LATENCY: Duration = Duration::from_millis(500);
/// Samples whose way is measured in a round.
const SAMPLES: usize = 20;
/// Rounds at most: what else the machine has to do may stretch the ways of one.
const ROUNDS: usize = 5;
/// What the rules about samples read: longer than any test.
const WINDOW_MS: u64 = 1_800_000;

/// An evaluator for which a rule holds while the newest sample of `requests_total` is odd.
fn odd(rig: &Rig) -> Arc<EvaluatorFn> {
    let selector: Arc<_> = Arc::new("requests_total".parse().unwrap());
    let need = Need { selector: Arc::clone(&selector), window_ms: WINDOW_MS };
    let windows = rig.windows.clone();
    EvaluatorFn::new(
        move |_| Ok(Plan { needs: vec![need.clone()], warnings: Vec::new() }),
        move |_, at| {
            let selector = Arc::clone(&selector);
            let query =
                Query { selector, window_ms: WINDOW_MS, offset_ms: 0, aggregate: Aggregate::Last };
            let answer = windows.read().ask(at, &query).map_err(|e| e.to_string())?;
            Ok(outcome(answer.value.first().is_some_and(|value| value % 2.0 == 1.0)))
        },
    )
}

fn rare(name: &str) -> Rule {
    Rule { interval: "1h".parse().unwrap(), ..rule(name) }
}

async fn in_force(running: &Running) {
    until("the rules are in force", async || running.status.read().evaluated == 1).await;
}

#[tokio::test]
async fn a_commit_has_the_rules_evaluated_that_read_it_and_many_as_one() {
    let rig = Rig::new().await;
    let evaluator = odd(&rig);
    let notifier = stage(&rig, 1, &evaluator);
    apply(&rig, 1, vec![rare("odd")]).await;
    rig.clock.advance(10_000);
    let running = Running::start(&rig, Duration::ZERO).await;
    in_force(&running).await;
    let evaluations = || evaluator.evaluated.lock().get("odd").map_or(0, Vec::len);
    until("it was evaluated at its interval", async || evaluations() == 1).await;
    let mut ingest = rig.ingest();
    for seq in 1..=3 {
        ingest.take(&[rig.sample(seq, 1)]).await;
    }
    until("all came", async || rig.windows.read().size().1 == 3).await;
    until("what came is evaluated", async || {
        running.advance(&rig, 10);
        evaluations() == 2
    })
    .await;
    until("it is told", async || notifier.asked.lock().len() == 1).await;
    for _ in 0..50 {
        running.advance(&rig, 10);
        tokio::task::yield_now().await;
    }
    running.stop().await;
    assert_eq!(evaluations(), 2, "three commits are one evaluation, and none follows by itself");
}

#[tokio::test]
async fn a_sample_is_told_of_soon_after_it_was_committed() {
    let rig = Rig::new().await;
    let evaluator = odd(&rig);
    let notifier = stage(&rig, 1, &evaluator);
    apply(&rig, 1, vec![rare("odd")]).await;
    rig.clock.advance(10_000);
    let running = Running::start(&rig, Duration::ZERO).await;
    in_force(&running).await;
    let clock = Arc::clone(&rig.clock);
    let ticking = tokio::spawn(async move {
        let mut before = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let passed = before.elapsed().as_millis() as i64;
            before += Duration::from_millis(passed as u64);
            clock.advance(passed);
        }
    });
    let mut ingest = rig.ingest();
    let (mut seq, mut medians) = (0, Vec::<Duration>::new());
    while medians.len() < ROUNDS && medians.iter().all(|median| *median > LATENCY) {
        let mut took = Vec::new();
        for _ in 0..SAMPLES {
            seq += 1;
            ingest.take(&[rig.sample(seq, 1)]).await;
            let committed = tokio::time::Instant::now();
            until("it is told", async || notifier.asked.lock().len() as u64 == seq).await;
            took.push(committed.elapsed());
        }
        took.sort();
        let (median, longest) = (took[took.len() / 2], took[took.len() - 1]);
        println!("from commit to notifier: median {median:?}, longest {longest:?}");
        medians.push(median);
    }
    ticking.abort();
    running.stop().await;
    assert!(medians.iter().any(|median| *median <= LATENCY), "{medians:?}");
}

/// Alerts of the worker's own rules that fire, by rule.
async fn own(rig: &Rig) -> Vec<Alert> {
    let mut alerts = rig.store.alerts(i64::MAX).await.unwrap();
    alerts.retain(|a| a.rule.starts_with("sentinel-") && a.state == AlertState::Firing);
    alerts
}

async fn watched() -> Rig {
    let mut rig = Rig::new().await;
    rig.watch = SelfWatchConfig::default();
    rig
}

#[tokio::test]
async fn dead_letters_are_an_alert_until_somebody_looks_after_them() {
    let rig = watched().await;
    let evaluator = evaluator(&Arc::new(AtomicBool::new(false)));
    stage(&rig, 1, &evaluator);
    let gone = Arc::new(AtomicBool::new(true));
    let is_gone = Arc::clone(&gone);
    let moody = NotifierFn::new(move |_, _, _| {
        let message = || "410".to_owned();
        Some(Attempt::made(match is_gone.load(Ordering::SeqCst) {
            true => Sent::Permanent { message: message() },
            false => Sent::Delivered { message: message() },
        }))
    });
    let mut stages = (**rig.stages.load()).clone();
    stages.notifiers.values_mut().for_each(|stage| stage.notifier = moody.clone());
    rig.stages.store(Arc::new(stages));
    let running = Running::start(&rig, Duration::ZERO).await;
    rig.store.act(Act::Tell(decided("n1", "pager", 1)), START).await.unwrap();
    running.look();
    let dead = async || {
        let filter = NotificationFilter::State(DeliveryState::Dead);
        rig.store.notifications(filter, 9).await.unwrap()
    };
    until("it is given up", async || !dead().await.is_empty()).await;
    gone.store(false, Ordering::SeqCst);
    until("that is an alert", async || {
        running.advance(&rig, 1_000);
        own(&rig).await.iter().any(|alert| alert.rule == "sentinel-dead-letters")
    })
    .await;
    let alert = own(&rig).await.remove(0);
    assert_eq!(alert.labels.get("notifier"), Some("pager"));
    assert_eq!(alert.labels.get("source"), Some("sentinel"));
    until("it is told", async || moody.asked.lock().len() >= 2).await;
    for letter in dead().await {
        let dropped = delivery::put_away(&letter, "ann").unwrap();
        rig.store.act(Act::Letter(dropped), START).await.unwrap();
    }
    until("it is over", async || {
        running.advance(&rig, 1_000);
        own(&rig).await.is_empty()
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn an_agent_that_is_silent_and_a_rule_that_fails_are_alerts() {
    let rig = watched().await;
    let failing = EvaluatorFn::new(
        |_| Ok(Plan { needs: Vec::new(), warnings: Vec::new() }),
        |_, _| Err("it broke".to_owned()),
    );
    stage(&rig, 1, &failing);
    let new = NewAgent {
        id: agent(),
        hw_id: "a".repeat(64),
        hostname: "web".into(),
        version: "1".into(),
        labels: std::collections::BTreeMap::new(),
        wrapped_key: vec![1],
        claim: Claim([1; 32]),
    };
    rig.store.register_agent(new, START).await.unwrap();
    rig.store.set_agent_state(&agent(), AgentState::Approved, START).await.unwrap();
    apply(&rig, 1, vec![rule("bad")]).await;
    let running = Running::start(&rig, Duration::ZERO).await;
    until("both fire", async || {
        running.advance(&rig, 5_000);
        let found = own(&rig).await;
        let fires = |rule: &str| found.iter().any(|alert| alert.rule == rule);
        fires("sentinel-agent-silent") && fires("sentinel-rule-failing")
    })
    .await;
    let found = own(&rig).await;
    let of = |rule: &str| found.iter().find(|alert| alert.rule == rule).unwrap();
    assert_eq!(of("sentinel-agent-silent").labels.get("agent"), Some("web-1"));
    let failing = of("sentinel-rule-failing");
    assert_eq!((failing.labels.get("name"), failing.summary.as_str()), (Some("bad"), "it broke"));
    running.stop().await;
}

/// Whether an alert of this rule fires, and for what `label` says.
async fn fires(rig: &Rig, rule: &str, label: &str) -> Option<String> {
    let alert = own(rig).await.into_iter().find(|alert| alert.rule == rule)?;
    alert.labels.get(label).map(str::to_owned)
}

#[tokio::test]
async fn a_rule_that_is_slower_than_its_interval_is_an_alert() {
    let rig = watched().await;
    let plan = |_: &str| Ok(Plan { needs: Vec::new(), warnings: Vec::new() });
    // Its evaluation takes longer than the interval that the rule has.
    let slow = EvaluatorFn::new(plan, |_, _| {
        std::thread::sleep(Duration::from_millis(5));
        Ok(outcome(false))
    });
    stage(&rig, 1, &slow);
    apply(&rig, 1, vec![Rule { interval: "1ms".parse().unwrap(), ..rule("lazy") }]).await;
    let running = Running::start(&rig, Duration::ZERO).await;
    until("it fires", async || {
        running.advance(&rig, 1_000);
        fires(&rig, "sentinel-rule-slow", "name").await.as_deref() == Some("lazy")
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn an_evaluation_that_was_missed_is_an_alert_for_a_while() {
    let rig = watched().await;
    let evaluator = evaluator(&Arc::new(AtomicBool::new(false)));
    stage(&rig, 1, &evaluator);
    apply(&rig, 1, vec![rule("due")]).await;
    let running = Running::start(&rig, Duration::ZERO).await;
    in_force(&running).await;
    let evaluations = || evaluator.evaluated.lock().get("due").map_or(0, Vec::len);
    until("it is evaluated", async || evaluations() == 1).await;
    // Three of its intervals pass and nobody has time for it.
    running.advance(&rig, 30_000);
    let missed = async || fires(&rig, "sentinel-evaluation-missed", "name").await;
    until("it fires", async || {
        running.advance(&rig, 0);
        missed().await.as_deref() == Some("due")
    })
    .await;
    // By the clock, which would otherwise be ahead of it again.
    let in_time = || {
        let now = rig.clock.now();
        let last = evaluator.evaluated.lock()["due"].last().copied();
        last >= Some(now - now.rem_euclid(10_000))
    };
    until("it is over once it was in time for long enough", async || {
        running.advance(&rig, 1_000);
        until("it is evaluated in time", async || in_time()).await;
        missed().await.is_none()
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn a_notifier_that_does_not_answer_is_an_alert() {
    let rig = watched().await;
    let evaluator = evaluator(&Arc::new(AtomicBool::new(false)));
    stage(&rig, 1, &evaluator);
    let down = || Some(Attempt::made(Sent::Unknown { message: "nobody answers".into() }));
    let down = NotifierFn::new(move |_, _, _| down());
    let mut stages = (**rig.stages.load()).clone();
    stages.notifiers.values_mut().for_each(|stage| stage.notifier = down.clone());
    rig.stages.store(Arc::new(stages));
    let running = Running::start(&rig, Duration::ZERO).await;
    for n in 0..9 {
        rig.store.act(Act::Tell(decided(&format!("n{n}"), "pager", n)), START).await.unwrap();
    }
    running.look();
    until("it fires", async || {
        running.advance(&rig, 1_000);
        fires(&rig, "sentinel-notifier-down", "notifier").await.as_deref() == Some("pager")
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn who_does_not_want_them_has_none() {
    let rig = Rig::new().await;
    let failing = EvaluatorFn::new(
        |_| Ok(Plan { needs: Vec::new(), warnings: Vec::new() }),
        |_, _| Err("it broke".to_owned()),
    );
    stage(&rig, 1, &failing);
    apply(&rig, 1, vec![rule("bad")]).await;
    let running = Running::start(&rig, Duration::ZERO).await;
    until("it fails", async || running.status.read().failing == 1).await;
    for _ in 0..20 {
        running.advance(&rig, 30_000);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.stop().await;
    assert!(rig.store.alerts(0).await.unwrap().is_empty());
}
