//! An agent takes the enrolment that its token promises, and no other.

use super::agent::TestAgent;
use super::server::{KEY_ID, Script, key};
use crate::enrol::{ENROLMENT, GivenToken, Identity};
use sentinel_fleet::HostEnrolment;
use sentinel_trust::fleet::FleetId;
use sentinel_trust::repository::{
    Enrolment, KeyPurpose, MinimumVersions, RoleKey, RoleSpec, RootSpec, root_file,
};
use sentinel_wire::v1::RegisterResponse;
use std::sync::Arc;
use zeroize::Zeroizing;

fn enrolment(url: &str) -> HostEnrolment {
    decided_by(1, url)
}

fn decided_by(operator: u8, url: &str) -> HostEnrolment {
    let key = |purpose| RoleKey::from_secret(purpose, &[1; 32]);
    let one = |purpose| RoleSpec::one(key(purpose).public());
    let spec = RootSpec {
        root: one(KeyPurpose::Root),
        targets: one(KeyPurpose::Targets),
        snapshot: one(KeyPurpose::Snapshot),
        timestamp: one(KeyPurpose::Timestamp),
    };
    let root = root_file(None, &spec, &[&key(KeyPurpose::Root)], 2_000_000_000_000).unwrap();
    let minimum = MinimumVersions::default();
    let operators = vec![RoleKey::from_secret(KeyPurpose::Operator, &[operator; 32]).public()];
    HostEnrolment::new(url, FleetId([1; 16]), &Enrolment { root, minimum, operators }).unwrap()
}

/// An agent whose token promises one enrolment, and a server that gives another or the same.
fn joining(promised: &HostEnrolment, given: &HostEnrolment) -> (TestAgent, Script) {
    let mut agent = TestAgent::not_enrolled();
    let token = promised.pins().token("set_secret");
    agent.enrolment = Arc::new(GivenToken(Some(Zeroizing::new(token))));
    let script = Script::new();
    let enrolment = given.bytes().to_vec();
    script.state.lock().on_register = Some(Box::new(move |request| {
        assert_eq!(request.token, "set_secret", "the server needs the secret only");
        Ok(RegisterResponse {
            approved: true,
            key: key().expose().to_vec(),
            key_id: KEY_ID,
            agent_id: request.agent_id.clone(),
            server_time_ms: 0,
            enrolment: enrolment.clone(),
        })
    }));
    agent.append(1);
    (agent, script)
}

#[tokio::test(start_paused = true)]
async fn an_agent_keeps_the_enrolment_that_its_token_promises() {
    let promised = enrolment("http://127.0.0.1:5000/");
    let (mut agent, script) = joining(&promised, &promised);
    agent.start(&script);
    let folder = agent.dir.path().to_owned();
    script.until("the push", |state| state.asked.len() > 2).await;
    agent.stop().await;
    assert_eq!(HostEnrolment::load(&folder.join(ENROLMENT)).unwrap(), Some(promised));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_gives_another_enrolment_than_the_token_promises() {
    let url = "http://127.0.0.1:5000/";
    let (promised, other) = (enrolment(url), decided_by(2, url));
    let (mut agent, script) = joining(&promised, &other);
    agent.start(&script);
    script.until("two attempts", |state| state.asked.len() >= 2).await;
    agent.stop().await;
    let error = agent.status.lock().last_error.clone().unwrap();
    assert!(error.contains("another enrolment than the token promises"), "{error}");
    let file = |name: &str| agent.dir.path().join(name);
    assert!(Identity::load(&file("identity.json")).unwrap().is_none(), "nothing is kept");
    assert!(!file(ENROLMENT).exists());
}
