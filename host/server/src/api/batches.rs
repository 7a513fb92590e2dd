//! Shapes of committed records.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Records of one opening of an agent's log.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BatchesBody {
    /// Openings of the agent's log, the one that was last committed into first; at most 100.
    pub streams: Vec<StreamBody>,
    /// The records, in order of their numbers.
    pub batches: Vec<BatchBody>,
    /// Where to go on (`from`); absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// An opening of an agent's log.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StreamBody {
    /// Which, hexadecimal.
    pub epoch: String,
    /// The highest record in the database.
    pub committed: u64,
    /// Unix milliseconds of the newest commit.
    pub last_commit: i64,
}

/// A committed record.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BatchBody {
    /// Whose.
    pub agent: String,
    /// Of which opening of its log, hexadecimal.
    pub epoch: String,
    /// Its number.
    pub sequence: u64,
    /// The same, but of a skip, the last number that it says is lost.
    pub last: u64,
    /// `samples`, `skipped` or `dead`.
    pub state: String,
    /// Rows that it brought.
    pub rows: u64,
    /// SHA-256 of what the agent signed, hexadecimal.
    pub sha256: String,
    /// Of one that could not be processed, as long as it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead: Option<DeadBody>,
}

/// A record that could not be processed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DeadBody {
    /// Unix milliseconds of the commit.
    pub at: i64,
    /// Why.
    pub reason: String,
    /// The payload as it came, base64.
    pub payload: String,
}
