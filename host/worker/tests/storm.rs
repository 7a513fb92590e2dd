//! Many alerts at once: told in groups, in bounded memory, all of them, and nobody else waits.

mod support;

use async_trait::async_trait;
use sentinel_alerting::delivery::{OnUnknown, Outcome as Sent};
use sentinel_alerting::routing::RouteConfig;
use sentinel_model::alert::{DeliveryState, Notification};
use sentinel_model::rule::Rule;
use sentinel_runtime::evaluator::{Instance, Outcome, Plan};
use sentinel_store::Store as _;
use sentinel_store::alerting::NotificationFilter;
use sentinel_worker::config::WorkerConfig;
use sentinel_worker::stages::{Attempt, EvaluatorStage, Notifier, NotifierStage, Stages};
use sentinel_worker::term::Term;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::running::{Running, apply, outcome, rule};
use support::{EvaluatorFn, Rig, slot, until};
use tokio::sync::Semaphore;

const RULES: usize = 20;
const ALERTS_A_RULE: usize = 100;
/// What a lane holds: fewer than there are messages.
const QUEUED: usize = 8;
/// How often somebody else has to be told of something meanwhile.
const OTHERS: usize = 10;
/// How long that may take each time.
const DELAY: Duration = Duration::from_secs(5);

/// Takes what it is told, once the gate lets it through.
struct Gated {
    gate: Semaphore,
    /// How often each alert was told as firing, and how many messages there were.
    told: parking_lot::Mutex<(BTreeMap<u64, u32>, usize)>,
}

impl Gated {
    fn new(open: usize) -> Arc<Self> {
        Arc::new(Self { gate: Semaphore::new(open), told: parking_lot::Mutex::default() })
    }
}

#[async_trait]
impl Notifier for Gated {
    async fn notify(&self, notification: &Notification, _: u32, _: bool) -> Attempt {
        let _pass = self.gate.acquire().await.expect("it is never closed");
        let mut told = self.told.lock();
        told.1 += 1;
        for alert in &notification.alerts {
            *told.0.entry(alert.fingerprint.0).or_default() += 1;
        }
        Attempt::made(Sent::Delivered { message: String::new() })
    }
}

/// An evaluator for which each rule of the storm holds for many series, and `other` as it says.
fn evaluator(other: &Arc<AtomicBool>) -> Arc<EvaluatorFn> {
    let other = Arc::clone(other);
    let plan = |_: &str| Ok(Plan { needs: Vec::new(), warnings: Vec::new() });
    EvaluatorFn::new(plan, move |rule, _| {
        if rule == "other" {
            return Ok(outcome(other.load(Ordering::SeqCst)));
        }
        let instance = |n: usize| Instance {
            labels: vec![("n".to_owned(), n.to_string())],
            value: 1.0,
            summary: String::new(),
        };
        let active = (0..ALERTS_A_RULE).map(instance).collect();
        Ok(Outcome { active, series_read: ALERTS_A_RULE as u32 })
    })
}

fn stage(rig: &Rig, evaluator: Arc<EvaluatorFn>, notifiers: [(&str, Arc<Gated>); 2]) {
    let on_unknown = OnUnknown::Retry;
    let stages = Stages {
        transforms: Vec::new(),
        evaluators: [(slot("eval"), EvaluatorStage { generation: 1, evaluator })].into(),
        notifiers: notifiers
            .map(|(name, notifier)| (slot(name), NotifierStage { on_unknown, notifier }))
            .into(),
    };
    rig.stages.store(Arc::new(stages));
    let routes: RouteConfig = serde_json::from_value(serde_json::json!({
        "notify": ["storm"], "group_by": ["rule"], "group_wait": "0s",
        "routes": [{
            "match": ["rule=other"], "notify": ["other"], "group_by": ["..."],
            "group_interval": "0s",
        }],
    }))
    .unwrap();
    let config = WorkerConfig { routes: Some(routes), ..WorkerConfig::default() };
    rig.routing.store(Arc::new(config.routing().unwrap()));
}

#[tokio::test]
async fn a_storm_is_told_in_groups_and_whole_and_delays_nobody_else() {
    let rig = Rig::new().await;
    let fires = Arc::new(AtomicBool::new(false));
    let (storm, other) = (Gated::new(0), Gated::new(100));
    stage(&rig, evaluator(&fires), [("storm", Arc::clone(&storm)), ("other", Arc::clone(&other))]);
    let mut rules: Vec<Rule> = (0..RULES).map(|n| rule(&format!("storm-{n}"))).collect();
    rules.push(rule("other"));
    apply(&rig, 1, rules).await;
    let running = Running::start_with(&rig, Duration::ZERO, QUEUED, Term::default()).await;
    let journal = async || rig.store.notifications(NotificationFilter::All, 1_000).await.unwrap();
    until("the storm is decided", async || journal().await.len() == RULES).await;
    let open = |name: &str| {
        let lanes = running.notifications.status();
        lanes.iter().find(|lane| lane.notifier == slot(name)).map_or(0, |lane| lane.open)
    };
    // They are in the store before they are in the lane.
    until("its lane is full, and the others wait in the store", async || open("storm") == QUEUED)
        .await;

    // Nobody takes anything of the storm, and somebody else has to be told.
    for n in 1..=OTHERS {
        fires.store(!n.is_multiple_of(2), Ordering::SeqCst);
        let began = tokio::time::Instant::now();
        running.advance(&rig, 10_000);
        until("the other is told", async || other.told.lock().1 == n).await;
        assert!(began.elapsed() <= DELAY, "{n}: after {:?}", began.elapsed());
        assert!(open("storm") <= QUEUED);
    }
    assert_eq!(storm.told.lock().1, 0);

    storm.gate.add_permits(2);
    until("all is told", async || {
        journal().await.iter().all(|delivery| delivery.state == DeliveryState::Delivered)
    })
    .await;
    running.stop().await;
    let (alerts, messages) = storm.told.lock().clone();
    assert_eq!(messages, RULES, "one message a group");
    assert_eq!(alerts.len(), RULES * ALERTS_A_RULE, "nothing is lost");
    assert!(alerts.values().all(|times| *times == 1), "nothing is told twice");
}
