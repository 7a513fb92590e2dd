//! What a host says became of the desired set.

use serde::{Deserialize, Serialize};

/// A host's answer to the desired set: shown to operators, trusted for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// Number of the set that runs; 0 before the first.
    pub applied: u64,
    /// The newer set that does not run here, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedSet>,
    /// A newer set that is being fetched or prepared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applying: Option<u64>,
    /// The set that runs may still be taken back as a whole: it changed something here, and
    /// its trial is not over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trial: bool,
}

/// A set that was refused or rolled back as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedSet {
    /// Its number; 0 where it could not even be opened.
    pub number: u64,
    /// Why, in words.
    pub why: String,
}
