//! From the bus to the store: each record once, each stream in order.
//!
//! What happens to a message:
//!
//! | it is | then |
//! |---|---|
//! | not an envelope, or its signature does not fit, or its agent may not push | acknowledged, counted as refused, logged: nobody can be asked for it |
//! | the next of its stream | decoded, labelled, reshaped, committed; acknowledged after that |
//! | undecodable, rejected by a transform, or failed [`TRANSFORM_ATTEMPTS`] times | committed as dead with its bytes; acknowledged |
//! | delivered more than [`MAX_DELIVERIES`](sentinel_bus::MAX_DELIVERIES) times: whoever had it before did not come to an end with it | committed as dead with its bytes, not looked into; acknowledged |
//! | to be reshaped by a transform that is not loaded, or is left alone after failures | waits, and all behind it |
//! | committed before | acknowledged |
//! | committed before with another hash | acknowledged, counted as a contradiction, logged as an error |
//! | ahead of its stream | acknowledged, dropped; the agent is asked to send again |
//!
//! Several records are committed in one transaction. While the store refuses, everything waits:
//! nothing is acknowledged, the same transaction is tried again until it is taken, and the
//! samples are safe with the agents. The order of the bus is kept in every case, so a crash at
//! any point means that unacknowledged messages come again and are duplicates or the next.

mod consume;
mod prepare;

pub use consume::consume;
pub use prepare::{PREPARED_AT_ONCE, TRANSFORM_ATTEMPTS};

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::patience::Patience;
use crate::stages::Stages;
use crate::windows::Windows;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use hashbrown::HashMap;
use parking_lot::RwLock;
use prepare::Preparer;
use prost::Message as _;
use sentinel_model::ids::{AgentId, Epoch, Position};
use sentinel_store::ingest::{Commit, CommitOutcome, Content};
use sentinel_store::{Store, StoreError};
use sentinel_wire::envelope::{self, Record};
use sentinel_wire::key::AgentKey;
use sentinel_wire::v1;
use std::sync::Arc;
use std::time::Duration;

/// The most records committed in one transaction.
pub const MAX_RECORDS: usize = 64;
/// The most bytes of payload in one transaction; a single record may have more.
pub const MAX_BYTES: usize = 8 << 20;
/// The most streams whose place is remembered; beyond, all are asked of the store again.
const MAX_STREAMS: usize = 100_000;

/// The keys with which agents sign. Whoever keeps the wrapping key implements it.
#[async_trait]
pub trait AgentKeys: Send + Sync {
    /// The keys of an agent that may sign now; none where it is unknown or not approved.
    ///
    /// # Errors
    /// Where that cannot be found out now.
    async fn keys(&self, agent: &AgentId) -> Result<Vec<AgentKey>, StoreError>;
}

/// What ingest works with.
#[derive(Clone)]
pub struct IngestParts {
    /// Where records are committed.
    pub store: Arc<dyn Store>,
    /// Who may have signed them.
    pub keys: Arc<dyn AgentKeys>,
    /// What reshapes them.
    pub stages: Arc<ArcSwap<Stages>>,
    /// Who reads them from the store and is told that there are some, where it is in this process.
    pub windows: Option<Arc<RwLock<Windows>>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Metrics,
    /// The wait after the first failure of a transform; doubled after each further one.
    pub transform_wait: Duration,
}

type StreamKey = (AgentId, Epoch);

/// What is known of a stream.
#[derive(Debug, Clone, Copy)]
struct Stream {
    /// The record that comes next.
    next: u64,
    /// The highest attempt that was asked for.
    asked: u32,
}

/// The way of records into the store.
pub struct Ingest {
    parts: IngestParts,
    streams: HashMap<StreamKey, Stream>,
    patience: Patience,
}

/// A message as the bus delivered it.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Its bytes.
    pub payload: Bytes,
    /// How often it was delivered, this time included.
    pub deliveries: u32,
}

impl From<Bytes> for Incoming {
    fn from(payload: Bytes) -> Self {
        Self { payload, deliveries: 1 }
    }
}

/// A record whose signature fits.
struct Opened {
    record: Record,
    deliveries: u32,
}

/// A record that is to be committed, with the attempt at which it came.
struct Ready {
    commit: Commit,
    attempt: u32,
}

impl Ingest {
    /// Starts without knowledge of any stream.
    #[must_use]
    pub fn new(parts: IngestParts) -> Self {
        let patience = Patience::new("the store does not take samples", parts.metrics.clone());
        Self { parts, streams: HashMap::new(), patience }
    }

    /// Whether the store refused the last write, and why.
    #[must_use]
    pub fn trouble(&self) -> Arc<RwLock<Option<String>>> {
        self.patience.trouble()
    }

    /// Takes messages in their order. When it returns all of them may be acknowledged; if it
    /// is dropped before, none may.
    pub async fn take<M: Clone + Into<Incoming>>(&mut self, messages: &[M]) {
        let messages = messages.iter().cloned().map(Into::into).collect();
        let records = self.open(messages).await;
        let mut rest = records.as_slice();
        while !rest.is_empty() {
            let part = transaction(rest);
            rest = &rest[part.len()..];
            self.commit(part).await;
        }
    }

    /// Decodes and verifies. Whoever reads the bus does not trust who wrote to it.
    async fn open(&mut self, messages: Vec<Incoming>) -> Vec<Opened> {
        let mut known: HashMap<AgentId, Vec<AgentKey>> = HashMap::new();
        let mut records = Vec::with_capacity(messages.len());
        for Incoming { payload, deliveries } in messages {
            match self.open_one(payload, &mut known).await {
                Ok(record) => records.push(Opened { record, deliveries }),
                Err(reason) => {
                    self.parts.metrics.record("refused");
                    tracing::error!(
                        reason,
                        "a message of the bus is refused and dropped; if this goes on, somebody writes to the bus who must not"
                    );
                }
            }
        }
        records
    }

    async fn open_one(
        &mut self,
        message: Bytes,
        known: &mut HashMap<AgentId, Vec<AgentKey>>,
    ) -> Result<Record, String> {
        let envelope =
            v1::Envelope::decode(message).map_err(|e| format!("not an envelope: {e}"))?;
        let agent = AgentId::new(&envelope.agent_id).map_err(|e| e.to_string())?;
        if !known.contains_key(&agent) {
            let keys = Arc::clone(&self.parts.keys);
            let found = self.patience.until(|| keys.keys(&agent)).await;
            known.insert(agent.clone(), found);
        }
        let keys = &known[&agent];
        let key = keys
            .iter()
            .find(|key| key.id() == envelope.key_id)
            .ok_or_else(|| format!("agent {agent} has no key {} that may sign", envelope.key_id))?;
        envelope::open(&envelope, key).map_err(|e| e.to_string())
    }

    async fn commit(&mut self, records: &[Opened]) {
        let mut due = Vec::with_capacity(records.len());
        for opened in records {
            if self.is_ahead(&opened.record).await {
                self.gap(&opened.record).await;
            } else {
                due.push(opened);
            }
        }
        let preparer = Preparer::new(&self.parts);
        let prepared: Vec<_> = due.into_iter().map(|opened| preparer.prepare(opened)).collect();
        let ready: Vec<Ready> =
            futures::stream::iter(prepared).buffered(PREPARED_AT_ONCE).collect().await;
        if ready.is_empty() {
            return;
        }
        let outcomes = self.write(&ready).await;
        for (ready, outcome) in ready.into_iter().zip(outcomes) {
            self.settle(ready, outcome).await;
        }
        if let Some(windows) = &self.parts.windows {
            windows.read().wake().notify_one();
        }
    }

    async fn write(&mut self, ready: &[Ready]) -> Vec<CommitOutcome> {
        let (store, clock) = (Arc::clone(&self.parts.store), Arc::clone(&self.parts.clock));
        let commit = || {
            let commits = ready.iter().map(|ready| ready.commit.clone()).collect();
            store.commit(commits, clock.now())
        };
        let timer = self.parts.metrics.commit_seconds.start_timer();
        let outcomes = self.patience.until(commit).await;
        timer.observe_duration();
        outcomes
    }

    /// Whether records before this one are missing. A place that is remembered may be behind,
    /// never ahead, so before saying yes the store is asked.
    async fn is_ahead(&mut self, record: &Record) -> bool {
        let key = (record.agent.clone(), record.position.epoch);
        let seq = record.position.seq;
        if self.streams.get(&key).is_none_or(|stream| stream.next < seq) {
            let store = Arc::clone(&self.parts.store);
            let state = self.patience.until(|| store.stream_state(&key.0, key.1)).await;
            if self.streams.len() >= MAX_STREAMS {
                self.streams.clear();
            }
            let stream = self.streams.entry(key.clone()).or_insert(Stream { next: 0, asked: 0 });
            stream.next = stream.next.max(state.committed + 1);
            stream.asked = stream.asked.max(state.rewind_attempt);
        }
        let stream = self.streams.get_mut(&key).expect("it was put there above");
        if seq > stream.next {
            return true;
        }
        // What is before `next` already is the store's to compare with what it has.
        stream.next = stream.next.max(record.last().saturating_add(1));
        false
    }

    /// A record came too early: it is dropped, and the agent asked to send again.
    async fn gap(&mut self, record: &Record) {
        self.ask_again(&record.agent, record.position.epoch, record.attempt).await;
    }

    async fn ask_again(&mut self, agent: &AgentId, epoch: Epoch, attempt: u32) {
        self.parts.metrics.record("gap");
        let wanted = attempt.saturating_add(1);
        let key = (agent.clone(), epoch);
        if self.streams.get(&key).is_some_and(|stream| stream.asked >= wanted) {
            return;
        }
        tracing::info!(%agent, %epoch, attempt = wanted, "records are missing; the agent is asked to send again");
        let store = Arc::clone(&self.parts.store);
        self.patience.until(|| store.request_rewind(agent, epoch, wanted)).await;
        if let Some(stream) = self.streams.get_mut(&key) {
            stream.asked = wanted;
        }
    }

    async fn settle(&mut self, ready: Ready, outcome: CommitOutcome) {
        let Ready { commit, attempt } = ready;
        let (agent, seq) = (&commit.agent, commit.seq);
        match outcome {
            CommitOutcome::Committed { .. } => match &commit.content {
                Content::Samples(batch) => {
                    let at = Position { epoch: commit.epoch, seq };
                    tracing::debug!(target: envelope::WAY, agent_id = %agent, batch_id = %envelope::batch_id(at), trace_id = %envelope::trace_id(at), "committed");
                    self.parts.metrics.record("committed");
                    self.parts.metrics.samples.inc_by(batch.len() as u64);
                }
                Content::Skipped { to } => {
                    self.parts.metrics.record("skipped");
                    tracing::warn!(%agent, from = seq, to, "the agent says that records were lost or dropped before they were sent");
                }
                Content::Dead { reason, .. } => {
                    self.parts.metrics.record("dead");
                    tracing::error!(%agent, seq, reason, "a record could not be processed; its bytes are kept with the dead letters");
                }
            },
            CommitOutcome::Duplicate => self.parts.metrics.record("duplicate"),
            CommitOutcome::Contradiction => {
                self.parts.metrics.record("contradiction");
                tracing::error!(%agent, seq, epoch = %commit.epoch, "a record came again with another content: a disk is damaged or a key is stolen; the first stays");
            }
            CommitOutcome::Gap { committed } => {
                if let Some(stream) = self.streams.get_mut(&(agent.clone(), commit.epoch)) {
                    stream.next = committed + 1;
                }
                self.ask_again(agent, commit.epoch, attempt).await;
            }
        }
    }
}

/// The first records, as many as go into one transaction.
fn transaction(records: &[Opened]) -> &[Opened] {
    let mut bytes = 0;
    let fits = |opened: &&Opened| {
        bytes += match &opened.record.content {
            envelope::Content::Batch(payload) => payload.len(),
            envelope::Content::SkippedTo(_) => 0,
        };
        bytes <= MAX_BYTES
    };
    let count = records.iter().take(MAX_RECORDS).take_while(fits).count();
    &records[..count.max(1)]
}
