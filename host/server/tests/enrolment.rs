//! Enrolment against a served server with a real store and bus.

mod served;

use sentinel_model::ids::AgentId;
use sentinel_server::api::AgentBody;
use sentinel_store::Store as _;
use sentinel_store::agents::AgentState;
use sentinel_wire::key::AgentKey;
use sentinel_wire::v1::{Refusal, RegisterRequest};
use served::{NOW, beat, serve};

#[tokio::test]
async fn an_enrolment_that_waits_silences_nobody_and_takes_over_once_it_is_approved() {
    let mut served = serve().await;
    let (approved, first) = served.enrol().await;
    assert!(approved);
    assert_eq!(served.push(&first, 1).await.0, Refusal::None);
    let (approved, second) = served.enrol_as("web-1", "b").await;
    assert!(!approved, "the name is taken");
    assert_eq!(served.push(&first, 2).await.0, Refusal::None, "the agent that is there goes on");
    let beats = served.client.heartbeat(beat(&first)).await.unwrap().into_inner();
    assert_eq!(beats.refusal(), Refusal::None);
    let (refusal, text) = served.push(&second, 3).await;
    assert_eq!(refusal, Refusal::UnknownAgent);
    assert!(text.contains("waits for approval"), "{text}");
    let beats = served.client.heartbeat(beat(&second)).await.unwrap().into_inner();
    assert_eq!(beats.refusal(), Refusal::UnknownAgent);
    let id = AgentId::new("web-1").unwrap();
    let shown: AgentBody = served.store.agent(&id).await.unwrap().unwrap().into();
    assert_eq!((shown.state.as_str(), shown.last_seen), ("approved", Some(NOW)));
    let newcomer = shown.newcomer.unwrap();
    assert_eq!((newcomer.hw_id, newcomer.same_machine), ("b".repeat(64), false));
    served.store.set_agent_state(&id, AgentState::Approved, NOW).await.unwrap();
    // The server may believe for seconds what it knew before.
    let start = std::time::Instant::now();
    while served.push(&second, 3).await.0 != Refusal::None {
        assert!(start.elapsed().as_secs() < 20, "its key is never taken");
        tokio::task::yield_now().await;
    }
    assert_eq!(served.push(&first, 4).await.0, Refusal::Signature);
    let shown: AgentBody = served.store.agent(&id).await.unwrap().unwrap().into();
    assert!(shown.newcomer.is_none(), "{shown:?}");
    served.server.shutdown().await;
}

#[tokio::test]
async fn an_answer_that_was_lost_is_given_again_and_costs_no_other_use() {
    let mut served = serve().await;
    let request = RegisterRequest {
        token: served.tokens.create(1, NOW + 1_000, "owner", NOW).await.unwrap(),
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
