//! What agents post over HTTP is answered as over gRPC, by the same checks.

mod served;

use prost::Message;
use reqwest::{Client, StatusCode};
use sentinel_server::Listeners;
use sentinel_server::access::hash;
use sentinel_server::code::code;
use sentinel_server::rate::{Limits, Rate};
use sentinel_store::Store as _;
use sentinel_wire::fleet;
use sentinel_wire::key::AgentKey;
use sentinel_wire::v1::{
    FleetRequest, HeartbeatResponse, PushRequest, PushResponse, Refusal, RegisterRequest,
    RegisterResponse,
};
use served::{NOW, Served, beat, nonce, sealed, serve, serve_limited};

const PROTOBUF: &str = "application/x-protobuf";

struct Posting {
    client: Client,
    base: String,
}

impl Posting {
    fn to(served: &Served) -> Self {
        let client = Client::builder().no_proxy().build().unwrap();
        Self { client, base: format!("http://{}", served.server.rest()) }
    }

    async fn post(&self, path: &str, kind: &str, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
        let request = self.client.post(format!("{}{path}", self.base));
        let answer = request.header("content-type", kind).body(body).send().await.unwrap();
        (answer.status(), answer.bytes().await.unwrap().to_vec())
    }

    async fn ask<A: Message + Default>(&self, path: &str, request: &impl Message) -> A {
        let (status, body) = self.post(path, PROTOBUF, request.encode_to_vec()).await;
        assert_eq!(status, StatusCode::OK, "{path}: {}", String::from_utf8_lossy(&body));
        A::decode(&*body).unwrap()
    }
}

#[tokio::test]
async fn an_agent_enrols_pushes_and_beats_over_http_with_the_checks_of_grpc() {
    let mut served = serve().await;
    let http = Posting::to(&served);
    let request = RegisterRequest {
        token: served.tokens.create(1, NOW + 1_000, "owner", NOW).await.unwrap(),
        agent_id: "web-1".into(),
        hw_id: "a".repeat(64),
        nonce: vec![1; 16],
        ..RegisterRequest::default()
    };
    let answer: RegisterResponse = http.ask("/v1/register", &request).await;
    assert!(answer.approved);
    let key = AgentKey::new(answer.key_id, &answer.key).unwrap();
    let push =
        |key: &AgentKey, seq| PushRequest { envelopes: vec![sealed("web-1", key, seq, NOW)] };
    let first = push(&key, 1);
    let taken: PushResponse = http.ask("/v1/push", &first).await;
    assert_eq!((taken.refusal(), taken.epochs[0].accepted), (Refusal::None, 1));
    assert_eq!(served.bus.depth().messages, 1);
    // One window for both ways: what went over HTTP is a replay over gRPC too.
    let again: PushResponse = http.ask("/v1/push", &first).await;
    assert_eq!(again.refusal(), Refusal::Replay);
    assert_eq!(served.send(first.envelopes).await.0, Refusal::Replay);
    let forged = AgentKey::new(key.id(), &[9; 32]).unwrap();
    let refused: PushResponse = http.ask("/v1/push", &push(&forged, 2)).await;
    assert_eq!(refused.refusal(), Refusal::Signature);
    let heard: HeartbeatResponse = http.ask("/v1/sync", &beat(&key)).await;
    assert_eq!(heard.refusal(), Refusal::None);
    let unheard: HeartbeatResponse = http.ask("/v1/sync", &beat(&forged)).await;
    assert_eq!(unheard.refusal(), Refusal::Signature);
    assert_eq!(served.push(&key, 2).await.0, Refusal::None, "and gRPC goes on");
    served.server.shutdown().await;
}

#[tokio::test]
async fn an_enrolment_over_http_has_the_rate_the_audit_and_the_codes_of_one_over_grpc() {
    let any = "127.0.0.1:0".parse().unwrap();
    let listeners = Listeners::bind(any, any, None).await.unwrap();
    let url = listeners.addresses().grpc_url().parse().unwrap();
    let limits = Limits { enrolments: Rate { per_second: 1, burst: 4 }, ..Limits::default() };
    let mut served = serve_limited(listeners, url, limits).await;
    let http = Posting::to(&served);
    let mine = format!("sac_{}", "x".repeat(32));
    let request = RegisterRequest {
        token: mine.clone(),
        agent_id: "web-1".into(),
        hw_id: "a".repeat(64),
        hostname: "web-1.example".into(),
        nonce: vec![1; 16],
        ..RegisterRequest::default()
    };
    let post = async || http.post("/v1/register", PROTOBUF, request.encode_to_vec()).await;
    let said = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
    let (status, body) = post().await;
    assert_eq!(status, StatusCode::CONFLICT, "{}", said(&body));
    assert!(said(&body).contains("waits for an operator's approval"), "{}", said(&body));
    let asked = served.store.enrolment_tokens(NOW).await.unwrap().remove(0).asked.unwrap();
    assert_eq!((asked.agent.as_str(), asked.address.as_str()), ("web-1", "127.0.0.1"));
    assert!(served.tokens.approve(&code(&hash(&mine)), "ann", NOW).await.unwrap());
    let (status, body) = post().await;
    assert_eq!(status, StatusCode::OK, "{}", said(&body));
    let audit = served.store.audit(i64::MAX, 9).await.unwrap().remove(0);
    assert_eq!(
        (audit.entry.address.as_str(), audit.entry.what.as_str(), audit.outcome.as_deref()),
        ("127.0.0.1", "enrol web-1 on web-1.example", Some("enrolled"))
    );
    // One bucket for both ways: the third comes over gRPC, the fourth over HTTP, the fifth is too many.
    served.client.register(request.clone()).await.unwrap();
    assert_eq!(post().await.0, StatusCode::OK);
    let over = http.client.post(format!("{}/v1/register", http.base));
    let over = over.header("content-type", PROTOBUF).body(request.encode_to_vec());
    let over = over.send().await.unwrap();
    assert_eq!(
        (over.status(), &over.headers()["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &"1".parse().unwrap())
    );
    let refused = served.client.register(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
    served.server.shutdown().await;
}

#[tokio::test]
async fn what_is_no_message_of_an_agent_is_refused() {
    let mut served = serve().await;
    let (_, key) = served.enrol().await;
    let http = Posting::to(&served);
    let many = PushRequest { envelopes: vec![sealed("web-1", &key, 1, NOW); 257] };
    let huge = vec![0; (9 << 20) + 1];
    let cases = [
        ("/v1/push", "application/json", b"{}".to_vec(), StatusCode::BAD_REQUEST),
        ("/v1/push", PROTOBUF, vec![0xff; 9], StatusCode::BAD_REQUEST),
        ("/v1/push", PROTOBUF, many.encode_to_vec(), StatusCode::BAD_REQUEST),
        ("/v1/push", PROTOBUF, huge, StatusCode::PAYLOAD_TOO_LARGE),
        ("/v1/register", PROTOBUF, Vec::new(), StatusCode::BAD_REQUEST),
    ];
    for (path, kind, body, expected) in cases {
        let bytes = body.len();
        assert_eq!(http.post(path, kind, body).await.0, expected, "{path} {kind} {bytes}");
    }
    let token = RegisterRequest {
        token: "no token".into(),
        agent_id: "web-2".into(),
        hw_id: "b".repeat(64),
        nonce: vec![1; 16],
        ..RegisterRequest::default()
    };
    let (status, body) = http.post("/v1/register", PROTOBUF, token.encode_to_vec()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(String::from_utf8_lossy(&body).contains("error"));
    let mut question = FleetRequest {
        agent_id: "web-1".into(),
        sent_at_ms: NOW,
        nonce: nonce().to_vec(),
        ..FleetRequest::default()
    };
    fleet::seal(&mut question, &AgentKey::new(key.id(), &[9; 32]).unwrap());
    let (status, _) = http.post("/v1/follow", PROTOBUF, question.encode_to_vec()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(served.bus.depth().messages, 0);
    served.server.shutdown().await;
}
