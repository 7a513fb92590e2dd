//! The gRPC service: enrolment, pushes, heartbeats.

mod heartbeat;
mod push;
mod streams;

use crate::enrolment::{EnrolmentError, EnrolmentTokens, claim};
use crate::fleet::FleetBoard;
use crate::keyring::{AgentAccess, KeyRing};
use crate::keywrap::KeyWrap;
use crate::listen::Peer;
use crate::metrics::Metrics;
use crate::rate::Rates;
use crate::replay::{ReplayWindow, Verdict};
use crate::rotation::Rotation;
use parking_lot::Mutex;
use sentinel_bus::Bus;
use sentinel_fleet::HostEnrolment;
use sentinel_model::ids::{AgentId, Epoch};
use sentinel_store::access::{Asker, NewAudit};
use sentinel_store::agents::{AgentState, Enrolled, NewAgent};
use sentinel_store::ingest::StreamState;
use sentinel_store::{Store, StoreError};
use sentinel_wire::envelope::MAX_ENVELOPES;
use sentinel_wire::key::AgentKey;
use sentinel_wire::v1::ingest_server::Ingest;
use sentinel_wire::v1::{
    EpochState, FleetRequest, FleetSet, HeartbeatRequest, HeartbeatResponse, PushRequest,
    PushResponse, Refusal, RegisterRequest, RegisterResponse,
};
use std::sync::Arc;
pub(crate) use streams::Streams;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// The most labels of an agent, and the most bytes of one's key or value and of what else it says
/// of itself.
const MAX_LABELS: usize = 64;
const MAX_LABEL: usize = 256;
/// How long an agent waits when the server is at its bound, unless the bus says otherwise.
const BUSY_MS: u32 = 1000;

/// Where gRPC says how many milliseconds to wait.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// The clock, so that tests choose the time: unix milliseconds.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What the service works with.
pub struct IngestService {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) rotation: Arc<Rotation>,
    pub(crate) wrap: Arc<KeyWrap>,
    pub(crate) tokens: Arc<EnrolmentTokens>,
    pub(crate) replay: Mutex<ReplayWindow>,
    pub(crate) streams: Arc<Streams>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
    pub(crate) rates: Arc<Rates>,
    pub(crate) fleet: Arc<FleetBoard>,
    pub(crate) enrolment: Option<Arc<HostEnrolment>>,
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

/// Somebody asks too often; when to come again, milliseconds.
pub(crate) fn too_often(wait: u32) -> Status {
    let text = format!("there were too many enrolments from this address; again in {wait} ms");
    let mut status = Status::resource_exhausted(text);
    status.metadata_mut().insert(PUSHBACK, wait.into());
    status
}

/// After how many milliseconds to come again, where a refusal says so.
pub(crate) fn pushback(status: &Status) -> Option<u32> {
    status.metadata().get(PUSHBACK)?.to_str().ok()?.parse().ok()
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
    fn key<'a>(
        &self,
        agent: &AgentId,
        access: &'a AgentAccess,
        id: u32,
    ) -> Result<&'a AgentKey, Refused> {
        if access.is_over(id, self.now()) {
            let text = format!("key {id} of agent {agent} was replaced, and its grace is over");
            return Err(Refused::new(Refusal::Signature, text));
        }
        access.key(id).ok_or_else(|| {
            if access.waiting == Some(id) {
                let text = format!(
                    "the enrolment under the id {agent} waits for approval: `sentinel agents approve`"
                );
                return Refused::new(Refusal::UnknownAgent, text);
            }
            Refused::new(Refusal::Signature, format!("agent {agent} has no key {id}"))
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

    async fn may_follow(&self, request: &FleetRequest) -> Result<(), Refused> {
        let agent = AgentId::new(&request.agent_id)
            .map_err(|e| Refused::new(Refusal::Malformed, e.to_string()))?;
        let access = self.access(&agent).await?;
        let key = self.key(&agent, &access, request.key_id)?;
        if !sentinel_wire::fleet::fits(request, key) {
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

/// Whether a text that an agent says of itself is one that is kept.
fn is_short(text: &str) -> bool {
    text.len() <= MAX_LABEL && !text.chars().any(char::is_control)
}

/// The id of an enrolment that says nothing it may not say.
fn sound(request: &RegisterRequest) -> Result<AgentId, Status> {
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
    Ok(id)
}

#[tonic::async_trait]
impl Ingest for IngestService {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        let address = request.extensions().get::<Peer>().map(|peer| peer.address.ip());
        if let Some(Err(wait)) = address.map(|it| self.rates.enrolment(it, self.now())) {
            return Err(too_often(wait));
        }
        let address = address.map(|it| it.to_string()).unwrap_or_default();
        let request = request.into_inner();
        let id = sound(&request)?;
        let nonce: [u8; 16] = request.nonce.as_slice().try_into().map_err(|_| {
            Status::invalid_argument("the enrolment's nonce has not 16 bytes; update the agent")
        })?;
        let now = self.now();
        let claim = claim(&request.token, &id, &request.hw_id, &nonce);
        let asker = || Asker {
            agent: id.to_string(),
            hostname: request.hostname.clone(),
            address: address.clone(),
        };
        self.tokens.spend(&request.token, claim, asker, now).await.map_err(|e| match e {
            EnrolmentError::Refused => Status::permission_denied(e.to_string()),
            EnrolmentError::Waiting => Status::failed_precondition(e.to_string()),
            EnrolmentError::Store(StoreError::Conflict(text)) => Status::resource_exhausted(text),
            EnrolmentError::Store(error) => unavailable(&error),
        })?;
        let entry = NewAudit {
            at: now,
            who: format!("agent {id}"),
            role: "agent".to_owned(),
            address,
            what: format!("enrol {id} on {}", request.hostname),
        };
        let audit = self.store.begin_audit(entry).await.map_err(|e| unavailable(&e))?;
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
        let Enrolled { agent: record, wrapped_key, approved } =
            enrolled.map_err(|e| unavailable(&e))?;
        let key = self.wrap.unwrap(&id, record.key_id, &wrapped_key).map_err(|error| {
            tracing::error!(%error, "enrolment");
            Status::unavailable("the server cannot read the agent's key")
        })?;
        self.keys.forget(&id);
        let outcome = if approved { "enrolled" } else { "waits" };
        if let Err(error) = self.store.end_audit(audit, outcome).await {
            tracing::error!(%error, audit, "what became of a change cannot be written down");
        }
        let newcomer = record.newcomer.as_ref();
        let hostname = newcomer.map_or(&record.hostname, |it| &it.hostname);
        tracing::info!(agent = %id, approved, hostname, "enrolled");
        Ok(Response::new(RegisterResponse {
            approved,
            key: key.expose().to_vec(),
            key_id: record.key_id,
            agent_id: id.to_string(),
            server_time_ms: now,
            enrolment: self.enrolment.iter().flat_map(|it| it.bytes()).copied().collect(),
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
            Ok((epochs, offer)) => (response.epochs, response.offer) = (epochs, offer),
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
