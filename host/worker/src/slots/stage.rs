//! A plugin's slot as a stage of a pipeline.

use crate::stages::{Attempt, Evaluator, EvaluatorError, Notifier, Transform, TransformError};
use async_trait::async_trait;
use sentinel_alerting::delivery::Outcome as Sent;
use sentinel_model::alert::Notification;
use sentinel_model::batch::Batch;
use sentinel_runtime::evaluator::{CheckError, Condition, Outcome, Plan};
use sentinel_runtime::notifier::NotifyError;
use sentinel_runtime::{CallError, Diagnostic, FailureKind, Slot};
use std::sync::Arc;

pub(super) struct SlotTransform(pub(super) Slot);

#[async_trait]
impl Transform for SlotTransform {
    async fn reshape(&self, batch: Arc<Batch>) -> Result<Arc<Batch>, TransformError> {
        match self.0.reshape(batch).await {
            Ok(batch) => Ok(Arc::new(batch)),
            Err(error) if error.kind() == FailureKind::Rejected => {
                Err(TransformError::Rejected(error.to_string()))
            }
            Err(error) if !error.was_called() => Err(TransformError::NotCalled(error.to_string())),
            Err(error) => Err(TransformError::Failed(error.to_string())),
        }
    }
}

/// In place of a transform that could not be loaded.
pub(super) struct Missing(pub(super) String);

#[async_trait]
impl Transform for Missing {
    async fn reshape(&self, _: Arc<Batch>) -> Result<Arc<Batch>, TransformError> {
        Err(TransformError::NotLoaded(self.0.clone()))
    }
}

pub(super) struct SlotEvaluator(pub(super) Slot);

fn refused(error: CheckError) -> EvaluatorError {
    match error {
        CheckError::Refused(_) => EvaluatorError::Refused(error.to_string()),
        CheckError::Call(error) => EvaluatorError::Failed(error.to_string()),
    }
}

#[async_trait]
impl Evaluator for SlotEvaluator {
    async fn check(&self, text: &str) -> Result<Plan, EvaluatorError> {
        self.0.check(text).await.map_err(refused)
    }

    async fn diagnose(&self, text: &str) -> Result<Result<Plan, Vec<Diagnostic>>, String> {
        match self.0.check(text).await {
            Ok(plan) => Ok(Ok(plan)),
            Err(CheckError::Refused(diagnostics)) => Ok(Err(diagnostics)),
            Err(CheckError::Call(error)) => Err(error.to_string()),
        }
    }

    async fn load(&self, conditions: Vec<Condition>) -> Result<(), EvaluatorError> {
        self.0.load_conditions(conditions).await.map_err(refused)
    }

    async fn evaluate(
        &self,
        indexes: Vec<u32>,
        at: i64,
    ) -> Result<Vec<Result<Outcome, String>>, EvaluatorError> {
        let failed = |error: CallError| EvaluatorError::Failed(error.to_string());
        let outcomes = self.0.evaluate(indexes, at).await.map_err(failed)?;
        Ok(outcomes.into_iter().map(|o| o.map_err(|failure| failure.to_string())).collect())
    }
}

pub(super) struct SlotNotifier {
    pub(super) slot: Slot,
    pub(super) link: String,
}

#[async_trait]
impl Notifier for SlotNotifier {
    async fn notify(
        &self,
        notification: &Notification,
        attempt: u32,
        may_be_repeat: bool,
    ) -> Attempt {
        let sent = self.slot.notify(notification, attempt, may_be_repeat, &self.link).await;
        Attempt::made(match sent {
            Ok(receipt) => {
                let reference = receipt.reference.map(|r| format!(" ({r})")).unwrap_or_default();
                let message = format!("{}{reference}", receipt.message);
                let sent = Sent::Delivered { message };
                return Attempt::Made { sent, remembers: receipt.kv };
            }
            Err(NotifyError::Retry { message, after_ms }) => Sent::Retry { message, after_ms },
            Err(NotifyError::Unknown(message)) => Sent::Unknown { message },
            Err(NotifyError::Permanent(message)) => Sent::Permanent { message },
            Err(NotifyError::Call(error)) if !error.was_called() => {
                return Attempt::NotMade(error.to_string());
            }
            Err(NotifyError::Call(error)) => Sent::Unknown { message: error.to_string() },
        })
    }
}
