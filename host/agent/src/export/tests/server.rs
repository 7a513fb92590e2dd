//! A server that does what a script says and writes down what it was asked. It speaks gRPC
//! over a pipe in memory, so that a clock that stands still waits for it.

use crate::link::Link;
use crate::servers::Servers;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use sentinel_wire::envelope::{Content, open};
use sentinel_wire::key::AgentKey;
use sentinel_wire::v1::ingest_server::{Ingest, IngestServer};
use sentinel_wire::v1::{
    EpochState, FleetRequest, FleetSet, HeartbeatRequest, HeartbeatResponse, PushRequest,
    PushResponse, RegisterRequest, RegisterResponse,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};

pub(super) const KEY_ID: u32 = 1;

pub(super) fn key() -> AgentKey {
    AgentKey::new(KEY_ID, &[5; 32]).unwrap()
}

/// What a server was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    Register {
        token: String,
        id: String,
    },
    /// `seq@attempt` or `from-to@attempt` of each envelope.
    Push(String),
    Beat {
        warnings: Vec<String>,
    },
}

/// How it answers pushes, heartbeats and registrations; what is not said is as before.
type OnPush = Box<dyn FnMut(&PushRequest) -> Result<PushResponse, Status> + Send>;
type OnBeat = Box<dyn FnMut(&HeartbeatRequest) -> HeartbeatResponse + Send>;
type OnRegister = Box<dyn FnMut(&RegisterRequest) -> Result<RegisterResponse, Status> + Send>;

/// Between the script and the service.
pub(super) struct State {
    /// When what was asked, since the start.
    pub(super) asked: Vec<(Duration, Asked)>,
    pub(super) incarnation: Vec<u8>,
    /// Unix milliseconds.
    pub(super) now: i64,
    /// Answers to the next pushes; then they are taken.
    pub(super) pushes: VecDeque<OnPush>,
    /// What every push or heartbeat says of epochs beside what was pushed.
    pub(super) epochs: Vec<EpochState>,
    pub(super) on_beat: Option<OnBeat>,
    pub(super) on_register: Option<OnRegister>,
    pub(super) beat_takes: Duration,
    pub(super) push_takes: Duration,
}

#[derive(Clone)]
pub(super) struct Script {
    pub(super) state: Arc<Mutex<State>>,
    began: Instant,
}

impl Script {
    pub(super) fn new() -> Self {
        let state = State {
            asked: Vec::new(),
            incarnation: vec![7; 16],
            now: 1_000_000,
            pushes: VecDeque::new(),
            epochs: Vec::new(),
            on_beat: None,
            on_register: None,
            beat_takes: Duration::ZERO,
            push_takes: Duration::ZERO,
        };
        Self { state: Arc::new(Mutex::new(state)), began: Instant::now() }
    }

    fn note(&self, asked: Asked) {
        self.state.lock().asked.push((self.began.elapsed(), asked));
    }

    /// What was pushed so far.
    pub(super) fn pushed(&self) -> Vec<String> {
        let pushed = |(_, one): &(Duration, Asked)| match one {
            Asked::Push(what) => Some(what.clone()),
            _ => None,
        };
        self.state.lock().asked.iter().filter_map(pushed).collect()
    }

    /// When it was pushed to, and when heartbeats came, in milliseconds since the start.
    pub(super) fn times(&self) -> (Vec<u128>, Vec<u128>) {
        let state = self.state.lock();
        let times = |is: fn(&Asked) -> bool| {
            state.asked.iter().filter(|(_, a)| is(a)).map(|(at, _)| at.as_millis()).collect()
        };
        (times(|a| matches!(a, Asked::Push(_))), times(|a| matches!(a, Asked::Beat { .. })))
    }

    /// Waits, in the test's time, until something is so.
    pub(super) async fn until(&self, what: &str, mut so: impl FnMut(&State) -> bool) {
        for _ in 0..100_000 {
            if so(&self.state.lock()) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        let state = self.state.lock();
        let last = state.asked.len().saturating_sub(8);
        panic!("{what} never came; last: {:?}", &state.asked[last..]);
    }

    /// Serves on one end of a pipe in memory; the other end.
    pub(super) fn link(&self) -> Servers {
        Servers::of(vec![self.link_through(&Door::default())])
    }

    /// The same through a door that may be closed: one server of several over one store.
    pub(super) fn link_through(&self, door: &Door) -> Link {
        let (service, door) = (self.clone(), door.clone());
        let connector = tower::service_fn(move |_| {
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            let door = door.clone();
            let service =
                IngestServer::with_interceptor(service.clone(), move |request| door.pass(request));
            tokio::spawn(async move {
                let incoming = tokio_stream::once(Ok::<_, std::io::Error>(theirs));
                let _ = Server::builder().add_service(service).serve_with_incoming(incoming).await;
            });
            async move { Ok::<_, std::io::Error>(TokioIo::new(ours)) }
        });
        let channel = Endpoint::from_static("http://test").connect_with_connector_lazy(connector);
        Link::over(channel)
    }
}

/// Whether a server is to be reached, and how often it was.
#[derive(Clone, Default)]
pub(super) struct Door {
    pub(super) closed: Arc<AtomicBool>,
    pub(super) passed: Arc<AtomicUsize>,
}

impl Door {
    fn pass(&self, request: Request<()>) -> Result<Request<()>, Status> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Status::unavailable("nobody is there"));
        }
        self.passed.fetch_add(1, Ordering::SeqCst);
        Ok(request)
    }
}

/// The envelopes in words. Their signatures must fit.
fn said(request: &PushRequest) -> String {
    let one = |envelope| {
        let record = open(envelope, &key()).expect("it is signed with the agent's key");
        match record.content {
            Content::Batch(_) => format!("{}@{}", record.position.seq, record.attempt),
            Content::SkippedTo(to) => format!("{}-{to}@{}", record.position.seq, record.attempt),
        }
    };
    request.envelopes.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[tonic::async_trait]
impl Ingest for Script {
    type FleetStream = tokio_stream::Empty<Result<FleetSet, Status>>;

    async fn fleet(&self, _: Request<FleetRequest>) -> Result<Response<Self::FleetStream>, Status> {
        Err(Status::unimplemented("the exporter does not ask for it"))
    }

    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        let request = request.into_inner();
        let (token, id) = (request.token.clone(), request.agent_id.clone());
        self.note(Asked::Register { token, id });
        let mut state = self.state.lock();
        let now = state.now;
        let answer = match &mut state.on_register {
            Some(answer) => answer(&request)?,
            None => RegisterResponse {
                approved: true,
                key: key().expose().to_vec(),
                key_id: KEY_ID,
                agent_id: request.agent_id,
                server_time_ms: now,
                enrolment: Vec::new(),
            },
        };
        Ok(Response::new(answer))
    }

    async fn push(&self, request: Request<PushRequest>) -> Result<Response<PushResponse>, Status> {
        let request = request.into_inner();
        self.note(Asked::Push(said(&request)));
        let takes = self.state.lock().push_takes;
        sleep(takes).await;
        let mut state = self.state.lock();
        let mut answer = match state.pushes.pop_front() {
            Some(mut answer) => answer(&request)?,
            None => taken(&request),
        };
        answer.server_time_ms = state.now;
        answer.incarnation.clone_from(&state.incarnation);
        answer.epochs.extend(state.epochs.iter().cloned());
        Ok(Response::new(answer))
    }

    async fn heartbeat(
        &self,
        request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatResponse>, Status> {
        let request = request.into_inner();
        self.note(Asked::Beat { warnings: request.warnings.clone() });
        let takes = self.state.lock().beat_takes;
        sleep(takes).await;
        let mut state = self.state.lock();
        let mut answer = match &mut state.on_beat {
            Some(answer) => answer(&request),
            None => HeartbeatResponse::default(),
        };
        answer.server_time_ms = state.now;
        answer.incarnation.clone_from(&state.incarnation);
        answer.epochs.extend(state.epochs.iter().cloned());
        Ok(Response::new(answer))
    }
}

/// All is taken, nothing committed.
pub(super) fn taken(request: &PushRequest) -> PushResponse {
    let last = request.envelopes.last();
    let epochs = last.map(|envelope| EpochState {
        epoch: envelope.epoch.clone(),
        accepted: envelope.seq.max(envelope.skipped_to),
        ..EpochState::default()
    });
    PushResponse { epochs: epochs.into_iter().collect(), ..PushResponse::default() }
}

/// A refusal of the first envelope.
pub(super) fn refused(refusal: sentinel_wire::v1::Refusal, text: &str) -> PushResponse {
    PushResponse { refusal: refusal.into(), refusal_text: text.to_owned(), ..Default::default() }
}
