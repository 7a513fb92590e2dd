//! The life of one alert.
//!
//! | before | [`Holds`](Input::Holds) | [`Lapses`](Input::Lapses) | [`Withdrawn`](Input::Withdrawn) |
//! |---|---|---|---|
//! | ok | pending; firing where `for` is 0 | ok | ok |
//! | pending | firing once it held for `for`, else pending | ok | ok |
//! | firing | firing | kept firing; resolved where `keep_firing_for` is 0 | resolved |
//! | kept firing | firing | resolved once it lapsed for `keep_firing_for`, else kept firing | resolved |
//! | resolved | as from ok | resolved; ok after [`RESOLVED_KEPT_MS`] | as lapses |
//!
//! `ok` is the absence of an [`Alert`]. *Kept firing* is [`AlertState::Firing`] whose
//! `resolved_at` is set: since then the condition does not hold any more. Both timers count
//! from the evaluation that saw the change, so that everything they need is in the stored
//! alert and a restart between two evaluations changes nothing.
//!
//! A pending alert whose fingerprint fired before keeps `incident`, `fired_at` and
//! `resolved_at` of that firing, and is resolved again, not ok, if it does not come to fire.
//! So incidents of a fingerprint count on as long as it is remembered.
//!
//! Time that goes back: a timer that began in the future begins again now. An alert fires at
//! most `for` late after the clock was set right, and never waits for a wrong time to come.

use sentinel_model::alert::{Alert, AlertState, Fingerprint};
use sentinel_model::series::Labels;

/// How long a resolved alert is remembered, for people and for counting incidents.
pub const RESOLVED_KEPT_MS: i64 = 7 * 86_400_000;

/// The timers of a rule, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// How long the condition must hold before the alert fires.
    pub hold: i64,
    /// How long it goes on firing after the condition stopped holding.
    pub keep: i64,
}

/// What an evaluation saw of an alert that holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Sight<'a> {
    /// The rule's name.
    pub rule: &'a str,
    /// Identifying labels and the rule's own.
    pub labels: &'a Labels,
    /// The rule's words.
    pub annotations: &'a Labels,
    /// What the evaluator says.
    pub summary: &'a str,
    /// The value.
    pub value: f64,
}

/// What happened to an alert.
#[derive(Debug, Clone, PartialEq)]
pub enum Input<'a> {
    /// The condition holds.
    Holds(Sight<'a>),
    /// It does not.
    Lapses,
    /// The rule is gone, or is another one.
    Withdrawn,
}

/// An alert after a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Stepped {
    /// As it is now; `None` is ok.
    pub alert: Option<Alert>,
    /// Whether something changed that must be stored before anything is told: the state, or a
    /// timer. Values and words alone are not.
    pub must_store: bool,
}

/// The phases of the table above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Ok,
    Pending,
    Firing,
    Kept,
    Resolved,
}

fn phase(alert: Option<&Alert>) -> Phase {
    match alert.map(|a| (a.state, a.resolved_at)) {
        None => Phase::Ok,
        Some((AlertState::Pending, _)) => Phase::Pending,
        Some((AlertState::Firing, None)) => Phase::Firing,
        Some((AlertState::Firing, Some(_))) => Phase::Kept,
        Some((AlertState::Resolved, _)) => Phase::Resolved,
    }
}

/// Whether a firing alert's condition stopped holding, so that only `keep_firing_for` keeps it.
#[must_use]
pub fn is_kept(alert: &Alert) -> bool {
    phase(Some(alert)) == Phase::Kept
}

/// Whether a timer that began at `since` has run for `length` at `now`.
fn ran(since: i64, now: i64, length: i64) -> bool {
    now.saturating_sub(since) >= length
}

/// One step of one alert at `now` (unix milliseconds). `before` is `None` where it is ok.
#[must_use]
pub fn step(before: Option<&Alert>, now: i64, timers: Timers, input: &Input<'_>) -> Stepped {
    let was = phase(before);
    let after = match (before.cloned(), was, input) {
        (None, Phase::Ok, Input::Lapses | Input::Withdrawn) => None,
        (None, _, Input::Holds(sight)) => Some(begin(None, now, timers, sight)),
        (Some(alert), Phase::Resolved, Input::Holds(sight)) => {
            Some(begin(Some(alert), now, timers, sight))
        }
        (Some(alert), Phase::Pending, Input::Holds(sight)) => {
            Some(hold_on(seen(alert, now, sight), now, timers))
        }
        (Some(alert), Phase::Firing | Phase::Kept, Input::Holds(sight)) => {
            Some(Alert { resolved_at: None, ..seen(alert, now, sight) })
        }
        (Some(alert), Phase::Pending, Input::Lapses | Input::Withdrawn) => never_fired(alert),
        (Some(alert), Phase::Firing | Phase::Kept, Input::Lapses) => {
            Some(lapse(alert, now, timers))
        }
        (Some(alert), Phase::Firing | Phase::Kept, Input::Withdrawn) => Some(resolve(alert, now)),
        (Some(alert), Phase::Resolved, Input::Lapses | Input::Withdrawn) => {
            let over = alert.resolved_at.unwrap_or(now).min(now);
            (!ran(over, now, RESOLVED_KEPT_MS)).then_some(alert)
        }
        (None, Phase::Pending | Phase::Firing | Phase::Kept | Phase::Resolved, _)
        | (Some(_), Phase::Ok, _) => unreachable!("ok is the absence of an alert"),
    };
    let must_store = durable(before) != durable(after.as_ref());
    Stepped { alert: after, must_store }
}

/// The part of an alert on which its further life depends.
type Durable = (Fingerprint, AlertState, i64, Option<i64>, Option<i64>, u64);

fn durable(alert: Option<&Alert>) -> Option<Durable> {
    alert.map(|a| (a.fingerprint, a.state, a.active_since, a.fired_at, a.resolved_at, a.incident))
}

fn seen(mut alert: Alert, now: i64, sight: &Sight<'_>) -> Alert {
    sight.annotations.clone_into(&mut alert.annotations);
    sight.summary.clone_into(&mut alert.summary);
    alert.value = sight.value;
    alert.last_active = now;
    alert
}

fn begin(before: Option<Alert>, now: i64, timers: Timers, sight: &Sight<'_>) -> Alert {
    let (fired_at, resolved_at, incident) =
        before.map_or((None, None, 0), |a| (a.fired_at, a.resolved_at, a.incident));
    let alert = Alert {
        fingerprint: Fingerprint::of(sight.rule, sight.labels),
        rule: sight.rule.to_owned(),
        state: AlertState::Pending,
        labels: sight.labels.clone(),
        annotations: sight.annotations.clone(),
        summary: sight.summary.to_owned(),
        value: sight.value,
        active_since: now,
        fired_at,
        last_active: now,
        resolved_at,
        incident,
    };
    hold_on(alert, now, timers)
}

fn hold_on(mut alert: Alert, now: i64, timers: Timers) -> Alert {
    alert.active_since = alert.active_since.min(now);
    if ran(alert.active_since, now, timers.hold) {
        alert.state = AlertState::Firing;
        alert.fired_at = Some(now);
        alert.resolved_at = None;
        alert.incident += 1;
    }
    alert
}

fn never_fired(mut alert: Alert) -> Option<Alert> {
    alert.state = AlertState::Resolved;
    (alert.incident > 0).then_some(alert)
}

fn lapse(mut alert: Alert, now: i64, timers: Timers) -> Alert {
    let since = alert.resolved_at.unwrap_or(now).min(now);
    if ran(since, now, timers.keep) {
        return resolve(alert, now);
    }
    alert.resolved_at = Some(since);
    alert
}

fn resolve(mut alert: Alert, now: i64) -> Alert {
    alert.state = AlertState::Resolved;
    alert.resolved_at = Some(alert.fired_at.map_or(now, |fired| fired.max(now)));
    alert
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000_000_000;

    fn sight(labels: &Labels) -> Sight<'_> {
        Sight { rule: "r", labels, annotations: labels, summary: "s", value: 2.0 }
    }

    fn alert(state: AlertState, since: i64, resolved_at: Option<i64>) -> Alert {
        let labels = Labels::default();
        Alert {
            fingerprint: Fingerprint::of("r", &labels),
            rule: "r".into(),
            state,
            annotations: labels.clone(),
            labels,
            summary: String::new(),
            value: 1.0,
            active_since: since,
            fired_at: (state != AlertState::Pending).then_some(since),
            last_active: since,
            resolved_at,
            incident: u64::from(state != AlertState::Pending),
        }
    }

    #[test]
    fn the_table_of_the_module_is_what_happens() {
        use Phase::{Firing, Kept, Ok, Pending, Resolved};
        let labels = Labels::default();
        let holds = Input::Holds(sight(&labels));
        let pending = |age| Some(alert(AlertState::Pending, NOW - age, None));
        let firing = || Some(alert(AlertState::Firing, NOW - 500, None));
        let kept = |age| Some(alert(AlertState::Firing, NOW - 500, Some(NOW - age)));
        let resolved = |age| Some(alert(AlertState::Resolved, NOW - age - 9, Some(NOW - age)));
        let (both, none) = (Timers { hold: 60, keep: 30 }, Timers { hold: 0, keep: 0 });
        let (lapses, gone) = (Input::Lapses, Input::Withdrawn);
        let old = RESOLVED_KEPT_MS;
        let table: [(Option<Alert>, Timers, &Input<'_>, Phase, bool); 26] = [
            (None, both, &holds, Pending, true),
            (None, none, &holds, Firing, true),
            (None, both, &lapses, Ok, false),
            (None, both, &gone, Ok, false),
            (pending(59), both, &holds, Pending, false),
            (pending(60), both, &holds, Firing, true),
            (pending(-9), both, &holds, Pending, true),
            (pending(59), none, &holds, Firing, true),
            (pending(60), both, &lapses, Ok, true),
            (pending(60), both, &gone, Ok, true),
            (firing(), both, &holds, Firing, false),
            (firing(), both, &lapses, Kept, true),
            (firing(), none, &lapses, Resolved, true),
            (firing(), both, &gone, Resolved, true),
            (kept(5), both, &holds, Firing, true),
            (kept(29), both, &lapses, Kept, false),
            (kept(30), both, &lapses, Resolved, true),
            (kept(-9), both, &lapses, Kept, true),
            (kept(5), none, &lapses, Resolved, true),
            (kept(5), both, &gone, Resolved, true),
            (resolved(5), both, &holds, Pending, true),
            (resolved(5), none, &holds, Firing, true),
            (resolved(old - 1), both, &lapses, Resolved, false),
            (resolved(old), both, &lapses, Ok, true),
            (resolved(5), both, &gone, Resolved, false),
            (resolved(old), both, &gone, Ok, true),
        ];
        for (i, (before, timers, input, expected, must_store)) in table.into_iter().enumerate() {
            let stepped = step(before.as_ref(), NOW, timers, input);
            assert_eq!(phase(stepped.alert.as_ref()), expected, "row {i}");
            assert_eq!(stepped.must_store, must_store, "row {i}");
        }
    }

    /// The words of a cell of the table in this module's documentation.
    fn documented(row: &str, column: usize) -> &'static str {
        let lines = include_str!("lifecycle.rs").lines();
        let mut rows = lines.filter_map(|line| line.strip_prefix("//! | "));
        let found = rows.find(|cells| cells.split(" | ").next() == Some(row));
        let cells = found.unwrap_or_else(|| panic!("there is no row {row:?} in the table"));
        let cell = cells.split(" | ").nth(column).expect("a cell for each input");
        cell.trim_end_matches('|').trim()
    }

    /// What the table says that a step comes to.
    fn expected(row: &str, column: usize, before: Option<&Alert>, timers: Timers) -> Phase {
        let ran = |since: Option<i64>, length| NOW - since.unwrap_or(NOW).min(NOW) >= length;
        let either = |holds, this, other| if holds { this } else { other };
        let over = before.and_then(|alert| alert.resolved_at);
        match documented(row, column) {
            "ok" => Phase::Ok,
            "firing" => Phase::Firing,
            "resolved" => Phase::Resolved,
            "pending; firing where `for` is 0" => {
                either(timers.hold == 0, Phase::Firing, Phase::Pending)
            }
            "firing once it held for `for`, else pending" => {
                let since = before.map(|alert| alert.active_since);
                either(ran(since, timers.hold), Phase::Firing, Phase::Pending)
            }
            "kept firing; resolved where `keep_firing_for` is 0" => {
                either(timers.keep == 0, Phase::Resolved, Phase::Kept)
            }
            "resolved once it lapsed for `keep_firing_for`, else kept firing" => {
                either(ran(over, timers.keep), Phase::Resolved, Phase::Kept)
            }
            "resolved; ok after [`RESOLVED_KEPT_MS`]" => {
                either(ran(over, RESOLVED_KEPT_MS), Phase::Ok, Phase::Resolved)
            }
            "as from ok" => expected("ok", column, None, timers),
            "as lapses" => expected(row, 2, before, timers),
            other => panic!("{row}, {column}: nobody knows what {other:?} means"),
        }
    }

    #[test]
    fn the_table_in_the_documentation_is_read_and_is_what_happens() {
        let labels = Labels::default();
        let inputs = [Input::Holds(sight(&labels)), Input::Lapses, Input::Withdrawn];
        let ages = [-9, 0, 29, 30, 59, 60, RESOLVED_KEPT_MS - 1, RESOLVED_KEPT_MS];
        let mut steps = 0;
        for row in ["ok", "pending", "firing", "kept firing", "resolved"] {
            for age in ages {
                let at = NOW - age;
                let before = match row {
                    "ok" => None,
                    "pending" => Some(alert(AlertState::Pending, at, None)),
                    "firing" => Some(alert(AlertState::Firing, at, None)),
                    "kept firing" => Some(alert(AlertState::Firing, at - 9, Some(at))),
                    _ => Some(alert(AlertState::Resolved, at - 9, Some(at))),
                };
                for (hold, keep) in [(0, 0), (60, 30), (0, 30), (60, 0)] {
                    let timers = Timers { hold, keep };
                    for (column, input) in (1..).zip(&inputs) {
                        let after = step(before.as_ref(), NOW, timers, input).alert;
                        let told = expected(row, column, before.as_ref(), timers);
                        let case = format!("{row}, {input:?}, {timers:?}, {age} ms");
                        assert_eq!(phase(after.as_ref()), told, "{case}");
                        steps += 1;
                    }
                }
            }
        }
        assert_eq!(steps, 5 * 8 * 4 * 3);
    }

    #[test]
    fn each_firing_of_a_fingerprint_has_a_number_of_its_own() {
        let labels = Labels::default();
        let holds = Input::Holds(sight(&labels));
        let timers = Timers { hold: 10, keep: 0 };
        let mut now = None;
        let mut incidents = Vec::new();
        // Fires, is over, is pending without firing, fires again.
        for (at, input) in [
            (0, &holds),
            (10, &holds),
            (20, &Input::Lapses),
            (30, &holds),
            (35, &Input::Lapses),
            (40, &holds),
            (50, &holds),
        ] {
            now = step(now.as_ref(), at, timers, input).alert;
            incidents.push(now.as_ref().map(|a: &Alert| (a.state, a.incident)));
        }
        use AlertState::{Firing, Pending, Resolved};
        let expected =
            [(Pending, 0), (Firing, 1), (Resolved, 1), (Pending, 1), (Resolved, 1), (Pending, 1)];
        assert_eq!(incidents[..6], expected.map(Some));
        assert_eq!(incidents[6], Some((Firing, 2)));
    }

    #[test]
    fn a_clock_that_was_wrong_delays_an_alert_by_its_timer_and_not_more() {
        let labels = Labels::default();
        let holds = Input::Holds(sight(&labels));
        let timers = Timers { hold: 60, keep: 30 };
        let future = alert(AlertState::Pending, NOW + 31_536_000_000, None);
        let reset = step(Some(&future), NOW, timers, &holds).alert.unwrap();
        assert_eq!((reset.state, reset.active_since), (AlertState::Pending, NOW));
        let fired = step(Some(&reset), NOW + 60, timers, &holds).alert.unwrap();
        assert_eq!(fired.state, AlertState::Firing);
        let over = step(Some(&fired), NOW - 5, Timers { hold: 0, keep: 0 }, &Input::Lapses);
        let over = over.alert.unwrap();
        assert!(over.resolved_at >= over.fired_at, "{over:?}");
    }
}
