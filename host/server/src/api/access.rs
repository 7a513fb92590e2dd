//! Shapes of tokens and of the log of changes.

use crate::access::Role;
use sentinel_store::access::{ApiToken, Audit, EnrolmentToken};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An enrolment token, without the token.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct EnrolmentTokenBody {
    /// What names it; the code that an agent shows that asks for it.
    pub id: String,
    /// How many more agents it may enrol.
    pub uses_left: u32,
    /// Unix milliseconds.
    pub expires_at: i64,
    /// Who made or approved it; empty while it waits.
    pub made_by: String,
    /// Unix milliseconds.
    pub made_at: i64,
    /// Whether it does not serve before it is approved.
    pub waiting: bool,
    /// The agent that asks for it, in its own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// That agent's machine, in its own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// From where it asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

impl From<EnrolmentToken> for EnrolmentTokenBody {
    fn from(token: EnrolmentToken) -> Self {
        let asked = token.asked.map(|it| (it.agent, it.hostname, it.address));
        let (agent, hostname, address) =
            asked.map_or((None, None, None), |(a, h, f)| (Some(a), Some(h), Some(f)));
        Self {
            id: token.id,
            uses_left: token.uses_left,
            expires_at: token.expires_at,
            made_by: token.made_by,
            made_at: token.made_at,
            waiting: token.waiting,
            agent,
            hostname,
            address,
        }
    }
}

/// An API token to make.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ApiTokenRequest {
    /// Whom or what it is for.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// How long it serves, such as `90d`; until it is revoked where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_for: Option<String>,
}

/// An API token, without the token.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ApiTokenBody {
    /// What names it.
    pub id: String,
    /// Whom or what it is for.
    pub name: String,
    /// What its holder may do.
    pub role: String,
    /// Who made it.
    pub made_by: String,
    /// Unix milliseconds.
    pub made_at: i64,
    /// Unix milliseconds; absent where it serves until it is revoked.
    pub expires_at: Option<i64>,
}

impl From<ApiToken> for ApiTokenBody {
    fn from(token: ApiToken) -> Self {
        let ApiToken { id, hash: _, name, role, made_by, made_at, expires_at } = token;
        Self { id, name, role, made_by, made_at, expires_at }
    }
}

/// An API token that was made, shown once.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct MadeApiTokenBody {
    /// The token.
    pub token: String,
    /// What is kept of it.
    pub kept: ApiTokenBody,
}

/// Something was done to what an id names.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DoneBody {
    /// The id.
    pub id: String,
}

/// A change that somebody asked for.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditBody {
    /// Its number; later ones have higher ones.
    pub id: i64,
    /// Unix milliseconds.
    pub at: i64,
    /// Who.
    pub who: String,
    /// With which role.
    pub role: String,
    /// From which address.
    pub address: String,
    /// What: the request's method and path.
    pub what: String,
    /// The answer's status, and which version of the rules is in force by it; absent where it is not known what became
    /// of it.
    pub outcome: Option<String>,
}

impl From<Audit> for AuditBody {
    fn from(audit: Audit) -> Self {
        let Audit { id, entry, outcome } = audit;
        Self {
            id,
            at: entry.at,
            who: entry.who,
            role: entry.role,
            address: entry.address,
            what: entry.what,
            outcome,
        }
    }
}
