//! The gRPC service: enrolment, pushes, heartbeats.

use crate::enrolment::{EnrolmentError, EnrolmentTokens, claim};
use crate::fleet::FleetBoard;
use crate::keyring::{AgentAccess, KeyRing};
use crate::keywrap::KeyWrap;
use crate::metrics::Metrics;
use crate::replay::{ReplayWindow, Verdict};
use bytes::Bytes;
use parking_lot::Mutex;
use sentinel_bus::{Bus, BusError, Message, MessageId};
use sentinel_model::ids::{AgentId, Epoch};
use sentinel_store::agents::{AgentState, Enrolled, Heartbeat, NewAgent};
use sentinel_store::ingest::StreamState;
use sentinel_store::{Store, StoreError};
use sentinel_trust::fleet::HostReport;
use sentinel_wire::envelope::{self, EnvelopeError, MAX_ENVELOPES};
use sentinel_wire::heartbeat;
use sentinel_wire::key::AgentKey;
use sentinel_wire::v1::ingest_server::Ingest;
use sentinel_wire::v1::{
    EpochState, FleetRequest, FleetSet, HeartbeatRequest, HeartbeatResponse, Label, PushRequest,
    PushResponse, Refusal, RegisterRequest, RegisterResponse,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// The most epochs, slots and warnings that one heartbeat may name.
const MAX_LISTED: usize = 256;
/// The most bytes of a heartbeat's report.
const MAX_REPORT: usize = 1 << 20;
/// The most labels of an agent, and the most bytes of one's key or value and of what else it says
/// of itself.
const MAX_LABELS: usize = 64;
const MAX_LABEL: usize = 256;
/// How long an agent waits when the server is at its bound, unless the bus says otherwise.
const BUSY_MS: u32 = 1000;

/// The clock, so that tests choose the time: unix milliseconds.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What the service works with.
pub struct IngestService {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) wrap: Arc<KeyWrap>,
    pub(crate) tokens: Arc<EnrolmentTokens>,
    pub(crate) replay: Mutex<ReplayWindow>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
    pub(crate) fleet: Arc<FleetBoard>,
    /// True when the server stops, so that streams end.
    pub(crate) stop: watch::Receiver<bool>,
}

/// A refusal of one envelope, on its way into the answer.
struct Refused {
    kind: Refusal,
    text: String,
    retry_after_ms: u32,
}

impl Refused {
    fn new(kind: Refusal, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), retry_after_ms: 0 }
    }

    fn busy(text: impl Into<String>, retry_after_ms: u32) -> Self {
        Self { kind: Refusal::Busy, text: text.into(), retry_after_ms }
    }
}

fn unavailable(error: &StoreError) -> Status {
    tracing::warn!(%error, "the store does not answer");
    Status::unavailable("the server's database is not available; the agent tries again")
}

impl IngestService {
    fn now(&self) -> i64 {
        (self.clock)()
    }

    async fn access(&self, agent: &AgentId) -> Result<AgentAccess, Refused> {
        let unknown =
            |text: &str| Refused::new(Refusal::UnknownAgent, format!("agent {agent} {text}"));
        match self.keys.access(agent).await {
            Err(error) => Err(Refused::busy(error.to_string(), BUSY_MS)),
            Ok(None) => Err(unknown("is not enrolled here; enrol it with a token")),
            Ok(Some(access)) => match access.state {
                AgentState::Approved | AgentState::Waiting => Ok(access),
                AgentState::Blocked => Err(unknown("is blocked by the operator")),
            },
        }
    }

    /// The key of a number. While an enrolment waits for approval, the keys before it go on:
    /// whoever holds a token must not be able to silence another agent.
    fn key<'a>(agent: &AgentId, access: &'a AgentAccess, id: u32) -> Result<&'a AgentKey, Refused> {
        access.key(id).ok_or_else(|| match access.state {
            AgentState::Waiting => Refused::new(
                Refusal::UnknownAgent,
                format!("agent {agent} waits for approval: `sentinel agents approve`"),
            ),
            AgentState::Approved | AgentState::Blocked => {
                Refused::new(Refusal::Signature, format!("agent {agent} has no key {id}"))
            }
        })
    }

    fn judge(&self, sent_at_ms: i64, nonce: &[u8]) -> Result<(), Refused> {
        let nonce = nonce
            .try_into()
            .map_err(|_| Refused::new(Refusal::Malformed, "a nonce has 16 bytes"))?;
        match self.replay.lock().judge(self.now(), sent_at_ms, nonce) {
            Verdict::Fresh => Ok(()),
            Verdict::OutOfTime => Err(Refused::new(
                Refusal::Time,
                "the send time is not within 5 minutes of the server's clock",
            )),
            Verdict::Replayed => Err(Refused::new(Refusal::Replay, "the nonce was seen before")),
        }
    }

    /// Takes one envelope: verified, not seen before, and on the bus when this returns.
    async fn take(
        &self,
        sealed: &sentinel_wire::v1::Envelope,
        progress: &mut Progress,
    ) -> Result<(), Refused> {
        let agent = AgentId::new(&sealed.agent_id)
            .map_err(|e| Refused::new(Refusal::Malformed, e.to_string()))?;
        progress.belongs_to(&agent)?;
        let access = self.access(&agent).await?;
        let key = Self::key(&agent, &access, sealed.key_id)?;
        let record = envelope::open(sealed, key).map_err(|e| {
            let kind = match e {
                EnvelopeError::Signature { .. } => Refusal::Signature,
                _ => Refusal::Malformed,
            };
            Refused::new(kind, e.to_string())
        })?;
        self.judge(sealed.sent_at_ms, &sealed.nonce)?;
        let epoch = record.position.epoch;
        let state = progress.state(self, &agent, epoch).await?;
        // What is in the database already needs no second way through the bus.
        if record.last() > state.committed {
            let id = MessageId { agent, epoch, seq: record.position.seq, attempt: record.attempt };
            let payload = Bytes::from(prost::Message::encode_to_vec(sealed));
            self.bus.publish(Message { id, payload }).await.map_err(|e| match e {
                // Larger than any message may be: the agent keeps it aside and sends a skip.
                BusError::TooLarge { .. } => Refused::new(Refusal::Malformed, e.to_string()),
                BusError::Busy { retry_after_ms } => Refused::busy(
                    "the bus is at its bound",
                    u32::try_from(retry_after_ms).unwrap_or(BUSY_MS),
                ),
                other => Refused::busy(other.to_string(), BUSY_MS),
            })?;
        }
        progress.accepted(epoch, record.last());
        self.metrics.envelopes.inc();
        self.metrics.bytes.inc_by(sealed.payload.len() as u64);
        Ok(())
    }

    async fn push_all(&self, request: &PushRequest) -> PushResponse {
        let mut progress = Progress::default();
        let mut refused = None;
        for sealed in &request.envelopes {
            if let Err(refusal) = self.take(sealed, &mut progress).await {
                self.metrics.refused.with_label_values(&[refusal.kind.as_str_name()]).inc();
                tracing::debug!(agent = %sealed.agent_id, seq = sealed.seq, reason = %refusal.text, "refused");
                refused = Some(refusal);
                break;
            }
        }
        let mut response = PushResponse {
            epochs: progress.finish(self).await,
            server_time_ms: self.now(),
            incarnation: self.bus.incarnation().0.to_vec(),
            ..PushResponse::default()
        };
        if let Some(refusal) = refused {
            response.retry_after_ms = refusal.retry_after_ms;
            response.refusal = refusal.kind.into();
            response.refusal_text = refusal.text;
        }
        response
    }

    async fn beat(&self, request: &HeartbeatRequest) -> Result<Vec<EpochState>, Refused> {
        let agent = AgentId::new(&request.agent_id)
            .map_err(|e| Refused::new(Refusal::Malformed, e.to_string()))?;
        let access = self.access(&agent).await?;
        let key = Self::key(&agent, &access, request.key_id)?;
        if !heartbeat::fits(request, key) {
            return Err(Refused::new(Refusal::Signature, "the heartbeat's signature does not fit"));
        }
        self.judge(request.sent_at_ms, &request.nonce)?;
        let report = report(request)?;
        let heartbeat = Heartbeat { id: agent.clone(), version: request.version.clone(), report };
        let busy = |e: StoreError| Refused::busy(e.to_string(), BUSY_MS);
        self.store.save_heartbeat(heartbeat, self.now()).await.map_err(busy)?;
        let mut epochs = Vec::new();
        for offsets in &request.offsets {
            let Ok(bytes) = <[u8; 16]>::try_from(offsets.epoch.as_slice()) else { continue };
            let state = self.store.stream_state(&agent, Epoch(bytes)).await.map_err(busy)?;
            epochs.push(epoch_state(Epoch(bytes), 0, state));
        }
        Ok(epochs)
    }

    async fn may_follow(&self, request: &FleetRequest) -> Result<(), Refused> {
        let agent = AgentId::new(&request.agent_id)
            .map_err(|e| Refused::new(Refusal::Malformed, e.to_string()))?;
        let access = self.access(&agent).await?;
        let fits =
            access.key(request.key_id).is_some_and(|key| sentinel_wire::fleet::fits(request, key));
        if !fits {
            return Err(Refused::new(Refusal::Signature, "the question's signature does not fit"));
        }
        self.judge(request.sent_at_ms, &request.nonce)
    }
}

fn epoch_state(epoch: Epoch, accepted: u64, state: StreamState) -> EpochState {
    EpochState {
        epoch: epoch.0.to_vec(),
        accepted,
        committed: state.committed,
        rewind_attempt: state.rewind_attempt,
    }
}

/// The heartbeat's body as the store keeps it.
fn report(request: &HeartbeatRequest) -> Result<String, Refused> {
    let listed = request.offsets.len().max(request.slots.len()).max(request.warnings.len());
    if listed > MAX_LISTED {
        return Err(Refused::new(Refusal::Malformed, "a heartbeat lists at most 256 of anything"));
    }
    let slots: Vec<serde_json::Value> =
        request.slots.iter().filter_map(|s| serde_json::from_str(&s.json).ok()).collect();
    let offsets: Vec<serde_json::Value> = request
        .offsets
        .iter()
        .map(|o| {
            serde_json::json!({
                "epoch": hex::encode(&o.epoch), "written": o.written, "synced": o.synced,
                "accepted": o.accepted, "committed": o.committed, "bytes": o.bytes,
            })
        })
        .collect();
    let mut report =
        serde_json::json!({ "offsets": offsets, "slots": slots, "warnings": request.warnings });
    if let Ok(fleet) = serde_json::from_str::<HostReport>(&request.fleet) {
        report["fleet"] = serde_json::to_value(fleet).unwrap_or_default();
    }
    report["labels"] = labels(&request.labels)?;
    let text = report.to_string();
    if text.len() > MAX_REPORT {
        return Err(Refused::new(
            Refusal::Malformed,
            "the heartbeat's report is larger than 1 MiB",
        ));
    }
    Ok(text)
}

/// An agent's labels, within what an enrolment may say too.
fn labels(labels: &[Label]) -> Result<serde_json::Value, Refused> {
    let fits = labels.len() <= MAX_LABELS
        && labels.iter().all(|label| is_short(&label.key) && is_short(&label.value));
    if !fits {
        return Err(Refused::new(
            Refusal::Malformed,
            "a heartbeat has too many labels, or one that is too long or holds control characters",
        ));
    }
    Ok(labels
        .iter()
        .map(|label| (label.key.clone(), serde_json::Value::from(label.value.clone())))
        .collect())
}

/// Whether a text that an agent says of itself is one that is kept.
fn is_short(text: &str) -> bool {
    text.len() <= MAX_LABEL && !text.chars().any(char::is_control)
}

/// How far one push came.
#[derive(Default)]
struct Progress {
    agent: Option<AgentId>,
    epochs: BTreeMap<Epoch, (u64, StreamState)>,
}

impl Progress {
    fn belongs_to(&mut self, agent: &AgentId) -> Result<(), Refused> {
        match &self.agent {
            Some(first) if first != agent => {
                Err(Refused::new(Refusal::Malformed, "a push carries one agent's records"))
            }
            _ => {
                self.agent = Some(agent.clone());
                Ok(())
            }
        }
    }

    async fn state(
        &mut self,
        service: &IngestService,
        agent: &AgentId,
        epoch: Epoch,
    ) -> Result<StreamState, Refused> {
        if let Some((_, state)) = self.epochs.get(&epoch) {
            return Ok(*state);
        }
        let state = service
            .store
            .stream_state(agent, epoch)
            .await
            .map_err(|e| Refused::busy(e.to_string(), BUSY_MS))?;
        self.epochs.insert(epoch, (0, state));
        Ok(state)
    }

    fn accepted(&mut self, epoch: Epoch, last: u64) {
        if let Some((accepted, _)) = self.epochs.get_mut(&epoch) {
            *accepted = last.max(*accepted);
        }
    }

    /// The answer's offsets, committed ones read again: workers were at it meanwhile.
    async fn finish(self, service: &IngestService) -> Vec<EpochState> {
        let Some(agent) = self.agent else { return Vec::new() };
        let mut out = Vec::new();
        for (epoch, (accepted, before)) in self.epochs {
            let state = service.store.stream_state(&agent, epoch).await.unwrap_or(before);
            out.push(epoch_state(epoch, accepted, state));
        }
        out
    }
}

#[tonic::async_trait]
impl Ingest for IngestService {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        let request = request.into_inner();
        let id =
            AgentId::new(&request.agent_id).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let hexadecimal =
            request.hw_id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if request.hw_id.len() != 64 || !hexadecimal {
            return Err(Status::invalid_argument("hw_id is not 64 lower-case hexadecimal digits"));
        }
        let labels_fit = request.labels.len() <= MAX_LABELS
            && request.labels.iter().all(|(k, v)| is_short(k) && is_short(v));
        if !is_short(&request.hostname) || !is_short(&request.version) || !labels_fit {
            return Err(Status::invalid_argument(
                "hostname, version or labels are too long or hold control characters",
            ));
        }
        let nonce: [u8; 16] = request.nonce.as_slice().try_into().map_err(|_| {
            Status::invalid_argument("the enrolment's nonce has not 16 bytes; update the agent")
        })?;
        let now = self.now();
        let claim = claim(&request.token, &id, &request.hw_id, &nonce);
        self.tokens.spend(&request.token, claim, now).map_err(|e| match e {
            EnrolmentError::Refused => Status::permission_denied(e.to_string()),
            EnrolmentError::Io { .. } => {
                tracing::error!(error = %e, "enrolment");
                Status::unavailable("the server cannot use enrolment tokens now")
            }
        })?;
        let new = NewAgent {
            wrapped_key: self.wrap.wrap(&id, AgentKey::random(0).expose()),
            id: id.clone(),
            hw_id: request.hw_id,
            hostname: request.hostname,
            version: request.version,
            labels: request.labels.into_iter().collect(),
            claim,
        };
        // Where this fails the token is good for the same claim, with which the agent comes again.
        let enrolled = self.store.register_agent(new, now).await;
        let Enrolled { agent: record, wrapped_key } = enrolled.map_err(|e| unavailable(&e))?;
        let key = self.wrap.unwrap(&id, record.key_id, &wrapped_key).map_err(|error| {
            tracing::error!(%error, "enrolment");
            Status::unavailable("the server cannot read the agent's key")
        })?;
        self.keys.forget(&id);
        let approved = record.state == AgentState::Approved;
        tracing::info!(agent = %id, approved, hostname = %record.hostname, "enrolled");
        Ok(Response::new(RegisterResponse {
            approved,
            key: key.expose().to_vec(),
            key_id: record.key_id,
            agent_id: id.to_string(),
            server_time_ms: now,
        }))
    }

    async fn push(&self, request: Request<PushRequest>) -> Result<Response<PushResponse>, Status> {
        let request = request.into_inner();
        if request.envelopes.len() > MAX_ENVELOPES {
            let text =
                format!("{} envelopes, at most {MAX_ENVELOPES} a push", request.envelopes.len());
            return Err(Status::invalid_argument(text));
        }
        self.metrics.pushes.inc();
        Ok(Response::new(self.push_all(&request).await))
    }

    async fn heartbeat(
        &self,
        request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatResponse>, Status> {
        let request = request.into_inner();
        let mut response = HeartbeatResponse {
            server_time_ms: self.now(),
            incarnation: self.bus.incarnation().0.to_vec(),
            ..HeartbeatResponse::default()
        };
        match self.beat(&request).await {
            Ok(epochs) => response.epochs = epochs,
            Err(refused) => {
                response.refusal = refused.kind.into();
                response.refusal_text = refused.text;
            }
        }
        Ok(Response::new(response))
    }

    type FleetStream = ReceiverStream<Result<FleetSet, Status>>;

    async fn fleet(
        &self,
        request: Request<FleetRequest>,
    ) -> Result<Response<Self::FleetStream>, Status> {
        let request = request.into_inner();
        self.may_follow(&request).await.map_err(|refused| match refused.kind {
            Refusal::Busy => Status::unavailable(refused.text),
            _ => Status::permission_denied(refused.text),
        })?;
        let mut stop = self.stop.clone();
        let stopped = async move {
            // An error means that the sender is gone, which is a stop too.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        Ok(Response::new(self.fleet.follow(request.have, stopped)))
    }
}
