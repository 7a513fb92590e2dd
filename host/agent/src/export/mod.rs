//! Sending the log: synced records only, signed at each send, again only where asked.
//!
//! What is under way, and what an answer means for it, is `sending::Sending`, a state
//! machine; here are the log, the network and the clock. Heartbeats and pushes take turns: a
//! server that is slow with one must not keep the other back.

mod backoff;
mod force;
mod letting_go;
mod outgoing;
mod report;
mod rotating;
mod sending;
#[cfg(test)]
mod tests;

use crate::collect::ended;
use crate::config::AgentConfig;
use crate::enrol::{Enrolment, Identity};
use crate::fleet::labels;
use crate::link::LinkError;
use crate::metrics::Metrics;
use crate::servers::Servers;
use crate::state::SlotStates;
use backoff::Backoff;
pub(crate) use force::Force;
use parking_lot::Mutex;
use sending::{Answer, Effect, LogView, Sending};
use sentinel_model::ids::Epoch;
use sentinel_wal::{Item, Log, Reader};
use sentinel_wire::envelope::{WAY, batch_id, seal, trace_id};
use sentinel_wire::heartbeat;
use sentinel_wire::v1::{EpochState, HeartbeatRequest, PushRequest, Refusal};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// How often the server is asked while records are accepted and not committed.
const POLL: Duration = Duration::from_secs(1);

/// What the exporter says of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct ExportStatus {
    pub(crate) connected: bool,
    pub(crate) last_error: Option<String>,
    pub(crate) skew_ms: i64,
}

/// What a heartbeat says beside the log's offsets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said {
    /// Of each slot, JSON.
    pub(crate) slots: Vec<String>,
    /// For `sentinel status`.
    pub(crate) warnings: Vec<String>,
    /// What became of the desired set, JSON; empty outside a fleet.
    pub(crate) fleet: String,
    /// The agent's labels.
    pub(crate) labels: BTreeMap<String, String>,
}

/// Says it now.
pub(crate) type Report = Arc<dyn Fn() -> Said + Send + Sync>;

/// Unix milliseconds; tests choose.
pub(crate) type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What the exporter works with.
pub(crate) struct ExportParts {
    pub(crate) log: Arc<Log>,
    pub(crate) states: Arc<SlotStates>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) link: Servers,
    pub(crate) identity_file: PathBuf,
    /// Who the agent is, for others who speak to the server.
    pub(crate) identity: watch::Sender<Option<Identity>>,
    pub(crate) dead: PathBuf,
    pub(crate) enrolment: Arc<dyn Enrolment>,
    pub(crate) config: watch::Receiver<AgentConfig>,
    pub(crate) status: Arc<Mutex<ExportStatus>>,
    pub(crate) report: Report,
    pub(crate) clock: Clock,
    /// Who wants something sent at once.
    pub(crate) force: mpsc::Receiver<Force>,
}

struct Exporter {
    parts: ExportParts,
    identity: Identity,
    reader: Reader,
    sending: Sending,
    /// What the milliseconds of `sending` are counted from.
    began: Instant,
    settled_at: Instant,
    backoff: Backoff,
}

/// The system's clock.
pub(crate) fn system_clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// Enrols if need be, then sends until told to stop.
pub(crate) async fn run(mut parts: ExportParts, mut stop: watch::Receiver<bool>) {
    let Some(identity) = enrolled(&mut parts, &mut stop).await else { return };
    parts.identity.send_replace(Some(identity.clone()));
    tracing::info!(agent = %identity.id, server = %parts.link.shown(), "sending");
    let began = Instant::now();
    let exporter = Exporter {
        reader: parts.log.reader(),
        sending: Sending::new(parts.log.tag(), 0),
        parts,
        identity,
        began,
        settled_at: began,
        backoff: Backoff::default(),
    };
    exporter.run(stop).await;
}

async fn enrolled(parts: &mut ExportParts, stop: &mut watch::Receiver<bool>) -> Option<Identity> {
    let mut backoff = Backoff::default();
    loop {
        let (wished, labels) = {
            let config = parts.config.borrow();
            (config.id.clone(), labels(&config, None))
        };
        let obtain = Identity::obtain(
            &parts.identity_file,
            wished.as_ref(),
            &labels,
            parts.enrolment.as_ref(),
            &parts.link,
        );
        match obtain.await {
            Ok(identity) => return Some(identity),
            Err(error) => {
                tracing::warn!(%error, "not enrolled yet; samples are kept");
                parts.status.lock().last_error = Some(error.to_string());
            }
        }
        tokio::select! {
            () = ended(stop) => return None,
            () = tokio::time::sleep(backoff.next(rand::random())) => {}
        }
    }
}

impl Exporter {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut beat_at = Instant::now();
        let mut beaten = false;
        while !*stop.borrow() {
            // Never two heartbeats in a row while there is something to send.
            let due = beat_at <= Instant::now() && !beaten;
            beaten = due;
            let done = if due {
                let beat = self.parts.config.borrow().heartbeat.std();
                let awaits = self.sending.awaits_commit(&self.parts.log.offsets());
                beat_at = Instant::now() + if awaits { beat.min(POLL) } else { beat };
                tokio::select! {
                    () = ended(&mut stop) => break,
                    done = self.beat() => done,
                }
            } else if self.fill() {
                tokio::select! {
                    () = ended(&mut stop) => break,
                    done = self.push() => done,
                }
            } else {
                // Nothing to send: wait for the log, the next heartbeat, or the end.
                tokio::select! {
                    () = ended(&mut stop) => break,
                    item = self.reader.next() => self.took(item),
                    () = tokio::time::sleep_until(beat_at) => Ok(None),
                    Some(force) = self.parts.force.recv() => {
                        self.forced(force).await;
                        beat_at = Instant::now();
                        Ok(None)
                    }
                }
            };
            self.settle(false).await;
            if let Some(wait) = self.judge(done) {
                tokio::select! {
                    () = ended(&mut stop) => break,
                    () = tokio::time::sleep(wait) => {}
                    Some(force) = self.parts.force.recv() => {
                        self.forced(force).await;
                        beat_at = Instant::now();
                    }
                }
            }
        }
        self.settle(true).await;
    }

    /// Milliseconds for `sending`.
    fn elapsed(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// How long to wait before the next exchange: what the server asked for, or after a
    /// failure longer each time.
    fn judge(&mut self, done: Result<Option<Duration>, LinkError>) -> Option<Duration> {
        let (error, soon) = match done {
            Ok(asked) => {
                self.backoff.reset();
                return asked;
            }
            Err(LinkError::Elsewhere { error, wait }) => (error.to_string(), Some(wait)),
            Err(error) => (error.to_string(), None),
        };
        let mut status = self.parts.status.lock();
        if status.connected || status.last_error.is_none() {
            tracing::warn!(%error, server = %self.parts.link.shown(), "the server does not take records; they are kept");
        }
        status.connected = false;
        status.last_error = Some(error);
        self.parts.metrics.connected.set(0);
        Some(soon.unwrap_or_else(|| self.backoff.next(rand::random())))
    }

    fn answered(&self, server_time_ms: i64) {
        let mut status = self.parts.status.lock();
        if !status.connected {
            tracing::info!(server = %self.parts.link.shown(), "connected");
        }
        status.connected = true;
        status.last_error = None;
        status.skew_ms = server_time_ms.saturating_sub((self.parts.clock)());
        self.parts.metrics.connected.set(1);
    }

    // ---- reading the log ----

    fn took(&mut self, item: sentinel_wal::Result<Item>) -> Result<Option<Duration>, LinkError> {
        match item {
            Ok(item) => {
                let skipped = self.sending.take(item);
                self.parts.metrics.skipped.inc_by(skipped);
                Ok(None)
            }
            Err(error) => Err(LinkError::Answer(format!("the log cannot be read: {error}"))),
        }
    }

    /// Reads what is there, up to a push; whether there is something to send.
    fn fill(&mut self) -> bool {
        while self.sending.has_room() {
            match self.reader.try_next() {
                Ok(Some(item)) => {
                    let skipped = self.sending.take(item);
                    self.parts.metrics.skipped.inc_by(skipped);
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "the log cannot be read");
                    break;
                }
            }
        }
        !self.sending.is_idle()
    }

    // ---- talking to the server ----

    fn sent_at(&self) -> i64 {
        (self.parts.clock)().saturating_add(self.parts.status.lock().skew_ms)
    }

    async fn push(&mut self) -> Result<Option<Duration>, LinkError> {
        let sent_at = self.sent_at();
        let records = self.sending.records(&self.identity.id);
        let envelopes: Vec<_> = records
            .inspect(|record| {
                let (at, attempt) = (record.position, record.attempt);
                tracing::debug!(target: WAY, agent_id = %record.agent, batch_id = %batch_id(at), trace_id = %trace_id(at), attempt, "sent");
            })
            .map(|record| seal(&record, &self.identity.key, sent_at, rand::random()))
            .collect();
        self.parts.metrics.sent.inc_by(envelopes.len() as u64);
        let answer = self.parts.link.push(PushRequest { envelopes }).await?;
        self.answered(answer.server_time_ms);
        self.heed(&answer.epochs, &answer.incarnation).await?;
        match answer.refusal() {
            Refusal::None => Ok(None),
            Refusal::Busy => Ok(Some(backoff::asked(answer.retry_after_ms, rand::random()))),
            Refusal::Malformed if self.bury(&answer.refusal_text) => Ok(None),
            refusal if self.step_back(refusal) => Ok(None),
            // The clock's difference was just learnt from the answer.
            Refusal::Time
            | Refusal::Replay
            | Refusal::Malformed
            | Refusal::Signature
            | Refusal::UnknownAgent => Err(LinkError::Refused(answer.refusal_text)),
        }
    }

    async fn beat(&mut self) -> Result<Option<Duration>, LinkError> {
        let said = (self.parts.report)();
        let offsets = self.parts.log.offsets();
        let mut request = HeartbeatRequest {
            agent_id: self.identity.id.to_string(),
            sent_at_ms: self.sent_at(),
            nonce: rand::random::<[u8; 16]>().to_vec(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..report::bounded(&offsets, said)
        };
        heartbeat::seal(&mut request, &self.identity.key);
        let answer = self.parts.link.heartbeat(request).await?;
        self.answered(answer.server_time_ms);
        if answer.refusal() != Refusal::None {
            if self.step_back(answer.refusal()) {
                return Ok(None);
            }
            return Err(LinkError::Refused(answer.refusal_text));
        }
        if let Some(offer) = &answer.offer {
            self.offered(offer);
        }
        self.heed(&answer.epochs, &answer.incarnation).await?;
        let now = self.elapsed();
        if let Some(effect) = self.sending.stir(&self.parts.log.offsets(), now) {
            self.effect(effect).await;
        }
        Ok(None)
    }

    /// Does what an answer asks for.
    async fn heed(&mut self, epochs: &[EpochState], incarnation: &[u8]) -> Result<(), LinkError> {
        let now = self.elapsed();
        let offsets = self.parts.log.offsets();
        let log = LogView { offsets: &offsets, current: Epoch(self.parts.log.epoch().0) };
        let effects = self.sending.answered(Answer { epochs, incarnation }, log, now);
        let effects = effects.map_err(|why| LinkError::Answer(why.to_owned()))?;
        for effect in effects {
            self.effect(effect).await;
        }
        Ok(())
    }

    async fn effect(&mut self, effect: Effect) {
        let log = &self.parts.log;
        match effect {
            Effect::Accept(epoch, seq) => {
                if let Err(error) = log.accept(sentinel_wal::Epoch(epoch.0), seq) {
                    tracing::error!(%error, "offset not kept");
                }
            }
            Effect::Remember(incarnation) => {
                if let Err(error) = log.set_tag(&incarnation) {
                    tracing::warn!(%error, "the bus's incarnation is not kept; records may be sent again after a restart");
                }
            }
            Effect::GoBack => {
                self.settle(true).await;
                self.reader = self.parts.log.reader();
                self.parts.metrics.rewinds.inc();
            }
            Effect::GoOn => {
                let at = sending::behind_accepted(&log.offsets());
                if let Some(Ok(reader)) = at.map(|position| log.reader_from(position)) {
                    self.reader = reader;
                } else {
                    self.reader = log.reader();
                }
            }
        }
    }
}
