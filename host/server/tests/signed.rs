//! What a server takes from whom: signed, fresh, of one agent that may send, and not yet stored.

mod served;

use sentinel_model::ids::AgentId;
use sentinel_server::Listeners;
use sentinel_server::rate::{Limits, Rate};
use sentinel_store::Store as _;
use sentinel_store::agents::AgentState;
use sentinel_store::ingest::{Commit, Content};
use sentinel_wire::fleet;
use sentinel_wire::key::AgentKey;
use sentinel_wire::v1::{FleetRequest, PushRequest, Refusal, RegisterRequest};
use served::{EPOCH, NOW, beat, nonce, sealed, serve, serve_limited};

fn question(key: &AgentKey) -> FleetRequest {
    let mut request = FleetRequest {
        agent_id: "web-1".into(),
        sent_at_ms: NOW,
        nonce: nonce().to_vec(),
        ..FleetRequest::default()
    };
    fleet::seal(&mut request, key);
    request
}

#[tokio::test]
async fn nothing_is_taken_that_the_agents_key_did_not_sign() {
    let mut served = serve().await;
    let (_, key) = served.enrol().await;
    let forged = AgentKey::new(key.id(), &[9; 32]).unwrap();
    assert_eq!(served.push(&forged, 1).await.0, Refusal::Signature);
    assert_eq!(served.bus.depth().messages, 0);
    let answer = served.client.heartbeat(beat(&forged)).await.unwrap().into_inner();
    assert_eq!(answer.refusal(), Refusal::Signature);
    let id = AgentId::new("web-1").unwrap();
    assert_eq!(served.store.agent(&id).await.unwrap().unwrap().last_seen, None);
    let refused = served.client.fleet(question(&forged)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused}");
    // The same with its own.
    assert_eq!(served.push(&key, 1).await.0, Refusal::None);
    let answer = served.client.heartbeat(beat(&key)).await.unwrap().into_inner();
    assert_eq!(answer.refusal(), Refusal::None);
    assert_eq!(served.store.agent(&id).await.unwrap().unwrap().last_seen, Some(NOW));
    drop(served.client.fleet(question(&key)).await.unwrap());
    served.server.shutdown().await;
}

#[tokio::test]
async fn what_was_recorded_on_the_way_is_good_once_and_not_for_long() {
    let mut served = serve().await;
    let (_, key) = served.enrol().await;
    let envelope = sealed("web-1", &key, 1, NOW);
    assert_eq!(served.send(vec![envelope.clone()]).await.0, Refusal::None);
    assert_eq!(served.send(vec![envelope]).await.0, Refusal::Replay);
    assert_eq!(served.bus.depth().messages, 1);
    for sent_at in [NOW - 300_001, NOW + 300_001] {
        let envelope = sealed("web-1", &key, 2, sent_at);
        assert_eq!(served.send(vec![envelope]).await.0, Refusal::Time, "{sent_at}");
    }
    let (beat, question) = (beat(&key), question(&key));
    let client = &mut served.client;
    assert_eq!(client.heartbeat(beat.clone()).await.unwrap().into_inner().refusal(), Refusal::None);
    assert_eq!(client.heartbeat(beat).await.unwrap().into_inner().refusal(), Refusal::Replay);
    drop(client.fleet(question.clone()).await.unwrap());
    client.fleet(question).await.unwrap_err();
    served.server.shutdown().await;
}

#[tokio::test]
async fn a_push_carries_one_agents_records_up_to_the_first_that_is_refused() {
    let mut served = serve().await;
    let (_, first) = served.enrol().await;
    let (_, second) = served.enrol_as("web-2", "b").await;
    let envelopes = vec![
        sealed("web-1", &first, 1, NOW),
        sealed("web-2", &second, 1, NOW),
        sealed("web-1", &first, 2, NOW),
    ];
    let (refusal, text) = served.send(envelopes).await;
    assert_eq!(refusal, Refusal::Signature);
    assert!(text.contains("one agent"), "{text}");
    assert_eq!(served.bus.depth().messages, 1, "those before it were taken");
    served.server.shutdown().await;
}

/// An agent gives up a record that is called malformed, so nobody on the way may bring that about.
#[tokio::test]
async fn what_was_cut_or_changed_on_the_way_is_never_called_malformed() {
    let mut served = serve().await;
    let (_, key) = served.enrol().await;
    type Change = fn(&mut sentinel_wire::v1::Envelope);
    let changes: &[(&str, Change)] = &[
        ("no agent", |e| e.agent_id.clear()),
        ("an agent id that is none", |e| e.agent_id.push('/')),
        ("a short epoch", |e| e.epoch.truncate(15)),
        ("a long nonce", |e| e.nonce.push(0)),
        ("no signature", |e| e.mac.clear()),
        ("no number", |e| e.seq = 0),
        ("no attempt", |e| e.attempt = 0),
        ("no payload", |e| e.payload.clear()),
        ("a skip in place of the payload", |e| {
            e.payload.clear();
            e.skipped_to = 9;
        }),
        ("a skip beside the payload", |e| e.skipped_to = 9),
    ];
    for (what, change) in changes {
        let mut envelope = sealed("web-1", &key, 1, NOW);
        change(&mut envelope);
        let (refusal, text) = served.send(vec![envelope]).await;
        assert_eq!(refusal, Refusal::Signature, "{what}: {text}");
    }
    assert_eq!(served.bus.depth().messages, 0);
    served.server.shutdown().await;
}

#[tokio::test]
async fn only_what_is_committed_already_does_not_go_through_the_bus() {
    let mut served = serve().await;
    let (_, key) = served.enrol().await;
    let skip = Commit {
        agent: AgentId::new("web-1").unwrap(),
        epoch: EPOCH,
        seq: 1,
        hash: [0; 32],
        content: Content::Skipped { to: 3 },
    };
    served.store.commit(vec![skip], NOW).await.unwrap();
    for (seq, depth) in [(2, 0), (3, 0), (4, 1), (5, 2)] {
        assert_eq!(served.push(&key, seq).await.0, Refusal::None);
        assert_eq!(served.bus.depth().messages, depth, "record {seq}");
    }
    served.server.shutdown().await;
}

#[tokio::test]
async fn an_agent_that_is_blocked_is_told_so_and_nothing_of_it_is_taken() {
    let mut served = serve().await;
    let (_, key) = served.enrol().await;
    assert_eq!(served.push(&key, 1).await.0, Refusal::None);
    let id = AgentId::new("web-1").unwrap();
    served.store.set_agent_state(&id, AgentState::Blocked, NOW).await.unwrap();
    // The server may believe for seconds what it knew before.
    let start = std::time::Instant::now();
    let text = loop {
        let (refusal, text) = served.push(&key, 2).await;
        if refusal != Refusal::None {
            assert_eq!(refusal, Refusal::UnknownAgent, "{text}");
            break text;
        }
        assert!(start.elapsed().as_secs() < 20, "it is never refused");
        tokio::task::yield_now().await;
    };
    assert!(text.contains("blocked by the operator"), "{text}");
    served.server.shutdown().await;
}

#[tokio::test]
async fn who_sends_more_than_it_may_is_told_when_to_come_again_and_others_go_on() {
    let any = "127.0.0.1:0".parse().unwrap();
    let listeners = Listeners::bind(any, any, None).await.unwrap();
    let url = listeners.addresses().grpc_url().parse().unwrap();
    let rate = |per_second, burst| Rate { per_second, burst };
    let limits = Limits {
        agent_batches: rate(2, 3),
        batches: rate(1, 5),
        enrolments: rate(4, 2),
        ..Limits::default()
    };
    let mut served = serve_limited(listeners, url, limits).await;
    let (_, first) = served.enrol().await;
    let (_, second) = served.enrol_as("web-2", "b").await;
    // The clock of these tests stands still, so nothing comes back.
    let request = RegisterRequest::default();
    let refused = served.client.register(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
    assert_eq!(refused.metadata().get("grpc-retry-pushback-ms").unwrap(), "250");
    let mut push = async |agent: &str, key: &AgentKey, seqs: std::ops::Range<u64>| {
        let envelopes = seqs.map(|seq| sealed(agent, key, seq, NOW)).collect();
        let answer = served.client.push(PushRequest { envelopes }).await.unwrap().into_inner();
        (answer.refusal(), answer.epochs.first().map(|it| it.accepted), answer.retry_after_ms)
    };
    assert_eq!(push("web-1", &first, 1..6).await, (Refusal::Busy, Some(3), 500));
    assert_eq!(push("web-2", &second, 1..2).await, (Refusal::None, Some(1), 0));
    assert_eq!(push("web-2", &second, 2..3).await, (Refusal::Busy, None, 1000), "all together");
    served.server.shutdown().await;
}
