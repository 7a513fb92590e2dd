//! A running evaluation with delivery.

use super::{EvaluatorFn, NotifierFn, Rig, START, slot, until};
use sentinel_alerting::delivery::{OnUnknown, Outcome as Sent};
use sentinel_model::alert::{Delivery, DeliveryState};
use sentinel_model::rule::{Rule, RuleSet};
use sentinel_runtime::evaluator::{Instance, Outcome, Plan};
use sentinel_store::Store as _;
use sentinel_store::alerting::NotificationFilter;
use sentinel_worker::evaluate::{EvaluateParts, Evaluation, SharedRulesStatus};
use sentinel_worker::feed::{POLL, feed};
use sentinel_worker::kv::SlotStates;
use sentinel_worker::notify::{MAX_QUEUED, Notifications, NotifyParts};
use sentinel_worker::stages::{Attempt, EvaluatorStage, NotifierStage, Stages};
use sentinel_worker::term::Term;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// A running evaluation with delivery.
pub struct Running {
    pub status: SharedRulesStatus,
    changed: watch::Sender<u64>,
    stop: watch::Sender<bool>,
    pub notifications: Notifications,
    task: JoinHandle<()>,
    /// Aborted with it.
    _feed: JoinSet<()>,
}

impl Running {
    pub async fn start(rig: &Rig, settle: Duration) -> Self {
        Self::start_with(rig, settle, MAX_QUEUED, Term::default()).await
    }

    /// With lanes that hold so many notifications, and as long as a term lasts.
    pub async fn start_with(rig: &Rig, settle: Duration, queued: usize, term: Term) -> Self {
        let (stop, stopping) = watch::channel(false);
        let (changed, changes) = watch::channel(0);
        let parts = NotifyParts {
            store: rig.store.clone(),
            stages: rig.stages.clone(),
            clock: rig.clock.clone(),
            metrics: rig.metrics.clone(),
            queued,
            states: Arc::new(SlotStates::new(rig.store.clone())),
            term: term.clone(),
        };
        let end = rig.store.tail_end().await.unwrap();
        rig.windows.write().stands_at(end);
        let mut feeding = JoinSet::new();
        feeding.spawn(feed(rig.store.clone(), rig.windows.clone(), POLL));
        let notifications = Notifications::start(parts, stopping.clone()).await;
        let evaluation = Evaluation::restore(EvaluateParts {
            store: rig.store.clone(),
            stages: rig.stages.clone(),
            windows: rig.windows.clone(),
            notifications: notifications.clone(),
            routing: rig.routing.clone(),
            watch: rig.watch.clone(),
            clock: rig.clock.clone(),
            metrics: rig.metrics.clone(),
            settle,
            caught_up: Arc::new(AtomicBool::new(true)),
            term: term.clone(),
        })
        .await;
        let status = evaluation.status();
        Self {
            status,
            changed,
            stop,
            notifications,
            _feed: feeding,
            task: tokio::spawn(async move { term.within(evaluation.run(changes, stopping)).await }),
        }
    }

    /// Lets time pass and has the evaluation look.
    pub fn advance(&self, rig: &Rig, millis: i64) {
        rig.clock.advance(millis);
        self.look();
    }

    pub fn look(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Ends it where it stands. Its store must not keep anything any more.
    pub fn kill(self) {
        self.task.abort();
        self.stop.send_replace(true);
    }

    pub async fn stop(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
        self.notifications.drained().await;
    }
}

pub fn rule(name: &str) -> Rule {
    let json = serde_json::json!({
        "name": name, "condition": {"of": name}, "evaluator": "eval", "interval": "10s",
        "labels": {"severity": "page"},
    });
    serde_json::from_value(json).unwrap()
}

pub async fn apply(rig: &Rig, version: u64, rules: Vec<Rule>) {
    rig.store.save_rules(&RuleSet { version, applied_at: START, rules }).await.unwrap();
}

pub fn outcome(active: bool) -> Outcome {
    let instance = || Instance { labels: Vec::new(), value: 7.0, summary: "high".into() };
    Outcome { active: active.then(instance).into_iter().collect(), series_read: 1 }
}

/// An evaluator for which all rules hold as long as `holds` is true.
pub fn evaluator(holds: &Arc<AtomicBool>) -> Arc<EvaluatorFn> {
    let holds = holds.clone();
    let plan = |_: &str| Ok(Plan { needs: Vec::new(), warnings: Vec::new() });
    EvaluatorFn::new(plan, move |_, _| Ok(outcome(holds.load(Ordering::SeqCst))))
}

pub fn stage(rig: &Rig, generation: u64, evaluator: &Arc<EvaluatorFn>) -> Arc<NotifierFn> {
    let taken = || Some(Attempt::made(Sent::Delivered { message: String::new() }));
    let notifier = NotifierFn::new(move |_, _, _| taken());
    let stages = Stages {
        transforms: Vec::new(),
        evaluators: [(slot("eval"), EvaluatorStage { generation, evaluator: evaluator.clone() })]
            .into(),
        notifiers: [(
            slot("pager"),
            NotifierStage { on_unknown: OnUnknown::Retry, notifier: notifier.clone() },
        )]
        .into(),
    };
    rig.stages.store(Arc::new(stages));
    notifier
}

pub async fn journal(rig: &Rig) -> Vec<Delivery> {
    let mut all = rig.store.notifications(NotificationFilter::All, 100).await.unwrap();
    all.sort_by_key(|delivery| delivery.notification.time);
    all
}

pub async fn until_told(rig: &Rig, count: usize) {
    until(&format!("{count} notifications are delivered"), async || {
        let all = journal(rig).await;
        all.len() == count && all.iter().all(|d| d.state == DeliveryState::Delivered)
    })
    .await;
}
