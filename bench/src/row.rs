//! One line of the table.

use serde::Serialize;
use serde_json::Value;

/// On which side of its limit a value belongs.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// One measurement.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: &'static str,
    value: f64,
    limit: f64,
    unit: &'static str,
    better: Better,
    holds: bool,
    detail: Value,
}

impl Row {
    pub(crate) fn new(
        name: &'static str,
        value: f64,
        (better, limit): (Better, f64),
        unit: &'static str,
        detail: Value,
    ) -> Self {
        let holds = match better {
            Better::Higher => value >= limit,
            Better::Lower => value <= limit,
        };
        Self { name, value, limit, unit, better, holds, detail }
    }

    /// The same, which holds only where something else does too.
    pub(crate) fn and(mut self, holds: bool) -> Self {
        self.holds &= holds;
        self
    }
}
