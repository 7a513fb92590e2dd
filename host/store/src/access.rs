//! What the store keeps of those who call: tokens, by their hashes alone, and what was changed.

use crate::StoreError;
use serde::{Deserialize, Serialize};

/// The most API tokens, and the most enrolment tokens, that are kept.
pub const MAX_TOKENS: i64 = 10_000;
/// The most enrolment tokens that wait for approval.
pub const MAX_WAITING: i64 = 500;

/// SHA-256 of a token.
pub type TokenHash = [u8; 32];

/// A token with which the API is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// What names it, for people.
    pub id: String,
    /// Its hash.
    pub hash: TokenHash,
    /// Whom or what it is for.
    pub name: String,
    /// What its holder may do, in the server's words.
    pub role: String,
    /// Who made it.
    pub made_by: String,
    /// Unix milliseconds.
    pub made_at: i64,
    /// Unix milliseconds from which on it no longer serves; never where it is absent.
    pub expires_at: Option<i64>,
}

/// A token with which agents enrol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentToken {
    /// What names it, for people; the code that an agent shows that asks for it.
    pub id: String,
    /// Its hash.
    pub hash: TokenHash,
    /// How many more agents it may enrol.
    pub uses_left: u32,
    /// Unix milliseconds from which on it no longer serves.
    pub expires_at: i64,
    /// Who made or approved it; empty while it waits.
    pub made_by: String,
    /// Unix milliseconds.
    pub made_at: i64,
    /// Whether it does not serve before it is approved.
    pub waiting: bool,
    /// Who asks for it, where it was asked for.
    pub asked: Option<Asker>,
}

/// What an agent said of itself that asks to be let in. Nobody has checked any of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asker {
    /// The id that it wishes.
    pub agent: String,
    /// Its machine's name.
    pub hostname: String,
    /// From where it asked.
    pub address: String,
}

/// What became of the use of an enrolment token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// It serves.
    Taken,
    /// It waits for approval.
    Waiting,
    /// It is unknown, used up or expired.
    Refused,
}

/// A change, as it is written down before it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAudit {
    /// Unix milliseconds.
    pub at: i64,
    /// Who.
    pub who: String,
    /// With which role.
    pub role: String,
    /// From where.
    pub address: String,
    /// What.
    pub what: String,
}

/// A change that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Its number; later ones have higher ones.
    pub id: i64,
    /// Who, when, what, from where.
    pub entry: NewAudit,
    /// What became of it; absent where the server ended before that was known.
    pub outcome: Option<String>,
}

pub(crate) fn hash_of(bytes: &[u8]) -> Result<TokenHash, StoreError> {
    let wrong = |_| StoreError::Damaged { what: "a token's hash has not 32 bytes".to_owned() };
    bytes.try_into().map_err(wrong)
}

pub(crate) fn asker_of(text: Option<&str>) -> Result<Option<Asker>, StoreError> {
    Ok(text.map(serde_json::from_str).transpose()?)
}

pub(crate) fn too_many(what: &str, max: i64) -> StoreError {
    StoreError::Conflict(format!(
        "there are {max} {what} already; revoke some, or wait until some have expired"
    ))
}

pub(crate) fn taken(id: &str) -> StoreError {
    StoreError::Conflict(format!("there is a token {id} already; ask for another"))
}
