//! What goes between an evaluator and its host: conditions, plans, questions, outcomes.

use std::sync::Arc;

use sentinel_model::series::Selector;

pub use crate::capabilities::series::{
    Aggregate, Answer, Estimate, MAX_QUERIES, MAX_SERIES, NoSeries, Query, QueryError, SeriesSource,
};
use crate::error::{CallError, Diagnostic};

/// Most bytes of a condition's text (64 KiB).
pub const MAX_CONDITION_BYTES: usize = 64 << 10;

/// A rule's condition as the host stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The rule's name, unique among the loaded.
    pub rule: String,
    /// JSON text in the evaluator's language, at most [`MAX_CONDITION_BYTES`].
    pub text: String,
}

/// Series that a condition will read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Which series.
    pub selector: Arc<Selector>,
    /// How far back from the time of evaluation, offset included, in milliseconds.
    pub window_ms: u64,
}

/// What the host knows of a condition that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Everything it reads; what is not here must be answered with [`QueryError::Unplanned`].
    pub needs: Vec<Need>,
    /// What a person should look at.
    pub warnings: Vec<Diagnostic>,
}

/// Why a condition is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The evaluator refuses the text.
    #[error("{}", crate::error::lines(.0))]
    Refused(Vec<Diagnostic>),
    /// The evaluator itself failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// One instance of a condition that holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Labels that tell it from the rule's other instances; empty for the only one.
    pub labels: Vec<(String, String)>,
    /// The value to show.
    pub value: f64,
    /// What it means in words; may be empty.
    pub summary: String,
}

/// The state of one condition at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Instances that hold.
    pub active: Vec<Instance>,
    /// How many series were read: 0 tells that there is no data.
    pub series_read: u32,
}

/// Why one condition has no outcome although the evaluator is sound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The next evaluation may succeed.
    #[error("{0}")]
    Unavailable(String),
    /// The condition cannot work against what was found.
    #[error("{}", crate::error::lines(.0))]
    Misconfigured(Vec<Diagnostic>),
    /// It can never be evaluated.
    #[error("{0}")]
    Rejected(String),
}
