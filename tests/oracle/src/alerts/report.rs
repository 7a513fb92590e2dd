//! What was found of alerts, for people and as JSON.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Where what is stored differs from the reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The time of the evaluation, or of what is stored without one; unix milliseconds.
    pub at: i64,
    /// The rule.
    pub rule: String,
    /// Which of its alerts.
    pub alert: String,
    /// The position of the evaluation, where there is one.
    pub position: String,
    /// What the reference says.
    pub expected: String,
    /// What is stored.
    pub stored: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, rule, alert, position, expected, stored } = self;
        write!(f, "rule {rule}, alert {alert}, at {at}")?;
        if !position.is_empty() {
            write!(f, ", position {position}")?;
        }
        write!(f, ":\n  expected {expected}\n  stored   {stored}")
    }
}

/// What was compared, and the first difference.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Evaluations that were made anew.
    pub evaluations: u64,
    /// Evaluations over samples of which some are packed: what they saw cannot be told any more.
    pub too_old: u64,
    /// How often more came while an alert was being evaluated, so that either answer is right.
    pub unsure: u64,
    /// Whoever evaluated, one after the other.
    pub terms: u64,
    /// Transitions of the history that were compared.
    pub transitions: u64,
    /// How many of them began to fire.
    pub fired: u64,
    /// How many of them ended that.
    pub resolved: u64,
    /// When an alert last began to fire, unix milliseconds.
    pub last_fired: Option<i64>,
    /// When one was last over.
    pub last_resolved: Option<i64>,
    /// Alerts stored now that were compared.
    pub alerts: u64,
    /// Entries of the journal of notifications that were compared.
    pub notifications: u64,
    /// What they tell: an alert that fires or is over, to one notifier.
    pub told: u64,
    /// The first difference.
    pub difference: Option<Difference>,
}

impl Report {
    /// Whether there was something to judge, and it is as it should be.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.difference.is_none() && self.evaluations > 0 && self.transitions > 0
    }

    /// Whether an alert began to fire, and one was over, later than this.
    #[must_use]
    pub fn went_on(&self, after: i64) -> bool {
        self.last_fired > Some(after) && self.last_resolved > Some(after)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "alerts: {} evaluations by {} terms, {} more too old, {} answers unsure",
            self.evaluations, self.terms, self.too_old, self.unsure
        )?;
        writeln!(
            f,
            "alerts: {} transitions ({} fired, {} resolved), {} stored; {} notifications tell {}",
            self.transitions, self.fired, self.resolved, self.alerts, self.notifications, self.told
        )?;
        match &self.difference {
            Some(difference) => write!(f, "they differ from the reference: {difference}"),
            None if self.holds() => write!(f, "alerts agree with the reference"),
            None => write!(f, "nothing to judge: nothing was evaluated, or nothing came of it"),
        }
    }
}
