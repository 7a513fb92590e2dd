//! Rule files as a server understands them: read, checked by whoever knows their conditions,
//! compared with what is stored and with the rules in force.
//!
//! ```text
//! files ── read (asks a RuleChecker) ── Sheet ──┬── difference to the rules in force
//!                                               └── judge, beside what is Stored: unknown names,
//!                                                   unknown labels, what each rule costs
//! ```
//!
//! Invariants: knows no language of conditions (what one reads is said by its evaluator); changes
//! nothing; all that is wrong is said at once, each with its place in its file.

mod difference;
mod judge;
mod read;
mod spelling;
mod stored;

pub use difference::differences;
pub use judge::{MAX_RULE_SAMPLES, MAX_RULE_SERIES, MAX_SERIES_A_MINUTE};
pub use read::{Entry, Sheet, read};
pub use stored::{LATELY_MS, Metric, Stored};

use async_trait::async_trait;
use sentinel_model::ids::SlotName;
use sentinel_model::series::Selector;

/// Something to say about a rule's condition.
#[derive(Debug, Clone)]
pub struct RuleDiagnostic {
    /// JSON Pointer into the condition.
    pub path: String,
    /// What is wrong, and what to do.
    pub message: String,
    /// Whether the rule is refused for it.
    pub error: bool,
}

/// Series that a condition reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRead {
    /// Which series.
    pub selector: Selector,
    /// How far back from the time of evaluation, in milliseconds.
    pub window_ms: u64,
}

/// What an evaluator makes of a condition.
#[derive(Debug, Clone, Default)]
pub struct RuleVerdict {
    /// All there is to say.
    pub diagnostics: Vec<RuleDiagnostic>,
    /// What it reads; nothing where it is refused.
    pub reads: Vec<RuleRead>,
}

/// Knows what conditions mean: the evaluators behind it do.
#[async_trait]
pub trait RuleChecker: Send + Sync + 'static {
    /// Everything to say about a condition; an error where the evaluator itself is not to be had.
    async fn check(
        &self,
        evaluator: &SlotName,
        condition: &serde_json::Value,
    ) -> Result<RuleVerdict, String>;

    /// Other rules were stored: whoever evaluates them need not find out by itself.
    fn applied(&self);
}
