//! Whether the journal of notifications tells the history: each firing and each end of one once to
//! everybody whom the rule names, and nothing else.

use super::report::{Difference, Report};
use super::stored::{Notification, Transition};
use std::collections::{BTreeMap, BTreeSet};

/// What somebody is to be told: who, of which alert, which firing, and whether it is over.
type News = (String, String, u64, &'static str);

/// The news of the history, with rule and time of each.
fn expected(
    history: &[Transition],
    notify: &BTreeMap<String, BTreeSet<String>>,
) -> BTreeMap<News, (String, i64)> {
    let mut all = BTreeMap::new();
    for transition in history {
        let status = match (transition.from.as_deref(), transition.to.as_deref()) {
            (_, Some("firing")) => "firing",
            (Some("firing"), _) => "resolved",
            _ => continue,
        };
        for notifier in notify.get(&transition.rule).into_iter().flatten() {
            let alert = transition.fingerprint.clone();
            let news = (notifier.clone(), alert, transition.incident, status);
            all.insert(news, (transition.rule.clone(), transition.at));
        }
    }
    all
}

/// Compares the journal with the history; `notify` has who is told of each rule.
///
/// # Errors
/// The first difference.
pub fn judge(
    history: &[Transition],
    journal: &[Notification],
    notify: &BTreeMap<String, BTreeSet<String>>,
    report: &mut Report,
) -> Result<(), Box<Difference>> {
    let mut expected = expected(history, notify);
    let mut told: BTreeSet<News> = BTreeSet::new();
    for notification in journal {
        let Notification { id, notifier, status, alerts } = notification;
        report.notifications += 1;
        let firing = alerts.iter().any(|alert| alert.state == "firing");
        for alert in alerts {
            let at = alert.resolved_at.or(alert.fired_at).unwrap_or_default();
            let differs = |expected: &str, stored: String| {
                Box::new(Difference {
                    at,
                    rule: alert.rule.clone(),
                    alert: alert.fingerprint.clone(),
                    position: String::new(),
                    expected: expected.to_owned(),
                    stored: format!("notification {id} to {notifier}: {stored}"),
                })
            };
            let of = match alert.state.as_str() {
                "firing" => "firing",
                "resolved" => "resolved",
                other => return Err(differs("what fires or is over", other.to_owned())),
            };
            if (status == "firing") != firing {
                return Err(differs("the status of its alerts", status.clone()));
            }
            let news = (notifier.clone(), alert.fingerprint.clone(), alert.incident, of);
            let said = format!("incident {} is {of} at {at}", alert.incident);
            if told.contains(&news) {
                return Err(differs("that it is told once", format!("{said}, once more")));
            }
            match expected.remove(&news) {
                Some((_, when)) if when == at => told.insert(news),
                Some((_, when)) => return Err(differs(&format!("{of} at {when}"), said)),
                None => return Err(differs("nothing: the history has no such thing", said)),
            };
            report.told += 1;
        }
    }
    // The earliest of those that nobody told.
    match expected.into_iter().min_by_key(|(_, (_, at))| *at) {
        Some(((notifier, alert, incident, status), (rule, at))) => Err(Box::new(Difference {
            at,
            rule,
            alert,
            position: String::new(),
            expected: format!("a notification to {notifier}: incident {incident} is {status}"),
            stored: "none".to_owned(),
        })),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::stored::{Alert, Labels};
    use super::*;

    fn transition(to: &str, at: i64) -> Transition {
        let from = if to == "resolved" { "firing" } else { "pending" };
        Transition {
            fingerprint: "0a".to_owned(),
            rule: "r".to_owned(),
            incident: 1,
            from: Some(from.to_owned()),
            to: Some(to.to_owned()),
            at,
            rules_version: 1,
            value: 1.0,
        }
    }

    fn notification(status: &str, at: i64) -> Notification {
        let alert = Alert {
            fingerprint: "0a".to_owned(),
            rule: "r".to_owned(),
            state: status.to_owned(),
            labels: Labels::new(),
            active_since: 1,
            fired_at: Some(if status == "firing" { at } else { 5 }),
            resolved_at: (status == "resolved").then_some(at),
            incident: 1,
        };
        Notification {
            id: format!("{status}{at}"),
            notifier: "pager".to_owned(),
            status: status.to_owned(),
            alerts: vec![alert],
        }
    }

    #[test]
    fn each_piece_of_news_is_told_once_and_nothing_else_is() {
        let history =
            [transition("pending", 3), transition("firing", 5), transition("resolved", 9)];
        let (fires, over) = (notification("firing", 5), notification("resolved", 9));
        let other = Notification { notifier: "chat".to_owned(), ..over.clone() };
        let lies = Notification { status: "firing".to_owned(), ..over.clone() };
        for (journal, words) in [
            (vec![fires.clone(), over.clone()], ""),
            (vec![fires.clone()], "incident 1 is resolved"),
            (vec![over.clone()], "incident 1 is firing"),
            (vec![fires.clone(), fires.clone(), over.clone()], "once more"),
            (vec![notification("firing", 6), over.clone()], "firing at 5"),
            (vec![fires.clone(), over.clone(), other], "no such thing"),
            (vec![fires.clone(), lies], "the status of its alerts"),
            (vec![notification("pending", 3), fires, over], "what fires or is over"),
        ] {
            let notify = BTreeMap::from([("r".to_owned(), BTreeSet::from(["pager".to_owned()]))]);
            let mut report = Report::default();
            let said = match judge(&history, &journal, &notify, &mut report) {
                Ok(()) => String::new(),
                Err(difference) => difference.to_string(),
            };
            assert!(said.contains(words) && said.is_empty() == words.is_empty(), "{words}: {said}");
        }
    }
}
