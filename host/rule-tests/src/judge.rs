//! What a test expected, held against what came.

use crate::file::{AlertCase, LookCase, StateCase, StatusCase, TestCase, ToldAlert, ToldCase};
use crate::payload::{Sent, differences};
use crate::play::{Record, Told, active};
use sentinel_model::alert::{Alert, AlertState, NotificationStatus};
use sentinel_model::document::{Document, Problem};
use sentinel_model::duration::Millis;
use sentinel_model::ids::SlotName;
use sentinel_model::series::Labels;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Most alerts that one message lists.
const MAX_LISTED: usize = 10;
/// How far two values may be apart, as a part of the larger, and be the same.
const SAME: f64 = 1e-9;

/// What is known of a test besides its text.
pub(crate) struct Stage {
    /// When it began, unix milliseconds.
    pub(crate) start: i64,
    /// Receivers that send something.
    pub(crate) with_plugin: BTreeSet<SlotName>,
}

/// Everything in which a test differs from what it expected.
pub(crate) fn judge(
    document: &Document,
    path: &str,
    case: &TestCase,
    stage: &Stage,
    record: &Record,
) -> Vec<Problem> {
    let mut verdict = Verdict { document, path, stage, problems: Vec::new() };
    for (rule, (at, why, times)) in &record.errors {
        let when = verdict.when(*at);
        verdict.say(
            "",
            format!("rule {rule} could not be evaluated {times} times, first at {when}: {why}"),
        );
    }
    for (i, look) in case.expect.iter().enumerate() {
        let alerts = record.looks.get(&verdict.time(look.at)).map_or(&[][..], Vec::as_slice);
        verdict.look(&format!("/expect/{i}"), look, alerts);
    }
    if let Some(expected) = &case.notifications {
        verdict.told(expected, &record.told);
    } else {
        for told in &record.told {
            verdict.failure("", told, None);
        }
    }
    verdict.problems
}

struct Verdict<'a> {
    document: &'a Document,
    path: &'a str,
    stage: &'a Stage,
    problems: Vec<Problem>,
}

fn state(case: StateCase) -> AlertState {
    match case {
        StateCase::Pending => AlertState::Pending,
        StateCase::Firing => AlertState::Firing,
    }
}

fn status(status: StatusCase) -> NotificationStatus {
    match status {
        StatusCase::Firing => NotificationStatus::Firing,
        StatusCase::Resolved => NotificationStatus::Resolved,
    }
}

fn status_of(alert: &Alert) -> NotificationStatus {
    if alert.state == AlertState::Firing {
        NotificationStatus::Firing
    } else {
        NotificationStatus::Resolved
    }
}

fn word(status: NotificationStatus) -> &'static str {
    match status {
        NotificationStatus::Firing => "firing",
        NotificationStatus::Resolved => "resolved",
    }
}

fn is_same(a: f64, b: f64) -> bool {
    a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= SAME * a.abs().max(b.abs())
}

fn labels(of: &BTreeMap<String, String>) -> Labels {
    Labels::from(of.clone())
}

impl Verdict<'_> {
    fn say(&mut self, at: &str, said: String) {
        self.problems.push(self.document.problem(&format!("{}{at}", self.path), said));
    }

    fn time(&self, after: Millis) -> i64 {
        self.stage.start.saturating_add(i64::try_from(after.0).unwrap_or(i64::MAX))
    }

    /// A time as the test counts it.
    fn when(&self, at: i64) -> String {
        Millis(at.saturating_sub(self.stage.start).max(0).unsigned_abs()).to_string()
    }

    fn look(&mut self, path: &str, look: &LookCase, alerts: &[Alert]) {
        let mut left: Vec<&Alert> = active(alerts).collect();
        for (i, case) in look.alerts.iter().enumerate() {
            let wanted = labels(&case.labels);
            let is_it = |alert: &&Alert| alert.rule == case.rule && alert.labels == wanted;
            let place = format!("{path}/alerts/{i}");
            match left.iter().position(is_it) {
                Some(at) => {
                    let found = left.swap_remove(at);
                    self.alert(&place, look.at, case, found);
                }
                None => {
                    let near = self.listed(left.iter().copied().filter(|a| a.rule == case.rule));
                    let said = format!(
                        "at {}: it is neither pending nor firing\n- {}{wanted} {}{near}",
                        look.at,
                        case.rule,
                        state(case.state).as_str()
                    );
                    self.say(&place, said);
                }
            }
        }
        if !left.is_empty() {
            let said = format!("at {}: nobody expects{}", look.at, self.listed(left.into_iter()));
            self.say(&format!("{path}/alerts"), said);
        }
    }

    fn listed<'a>(&self, alerts: impl Iterator<Item = &'a Alert>) -> String {
        let line = |alert: &Alert| {
            let (state, value) = (alert.state.as_str(), alert.value);
            format!(
                "\n+ {}{} {state}, value {value}, since {}",
                alert.rule,
                alert.labels,
                self.when(alert.active_since)
            )
        };
        let mut all: Vec<String> = alerts.map(line).collect();
        all.sort();
        let more = all.len().saturating_sub(MAX_LISTED);
        all.truncate(MAX_LISTED);
        if more > 0 {
            all.push(format!("\n+ and {more} more"));
        }
        all.concat()
    }

    fn alert(&mut self, path: &str, at: Millis, case: &AlertCase, found: &Alert) {
        let mut differs = Vec::new();
        let mut compare = |what: &str, wanted: String, found: String| {
            if wanted != found {
                differs.push(format!("\n- {what}: {wanted}\n+ {what}: {found}"));
            }
        };
        compare("state", state(case.state).as_str().into(), found.state.as_str().into());
        if let Some(value) = case.value.filter(|value| !is_same(*value, found.value)) {
            compare("value", value.to_string(), found.value.to_string());
        }
        if let Some(since) = case.since {
            compare("since", since.to_string(), self.when(found.active_since));
        }
        for (key, text) in &case.annotations {
            let found = found.annotations.get(key).unwrap_or("(there is none)");
            compare(&format!("annotation {key}"), text.clone(), found.to_owned());
        }
        if !differs.is_empty() {
            self.say(path, format!("at {at}: {}{}{}", case.rule, found.labels, differs.concat()));
        }
    }

    fn told(&mut self, expected: &[ToldCase], told: &[Told]) {
        let mut left: Vec<&Told> = told.iter().collect();
        for (i, case) in expected.iter().enumerate() {
            let path = format!("/notifications/{i}");
            let found = left.iter().position(|one| self.is_told(case, one));
            let Some(at) = found else {
                let near: Vec<&Told> = left
                    .iter()
                    .copied()
                    .filter(|one| one.delivery.notification.notifier == case.to)
                    .collect();
                let near = self.tellings(&near);
                let said = format!("{} is not told this at {}{near}", case.to, case.at);
                self.say(&path, said);
                continue;
            };
            let found = left.remove(at);
            self.failure(&path, found, case.fails.as_deref());
            self.sent(&path, case, found);
            self.attempts(&path, case, found);
        }
        if !left.is_empty() {
            let said = format!("nobody expects{}", self.tellings(&left));
            self.say("/notifications", said);
            for one in left {
                self.failure("/notifications", one, None);
            }
        }
    }

    fn is_told(&self, case: &ToldCase, told: &Told) -> bool {
        let it = &told.delivery.notification;
        let group = case.group.as_ref().is_none_or(|group| labels(group) == it.group);
        let mut alerts: Vec<&Alert> = it.alerts.iter().collect();
        let mut takes = |one: &ToldAlert| {
            let wanted = one.labels.as_ref().map(labels);
            let as_what = status(one.status.unwrap_or(case.status));
            let found = alerts.iter().position(|alert| {
                alert.rule == one.rule
                    && status_of(alert) == as_what
                    && wanted.as_ref().is_none_or(|wanted| *wanted == alert.labels)
            });
            found.map(|at| alerts.swap_remove(at)).is_some()
        };
        // Those whose labels are said choose first.
        let (exact, rest): (Vec<_>, Vec<_>) =
            case.alerts.iter().partition(|one| one.labels.is_some());
        let all = exact.into_iter().chain(rest).all(&mut takes);
        it.time == self.time(case.at)
            && it.notifier == case.to
            && it.status == status(case.status)
            && group
            && all
            && alerts.is_empty()
    }

    fn tellings(&self, told: &[&Told]) -> String {
        let line = |one: &&Told| {
            let it = &one.delivery.notification;
            let alerts = it.alerts.iter().map(|alert| {
                format!("\n+   {} {}{}", word(status_of(alert)), alert.rule, alert.labels)
            });
            let head = format!(
                "\n+ at {} to {}: {}, group {{{}}}",
                self.when(it.time),
                it.notifier,
                word(it.status),
                it.group.to_string().trim_matches(['{', '}'])
            );
            head + &alerts.take(MAX_LISTED).collect::<String>()
        };
        let more = told.len().saturating_sub(MAX_LISTED);
        let mut text: String = told.iter().take(MAX_LISTED).map(line).collect();
        if more > 0 {
            text.push_str(&format!("\n+ and {more} more"));
        }
        text
    }

    fn failure(&mut self, path: &str, told: &Told, expected: Option<&str>) {
        let it = &told.delivery.notification;
        let (to, when) = (&it.notifier, self.when(it.time));
        let said = match (&told.failure, expected) {
            (None, None) => return,
            (Some(found), Some(part)) if found.contains(part) => return,
            (None, Some(part)) => format!("at {when} to {to}: delivered\n- fails: {part}"),
            (Some(found), None) => format!("at {when} to {to}: it was not delivered: {found}"),
            (Some(found), Some(part)) => {
                format!(
                    "at {when} to {to}: not delivered otherwise\n- fails: {part}\n+ fails: {found}"
                )
            }
        };
        self.say(path, said);
    }

    fn sent(&mut self, path: &str, case: &ToldCase, told: &Told) {
        let Some(expected) = &case.sends else { return };
        if !self.stage.with_plugin.contains(&case.to) {
            let said =
                format!("{} sends nothing here: name its plugin under worker.notifiers", case.to);
            self.say(&format!("{path}/sends"), said);
            return;
        }
        self.sends(path, expected, &told.sent);
    }

    fn attempts(&mut self, path: &str, case: &ToldCase, told: &Told) {
        let Some(expected) = &case.attempts else { return };
        for (i, expected) in expected.iter().enumerate() {
            let place = format!("{path}/attempts/{i}");
            let Some(found) = told.attempts.get(i) else {
                self.say(&place, "there is no such attempt".to_owned());
                continue;
            };
            if found.at != self.time(expected.at) {
                let said = format!(
                    "it is at another time\n- at: {}\n+ at: {}",
                    expected.at,
                    self.when(found.at)
                );
                self.say(&place, said);
            }
            let differs = match (&expected.fails, &found.failure) {
                (None, None) => false,
                (Some(part), Some(found)) => !found.contains(part),
                (None, Some(_)) | (Some(_), None) => true,
            };
            if differs {
                let word = |fails: &Option<String>| fails.clone().unwrap_or("(it is taken)".into());
                let (wanted, found) = (word(&expected.fails), word(&found.failure));
                self.say(&place, format!("it ends otherwise\n- fails: {wanted}\n+ fails: {found}"));
            }
            if let Some(sends) = &expected.sends {
                self.sends(&place, sends, &found.sent);
            }
        }
        let more = told.attempts.len().saturating_sub(expected.len());
        if more > 0 {
            let said = format!("nobody expects {more} further attempts");
            self.say(&format!("{path}/attempts"), said);
        }
    }

    fn sends(&mut self, path: &str, expected: &[Map<String, Value>], sent: &[Sent]) {
        for (i, expected) in expected.iter().enumerate() {
            let place = format!("{path}/sends/{i}");
            let Some(sent) = sent.get(i) else {
                self.say(&place, "it is not sent".to_owned());
                continue;
            };
            let differs = differences(&Value::Object(expected.clone()), sent);
            if !differs.is_empty() {
                self.say(&place, format!("other than expected\n{}", differs.join("\n")));
            }
        }
        for sent in sent.iter().skip(expected.len()) {
            let sent = serde_json::to_string(sent).unwrap_or_default();
            self.say(&format!("{path}/sends"), format!("nobody expects\n+ {sent}"));
        }
    }
}
