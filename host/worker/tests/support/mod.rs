//! What the tests of the pipelines share: a real store and a real bus in a temporary folder,
//! plugins made of closures, a clock that stands still, and a store that can be made to refuse.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

pub mod alerts;
pub mod flaky;
pub mod running;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use flaky::FlakyStore;
use parking_lot::{Mutex, RwLock};
use prost::Message as _;
use sentinel_alerting::routing::Routing;
use sentinel_bus::{Bus, EmbeddedBus, EmbeddedOptions, Message, MessageId};
use sentinel_model::alert::Notification;
use sentinel_model::batch::{Batch, BatchBuilder};
use sentinel_model::codec;
use sentinel_model::columns::Kind;
use sentinel_model::ids::{AgentId, Epoch, Position, SlotName};
use sentinel_runtime::evaluator::{Condition, Outcome, Plan};
use sentinel_store::sqlite::{SqliteStore, StoreOptions};
use sentinel_store::{Store, StoreError};
use sentinel_wire::envelope::{self, Content, Record};
use sentinel_wire::key::AgentKey;
use sentinel_worker::clock::Clock;
use sentinel_worker::config::SelfWatchConfig;
use sentinel_worker::ingest::{AgentKeys, Ingest, IngestParts};
use sentinel_worker::metrics::Metrics;
use sentinel_worker::stages::{
    Attempt, Evaluator, EvaluatorError, Notifier, Stages, Transform, TransformError, TransformStage,
};
use sentinel_worker::windows::Windows;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// When the tests begin, unix milliseconds.
pub const START: i64 = 1_800_000_000_000;
/// How long something may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(90);

/// Waits for something that other tasks bring about.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub struct ManualClock(AtomicI64);

impl ManualClock {
    pub fn advance(&self, millis: i64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

pub struct Rig {
    pub folder: tempfile::TempDir,
    pub store: Arc<FlakyStore>,
    pub bus: Arc<EmbeddedBus>,
    pub clock: Arc<ManualClock>,
    pub stages: Arc<ArcSwap<Stages>>,
    pub windows: Arc<RwLock<Windows>>,
    pub routing: Arc<ArcSwap<Routing>>,
    /// Off, unless a test is about it.
    pub watch: SelfWatchConfig,
    pub metrics: Metrics,
    pub key: AgentKey,
}

impl Rig {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store =
            SqliteStore::open(folder.path().join("db"), StoreOptions::default()).await.unwrap();
        let bus =
            EmbeddedBus::open(&folder.path().join("bus"), EmbeddedOptions::default()).unwrap();
        Self {
            folder,
            store: Arc::new(FlakyStore::new(Arc::new(store))),
            bus: Arc::new(bus),
            clock: Arc::new(ManualClock(AtomicI64::new(START))),
            stages: Arc::default(),
            windows: Arc::default(),
            routing: Arc::default(),
            watch: SelfWatchConfig { enabled: false, ..SelfWatchConfig::default() },
            metrics: Metrics::register(&prometheus::Registry::new()).unwrap(),
            key: AgentKey::random(1),
        }
    }

    pub fn keys(&self) -> Arc<OneKey> {
        Arc::new(OneKey(self.key.clone()))
    }

    /// The way of its records into its store.
    pub fn ingest(&self) -> Ingest {
        Ingest::new(IngestParts {
            store: self.store.clone(),
            keys: self.keys(),
            stages: self.stages.clone(),
            windows: Some(self.windows.clone()),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            transform_wait: Duration::from_millis(1),
        })
    }

    pub fn records(&self, outcome: &str) -> u64 {
        self.metrics.records.with_label_values(&[outcome]).get()
    }

    /// Sets the transforms.
    pub fn transforms(&self, transforms: Vec<Arc<dyn Transform>>) {
        let stage = |(i, transform)| TransformStage { slot: slot(&format!("t{i}")), transform };
        let transforms = transforms.into_iter().enumerate().map(stage).collect();
        self.stages.store(Arc::new(Stages { transforms, ..Stages::default() }));
    }

    /// A record as it comes from the bus.
    pub fn message(&self, seq: u64, attempt: u32, content: Content) -> Bytes {
        let record = Record { agent: agent(), position: position(seq), attempt, content };
        envelope::seal(&record, &self.key, START, [7; 16]).encode_to_vec().into()
    }

    /// A record that holds one sample of `requests_total`, whose value and time are its number.
    pub fn sample(&self, seq: u64, attempt: u32) -> Bytes {
        self.message(seq, attempt, Content::Batch(codec::encode(&batch(seq)).into()))
    }

    pub async fn publish(&self, seq: u64, attempt: u32, payload: Bytes) {
        let id = MessageId { agent: agent(), epoch: position(seq).epoch, seq, attempt };
        self.bus.publish(Message { id, payload }).await.unwrap();
    }

    pub async fn committed(&self) -> u64 {
        self.store.stream_state(&agent(), position(1).epoch).await.unwrap().committed
    }

    /// The values of `requests_total` in the store, each once, by their labels.
    pub async fn stored(&self) -> Vec<(String, Vec<f64>)> {
        let range = sentinel_store::query::TimeRange { start: 0, end: i64::MAX };
        let selector = "requests_total".parse().unwrap();
        let found = self.store.range(&selector, range, None).await.unwrap();
        found.into_iter().map(|s| (s.info.key.labels.to_string(), s.points.values)).collect()
    }
}

pub fn agent() -> AgentId {
    AgentId::new("web-1").unwrap()
}

pub fn slot(name: &str) -> SlotName {
    SlotName::new(name).unwrap()
}

pub fn position(seq: u64) -> Position {
    Position { epoch: Epoch([3; 16]), seq }
}

pub fn batch(value: u64) -> Batch {
    let mut builder = BatchBuilder::new();
    let labels = [("agent", "somebody-else"), ("code", "200")];
    builder.push("requests_total", labels, Kind::Counter, value as f64, START + value as i64);
    builder.build().unwrap()
}

/// Knows the key of one agent.
pub struct OneKey(AgentKey);

#[async_trait]
impl AgentKeys for OneKey {
    async fn keys(&self, of: &AgentId) -> Result<Vec<AgentKey>, StoreError> {
        Ok(if *of == agent() { vec![self.0.clone()] } else { Vec::new() })
    }
}

/// A transform made of a closure.
pub struct TransformFn<F>(pub F);

#[async_trait]
impl<F> Transform for TransformFn<F>
where
    F: Fn(Arc<Batch>) -> Result<Arc<Batch>, TransformError> + Send + Sync,
{
    async fn reshape(&self, batch: Arc<Batch>) -> Result<Arc<Batch>, TransformError> {
        (self.0)(batch)
    }
}

type Condemn = Box<dyn Fn(&Notification, u32, bool) -> Option<Attempt> + Send + Sync>;

/// A notifier made of a closure, which keeps what it was asked. `None` never answers.
pub struct NotifierFn {
    answer: Condemn,
    /// Id, attempt, and whether it may be a repeat.
    pub asked: Mutex<Vec<(String, u32, bool)>>,
}

impl NotifierFn {
    pub fn new(
        answer: impl Fn(&Notification, u32, bool) -> Option<Attempt> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { answer: Box::new(answer), asked: Mutex::default() })
    }
}

#[async_trait]
impl Notifier for NotifierFn {
    async fn notify(&self, notification: &Notification, attempt: u32, repeat: bool) -> Attempt {
        self.asked.lock().push((notification.id.clone(), attempt, repeat));
        match (self.answer)(notification, attempt, repeat) {
            Some(attempt) => attempt,
            None => std::future::pending().await,
        }
    }
}

type Check = Box<dyn Fn(&str) -> Result<Plan, EvaluatorError> + Send + Sync>;
type Answer = Box<dyn Fn(&str, i64) -> Result<Outcome, String> + Send + Sync>;

/// An evaluator made of closures: over the condition's text, and over a rule's name and time.
pub struct EvaluatorFn {
    check: Check,
    answer: Answer,
    loaded: Mutex<Vec<Condition>>,
    /// Evaluations by rule.
    pub evaluated: Mutex<BTreeMap<String, Vec<i64>>>,
}

impl EvaluatorFn {
    pub fn new(
        check: impl Fn(&str) -> Result<Plan, EvaluatorError> + Send + Sync + 'static,
        answer: impl Fn(&str, i64) -> Result<Outcome, String> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            check: Box::new(check),
            answer: Box::new(answer),
            loaded: Mutex::default(),
            evaluated: Mutex::default(),
        })
    }
}

#[async_trait]
impl Evaluator for EvaluatorFn {
    async fn check(&self, text: &str) -> Result<Plan, EvaluatorError> {
        (self.check)(text)
    }

    async fn load(&self, conditions: Vec<Condition>) -> Result<(), EvaluatorError> {
        *self.loaded.lock() = conditions;
        Ok(())
    }

    async fn evaluate(
        &self,
        indexes: Vec<u32>,
        at: i64,
    ) -> Result<Vec<Result<Outcome, String>>, EvaluatorError> {
        let rules: Vec<String> = {
            let loaded = self.loaded.lock();
            indexes.iter().map(|&i| loaded[i as usize].rule.clone()).collect()
        };
        for rule in &rules {
            self.evaluated.lock().entry(rule.clone()).or_default().push(at);
        }
        Ok(rules.iter().map(|rule| (self.answer)(rule, at)).collect())
    }
}
