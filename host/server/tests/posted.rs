//! What agents post over HTTP is answered as over gRPC, by the same checks.

mod served;

use prost::Message;
use reqwest::{Client, StatusCode};
use sentinel_wire::fleet;
use sentinel_wire::key::AgentKey;
use sentinel_wire::v1::{
    FleetRequest, HeartbeatResponse, PushRequest, PushResponse, Refusal, RegisterRequest,
    RegisterResponse,
};
use served::{NOW, Served, beat, nonce, sealed, serve};

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
