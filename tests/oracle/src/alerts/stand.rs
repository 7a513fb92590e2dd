//! Transitions beside the lives of alerts, and alerts as they stand in the end.

use super::court::{Found, Lives};
use super::fingerprint;
use super::life::{Change, Life, State};
use super::report::{Difference, Report};
use super::stored::{Alert, Evaluation, Transition};
use std::collections::BTreeMap;

/// Compares the alerts that are stored with what became of them.
pub(super) fn judge(lives: &Lives, alerts: &[Alert], report: &mut Report) -> Found<()> {
    let mut expected: BTreeMap<&str, (&str, &Life)> = BTreeMap::new();
    for (rule, of_rule) in lives {
        let stored = of_rule.iter().filter(|(_, life)| life.word().is_some());
        expected.extend(stored.map(|(alert, life)| (alert.as_str(), (rule.as_str(), life))));
    }
    for alert in alerts {
        report.alerts += 1;
        let differs = |expected: String| {
            Box::new(Difference {
                at: alert.active_since,
                rule: alert.rule.clone(),
                alert: alert.fingerprint.clone(),
                position: String::new(),
                expected,
                stored: format!("{alert:?}"),
            })
        };
        let Some((rule, life)) = expected.remove(alert.fingerprint.as_str()) else {
            return Err(differs("no alert".to_owned()));
        };
        let times = (alert.active_since, alert.fired_at, alert.resolved_at, alert.incident);
        let is_it = rule == alert.rule && fingerprint(rule, &alert.labels) == alert.fingerprint;
        let is_so = life.word() == Some(alert.state.as_str())
            && times == (life.since, life.fired_at, life.resolved_at, life.incident);
        if !(is_it && is_so) {
            return Err(differs(format!("an alert of {rule} with these labels, {life:?}")));
        }
    }
    match expected.into_iter().next() {
        Some((alert, (rule, life))) => Err(Box::new(Difference {
            at: life.since,
            rule: rule.to_owned(),
            alert: alert.to_owned(),
            position: String::new(),
            expected: format!("an alert, {life:?}"),
            stored: "none".to_owned(),
        })),
        None => Ok(()),
    }
}

/// An alert after a transition that is taken as it is.
pub(super) fn followed(life: &Life, transition: &Transition) -> Life {
    let (at, mut life) = (transition.at, life.clone());
    life.incident = transition.incident;
    if transition.from.is_none() {
        life.since = at;
    }
    match transition.to.as_deref() {
        Some("pending") => life.state = State::Pending,
        Some("firing") => {
            life.state = State::Firing;
            (life.fired_at, life.resolved_at) = (Some(at), None);
        }
        Some(_) => {
            life.state = State::Ok;
            life.resolved_at = life.fired_at.max(Some(at));
        }
        None => life.state = State::Ok,
    }
    life
}

/// Whether a transition says this of what an alert became.
pub(super) fn says(transition: &Transition, life: &Life, (from, to): Change) -> bool {
    (transition.from.as_deref(), transition.to.as_deref()) == (from, to)
        && transition.incident == life.incident
}

/// Whether it says that of this evaluation.
pub(super) fn is_of(
    transition: &Transition,
    life: &Life,
    change: Change,
    evaluation: &Evaluation,
) -> bool {
    says(transition, life, change)
        && transition.at == evaluation.at
        && transition.rules_version == evaluation.rules_version
}

pub(super) fn said((from, to): Change, life: &Life, value: Option<f64>) -> String {
    let (from, to) = (from.unwrap_or("ok"), to.unwrap_or("ok"));
    let value = value.map(|value| format!(", value {value}")).unwrap_or_default();
    format!("{from} → {to}, incident {}{value}", life.incident)
}

pub(super) fn shown(transition: &Transition) -> String {
    let Transition { from, to, incident, at, rules_version, value, .. } = transition;
    let (from, to) = (from.as_deref().unwrap_or("ok"), to.as_deref().unwrap_or("ok"));
    format!("{from} → {to}, incident {incident}, value {value}, at {at}, rules {rules_version}")
}

impl Difference {
    /// Of a transition that no evaluation explains.
    pub(super) fn of(transition: &Transition, expected: &str) -> Self {
        Self {
            at: transition.at,
            rule: transition.rule.clone(),
            alert: transition.fingerprint.clone(),
            position: String::new(),
            expected: expected.to_owned(),
            stored: shown(transition),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A history is followed as its alert lived it.
    #[test]
    fn what_is_followed_comes_to_what_was_lived() {
        for hold in [0, 2] {
            let (mut life, mut after) = (Life::default(), Life::default());
            for at in 1..200 {
                // Holds for longer and longer, and then not.
                let holds = (at / 3) % 4 > 0 && at % 11 != 0;
                let Some((from, to)) = life.step(holds, at, hold) else { continue };
                let transition = Transition {
                    fingerprint: String::new(),
                    rule: String::new(),
                    incident: life.incident,
                    from: from.map(str::to_owned),
                    to: to.map(str::to_owned),
                    at,
                    rules_version: 1,
                    value: 0.0,
                };
                after = followed(&after, &transition);
                assert_eq!(after, life, "{transition:?}");
            }
            assert!(life.incident > 5, "{life:?}");
        }
    }
}
