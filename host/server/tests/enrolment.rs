//! Enrolment against a served server with a real store and bus.

use async_trait::async_trait;
use bytes::Bytes;
use sentinel_bus::{EmbeddedBus, EmbeddedOptions};
use sentinel_model::ids::{AgentId, Epoch, Position, SlotName};
use sentinel_server::enrolment::EnrolmentTokens;
use sentinel_server::keywrap::KeyWrap;
use sentinel_server::{Listeners, RuleChecker, RuleDiagnostic, Server, ServerOptions, ServerParts};
use sentinel_store::Store as _;
use sentinel_store::agents::AgentState;
use sentinel_store::sqlite::{SqliteStore, StoreOptions};
use sentinel_wire::envelope::{Content, Record, seal};
use sentinel_wire::key::AgentKey;
use sentinel_wire::v1::ingest_client::IngestClient;
use sentinel_wire::v1::{PushRequest, Refusal, RegisterRequest};
use std::sync::Arc;
use tonic::transport::Channel;

const NOW: i64 = 1_800_000_000_000;

struct NoRules;

#[async_trait]
impl RuleChecker for NoRules {
    async fn check(
        &self,
        _: &SlotName,
        _: &serde_json::Value,
    ) -> Result<Vec<RuleDiagnostic>, String> {
        Ok(Vec::new())
    }

    fn applied(&self) {}
}

struct Served {
    _folder: tempfile::TempDir,
    store: Arc<SqliteStore>,
    tokens: Arc<EnrolmentTokens>,
    server: Server,
    client: IngestClient<Channel>,
}

async fn serve() -> Served {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let store = Arc::new(SqliteStore::open(path("db"), StoreOptions::default()).await.unwrap());
    let tokens = Arc::new(EnrolmentTokens::open(&path("enrolment.json")).unwrap());
    let parts = ServerParts {
        store: store.clone(),
        bus: Arc::new(EmbeddedBus::open(&path("bus"), EmbeddedOptions::default()).unwrap()),
        wrap: Arc::new(KeyWrap::open(&path("server.key")).unwrap()),
        tokens: Arc::clone(&tokens),
        rules: Arc::new(NoRules),
        operators: None,
        enrolment: None,
        registry: prometheus::Registry::new(),
        clock: Arc::new(|| NOW),
    };
    let any = "127.0.0.1:0".parse().unwrap();
    let listeners = Listeners::bind(any, any).await.unwrap();
    let options = ServerOptions { listeners, hosts: Vec::new(), token: "t".repeat(20) };
    let server = Server::start(options, parts).await.unwrap();
    let client = IngestClient::connect(format!("http://{}", server.grpc())).await.unwrap();
    Served { _folder: folder, store, tokens, server, client }
}

impl Served {
    /// Enrols `web-1`: whether it is approved, and its key.
    async fn enrol(&mut self) -> (bool, AgentKey) {
        let request = RegisterRequest {
            token: self.tokens.create(1, NOW + 1_000, NOW).unwrap(),
            agent_id: "web-1".into(),
            hw_id: "a".repeat(64),
            nonce: vec![1; 16],
            ..RegisterRequest::default()
        };
        let answer = self.client.register(request).await.unwrap().into_inner();
        (answer.approved, AgentKey::new(answer.key_id, &answer.key).unwrap())
    }

    /// Sends a record signed with a key.
    async fn push(&mut self, key: &AgentKey, seq: u64) -> (Refusal, String) {
        let record = Record {
            agent: AgentId::new("web-1").unwrap(),
            position: Position { epoch: Epoch([1; 16]), seq },
            attempt: 1,
            content: Content::Batch(Bytes::from_static(b"x")),
        };
        let nonce: [u8; 16] = AgentKey::random(1).expose()[..16].try_into().unwrap();
        let envelopes = vec![seal(&record, key, NOW, nonce)];
        let answer = self.client.push(PushRequest { envelopes }).await.unwrap().into_inner();
        (answer.refusal(), answer.refusal_text)
    }
}

#[tokio::test]
async fn an_enrolment_that_waits_silences_nobody_and_takes_over_once_it_is_approved() {
    let mut served = serve().await;
    let (approved, first) = served.enrol().await;
    assert!(approved);
    assert_eq!(served.push(&first, 1).await.0, Refusal::None);
    let (approved, second) = served.enrol().await;
    assert!(!approved, "the name is taken");
    assert_eq!(served.push(&first, 2).await.0, Refusal::None, "the agent that is there goes on");
    let (refusal, text) = served.push(&second, 3).await;
    assert_eq!(refusal, Refusal::UnknownAgent);
    assert!(text.contains("waits for approval"), "{text}");
    let id = AgentId::new("web-1").unwrap();
    served.store.set_agent_state(&id, AgentState::Approved, NOW).await.unwrap();
    // The server may believe for seconds what it knew before.
    let start = std::time::Instant::now();
    while served.push(&second, 3).await.0 != Refusal::None {
        assert!(start.elapsed().as_secs() < 20, "its key is never taken");
        tokio::task::yield_now().await;
    }
    assert_eq!(served.push(&first, 4).await.0, Refusal::Signature);
    served.server.shutdown().await;
}

#[tokio::test]
async fn an_answer_that_was_lost_is_given_again_and_costs_no_other_use() {
    let mut served = serve().await;
    let request = RegisterRequest {
        token: served.tokens.create(1, NOW + 1_000, NOW).unwrap(),
        agent_id: "web-1".into(),
        hw_id: "a".repeat(64),
        nonce: vec![1; 16],
        ..RegisterRequest::default()
    };
    let first = served.client.register(request.clone()).await.unwrap().into_inner();
    let again = served.client.register(request.clone()).await.unwrap().into_inner();
    assert!(first.approved);
    assert_eq!(again, first);
    let key = AgentKey::new(again.key_id, &again.key).unwrap();
    assert_eq!(served.push(&key, 1).await.0, Refusal::None);
    let others = [
        RegisterRequest { nonce: vec![2; 16], ..request.clone() },
        RegisterRequest { hw_id: "b".repeat(64), ..request.clone() },
        RegisterRequest { agent_id: "web-2".into(), ..request.clone() },
    ];
    for other in others {
        let refused = served.client.register(other).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused}");
    }
    let short = RegisterRequest { nonce: vec![1; 15], ..request };
    let refused = served.client.register(short).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
    served.server.shutdown().await;
}
