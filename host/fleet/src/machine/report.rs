//! What operators are told.

use super::{Machine, Saving, Task};
use sentinel_trust::fleet::{HostReport, RefusedSet};

/// Longest reason in a report, in characters.
const MAX_WHY: usize = 2_000;

pub(super) fn said(number: u64, why: &str) -> RefusedSet {
    RefusedSet { number, why: why.chars().take(MAX_WHY).collect() }
}

impl Machine {
    /// What operators are told.
    #[must_use]
    pub fn report(&self) -> HostReport {
        let unsaved = match &self.saving {
            Saving::Failed { why, .. } => Some(why),
            Saving::Done | Saving::Open => None,
        };
        let newest = self.pending().and_then(|set| {
            let why = unsaved.or(self.refused.as_ref())?;
            let stopped = self.stopped_all_the_same();
            Some(said(set.number(), &format!("{why}{stopped}")))
        });
        let unkept = || Some(said(self.applied, unsaved?));
        let missing = || {
            let why: Vec<&str> = self.missing.values().map(String::as_str).collect();
            (!why.is_empty()).then(|| said(self.applied, &why.join("; ")))
        };
        let applying = self.busy.as_ref().filter(|busy| busy.task == Task::Apply);
        HostReport {
            applied: self.applied,
            refused: newest
                .or_else(unkept)
                .or_else(|| self.memory.undone.clone())
                .or_else(missing)
                .or_else(|| self.unbelieved.clone()),
            applying: applying.map(super::Busy::number),
            trial: self.may_go_back(),
        }
    }
}
