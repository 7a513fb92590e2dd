//! Somebody between agents and their server who speaks their language and plays them false.
//!
//! It passes enrolments, heartbeats and desired sets on. What it does to pushes is drawn from a
//! seed: a [`Lie`] each. What it answers is what the server answered, or that nobody answers: who
//! can forge answers has broken TLS, which is another fault.

use anyhow::Result;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sentinel_wire::v1::ingest_client::IngestClient;
use sentinel_wire::v1::ingest_server::{Ingest, IngestServer};
use sentinel_wire::v1::{
    Envelope, FleetRequest, FleetSet, HeartbeatRequest, HeartbeatResponse, PushRequest,
    PushResponse, RegisterRequest, RegisterResponse,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

/// The most bytes of a push that goes through.
const MAX_BYTES: usize = 16 << 20;
/// How many old pushes it remembers, to send them again.
const REMEMBERED: usize = 32;
/// The longest that a push is kept back.
const LATE: Duration = Duration::from_millis(500);

/// What it does to one push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lie {
    /// Nothing.
    None,
    /// Sends it twice.
    Twice,
    /// Sends it after a while.
    Late,
    /// Sends some old one before it, as it was.
    Replayed,
    /// Sends its records in another order.
    Reordered,
    /// Leaves out its last records.
    Truncated,
    /// Cuts bytes off a record.
    Cut,
    /// Changes something in a record.
    Tampered,
    /// Sends it, and answers that nobody answers.
    AnswerLost,
    /// Answers that nobody answers.
    Lost,
}

impl Lie {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::None,
        Self::Twice,
        Self::Late,
        Self::Replayed,
        Self::Reordered,
        Self::Truncated,
        Self::Cut,
        Self::Tampered,
        Self::AnswerLost,
        Self::Lost,
    ];
}

struct State {
    lot: StdRng,
    lies: bool,
    old: VecDeque<PushRequest>,
    told: BTreeMap<Lie, u64>,
}

#[derive(Clone)]
struct Service {
    state: Arc<Mutex<State>>,
    server: IngestClient<Channel>,
    /// Another server, whose replay window has not seen what the first one has.
    beside: IngestClient<Channel>,
}

/// It listens on a port, and ends when it is dropped.
pub struct Middle {
    state: Arc<Mutex<State>>,
    port: u16,
    _runtime: Runtime,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Middle {
    /// Between whoever connects to it and the server at a port; honest until [`Middle::lie`]. What
    /// it sends twice or once more goes to the server at the other port too.
    ///
    /// # Errors
    /// Where it cannot listen.
    pub fn start(to: u16, beside: u16, seed: u64) -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let lot = StdRng::seed_from_u64(seed);
        let state = State { lot, lies: false, old: VecDeque::new(), told: BTreeMap::new() };
        let state = Arc::new(Mutex::new(state));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let port = listener.local_addr()?.port();
        let client = |port: u16| -> Result<IngestClient<Channel>> {
            let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?;
            let _inside = runtime.enter();
            let client = IngestClient::new(endpoint.connect_lazy());
            Ok(client.max_decoding_message_size(MAX_BYTES))
        };
        let (server, beside) = (client(to)?, client(beside)?);
        let service = IngestServer::new(Service { state: Arc::clone(&state), server, beside })
            .max_decoding_message_size(MAX_BYTES);
        let incoming = TcpListenerStream::new(listener);
        runtime.spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        Ok(Self { state, port, _runtime: runtime })
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it lies from now on.
    pub fn lie(&self, lies: bool) {
        lock(&self.state).lies = lies;
    }

    /// How often it did what.
    #[must_use]
    pub fn told(&self) -> BTreeMap<Lie, u64> {
        lock(&self.state).told.clone()
    }
}

impl Service {
    /// Passes a push on as it is. It may be refused: that is what is wanted of some.
    async fn send(
        server: &IngestClient<Channel>,
        push: PushRequest,
    ) -> Result<PushResponse, Status> {
        Ok(server.clone().push(push).await?.into_inner())
    }

    /// What becomes of a push: what goes before it, what goes in its place, and the lie.
    fn twist(&self, push: &PushRequest) -> (Option<PushRequest>, PushRequest, Lie, Duration) {
        let mut state = lock(&self.state);
        let State { lot, lies, old, told } = &mut *state;
        let lie = if *lies { *Lie::ALL.choose(lot).unwrap_or(&Lie::None) } else { Lie::None };
        *told.entry(lie).or_default() += 1;
        let mut sent = push.clone();
        let mut before = None;
        let envelopes = &mut sent.envelopes;
        match lie {
            Lie::Replayed => before = old.get(lot.random_range(0..REMEMBERED)).cloned(),
            Lie::Twice => before = Some(push.clone()),
            Lie::Reordered => envelopes.shuffle(lot),
            Lie::Truncated => envelopes.truncate(lot.random_range(0..=envelopes.len())),
            Lie::Cut => change(envelopes, lot, cut),
            Lie::Tampered => change(envelopes, lot, tamper),
            Lie::None | Lie::Late | Lie::AnswerLost | Lie::Lost => {}
        }
        old.push_back(push.clone());
        if old.len() > REMEMBERED {
            old.pop_front();
        }
        let wait = if lie == Lie::Late { LATE } else { Duration::ZERO };
        (before, sent, lie, wait.mul_f64(lot.random_range(0.0..1.0)))
    }
}

/// Changes one envelope.
fn change(envelopes: &mut [Envelope], lot: &mut StdRng, how: fn(&mut Envelope, &mut StdRng)) {
    if !envelopes.is_empty() {
        let chosen = lot.random_range(0..envelopes.len());
        how(&mut envelopes[chosen], lot);
    }
}

fn cut(envelope: &mut Envelope, lot: &mut StdRng) {
    match lot.random_range(0..6) {
        0 => envelope.payload.clear(),
        1 => envelope.payload.truncate(lot.random_range(0..=envelope.payload.len())),
        2 => envelope.epoch.truncate(15),
        3 => envelope.nonce.clear(),
        4 => envelope.mac.truncate(16),
        _ => envelope.agent_id.clear(),
    }
}

fn tamper(envelope: &mut Envelope, lot: &mut StdRng) {
    match lot.random_range(0..9) {
        0 => envelope.seq += 1,
        1 => envelope.seq = 0,
        2 => envelope.attempt += 1,
        3 => envelope.sent_at_ms += 1,
        4 => envelope.mac[0] ^= 1,
        5 => envelope.epoch[3] ^= 0x40,
        6 => {
            // What it would take to have the server believe that a record is lost.
            envelope.payload.clear();
            envelope.skipped_to = envelope.seq;
        }
        7 => envelope.agent_id.push('x'),
        _ => {
            let mut bytes = envelope.payload.to_vec();
            if !bytes.is_empty() {
                let at = lot.random_range(0..bytes.len());
                bytes[at] ^= 1 << lot.random_range(0..8);
            }
            envelope.payload = bytes.into();
        }
    }
}

#[tonic::async_trait]
impl Ingest for Service {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        self.server.clone().register(request.into_inner()).await
    }

    async fn push(&self, request: Request<PushRequest>) -> Result<Response<PushResponse>, Status> {
        let push = request.into_inner();
        let (before, sent, lie, wait) = self.twist(&push);
        tokio::time::sleep(wait).await;
        if let Some(before) = before {
            // Whatever it answers: the agent does not hear it.
            let _ = Self::send(&self.beside, before.clone()).await;
            let _ = Self::send(&self.server, before).await;
        }
        if lie == Lie::Lost {
            return Err(Status::unavailable("nobody answers"));
        }
        let answer = Self::send(&self.server, sent).await?;
        if lie == Lie::AnswerLost {
            return Err(Status::unavailable("nobody answers"));
        }
        Ok(Response::new(answer))
    }

    async fn heartbeat(
        &self,
        request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatResponse>, Status> {
        self.server.clone().heartbeat(request.into_inner()).await
    }

    type FleetStream = Streaming<FleetSet>;

    async fn fleet(
        &self,
        request: Request<FleetRequest>,
    ) -> Result<Response<Self::FleetStream>, Status> {
        self.server.clone().fleet(request.into_inner()).await
    }
}
