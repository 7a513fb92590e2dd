//! A new key reaches its agent, by command or by schedule, and the one before is good for the grace.

mod served;

use sentinel_model::duration::Millis;
use sentinel_model::ids::AgentId;
use sentinel_server::rotation::{RotationOptions, SETTLED};
use sentinel_store::Store as _;
use sentinel_store::access::Audit;
use sentinel_store::agents::AgentState;
use sentinel_wire::key::AgentKey;
use sentinel_wire::rotation::accept;
use sentinel_wire::v1::{HeartbeatResponse, Refusal};
use served::{NOW, Served, serve_by};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

const GRACE: i64 = 86_400_000;
/// The age at which the schedule replaces a key.
const EVERY: i64 = 90 * 86_400_000;

struct Case {
    served: Served,
    now: Arc<AtomicI64>,
}

impl Case {
    async fn new() -> Self {
        let now = Arc::new(AtomicI64::new(NOW));
        let clock = Arc::clone(&now);
        let served = serve_by(Arc::new(move || clock.load(Ordering::SeqCst))).await;
        Self { served, now }
    }

    fn goes_on(&self, milliseconds: i64) {
        self.now.fetch_add(milliseconds, Ordering::SeqCst);
    }

    /// What the API does.
    async fn rotate(&self) -> reqwest::StatusCode {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{}/v1/agents/web-1/key", self.served.server.rest());
        client.post(url).bearer_auth(served::TOKEN).send().await.unwrap().status()
    }

    async fn beat(&mut self, key: &AgentKey) -> HeartbeatResponse {
        let mut request = served::beat(key);
        request.sent_at_ms = self.now.load(Ordering::SeqCst);
        sentinel_wire::heartbeat::seal(&mut request, key);
        self.served.client.heartbeat(request).await.unwrap().into_inner()
    }

    async fn push(&mut self, key: &AgentKey, seq: u64) -> (Refusal, String) {
        let now = self.now.load(Ordering::SeqCst);
        self.served.send(vec![served::sealed("web-1", key, seq, now)]).await
    }

    /// Another server with a schedule looks at it once, at a time of its own.
    async fn looks(&self, now: i64) {
        let every = Some(Millis(EVERY.unsigned_abs()));
        let schedule = RotationOptions { every, ..RotationOptions::default() };
        let server = self.served.another(Arc::new(move || now), schedule).await;
        // A server looks when it starts, and ends what it began.
        server.shutdown().await;
    }

    /// The number of each agent's newest key, by the agents' ids.
    async fn newest(&self) -> Vec<(String, u32)> {
        let agents = self.served.store.agents().await.unwrap();
        agents.into_iter().map(|it| (it.id.to_string(), it.key_id)).collect()
    }

    /// What the schedule did, as the log of changes has it, the newest first.
    async fn scheduled(&self) -> Vec<Audit> {
        let changes = self.served.store.audit(i64::MAX, 100).await.unwrap();
        changes.into_iter().filter(|it| it.entry.who == "schedule").collect()
    }
}

#[tokio::test]
async fn an_agent_gets_its_new_key_and_the_old_one_is_good_until_the_grace_ends() {
    let mut case = Case::new().await;
    let (_, old) = case.served.enrol().await;
    assert!(case.beat(&old).await.offer.is_none(), "there is no newer one");
    assert_eq!(case.rotate().await, reqwest::StatusCode::OK);
    assert!(case.beat(&old).await.offer.is_none(), "not before every server and worker knows it");
    case.goes_on(SETTLED);
    let id = AgentId::new("web-1").unwrap();
    let offer = case.beat(&old).await.offer.unwrap();
    let new = accept(&id, &old, &offer).unwrap();
    assert_eq!(new.id(), 2);
    // The agent was killed before it kept it: it is offered the same again, however late.
    case.goes_on(10 * GRACE);
    let again = case.beat(&old).await.offer.unwrap();
    assert_eq!(accept(&id, &old, &again).unwrap().expose(), new.expose());
    assert_eq!(case.push(&old, 1).await.0, Refusal::None);
    // It signs with the new one: from then on the grace of the old one runs.
    assert_eq!(case.push(&new, 2).await.0, Refusal::None);
    assert!(case.beat(&new).await.offer.is_none());
    case.goes_on(GRACE);
    assert_eq!(case.push(&old, 3).await.0, Refusal::None, "an agent that fell back can send");
    case.goes_on(1);
    let (refusal, text) = case.push(&old, 4).await;
    assert_eq!(refusal, Refusal::Signature);
    assert!(text.contains("its grace is over"), "{text}");
    assert_eq!(case.beat(&old).await.refusal(), Refusal::Signature);
    assert_eq!(case.push(&new, 4).await.0, Refusal::None);
    case.served.server.shutdown().await;
}

#[tokio::test]
async fn nobody_else_gets_a_key_and_none_is_made_for_whom_an_operator_decides_first() {
    let mut case = Case::new().await;
    assert_eq!(case.rotate().await, reqwest::StatusCode::NOT_FOUND);
    let (_, key) = case.served.enrol().await;
    // Another machine under the id waits.
    let (approved, other) = case.served.enrol_as("web-1", "b").await;
    assert!(!approved);
    assert_eq!(case.rotate().await, reqwest::StatusCode::CONFLICT);
    case.goes_on(60_000);
    let refused = case.beat(&other).await;
    assert!(refused.offer.is_none() && refused.refusal() == Refusal::UnknownAgent);
    let forged = AgentKey::new(key.id(), &[9; 32]).unwrap();
    assert!(case.beat(&forged).await.offer.is_none());
    case.served.server.shutdown().await;
}

#[tokio::test]
async fn a_key_that_is_old_enough_gets_a_successor_by_itself_and_no_other_key_does() {
    let mut case = Case::new().await;
    let (_, old) = case.served.enrol().await;
    for (id, machine) in [("blocked", "b"), ("contested", "c")] {
        assert!(case.served.enrol_as(id, machine).await.0, "{id}");
    }
    // Of these an operator decides first, though their keys are as old.
    let blocked = AgentId::new("blocked").unwrap();
    case.served.store.set_agent_state(&blocked, AgentState::Blocked, NOW).await.unwrap();
    for (id, machine) in [("contested", "d"), ("twin", "a")] {
        assert!(!case.served.enrol_as(id, machine).await.0, "{id}");
    }
    case.goes_on(1);
    assert!(case.served.enrol_as("young", "e").await.0);

    let mut newest = case.newest().await;
    case.looks(NOW + EVERY - 1).await;
    assert_eq!(case.newest().await, newest, "none is old enough");
    assert!(case.scheduled().await.is_empty());
    for (agent, now) in [("web-1", NOW + EVERY), ("young", NOW + EVERY + 1)] {
        case.looks(now).await;
        newest.iter_mut().filter(|(id, _)| id == agent).for_each(|(_, key)| *key = 2);
        assert_eq!(case.newest().await, newest, "{agent}");
        let change = case.scheduled().await.remove(0);
        assert_eq!(change.entry.what, format!("replace the key of {agent}"));
        assert_eq!((change.entry.at, change.outcome.as_deref()), (now, Some("made key 2")));
    }
    assert_eq!(case.scheduled().await.len(), 2, "nothing else was begun");

    case.goes_on(EVERY + SETTLED);
    let offer = case.beat(&old).await.offer.unwrap();
    let id = AgentId::new("web-1").unwrap();
    assert_eq!(accept(&id, &old, &offer).unwrap().id(), 2);
    case.served.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_servers_with_a_schedule_make_an_agent_one_key() {
    let mut case = Case::new().await;
    case.served.enrol().await;
    futures::future::join_all((0..4).map(|_| case.looks(NOW + EVERY))).await;
    assert_eq!(case.newest().await, [("web-1".to_owned(), 2)]);
    let changes = case.scheduled().await;
    let became = |it: &Audit| it.outcome.clone().unwrap_or_default();
    let (made, late): (Vec<_>, Vec<_>) =
        changes.iter().map(became).partition(|it| it == "made key 2");
    assert_eq!(made.len(), 1, "{changes:?}");
    assert!(late.iter().all(|it| it.contains("another new key just now")), "{late:?}");
    case.served.server.shutdown().await;
}
