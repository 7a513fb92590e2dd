//! Asking the evaluators about conditions, for whoever takes rules from people.

use crate::worker::Shared;
use sentinel_model::ids::SlotName;
use sentinel_runtime::Diagnostic;
use sentinel_runtime::evaluator::Plan;
use std::sync::Arc;

/// Asks a worker's evaluators. Cheap to clone; outlives the worker harmlessly.
#[derive(Clone)]
pub struct ConditionChecker(pub(crate) Arc<Shared>);

impl ConditionChecker {
    /// What a condition (JSON text) reads, or everything that its evaluator has to say of one that
    /// it refuses.
    ///
    /// # Errors
    /// Where there is no such evaluator, or it did not answer.
    pub async fn check(
        &self,
        evaluator: &SlotName,
        text: &str,
    ) -> Result<Result<Plan, Vec<Diagnostic>>, String> {
        let stages = self.0.stages();
        let Some(stage) = stages.evaluators.get(evaluator) else {
            let known: Vec<&str> = stages.evaluators.keys().map(SlotName::as_str).collect();
            return Err(format!(
                "there is no evaluator in a slot named {evaluator}; the worker has: {}",
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            ));
        };
        stage.evaluator.diagnose(text).await
    }

    /// As [`Worker::rules_changed`](crate::Worker::rules_changed).
    pub fn rules_changed(&self) {
        self.0.rules_changed();
    }
}
