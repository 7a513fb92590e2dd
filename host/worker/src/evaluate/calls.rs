//! Calls to evaluators, made beside the task that owns the alerts.

use super::book::Book;
use crate::metrics::Metrics;
use crate::stages::{Evaluator, EvaluatorError};
use crate::windows::Windows;
use crate::windows::progress::{Reading, Seen};
use parking_lot::RwLock;
use sentinel_alerting::evaluation::{Instance, Observation};
use sentinel_model::ids::SlotName;
use sentinel_runtime::evaluator::Outcome;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinHandle;

/// One call: the time as of which, and which conditions of which rules.
pub(super) struct Call {
    pub(super) at: i64,
    /// Index of the condition, and of the rule in the book.
    pub(super) rules: Vec<(u32, usize)>,
}

/// What a call gave: an observation or an error for each rule.
pub(super) struct Answered {
    pub(super) at: i64,
    /// How long the call took.
    pub(super) took_ms: u64,
    /// Over what.
    pub(super) seen: Option<Seen>,
    pub(super) rules: Vec<(usize, Result<Outcome, String>)>,
}

/// All calls that one evaluator was due.
pub(super) struct Finished {
    pub(super) slot: SlotName,
    pub(super) answers: Vec<Answered>,
}

pub(super) async fn call(
    slot: SlotName,
    evaluator: Arc<dyn Evaluator>,
    calls: Vec<Call>,
    windows: Arc<RwLock<Windows>>,
    metrics: Metrics,
) -> Finished {
    let mut answers = Vec::with_capacity(calls.len());
    for Call { at, rules } in calls {
        let (timer, began) = (metrics.evaluation_seconds.start_timer(), Instant::now());
        let reading = Reading::begin(&windows);
        let indexes = rules.iter().map(|(index, _)| *index).collect();
        let mut outcomes = match evaluator.evaluate(indexes, at).await {
            Ok(outcomes) => outcomes.into_iter(),
            Err(EvaluatorError::Refused(why) | EvaluatorError::Failed(why)) => {
                vec![Err(why); rules.len()].into_iter()
            }
        };
        timer.observe_duration();
        let seen = reading.end();
        let missing = || Err(format!("evaluator {slot} gave fewer results than conditions"));
        let answer = |(_, rule)| (rule, outcomes.next().unwrap_or_else(missing));
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let rules = rules.into_iter().map(answer).collect();
        answers.push(Answered { at, took_ms, seen, rules });
    }
    Finished { slot, answers }
}

/// What an outcome is to the life cycle; `settled` says whether all samples that are to be
/// expected are there.
#[must_use]
pub fn observation(outcome: Outcome, settled: bool) -> Observation {
    let instance = |instance: sentinel_runtime::evaluator::Instance| Instance {
        labels: instance.labels.into_iter().collect(),
        value: instance.value,
        summary: instance.summary,
    };
    let active = outcome.active.into_iter().map(instance).collect();
    Observation::Seen { active, series_read: outcome.series_read, settled }
}

/// Waits for the rules that are being prepared; for ever where none are.
pub(super) async fn joined(preparing: &mut Option<JoinHandle<Book>>) -> Option<Book> {
    match preparing {
        Some(handle) => handle
            .await
            .inspect_err(|error| tracing::error!(%error, "rules could not be prepared"))
            .ok(),
        None => std::future::pending().await,
    }
}
