//! What was evaluated over what, until it is written down.
//!
//! It is written with what is decided; calls that decide nothing wait for that, or for the next housekeeping.

use super::Evaluation;
use super::calls::Answered;
use sentinel_model::ids::SlotName;
use sentinel_store::alerting::AlertingChange;
use sentinel_store::evaluations::{self, ranges};

/// So many that wait are written by themselves.
const MANY: usize = 256;

/// Calls that are to be written down.
pub(super) struct Journal {
    term: i64,
    number: i64,
    waiting: Vec<evaluations::Evaluation>,
}

impl Journal {
    /// Of somebody who begins to evaluate.
    pub(super) fn new() -> Self {
        Self { term: rand::random(), number: 0, waiting: Vec::new() }
    }

    /// Notes a call; one over windows that no tail feeds is not to be worked out anew.
    pub(super) fn note(
        &mut self,
        evaluator: &SlotName,
        answered: &Answered,
        rules_version: u64,
        settled: bool,
    ) {
        let Some(seen) = answered.seen.clone() else { return };
        let failed = answered.rules.iter().filter(|(_, outcome)| outcome.is_err());
        self.waiting.push(evaluations::Evaluation {
            term: self.term,
            number: self.number,
            evaluator: evaluator.clone(),
            at: answered.at,
            rules_version,
            rules: ranges(answered.rules.iter().map(|(rule, _)| *rule)),
            failed: ranges(failed.map(|(rule, _)| *rule)),
            settled,
            position: seen.position,
            until: seen.until,
        });
        self.number += 1;
    }

    /// What is written with something that is decided.
    pub(super) fn take(&mut self) -> Vec<evaluations::Evaluation> {
        std::mem::take(&mut self.waiting)
    }

    pub(super) fn is_long(&self) -> bool {
        self.waiting.len() >= MANY
    }
}

impl Evaluation {
    /// Writes down what waits. Nothing depends on it: where the store refuses, it is missing.
    pub(super) async fn write_journal(&mut self) {
        let evaluations = self.journal.take();
        if evaluations.is_empty() {
            return;
        }
        let change = AlertingChange { evaluations, ..AlertingChange::default() };
        let saved = self.parts.store.save_alerting(self.parts.term.sign(change)).await;
        self.parts.term.heed(&saved);
        if let Err(error) = saved {
            self.parts.metrics.store_failures.inc();
            tracing::warn!(%error, "evaluations that decided nothing could not be written down");
        }
    }
}
