//! Shapes of committed records.

use super::NumberBody;
use sentinel_model::number::Number;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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
    /// Of one that is asked for by itself: the samples that it brought, until they are packed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<SamplesBody>,
    /// Of one that is asked for by itself: why its samples are not told, and where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<String>,
}

/// Samples of a record, as they were committed: after the transforms.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SamplesBody {
    /// They, in the order of the record.
    pub rows: Vec<SampleBody>,
    /// Whether there are more after them: ask again, `row` being where to go on.
    pub more: bool,
}

/// One sample.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SampleBody {
    /// The metric's name.
    pub name: String,
    /// The labels of its series.
    pub labels: BTreeMap<String, String>,
    /// Unix milliseconds.
    pub time: i64,
    /// A number, or `"NaN"`, `"+Inf"` or `"-Inf"`, for which JSON has none.
    #[schema(value_type = NumberBody)]
    pub value: Number,
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
