//! Enrolment tokens: who holds one may enrol an agent, so often and so long as it says. They lie
//! in the store by their hashes, so that a token that one server made serves at all of them.
//!
//! A use belongs to a [`Claim`]: the same one again, since its answer was lost, is no other use.
//! That holds for a token that is used up, until it expires.
//!
//! An agent without a token may ask for one: it makes its own, shows the [`code`] of it, and has it
//! serve once an operator approves that code.

use crate::access::hash;
use crate::code::code;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sentinel_model::ids::AgentId;
use sentinel_store::access::{Asker, EnrolmentToken, Spent, TokenHash};
use sentinel_store::agents::Claim;
use sentinel_store::{Store, StoreError};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// How long an agent that asks waits for an operator, and how long it then has to come again:
/// milliseconds.
const ASKED_MS: i64 = 15 * 60 * 1000;

/// How a token begins that an agent made itself, to ask with it.
pub const ASKING: &str = "sac";

/// The fewest bytes behind that: it must not be guessed.
const MIN_ASKING: usize = 32;

/// The tokens of a store.
pub struct EnrolmentTokens(Arc<dyn Store>);

/// Why a token does not serve. Whoever holds a wrong one learns nothing more than this.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// Unknown, used up or expired.
    #[error(
        "the enrolment token is unknown, used up or expired; ask the operator for a new one (`sentinel token create`)"
    )]
    Refused,
    /// Nobody has approved it yet.
    #[error("the code waits for an operator's approval (`sentinel agents approve CODE`)")]
    Waiting,
    /// The store does not answer.
    #[error("the enrolment tokens cannot be used: {0}")]
    Store(#[from] StoreError),
}

/// The claim of an enrolment: whoever says the same of all of them enrols the same agent again.
#[must_use]
pub fn claim(token: &str, agent: &AgentId, hw_id: &str, nonce: &[u8; 16]) -> Claim {
    let digest = Sha256::new()
        .chain_update(b"sentinel-enrolment-v1\0")
        .chain_update(Sha256::digest(token.as_bytes()))
        .chain_update(nonce)
        .chain_update(Sha256::digest(hw_id.as_bytes()))
        .chain_update(agent.as_str())
        .finalize();
    Claim(digest.into())
}

/// A secret text that nobody guesses, behind what says of which kind it is.
///
/// # Panics
/// If the system has no randomness.
#[must_use]
pub fn fresh(kind: &str) -> String {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    format!("{kind}_{}", URL_SAFE_NO_PAD.encode(bytes))
}

impl EnrolmentTokens {
    /// Those of a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }

    /// Makes a token. It is shown once, here.
    ///
    /// # Errors
    /// A store that does not answer, or has too many tokens.
    pub async fn create(
        &self,
        uses: u32,
        expires_at: i64,
        by: &str,
        now: i64,
    ) -> Result<String, EnrolmentError> {
        let token = fresh("set");
        let hash = hash(&token);
        let kept = EnrolmentToken {
            id: code(&hash),
            hash,
            uses_left: uses,
            expires_at,
            made_by: by.to_owned(),
            made_at: now,
            waiting: false,
            asked: None,
        };
        self.0.save_enrolment_token(kept, now).await?;
        Ok(token)
    }

    /// Notes that an agent asks to be let in with a token of this hash.
    async fn ask(&self, hash: TokenHash, asker: Asker, now: i64) -> Result<(), EnrolmentError> {
        let asked = EnrolmentToken {
            id: code(&hash),
            hash,
            uses_left: 1,
            expires_at: now + ASKED_MS,
            made_by: String::new(),
            made_at: now,
            waiting: true,
            asked: Some(asker),
        };
        Ok(self.0.save_enrolment_token(asked, now).await?)
    }

    /// Lets the agent in that shows a code; whether there is one.
    ///
    /// # Errors
    /// A store that does not answer.
    pub async fn approve(&self, code: &str, by: &str, now: i64) -> Result<bool, EnrolmentError> {
        Ok(self.0.approve_enrolment_token(code, by, now, now + ASKED_MS).await?)
    }

    /// Uses a token once for a claim, however often it is said. One that an agent made itself is
    /// noted where it is unknown, for an operator to approve.
    ///
    /// # Errors
    /// [`EnrolmentError`]: then it is not used.
    pub async fn spend(
        &self,
        token: &str,
        claim: Claim,
        asker: impl FnOnce() -> Asker + Send,
        now: i64,
    ) -> Result<(), EnrolmentError> {
        let hash = hash(token);
        let asks = token.strip_prefix(ASKING).is_some_and(|rest| rest.len() >= MIN_ASKING);
        match self.0.spend_enrolment_token(hash, claim, now).await? {
            Spent::Taken => Ok(()),
            Spent::Waiting => Err(EnrolmentError::Waiting),
            Spent::Refused if asks => {
                self.ask(hash, asker(), now).await?;
                Err(EnrolmentError::Waiting)
            }
            Spent::Refused => Err(EnrolmentError::Refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_store::sqlite::{SqliteStore, StoreOptions};

    #[tokio::test]
    async fn what_one_server_makes_or_approves_serves_at_another_and_lies_nowhere_in_the_clear() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path().join("db"), StoreOptions::default());
        let store: Arc<dyn Store> = Arc::new(store.await.unwrap());
        let (here, there) =
            (EnrolmentTokens::new(Arc::clone(&store)), EnrolmentTokens::new(Arc::clone(&store)));
        let token = here.create(1, 1000, "owner", 0).await.unwrap();
        let asker = || Asker { agent: "a".into(), hostname: "h".into(), address: "x".into() };
        let spend = async |at: &EnrolmentTokens, token: &str, claim: u8, now: i64| {
            at.spend(token, Claim([claim; 32]), asker, now).await
        };
        assert!(matches!(spend(&there, "set_wrong", 1, 1).await, Err(EnrolmentError::Refused)));
        spend(&there, &token, 1, 1).await.unwrap();
        spend(&here, &token, 1, 999).await.unwrap();
        assert!(matches!(spend(&here, &token, 2, 1).await, Err(EnrolmentError::Refused)));

        let asks = fresh(ASKING);
        for _ in 0..2 {
            assert!(matches!(spend(&there, &asks, 1, 1).await, Err(EnrolmentError::Waiting)));
        }
        assert!(matches!(spend(&there, "sac_short", 1, 1).await, Err(EnrolmentError::Refused)));
        assert!(here.approve(&code(&hash(&asks)), "ann", 2).await.unwrap());
        spend(&there, &asks, 1, 3).await.unwrap();
        assert!(spend(&there, &asks, 2, 3).await.is_err(), "it was good for one agent");
        let kept = format!("{:?}", store.enrolment_tokens(1).await.unwrap());
        assert!(!kept.contains(&token[4..]), "{kept}");
    }

    #[test]
    fn a_claim_is_of_everything_that_is_said() {
        let agent = |id| AgentId::new(id).unwrap();
        let all = [
            claim("t", &agent("a"), "h", &[1; 16]),
            claim("u", &agent("a"), "h", &[1; 16]),
            claim("t", &agent("b"), "h", &[1; 16]),
            claim("t", &agent("a"), "i", &[1; 16]),
            claim("t", &agent("a"), "h", &[2; 16]),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(!all[i + 1..].contains(one));
        }
        assert_eq!(all[0], claim("t", &agent("a"), "h", &[1; 16]));
    }
}
