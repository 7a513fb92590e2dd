//! Alerts for tests.

use sentinel_model::alert::{Alert, AlertState, Fingerprint};
use sentinel_model::series::Labels;

/// An alert that fires since 1000.
pub(crate) fn alert(rule: &str, labels: &[(&str, &str)]) -> Alert {
    let labels: Labels = labels.iter().copied().collect();
    Alert {
        fingerprint: Fingerprint::of(rule, &labels),
        rule: rule.into(),
        state: AlertState::Firing,
        labels,
        annotations: Labels::default(),
        summary: String::new(),
        value: 1.0,
        active_since: 1_000,
        fired_at: Some(1_000),
        last_active: 1_000,
        resolved_at: None,
        incident: 1,
    }
}
