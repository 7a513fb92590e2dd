use super::{T0, agent};
use sentinel_store::Store;
use sentinel_store::StoreError;
use sentinel_store::agents::{AgentState, Claim, Heartbeat, NewAgent};

fn new(id: &str, machine: &str, key: u8) -> NewAgent {
    NewAgent {
        id: agent(id),
        hw_id: machine.repeat(64),
        hostname: format!("host-{machine}"),
        version: "1".into(),
        labels: [("env".to_owned(), machine.to_owned())].into(),
        wrapped_key: vec![key; 60],
        claim: Claim([key; 32]),
    }
}

async fn keys(store: &dyn Store, id: &str) -> Vec<(u32, u8)> {
    let keys = store.agent_keys(&agent(id)).await.unwrap();
    keys.into_iter().map(|k| (k.key_id, k.wrapped[0])).collect()
}

pub(crate) async fn a_new_machine_is_approved_and_a_known_one_waits(store: &dyn Store) {
    let first = store.register_agent(new("a", "1", 1), T0).await.unwrap().agent;
    assert_eq!((first.state, first.key_id, first.registered_at), (AgentState::Approved, 1, T0));
    assert_eq!(keys(store, "a").await, [(1, 1)]);
    let cloned = store.register_agent(new("b", "1", 2), T0).await.unwrap().agent;
    assert_eq!((cloned.state, cloned.key_id), (AgentState::Waiting, 1));
    assert_eq!(cloned.newcomer.unwrap().key_id, 1);
    assert!(keys(store, "b").await.is_empty());
    store.set_agent_state(&agent("b"), AgentState::Approved, T0).await.unwrap();
    assert_eq!(keys(store, "b").await, [(1, 2)]);
    let all = store.agents().await.unwrap();
    assert_eq!(all.iter().map(|a| a.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(store.agent(&agent("a")).await.unwrap().as_ref(), Some(&all[0]));
    assert_eq!(all[0].labels["env"], "1");
    assert_eq!(store.agent(&agent("c")).await.unwrap(), None);
    let unknown = store.set_agent_state(&agent("c"), AgentState::Approved, T0).await;
    assert!(matches!(unknown, Err(StoreError::Conflict(_))));
}

pub(crate) async fn a_known_id_keeps_its_key_until_the_new_one_is_approved(store: &dyn Store) {
    store.register_agent(new("a", "1", 1), T0).await.unwrap();
    for machine in [2, 3] {
        let name = machine.to_string();
        let again = store.register_agent(new("a", &name, machine), T0 + 1).await.unwrap();
        assert!(!again.approved);
        let goes_on = again.agent;
        assert_eq!((goes_on.state, goes_on.key_id), (AgentState::Approved, machine.into()));
        assert_eq!((goes_on.hostname.as_str(), goes_on.registered_at), ("host-1", T0));
        let newcomer = goes_on.newcomer.as_ref().unwrap();
        assert_eq!((newcomer.key_id, newcomer.registered_at), (machine.into(), T0 + 1));
        assert_eq!(newcomer.hostname, format!("host-{machine}"));
        assert_eq!((&newcomer.hw_id, &newcomer.labels["env"]), (&name.repeat(64), &name));
        assert_eq!(store.agents().await.unwrap(), [goes_on]);
        assert_eq!(keys(store, "a").await, [(1, 1)]);
    }
    store.set_agent_state(&agent("a"), AgentState::Approved, T0).await.unwrap();
    assert_eq!(keys(store, "a").await, [(3, 3)]);
    let now = store.agent(&agent("a")).await.unwrap().unwrap();
    assert_eq!((now.hostname.as_str(), now.state), ("host-3", AgentState::Approved));
    assert_eq!(now.newcomer, None);
}

pub(crate) async fn an_enrolment_that_is_asked_for_again_gives_the_key_it_gave(store: &dyn Store) {
    let again = |key: u8, claim: u8| NewAgent { claim: Claim([claim; 32]), ..new("a", "1", key) };
    let first = store.register_agent(again(1, 7), T0).await.unwrap();
    assert_eq!(first.wrapped_key, [1; 60]);
    // The key that comes with the question is another, as the server makes one each time.
    assert_eq!(store.register_agent(again(2, 7), T0 + 1).await.unwrap(), first);
    assert_eq!(keys(store, "a").await, [(1, 1)]);
    // So it is with one that waits, also once it is approved.
    let second = store.register_agent(again(3, 8), T0 + 2).await.unwrap();
    assert_eq!((second.approved, second.agent.key_id), (false, 2));
    assert_eq!(store.register_agent(again(4, 8), T0 + 3).await.unwrap(), second);
    store.set_agent_state(&agent("a"), AgentState::Approved, T0).await.unwrap();
    let now = store.register_agent(again(5, 8), T0 + 4).await.unwrap();
    assert_eq!((now.approved, now.wrapped_key[0]), (true, 3));
    assert_eq!(keys(store, "a").await, [(2, 3)]);
    // What a newer enrolment took the place of is given to nobody.
    let old = store.register_agent(again(6, 7), T0 + 5).await.unwrap();
    assert_eq!((old.approved, old.wrapped_key[0]), (false, 6));
}

pub(crate) async fn a_blocked_agent_has_no_key_and_stays_blocked(store: &dyn Store) {
    store.register_agent(new("a", "1", 1), T0).await.unwrap();
    store.set_agent_state(&agent("a"), AgentState::Blocked, T0).await.unwrap();
    assert!(keys(store, "a").await.is_empty());
    let again = store.register_agent(new("a", "1", 2), T0).await.unwrap();
    assert_eq!((again.approved, again.agent.state), (false, AgentState::Blocked));
    assert!(keys(store, "a").await.is_empty());
}

pub(crate) async fn heartbeats_are_kept(store: &dyn Store) {
    store.register_agent(new("a", "1", 1), T0).await.unwrap();
    let beat = |id| Heartbeat { id: agent(id), version: "2".into(), report: "{}".into() };
    store.save_heartbeat(beat("a"), T0 + 9).await.unwrap();
    let found = store.agent(&agent("a")).await.unwrap().unwrap();
    assert_eq!((found.last_seen, found.version.as_str()), (Some(T0 + 9), "2"));
    assert_eq!(found.report.as_deref(), Some("{}"));
    assert!(store.save_heartbeat(beat("b"), T0).await.is_err());
}

pub(crate) async fn a_further_key_is_made_once_and_those_before_it_end_when_it_is_said(
    store: &dyn Store,
) {
    let a = agent("a");
    let enrolled = store.register_agent(new("a", "1", 1), T0).await.unwrap();
    assert_eq!(store.add_agent_key(&a, 1, vec![2; 60], T0 + 5).await.unwrap(), Some(2));
    // Of two who rotate at once one does.
    assert_eq!(store.add_agent_key(&a, 1, vec![3; 60], T0 + 5).await.unwrap(), None);
    assert_eq!(keys(store, "a").await, [(2, 2), (1, 1)]);
    let times = |keys: Vec<sentinel_store::agents::WrappedKey>| {
        keys.iter().map(|k| (k.key_id, k.made_at - T0, k.valid_until)).collect::<Vec<_>>()
    };
    let now = store.agent_keys(&a).await.unwrap();
    assert_eq!(times(now), [(2, 5, None), (1, 0, None)]);
    assert_eq!(store.retire_agent_keys(&a, 2, T0 + 90).await.unwrap(), 1);
    // It may become shorter, not longer.
    assert_eq!(store.retire_agent_keys(&a, 2, T0 + 95).await.unwrap(), 0);
    let now = store.agent_keys(&a).await.unwrap();
    assert_eq!(times(now), [(2, 5, None), (1, 0, Some(T0 + 90))]);
    // The enrolment that is asked for again gives the key that is in force.
    let again = store.register_agent(new("a", "1", 1), T0 + 6).await.unwrap();
    assert!(again.approved && enrolled.approved);
    assert_eq!((again.agent.key_id, again.wrapped_key[0]), (2, 2));
    // Long after its end a key is gone.
    let later = T0 + 90 + 31 * 86_400_000;
    assert_eq!(store.add_agent_key(&a, 2, vec![4; 60], later).await.unwrap(), Some(3));
    assert_eq!(keys(store, "a").await, [(3, 4), (2, 2)]);
    // While somebody waits to take its place, an operator decides first; and for nobody unknown.
    store.register_agent(new("a", "2", 9), T0 + 7).await.unwrap();
    assert_eq!(store.add_agent_key(&a, 4, vec![5; 60], later).await.unwrap(), None);
    assert!(store.add_agent_key(&agent("b"), 1, vec![5; 60], later).await.is_err());
}

pub(crate) async fn agents_come_in_pages_by_id(store: &dyn Store) {
    for (key, id) in ["c", "a", "e", "b"].into_iter().enumerate() {
        let (machine, key) = (key.to_string(), key as u8);
        store.register_agent(new(id, &machine, key), T0).await.unwrap();
    }
    // Who waits in another's place is said on a page too, and makes no second row.
    store.register_agent(new("a", "7", 9), T0).await.unwrap();
    let all = store.agents().await.unwrap();
    assert_eq!(store.agents_after(None, 9).await.unwrap(), all);
    assert_eq!(store.agents_after(None, 2).await.unwrap(), all[..2]);
    assert_eq!(all[0].newcomer.as_ref().map(|it| it.key_id), Some(2));
    let b = agent("b");
    assert_eq!(store.agents_after(Some(&b), 1).await.unwrap(), all[2..3]);
    // One that is not there has its place all the same.
    for after in ["c", "d"] {
        assert_eq!(store.agents_after(Some(&agent(after)), 9).await.unwrap(), all[3..], "{after}");
    }
    assert_eq!(store.agents_after(Some(&agent("e")), 9).await.unwrap(), []);
    assert_eq!(store.agents_after(None, 0).await.unwrap(), []);
}
