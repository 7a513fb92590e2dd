//! The work that plugins do here, as the rest of the worker sees it: what reshapes batches,
//! what evaluates rules, what tells people. In production each is a plugin in a slot
//! ([`crate::slots`]); the pipelines do not know.

use async_trait::async_trait;
use sentinel_alerting::delivery::{OnUnknown, Outcome as Sent};
use sentinel_model::alert::Notification;
use sentinel_model::batch::Batch;
use sentinel_model::ids::SlotName;
use sentinel_runtime::evaluator::{Condition, Outcome, Plan};
use sentinel_runtime::{Diagnostic, KvWrite, Severity};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why a batch was not reshaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransformError {
    /// This batch never will be.
    Rejected(String),
    /// It may be at the next attempt.
    Failed(String),
    /// It was not called: it is left alone for a while after failures, or was just stopped. That
    /// says nothing of this batch, which waits.
    NotCalled(String),
    /// The transform is configured and could not be loaded yet. What it was to keep out must
    /// not be stored, so everything waits for it.
    NotLoaded(String),
}

/// Turns a batch into another.
#[async_trait]
pub trait Transform: Send + Sync {
    /// The batch in place of `batch`.
    async fn reshape(&self, batch: Arc<Batch>) -> Result<Arc<Batch>, TransformError>;
}

/// Why an evaluator did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvaluatorError {
    /// It refuses the condition.
    Refused(String),
    /// It failed; it may answer the next time.
    Failed(String),
}

/// Decides which conditions hold.
#[async_trait]
pub trait Evaluator: Send + Sync {
    /// What a condition will read.
    async fn check(&self, text: &str) -> Result<Plan, EvaluatorError>;
    /// What a condition will read, or everything to say of one that is refused; an error where
    /// the evaluator did not answer.
    async fn diagnose(&self, text: &str) -> Result<Result<Plan, Vec<Diagnostic>>, String> {
        match self.check(text).await {
            Ok(plan) => Ok(Ok(plan)),
            Err(EvaluatorError::Refused(message)) => {
                let said = Diagnostic { path: String::new(), message, severity: Severity::Error };
                Ok(Err(vec![said]))
            }
            Err(EvaluatorError::Failed(why)) => Err(why),
        }
    }
    /// Replaces the loaded conditions, each of which was checked.
    async fn load(&self, conditions: Vec<Condition>) -> Result<(), EvaluatorError>;
    /// Evaluates loaded conditions by their index: one result each, in order.
    async fn evaluate(
        &self,
        indexes: Vec<u32>,
        at: i64,
    ) -> Result<Vec<Result<Outcome, String>>, EvaluatorError>;
}

/// What came of an attempt to notify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// The notifier was not called: surely nothing left the house.
    NotMade(String),
    /// It was called.
    Made {
        /// What came of it.
        sent: Sent,
        /// What the notifier wants to remember from now on.
        remembers: Vec<KvWrite>,
    },
}

impl Attempt {
    /// One that was made, of which nothing is to be remembered.
    #[must_use]
    pub fn made(sent: Sent) -> Self {
        Self::Made { sent, remembers: Vec::new() }
    }
}

/// Tells somebody.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Makes one attempt at a notification. Whoever asked keeps what the notifier wants to
    /// remember, with the outcome of the attempt.
    async fn notify(
        &self,
        notification: &Notification,
        attempt: u32,
        may_be_repeat: bool,
    ) -> Attempt;
}

/// A transform in its slot.
#[derive(Clone)]
pub struct TransformStage {
    /// The slot.
    pub slot: SlotName,
    /// What runs in it.
    pub transform: Arc<dyn Transform>,
}

/// An evaluator in its slot.
#[derive(Clone)]
pub struct EvaluatorStage {
    /// Counts what was put into the slot: conditions are checked and loaded again when it
    /// changes.
    pub generation: u64,
    /// What runs in it.
    pub evaluator: Arc<dyn Evaluator>,
}

/// A notifier in its slot.
#[derive(Clone)]
pub struct NotifierStage {
    /// What is done when the outcome of an attempt is not known.
    pub on_unknown: OnUnknown,
    /// What runs in it.
    pub notifier: Arc<dyn Notifier>,
}

/// Everything that runs at some time. Pipelines take the newest for each piece of work.
#[derive(Clone, Default)]
pub struct Stages {
    /// In the order in which they reshape.
    pub transforms: Vec<TransformStage>,
    /// By slot.
    pub evaluators: BTreeMap<SlotName, EvaluatorStage>,
    /// By slot.
    pub notifiers: BTreeMap<SlotName, NotifierStage>,
}
