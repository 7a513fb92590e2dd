//! A server on loopback with a real store and bus, for tests that speak gRPC to it.
#![allow(dead_code, reason = "each test binary uses its own part")]

use async_trait::async_trait;
use bytes::Bytes;
use sentinel_bus::{EmbeddedBus, EmbeddedOptions};
use sentinel_model::ids::{AgentId, Epoch, Position, SlotName};
use sentinel_server::access::jwt::Jwt;
use sentinel_server::enrolment::EnrolmentTokens;
use sentinel_server::ingest::Clock;
use sentinel_server::keywrap::KeyWrap;
use sentinel_server::rate::Limits;
use sentinel_server::rotation::RotationOptions;
use sentinel_server::{Listeners, RuleChecker, RuleVerdict, Server, ServerOptions, ServerParts};
use sentinel_store::sqlite::{SqliteStore, StoreOptions};
use sentinel_trust::fleet::Operators;
use sentinel_wire::envelope::{Content, Record, seal};
use sentinel_wire::heartbeat;
use sentinel_wire::key::AgentKey;
use sentinel_wire::v1::ingest_client::IngestClient;
use sentinel_wire::v1::{Envelope, HeartbeatRequest, PushRequest, Refusal, RegisterRequest};
use std::path::Path;
use std::sync::Arc;
use tonic::transport::{Channel, Endpoint};

/// What the server takes for the time.
pub(crate) const NOW: i64 = 1_800_000_000_000;

/// The API token.
pub(crate) const TOKEN: &str = "tttttttttttttttttttt";

struct NoRules;

#[async_trait]
impl RuleChecker for NoRules {
    async fn check(&self, _: &SlotName, _: &serde_json::Value) -> Result<RuleVerdict, String> {
        Ok(RuleVerdict::default())
    }

    fn applied(&self) {}
}

/// A served server, and what is behind it.
pub(crate) struct Served {
    folder: tempfile::TempDir,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) bus: Arc<EmbeddedBus>,
    pub(crate) tokens: Arc<EnrolmentTokens>,
    pub(crate) server: Server,
    pub(crate) client: IngestClient<Channel>,
}

pub(crate) async fn serve() -> Served {
    serve_by(Arc::new(|| NOW)).await
}

/// With a clock of the test's.
pub(crate) async fn serve_by(clock: Clock) -> Served {
    let any = "127.0.0.1:0".parse().unwrap();
    let listeners = Listeners::bind(any, any, None).await.unwrap();
    let channel = format!("http://{}", listeners.addresses().grpc);
    serve_with(listeners, channel.parse().unwrap(), Limits::default(), (clock, None)).await
}

/// Of a fleet.
pub(crate) async fn serve_fleet(operators: Operators) -> Served {
    let any = "127.0.0.1:0".parse().unwrap();
    let listeners = Listeners::bind(any, any, None).await.unwrap();
    let endpoint = listeners.addresses().grpc_url().parse().unwrap();
    let clock: Clock = Arc::new(|| NOW);
    serve_with(listeners, endpoint, Limits::default(), (clock, Some(operators))).await
}

/// The same at other listeners, with the way to them.
pub(crate) async fn serve_at(listeners: Listeners, endpoint: Endpoint) -> Served {
    serve_with(listeners, endpoint, Limits::default(), (Arc::new(|| NOW), None)).await
}

/// The same with other limits.
pub(crate) async fn serve_limited(
    listeners: Listeners,
    endpoint: Endpoint,
    limits: Limits,
) -> Served {
    serve_with(listeners, endpoint, limits, (Arc::new(|| NOW), None)).await
}

async fn serve_with(
    listeners: Listeners,
    endpoint: Endpoint,
    limits: Limits,
    (clock, operators): (Clock, Option<Operators>),
) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let store = Arc::new(SqliteStore::open(path("db"), StoreOptions::default()).await.unwrap());
    let tokens = Arc::new(EnrolmentTokens::new(store.clone()));
    let bus = Arc::new(EmbeddedBus::open(&path("bus"), EmbeddedOptions::default()).unwrap());
    let parts = parts(folder.path(), (&store, &bus, &tokens), clock);
    let parts = ServerParts { operators, ..parts };
    let server = Server::start(options(listeners, limits), parts).await.unwrap();
    let client = IngestClient::new(endpoint.connect().await.unwrap());
    Served { folder, store, bus, tokens, server, client }
}

/// What a server works with whose key lies in a folder.
fn parts(
    folder: &Path,
    (store, bus, tokens): (&Arc<SqliteStore>, &Arc<EmbeddedBus>, &Arc<EnrolmentTokens>),
    clock: Clock,
) -> ServerParts {
    ServerParts {
        store: store.clone(),
        bus: bus.clone(),
        wrap: Arc::new(KeyWrap::open(&folder.join("server.key")).unwrap()),
        tokens: Arc::clone(tokens),
        rules: Arc::new(NoRules),
        operators: None,
        enrolment: None,
        rotation: RotationOptions::default(),
        registry: prometheus::Registry::new(),
        clock,
    }
}

fn options(listeners: Listeners, limits: Limits) -> ServerOptions {
    ServerOptions {
        listeners,
        hosts: Vec::new(),
        token: TOKEN.to_owned(),
        jwt: Jwt::open(&[]).unwrap(),
        limits,
    }
}

impl Served {
    /// Another server over the same store and bus, with a clock and a schedule of its own.
    pub(crate) async fn another(&self, clock: Clock, rotation: RotationOptions) -> Server {
        let any = "127.0.0.1:0".parse().unwrap();
        let listeners = Listeners::bind(any, any, None).await.unwrap();
        let parts = parts(self.folder.path(), (&self.store, &self.bus, &self.tokens), clock);
        let parts = ServerParts { rotation, ..parts };
        Server::start(options(listeners, Limits::default()), parts).await.unwrap()
    }

    /// Enrols `web-1`: whether it is approved, and its key.
    pub(crate) async fn enrol(&mut self) -> (bool, AgentKey) {
        self.enrol_as("web-1", "a").await
    }

    /// Enrols an agent on the machine of a digit.
    pub(crate) async fn enrol_as(&mut self, id: &str, machine: &str) -> (bool, AgentKey) {
        let request = RegisterRequest {
            token: self.tokens.create(1, NOW + 1_000, "owner", NOW).await.unwrap(),
            agent_id: id.into(),
            hw_id: machine.repeat(64),
            nonce: vec![1; 16],
            ..RegisterRequest::default()
        };
        let answer = self.client.register(request).await.unwrap().into_inner();
        (answer.approved, AgentKey::new(answer.key_id, &answer.key).unwrap())
    }

    /// Sends a record of `web-1` signed with a key.
    pub(crate) async fn push(&mut self, key: &AgentKey, seq: u64) -> (Refusal, String) {
        self.send(vec![sealed("web-1", key, seq, NOW)]).await
    }

    /// Sends envelopes; why the first refused one was.
    pub(crate) async fn send(&mut self, envelopes: Vec<Envelope>) -> (Refusal, String) {
        let answer = self.client.push(PushRequest { envelopes }).await.unwrap().into_inner();
        (answer.refusal(), answer.refusal_text)
    }
}

/// A record of an agent, under a nonce of its own.
pub(crate) fn sealed(agent: &str, key: &AgentKey, seq: u64, sent_at: i64) -> Envelope {
    let record = Record {
        agent: AgentId::new(agent).unwrap(),
        position: Position { epoch: EPOCH, seq },
        attempt: 1,
        content: Content::Batch(Bytes::from_static(b"x")),
    };
    seal(&record, key, sent_at, nonce())
}

/// What `web-1` says of itself: nothing.
pub(crate) fn beat(key: &AgentKey) -> HeartbeatRequest {
    let mut request = HeartbeatRequest {
        agent_id: "web-1".into(),
        sent_at_ms: NOW,
        nonce: nonce().to_vec(),
        ..HeartbeatRequest::default()
    };
    heartbeat::seal(&mut request, key);
    request
}

/// A fresh one.
pub(crate) fn nonce() -> [u8; 16] {
    AgentKey::random(1).expose()[..16].try_into().unwrap()
}

/// The epoch of all records.
pub(crate) const EPOCH: Epoch = Epoch([1; 16]);
