//! What a worker counts, as it says it at `/metrics`.

mod support;

use async_trait::async_trait;
use prometheus::{Registry, TextEncoder};
use sentinel_alerting::delivery::{OnUnknown, Outcome};
use sentinel_bus::{
    Answer, Bus, BusError, Delivery, Depth, EmbeddedBus, Incarnation, Message, Subscription,
};
use sentinel_worker::ingest::consume;
use sentinel_worker::metrics::Metrics;
use sentinel_worker::stages::{Attempt, EvaluatorStage, NotifierStage, Stages};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::running::{Running, apply, evaluator, rule, until_told};
use support::{EvaluatorFn, NotifierFn, Rig, slot, until};
use tokio::sync::{Semaphore, watch};

const RECORDS: u64 = 5;
/// How long the notifier takes, by the clock of the test.
const TELLING: i64 = 3_000;

/// A bus that lets nobody subscribe before the gate is open, nor at the first attempt after, and
/// that takes its first answer without saying so.
struct Unwilling {
    bus: Arc<EmbeddedBus>,
    gate: Semaphore,
    refused: AtomicBool,
    lost: Arc<AtomicBool>,
}

fn failed(operation: &'static str) -> BusError {
    BusError::Failed { operation, cause: "by order of a test".to_owned() }
}

#[async_trait]
impl Bus for Unwilling {
    fn incarnation(&self) -> Incarnation {
        Bus::incarnation(&*self.bus)
    }

    async fn publish(&self, message: Message) -> Result<(), BusError> {
        Bus::publish(&*self.bus, message).await
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, BusError> {
        let _open = self.gate.acquire().await.expect("it is never closed");
        if !self.refused.swap(true, Ordering::SeqCst) {
            return Err(failed("subscribe"));
        }
        let bus = Bus::subscribe(&*self.bus).await?;
        Ok(Box::new(Forgetful { bus, lost: Arc::clone(&self.lost) }))
    }

    async fn depth(&self) -> Result<Depth, BusError> {
        Bus::depth(&*self.bus).await
    }

    async fn close(&self) -> Result<(), BusError> {
        Bus::close(&*self.bus).await
    }
}

struct Forgetful {
    bus: Box<dyn Subscription>,
    lost: Arc<AtomicBool>,
}

#[async_trait]
impl Subscription for Forgetful {
    async fn next_many(&mut self, max: usize) -> Result<Vec<Delivery>, BusError> {
        let delivered = self.bus.next_many(max).await?;
        let through = |delivery: Delivery| {
            let (message, times) = (delivery.message.clone(), delivery.deliveries);
            let answer = Unsaid { delivery: Some(delivery), lost: Arc::clone(&self.lost) };
            Delivery::new(message, times, Box::new(answer))
        };
        Ok(delivered.into_iter().map(through).collect())
    }
}

struct Unsaid {
    delivery: Option<Delivery>,
    lost: Arc<AtomicBool>,
}

#[async_trait]
impl Answer for Unsaid {
    async fn ack(&mut self) -> Result<(), BusError> {
        if let Some(delivery) = self.delivery.take() {
            delivery.ack().await?;
        }
        if self.lost.swap(true, Ordering::SeqCst) { Ok(()) } else { Err(failed("acknowledge")) }
    }

    async fn nak(&mut self, delay: Duration) -> Result<(), BusError> {
        match self.delivery.take() {
            Some(delivery) => delivery.nak(delay).await,
            None => Ok(()),
        }
    }
}

/// With a notifier that takes its time.
fn stages(rig: &Rig, evaluator: &Arc<EvaluatorFn>) {
    let clock = rig.clock.clone();
    let notifier = NotifierFn::new(move |_, _, _| {
        clock.advance(TELLING);
        Some(Attempt::made(Outcome::Delivered { message: String::new() }))
    });
    let evaluator = EvaluatorStage { generation: 1, evaluator: evaluator.clone() };
    let notifier = NotifierStage { on_unknown: OnUnknown::Retry, notifier };
    rig.stages.store(Arc::new(Stages {
        transforms: Vec::new(),
        evaluators: [(slot("eval"), evaluator)].into(),
        notifiers: [(slot("pager"), notifier)].into(),
    }));
}

/// A number of `/metrics`, by its name without `sentinel_worker_`.
fn counted(registry: &Registry, name: &str) -> f64 {
    let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    let of = format!("sentinel_worker_{name} ");
    let number = text.lines().find_map(|line| line.strip_prefix(of.as_str()));
    number.unwrap_or_else(|| panic!("{of}in {text}")).parse().unwrap()
}

#[tokio::test]
async fn a_worker_counts_what_it_does() {
    let mut rig = Rig::new().await;
    let registry = Registry::new();
    rig.metrics = Metrics::register(&registry).unwrap();
    let counted = |name: &str| counted(&registry, name);
    for seq in 1..=RECORDS {
        rig.publish(seq, 1, rig.sample(seq, 1)).await;
    }
    let bus = Arc::new(Unwilling {
        bus: rig.bus.clone(),
        gate: Semaphore::new(0),
        refused: AtomicBool::new(false),
        lost: Arc::default(),
    });
    let (stop, stopping) = watch::channel(false);
    let (ingest, metrics) = (rig.ingest(), rig.metrics.clone());
    let task = tokio::spawn(consume(bus.clone(), ingest, metrics, Arc::default(), stopping));
    until("what waits is seen", async || counted("bus_depth") == RECORDS as f64).await;
    assert_eq!((counted("acks_total"), counted("bus_failures_total")), (0.0, 0.0));
    assert_eq!(counted("commit_seconds_count"), 0.0);
    bus.gate.add_permits(1);

    // Meanwhile an alert fires, and is told.
    let holds = Arc::new(AtomicBool::new(false));
    let evaluator = evaluator(&holds);
    stages(&rig, &evaluator);
    apply(&rig, 1, vec![rule("high")]).await;
    let running = Running::start(&rig, Duration::ZERO).await;
    until("it evaluates", async || evaluator.evaluated.lock().contains_key("high")).await;
    holds.store(true, Ordering::SeqCst);
    running.advance(&rig, 10_000);
    until_told(&rig, 1).await;
    running.stop().await;
    let evaluated = evaluator.evaluated.lock()["high"].len();
    assert_eq!(counted("evaluation_seconds_count"), evaluated as f64);
    assert_eq!(counted("notification_seconds_count"), 1.0);
    let took = counted("notification_seconds_sum");
    assert!((TELLING as f64 / 1e3..60.0).contains(&took), "{took}");

    until("nothing waits, which is seen", async || counted("bus_depth") == 0.0).await;
    stop.send(true).unwrap();
    task.await.unwrap();
    assert_eq!(rig.committed().await, RECORDS);
    // One answer was lost, and once nobody was let in.
    assert_eq!(counted("acks_total"), (RECORDS - 1) as f64);
    assert_eq!(counted("bus_failures_total"), 2.0);
    let (commits, taken) = (counted("commit_seconds_count"), counted("processing_seconds_count"));
    assert!((1.0..=RECORDS as f64).contains(&taken), "{taken}");
    assert!((1.0..=RECORDS as f64).contains(&commits), "{commits}");
    assert!(counted("commit_seconds_sum") > 0.0);
}
