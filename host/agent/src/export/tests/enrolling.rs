//! Becoming an agent that the server knows.

use super::agent::TestAgent;
use super::behaviour::pushes;
use super::server::{Asked, Script, State, key};
use crate::enrol::{Approval, Enrolment, GivenToken, Identity, Waiting};
use async_trait::async_trait;
use parking_lot::Mutex;
use sentinel_wire::v1::RegisterResponse;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;
use zeroize::Zeroizing;

/// Gives numbered tokens; approves when it is told to.
#[derive(Default)]
struct Own {
    tokens: Mutex<u32>,
    waits: Mutex<Vec<Result<Approval, String>>>,
}

#[async_trait]
impl Enrolment for Own {
    fn is_possible(&self) -> bool {
        true
    }

    async fn token(&self) -> Result<Zeroizing<String>, String> {
        let mut given = self.tokens.lock();
        *given += 1;
        Ok(Zeroizing::new(format!("t{given}")))
    }

    async fn waiting(&self, _: Waiting<'_>) -> Result<Approval, String> {
        self.waits.lock().pop().unwrap()
    }
}

fn waiting() -> RegisterResponse {
    let key = key();
    RegisterResponse {
        approved: false,
        key: key.expose().to_vec(),
        key_id: key.id(),
        ..RegisterResponse::default()
    }
}

#[tokio::test(start_paused = true)]
async fn an_enrolment_that_fails_is_tried_again_with_another_token_and_kept_when_it_is_decided() {
    let mut agent = TestAgent::not_enrolled();
    let own = Arc::new(Own::default());
    *own.waits.lock() = vec![Ok(Approval::Given), Err("the database is away".to_owned())];
    agent.enrolment = Arc::clone(&own) as Arc<_>;
    let script = Script::new();
    let mut refusals = vec![Status::unavailable("not now")];
    script.state.lock().on_register = Some(Box::new(move |_| match refusals.pop() {
        Some(refusal) => Err(refusal),
        None => Ok(waiting()),
    }));
    agent.append(1);
    agent.start(&script);
    script.until("the push", pushes(1)).await;
    let asked = script.state.lock().asked.clone();
    let tokens: Vec<String> = asked
        .iter()
        .filter_map(|(_, a)| match a {
            Asked::Register { token, id } => Some(format!("{id} {token}")),
            _ => None,
        })
        .collect();
    assert_eq!(tokens, ["a t1", "a t2", "a t3"], "refused, not decided, approved");
    assert!(Identity::load(&agent.dir.path().join("identity.json")).unwrap().is_some());
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_enrolment_whose_answer_was_lost_is_asked_for_again_also_after_a_restart() {
    let mut agent = TestAgent::not_enrolled();
    agent.enrolment = Arc::new(GivenToken(Some(Zeroizing::new("once".to_owned()))));
    let script = Script::new();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    script.state.lock().on_register = Some(Box::new(move |request| {
        let mut seen = seen.lock();
        seen.push(request.nonce.clone());
        if seen.len() < 4 { Err(Status::unavailable("lost")) } else { Ok(waiting()) }
    }));
    let enrolled = |times| move |state: &State| registrations(state) == times;
    agent.start(&script);
    script.until("the second attempt", enrolled(2)).await;
    agent.stop().await;
    agent.start(&script);
    script.until("the fourth attempt", enrolled(4)).await;
    agent.append(1);
    script.until("the push", pushes(1)).await;
    agent.stop().await;
    let asked = asked.lock().clone();
    assert!(asked[0].len() == 16 && asked.iter().all(|nonce| *nonce == asked[0]), "{asked:?}");
    let file = |name| agent.dir.path().join(name);
    assert!(file("identity.json").exists() && !file("identity.enrolling").exists());
    // The next enrolment is another.
    std::fs::remove_file(file("identity.json")).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let nonce = Arc::clone(&seen);
    script.state.lock().on_register = Some(Box::new(move |request| {
        *nonce.lock() = request.nonce.clone();
        Ok(waiting())
    }));
    agent.start(&script);
    script.until("the next enrolment", enrolled(5)).await;
    agent.stop().await;
    assert_ne!(*seen.lock(), asked[0]);
}

fn registrations(state: &State) -> usize {
    state.asked.iter().filter(|(_, a)| matches!(a, Asked::Register { .. })).count()
}

#[tokio::test(start_paused = true)]
async fn a_token_is_not_spent_on_an_identity_that_cannot_be_kept() {
    let mut agent = TestAgent::not_enrolled();
    let own = Arc::new(Own::default());
    agent.enrolment = Arc::clone(&own) as Arc<_>;
    // A folder in the place of what is written first: also root cannot write there.
    std::fs::create_dir_all(agent.dir.path().join("identity.probe/x")).unwrap();
    let script = Script::new();
    agent.start(&script);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(script.state.lock().asked.is_empty());
    assert_eq!(*own.tokens.lock(), 0);
    assert!(agent.status.lock().last_error.as_ref().unwrap().contains("identity"));
    agent.stop().await;
}
