//! What the store knows of agents.

use crate::StoreError;
use sentinel_model::ids::AgentId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whether an agent may push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentState {
    /// What its keys sign is taken. Another enrolment under its id may wait meanwhile.
    Approved,
    /// It has no key that may sign: an operator must approve it, since its machine was enrolled
    /// before.
    Waiting,
    /// An operator refuses it.
    Blocked,
}

impl AgentState {
    /// As it is stored.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Waiting => "waiting",
            Self::Blocked => "blocked",
        }
    }

    /// What [`AgentState::text`] wrote.
    pub(crate) fn of(text: &str) -> Result<Self, StoreError> {
        Ok(match text {
            "approved" => Self::Approved,
            "waiting" => Self::Waiting,
            "blocked" => Self::Blocked,
            other => return Err(StoreError::Damaged { what: format!("an agent is {other:?}") }),
        })
    }
}

/// What an enrolment said of the agent, as it is stored until it is approved.
#[derive(Serialize, Deserialize)]
pub(crate) struct Enrolment {
    pub(crate) hw_id: String,
    pub(crate) hostname: String,
    pub(crate) version: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// Enrolments of before there were claims have none.
    #[serde(default)]
    pub(crate) claim: Option<Claim>,
    /// Unix milliseconds; 0 of those that were kept without.
    #[serde(default)]
    pub(crate) at: i64,
}

impl Enrolment {
    /// As what waits under the number of its key.
    pub(crate) fn newcomer(self, key_id: u32) -> Newcomer {
        Newcomer {
            key_id,
            hw_id: self.hw_id,
            hostname: self.hostname,
            version: self.version,
            labels: self.labels,
            registered_at: self.at,
        }
    }
}

pub(crate) fn no_agent(id: &AgentId) -> StoreError {
    StoreError::Conflict(format!("there is no agent {id}"))
}

/// An agent key as it is stored: encrypted with a key that is not in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// Number of the key, from 1; what the envelope names.
    pub key_id: u32,
    /// The wrapped secret.
    pub wrapped: Vec<u8>,
    /// Unix milliseconds at which it was made.
    pub made_at: i64,
    /// Unix milliseconds until which it may sign; without end where it is absent. It is given out
    /// for a while longer: what it signed may still be on its way.
    pub valid_until: Option<i64>,
}

/// How long a key that may not sign any more is kept, milliseconds: longer than a record waits on a bus.
pub(crate) const KEPT_AFTER: i64 = 30 * 86_400_000;

/// An enrolment.
#[derive(Debug, Clone)]
pub struct NewAgent {
    /// Wished id.
    pub id: AgentId,
    /// Hash of the machine's identity, 64 hexadecimal digits.
    pub hw_id: String,
    /// The machine's name, for people.
    pub hostname: String,
    /// Version of the agent's binary.
    pub version: String,
    /// Operator's labels, for selecting agents.
    pub labels: BTreeMap<String, String>,
    /// Its wrapped key without a number: the store gives the next one.
    pub wrapped_key: Vec<u8>,
    /// Which enrolment this is: the same when the agent asks again, since no answer reached it.
    pub claim: Claim,
}

/// A hash of everything that makes one enrolment: the token, the agent, its nonce. Hexadecimal
/// where it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Claim(pub [u8; 32]);

impl From<Claim> for String {
    fn from(claim: Claim) -> Self {
        hex::encode(claim.0)
    }
}

impl TryFrom<String> for Claim {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// What became of an enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// The agent, as it stands now.
    pub agent: AgentRecord,
    /// The key of this enrolment, wrapped; its number is `agent.key_id`. The one that was given
    /// first where the enrolment was known already.
    pub wrapped_key: Vec<u8>,
    /// Whether that key may sign. Otherwise the enrolment is `agent.newcomer`.
    pub approved: bool,
}

/// An enrolment that waits for an operator, while the keys before it (if there are any) go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newcomer {
    /// Number of the key that was made for it.
    pub key_id: u32,
    /// Hash of the machine's identity.
    pub hw_id: String,
    /// The machine's name.
    pub hostname: String,
    /// Version of its binary.
    pub version: String,
    /// Operator's labels.
    pub labels: BTreeMap<String, String>,
    /// Unix milliseconds of the enrolment.
    pub registered_at: i64,
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRecord {
    /// Its id.
    pub id: AgentId,
    /// Hash of the machine's identity.
    pub hw_id: String,
    /// The machine's name.
    pub hostname: String,
    /// Version of its binary.
    pub version: String,
    /// Operator's labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it may push.
    pub state: AgentState,
    /// Number of its newest key.
    pub key_id: u32,
    /// Unix milliseconds of the enrolment.
    pub registered_at: i64,
    /// Unix milliseconds of the last heartbeat.
    pub last_seen: Option<i64>,
    /// The last heartbeat's body, JSON: offsets, slots, warnings.
    pub report: Option<String>,
    /// The enrolment under its id that waits: approving the agent is approving this one, in the
    /// place of what went on until then.
    pub newcomer: Option<Newcomer>,
}

/// What an agent says of itself, already verified.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// Who.
    pub id: AgentId,
    /// Version of its binary.
    pub version: String,
    /// JSON: offsets, slots, warnings.
    pub report: String,
}
