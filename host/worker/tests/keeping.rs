//! One of several workers keeps alerts, and sees what all of them commit.

mod support;

use async_trait::async_trait;
use sentinel_alerting::delivery::{OnUnknown, Outcome};
use sentinel_model::alert::{DeliveryState, Notification};
use sentinel_model::batch::BatchBuilder;
use sentinel_model::columns::Kind;
use sentinel_model::duration::Millis;
use sentinel_model::ids::AgentId;
use sentinel_runtime::evaluator::{Aggregate, Need, Query};
use sentinel_runtime::{KvSource as _, KvWrite};
use sentinel_store::Store;
use sentinel_store::alerting::AlertingChange;
use sentinel_store::ingest::{Commit, Content};
use sentinel_store::lease::Fence;
use sentinel_worker::feed::{POLL, feed};
use sentinel_worker::keeper::LEASE;
use sentinel_worker::kv::SlotStates;
use sentinel_worker::notify::{MAX_QUEUED, Notifications, NotifyParts};
use sentinel_worker::stages::{Attempt, Notifier, NotifierStage, Stages};
use sentinel_worker::term::Term;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use support::alerts::decided;
use support::running::{Running, apply, evaluator, journal, rule, stage, until_told};
use support::{Rig, START, position, slot, until};
use tokio::sync::{Semaphore, watch};

async fn taken(rig: &Rig, holder: &str) -> Fence {
    rig.store.take_lease(LEASE, holder, Millis(0)).await.unwrap().expect("its time is over")
}

#[tokio::test]
async fn who_lost_the_lease_stores_and_tells_nothing_and_who_has_it_tells_it_once() {
    let rig = Rig::new().await;
    let holds = Arc::new(AtomicBool::new(false));
    let evaluator = evaluator(&holds);
    let notifier = stage(&rig, 1, &evaluator);
    apply(&rig, 1, vec![rule("high")]).await;
    let term = Term::under(taken(&rig, "one").await);
    let one = Running::start_with(&rig, Duration::ZERO, MAX_QUEUED, term.clone()).await;
    until("it evaluates", async || evaluator.evaluated.lock().contains_key("high")).await;
    assert!(!term.is_over(), "that its time is over alone changes nothing");
    // It stands still, and another one takes over.
    let fence = taken(&rig, "two").await;
    holds.store(true, Ordering::SeqCst);
    one.advance(&rig, 10_000);
    until("the first notices", async || term.is_over()).await;
    assert!(rig.store.alerts(0).await.unwrap().is_empty());
    assert!(journal(&rig).await.is_empty() && notifier.asked.lock().is_empty());
    let two = Running::start_with(&rig, Duration::ZERO, MAX_QUEUED, Term::under(fence)).await;
    until_told(&rig, 1).await;
    one.advance(&rig, 10_000);
    two.stop().await;
    assert_eq!((journal(&rig).await.len(), notifier.asked.lock().len()), (1, 1));
}

/// A notifier that answers when it is let, and remembers whom it told last.
struct Remembers {
    asked: AtomicUsize,
    answers: Semaphore,
}

#[async_trait]
impl Notifier for Remembers {
    async fn notify(&self, of: &Notification, _: u32, _: bool) -> Attempt {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.answers.acquire().await.unwrap().forget();
        let last = KvWrite { key: "last".into(), value: Some(of.id.clone().into_bytes()) };
        let sent = Outcome::Delivered { message: String::new() };
        Attempt::Made { sent, remembers: vec![last] }
    }
}

/// Notifications of a term, as long as the sender lives, with what their notifiers remember.
async fn notify(rig: &Rig, term: Term) -> (Notifications, Arc<SlotStates>, watch::Sender<bool>) {
    let (stop, stopping) = watch::channel(false);
    let states = Arc::new(SlotStates::new(rig.store.clone()));
    let parts = NotifyParts {
        store: rig.store.clone(),
        stages: rig.stages.clone(),
        clock: rig.clock.clone(),
        metrics: rig.metrics.clone(),
        queued: MAX_QUEUED,
        states: Arc::clone(&states),
        term,
    };
    (Notifications::start(parts, stopping).await, states, stop)
}

#[tokio::test]
async fn who_lost_the_lease_changes_nothing_of_what_a_notifier_remembers() {
    let rig = Rig::new().await;
    let pager = slot("pager");
    let notifier = Arc::new(Remembers { asked: AtomicUsize::new(0), answers: Semaphore::new(0) });
    let stage = NotifierStage { on_unknown: OnUnknown::Retry, notifier: notifier.clone() };
    let notifiers = [(pager.clone(), stage)].into();
    rig.stages.store(Arc::new(Stages { notifiers, ..Stages::default() }));
    let decided = vec![decided("n1", "pager", 1)];
    rig.store.save_alerting(AlertingChange { decided, ..Default::default() }).await.unwrap();
    let remembered = async || rig.store.slot_state("worker/pager").await.unwrap();
    let term = Term::under(taken(&rig, "one").await);
    let (_one, of_one, _stop) = notify(&rig, term.clone()).await;
    until("it is told", async || notifier.asked.load(Ordering::SeqCst) == 1).await;
    // It stands still meanwhile, and another one takes over.
    let fence = taken(&rig, "two").await;
    notifier.answers.add_permits(1);
    until("the first notices", async || term.is_over()).await;
    assert!(remembered().await.is_empty() && of_one.load(&pager).get("last").is_none());
    let (two, of_two, _stop) = notify(&rig, Term::under(fence)).await;
    notifier.answers.add_permits(1);
    rig.clock.advance(60_000);
    two.notifiers_changed();
    until("it is remembered", async || of_two.load(&pager).get("last").is_some()).await;
    assert_eq!(remembered().await, [("last".to_owned(), b"n1".to_vec())].into());
    let told: Vec<_> = journal(&rig).await.iter().map(|told| told.state).collect();
    assert_eq!(told, [DeliveryState::Delivered]);
}

async fn commit(rig: &Rig, agent: &str, seq: u64, role: &str, value: f64) {
    let mut builder = BatchBuilder::new();
    for (name, value) in [("load", value), ("nobody_reads_this", 1.0)] {
        let labels = [("agent", agent), ("role", role)];
        builder.push(name, labels, Kind::Gauge, value, START + seq as i64);
    }
    let content = Content::Samples(Arc::new(builder.build().unwrap()));
    let agent = AgentId::new(agent).unwrap();
    let epoch = position(1).epoch;
    let commit = Commit { agent, epoch, seq, hash: [seq as u8; 32], content };
    rig.store.commit(vec![commit], START).await.unwrap();
}

#[tokio::test]
async fn windows_see_the_samples_of_every_agent_whoever_commits_them() {
    let rig = Rig::new().await;
    commit(&rig, "a", 1, "web", 1.0).await;
    let need = Need { selector: Arc::new("load".parse().unwrap()), window_ms: 60_000 };
    rig.windows.write().set_needs(std::slice::from_ref(&need));
    let from = rig.store.tail_end().await.unwrap();
    rig.windows.write().stands_at(from);
    let feeding = feed(rig.store.clone() as Arc<dyn Store>, rig.windows.clone(), POLL);
    let query = Query {
        selector: need.selector,
        window_ms: 60_000,
        offset_ms: 0,
        aggregate: Aggregate::Avg,
    };
    let looking = async {
        // Of other workers: two agents, in one role.
        for seq in 2..=100 {
            commit(&rig, "a", seq, "web", 3.0).await;
            commit(&rig, "b", seq - 1, "web", 5.0).await;
        }
        let answer = || rig.windows.read().ask(START + 1_000, &query).unwrap();
        until("all came", async || rig.windows.read().size() == (2, 198)).await;
        let mut values = answer().value;
        values.sort_by(f64::total_cmp);
        assert_eq!(values, [3.0, 5.0]);
    };
    tokio::select! {
        () = feeding => unreachable!(),
        () = looking => {}
    }
}
