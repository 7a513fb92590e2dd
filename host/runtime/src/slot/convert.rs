//! The contract's types and the host's, both ways.

use std::sync::Arc;

use sentinel_model::alert::{Alert, AlertState, Notification, NotificationStatus};
use sentinel_model::series::Labels;

use crate::bindings::exports::sentinel::plugin::{evaluate, notify};
use crate::bindings::sentinel::plugin::types;
use crate::error::{Cause, Diagnostic, Severity};
use crate::evaluator::{Condition, Failure, Instance, Need, Outcome, Plan};
use crate::imports::Selectors;

/// Most bytes of a text that a plugin gives for people (1 KiB).
const MAX_TEXT_BYTES: usize = 1 << 10;
/// Most diagnostics of one answer that are kept.
const MAX_DIAGNOSTICS: usize = 100;

/// A text for people, cut.
pub(crate) fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
    text
}

/// Something to say about a text as a whole.
pub(super) fn whole(message: String) -> Diagnostic {
    Diagnostic { path: String::new(), message, severity: Severity::Error }
}

impl From<types::Diagnostic> for Diagnostic {
    fn from(said: types::Diagnostic) -> Self {
        let severity = match said.severity {
            types::Severity::Error => Severity::Error,
            types::Severity::Warning => Severity::Warning,
        };
        Self { path: cut(said.path), message: cut(said.message), severity }
    }
}

fn diagnostics(said: Vec<types::Diagnostic>) -> Vec<Diagnostic> {
    said.into_iter().take(MAX_DIAGNOSTICS).map(Diagnostic::from).collect()
}

pub(super) fn refused(said: Vec<types::Diagnostic>) -> Cause {
    Cause::Misconfigured(diagnostics(said))
}

impl From<Condition> for evaluate::Condition {
    fn from(condition: Condition) -> Self {
        Self { rule: condition.rule, text: condition.text }
    }
}

/// A plan; a selector that is none is the evaluator's mistake and told as the text's.
pub(super) fn plan(
    plan: evaluate::Plan,
    selectors: &mut Selectors,
) -> Result<Plan, Vec<Diagnostic>> {
    let mut needs = Vec::with_capacity(plan.needs.len());
    for need in plan.needs {
        let selector = selectors
            .parsed(need.selector)
            .map_err(|why| vec![whole(format!("it reads a series that cannot be: {why}"))])?;
        needs.push(Need { selector, window_ms: need.window_ms });
    }
    Ok(Plan { needs, warnings: diagnostics(plan.warnings) })
}

pub(super) fn outcome(
    answer: Result<evaluate::Outcome, types::Failure>,
) -> Result<Outcome, Failure> {
    match answer {
        Ok(evaluate::Outcome { active, series_read }) => {
            let active = active.into_iter().map(|instance| Instance {
                labels: instance.labels,
                value: instance.value,
                summary: cut(instance.summary),
            });
            Ok(Outcome { active: active.collect(), series_read })
        }
        Err(types::Failure::Unavailable(why)) => Err(Failure::Unavailable(cut(why))),
        Err(types::Failure::Misconfigured(said)) => Err(Failure::Misconfigured(diagnostics(said))),
        Err(types::Failure::Rejected(why)) => Err(Failure::Rejected(cut(why))),
    }
}

fn pairs(labels: &Labels) -> Vec<(String, String)> {
    labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn alert(alert: &Alert) -> notify::Alert {
    let mut annotations = alert.annotations.clone();
    if !alert.summary.is_empty() && annotations.get("summary").is_none() {
        annotations.set("summary", &alert.summary);
    }
    notify::Alert {
        fingerprint: alert.fingerprint.to_string(),
        rule: alert.rule.clone(),
        status: match alert.state {
            AlertState::Pending | AlertState::Firing => notify::Status::Firing,
            AlertState::Resolved => notify::Status::Resolved,
        },
        labels: pairs(&alert.labels),
        annotations: pairs(&annotations),
        value: alert.value,
        starts_at: alert.fired_at.unwrap_or(alert.active_since),
        ends_at: alert.resolved_at,
    }
}

/// A notification as a notifier gets it.
pub(super) fn notification(
    notification: &Notification,
    attempt: u32,
    may_be_repeat: bool,
    link: &str,
) -> Arc<notify::Notification> {
    Arc::new(notify::Notification {
        id: notification.id.clone(),
        time: notification.time,
        status: match notification.status {
            NotificationStatus::Firing => notify::Status::Firing,
            NotificationStatus::Resolved => notify::Status::Resolved,
        },
        group: pairs(&notification.group),
        alerts: notification.alerts.iter().map(alert).collect(),
        attempt,
        may_be_repeat,
        link: link.to_owned(),
    })
}
