//! What a set means for the hosts that a server knows, and what they say of it. Pure.

use sentinel_server::api::FleetHostBody;
use sentinel_trust::Kind;
use sentinel_trust::fleet::DesiredSet;
use serde::Serialize;
use std::time::Duration;

use super::slots;
use super::wait::Until;
use crate::failure::Failure;
use crate::output::{clean, human};

/// Most hosts that a message names.
const MAX_NAMED: usize = 8;

/// What a host runs of a set.
const fn kinds(role: &str) -> &'static [Kind] {
    match role.as_bytes() {
        b"agent" => &[Kind::Collector],
        _ => &[Kind::Transform, Kind::Evaluator, Kind::Notifier],
    }
}

/// Refuses a set that a host would refuse, because two groups give it one slot twice.
///
/// # Errors
/// Each such host.
pub(super) fn conflicts(set: &DesiredSet, hosts: &[FleetHostBody]) -> Result<(), Failure> {
    let conflict = |host: &FleetHostBody| {
        let conflict = set.for_host(&host.labels, kinds(&host.role)).err()?;
        Some(format!("{}: {conflict}", clean(&host.host)))
    };
    let found: Vec<_> = hosts.iter().filter_map(conflict).collect();
    if found.is_empty() {
        return Ok(());
    }
    let more = found.len().saturating_sub(MAX_NAMED);
    let mut lines = found[..found.len() - more].join("\n  ");
    if more > 0 {
        lines.push_str(&format!("\n  and {} more", human::plural(more as u64, "host")));
    }
    Err(Failure::new(format!("nothing was changed, since hosts would refuse it:\n  {lines}")))
}

/// Whether the two sets mean different things for a host.
pub(super) fn concerns(before: &DesiredSet, after: &DesiredSet, host: &FleetHostBody) -> bool {
    let wanted = |set: &DesiredSet| {
        let wishes = set.for_host(&host.labels, kinds(&host.role));
        wishes.map(|wishes| wishes.into_iter().cloned().collect::<Vec<_>>()).ok()
    };
    wanted(before) != wanted(after)
}

/// What a host says of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    /// It runs it, or a newer one.
    Applied,
    /// It does not run it.
    Refused,
    /// It has not said yet.
    Waiting,
    /// It is not heard of, not approved, blocked, or follows no fleet: it is not waited for.
    Absent,
}

/// One host and what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Outcome {
    pub(crate) host: String,
    pub(crate) answer: Answer,
    /// It runs it on trial: a slot that is given up takes the set back.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) trial: bool,
    /// Slots of which no call has succeeded: whether they work is not known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) unproven: Vec<String>,
    /// Why it refuses, or what keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

/// What a host says of the set of a number.
pub(super) fn outcome(host: &FleetHostBody, number: u64) -> Outcome {
    let away = matches!(host.state.as_str(), "outside" | "silent" | "unapproved" | "blocked");
    let (answer, why) = if host.number.is_some_and(|applied| applied >= number) {
        (Answer::Applied, None)
    } else if host.refused.is_some_and(|refused| refused == 0 || refused >= number) {
        (Answer::Refused, host.problem.clone())
    } else if away {
        (Answer::Absent, Some(host.state.clone()))
    } else {
        (Answer::Waiting, None)
    };
    let runs = answer == Answer::Applied;
    let unproven = if runs { slots::unproven(host) } else { Vec::new() };
    Outcome { host: host.host.clone(), answer, trial: runs && host.trial, unproven, why }
}

/// Fails where a host refused the set, or did not say within the time.
///
/// # Errors
/// What is missing, and what to do.
pub(super) fn verdict(
    outcomes: &[Outcome],
    number: u64,
    until: Until,
    timeout: Duration,
) -> Result<(), Failure> {
    let count = |is: &dyn Fn(&Outcome) -> bool| outcomes.iter().filter(|one| is(one)).count();
    let hosts = |count: usize| human::plural(count as u64, "host");
    let refused = count(&|one| one.answer == Answer::Refused);
    if refused > 0 {
        return Err(Failure::new(format!(
            "{} refused set {number} and {} on with what ran before",
            hosts(refused),
            if refused == 1 { "goes" } else { "go" }
        ))
        .hint(
            "`sentinel plugin rollback` takes it back everywhere; `sentinel fleet status` says why",
        ));
    }
    let timeout = human::millis(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    let hint =
        "`sentinel fleet status` shows what becomes of it; wait longer with --timeout".to_owned();
    let waiting = count(&|one| one.answer == Answer::Waiting);
    if waiting > 0 {
        return Err(Failure::new(format!(
            "set {number} is in force, and {} did not say within {timeout} whether it runs",
            hosts(waiting),
        ))
        .hint(hint));
    }
    let trial = count(&|one| one.trial);
    if trial > 0 && until == Until::Proven {
        return Err(Failure::new(format!(
            "set {number} runs, and is still on trial on {} after {timeout}",
            hosts(trial),
        ))
        .hint(hint));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::fleet::edit::{Selector, Which, install, uninstall};
    use crate::commands::fleet::example::{host, set, wish};

    #[test]
    fn a_host_has_something_to_say_of_what_changes_for_it() {
        let before = set();
        let web: Selector = "role=web".parse().unwrap();
        let one = wish("new", "acme/new", "1.0.0", Kind::Collector);
        let after = install(&before, Some(&web), one, false).unwrap();
        let mail = wish("mail", "acme/mail", "1.0.0", Kind::Notifier);
        let mailed = install(&before, None, mail, false).unwrap();
        for (role, labels, by_new, by_mail) in [
            ("agent", "role=web", true, false),
            ("agent", "role=db", false, false),
            ("worker", "role=web", false, true),
            ("worker", "*", false, true),
        ] {
            let host = host("h", role, labels);
            assert_eq!(concerns(&before, &after, &host), by_new, "{role} {labels}");
            assert_eq!(concerns(&before, &mailed, &host), by_mail, "{role} {labels}");
            assert!(!concerns(&before, &before, &host));
        }
    }

    #[test]
    fn a_set_that_a_host_would_refuse_is_not_made() {
        let hosts = [host("a", "agent", "role=web"), host("b", "agent", "role=web,zone=b")];
        insta::assert_snapshot!(conflicts(&set(), &hosts).unwrap_err().message, @r"
        nothing was changed, since hosts would refuse it:
          b: slot `nginx` is wanted twice on this host, by the groups `role=web` and `role=web,zone=b`; give the slots different names or make the groups' labels exclude each other
        ");
        let which = Which { on: Some("role=web".parse().unwrap()), ..Which::default() };
        assert!(conflicts(&uninstall(&set(), &which).unwrap(), &hosts).is_ok());
        let many: Vec<_> =
            (0..10).map(|at| host(&at.to_string(), "agent", "role=web,zone=b")).collect();
        let told = conflicts(&set(), &many).unwrap_err().message;
        assert!(told.ends_with("and 2 hosts more"), "{told}");
    }

    #[test]
    fn an_answer_is_about_this_set_and_not_about_one_before() {
        for (number, refused, state, expected) in [
            (Some(8), None, "current", Answer::Applied),
            (Some(9), None, "behind", Answer::Applied),
            (Some(7), None, "behind", Answer::Waiting),
            (Some(7), Some(7), "refused", Answer::Waiting),
            (Some(7), Some(8), "refused", Answer::Refused),
            // It could not even be opened.
            (Some(7), Some(0), "refused", Answer::Refused),
            (Some(7), None, "silent", Answer::Absent),
            (None, None, "outside", Answer::Absent),
            (None, None, "unapproved", Answer::Absent),
        ] {
            let mut one = host("h", "agent", "*");
            (one.number, one.refused, one.state) = (number, refused, state.to_owned());
            assert_eq!(outcome(&one, 8).answer, expected, "{number:?} {refused:?} {state}");
        }
    }

    #[test]
    fn a_decision_fails_where_a_host_refuses_or_does_not_say() {
        let mut applied = host("h", "agent", "*");
        applied.number = Some(8);
        let answer = |answer| Outcome { answer, ..outcome(&applied, 8) };
        let (done, away) = (answer(Answer::Applied), answer(Answer::Absent));
        let (no, silent) = (answer(Answer::Refused), answer(Answer::Waiting));
        let trial = Outcome { trial: true, ..done.clone() };
        let said = |until, all: &[&Outcome]| {
            let all: Vec<_> = all.iter().map(|&one| one.clone()).collect();
            let limit = Duration::from_secs(30);
            verdict(&all, 8, until, limit).err().map(|failure| failure.message)
        };
        let refused = "1 host refused set 8 and goes on with what ran before";
        let waiting = "set 8 is in force, and 2 hosts did not say within 30s whether it runs";
        let tried = "set 8 runs, and is still on trial on 1 host after 30s";
        for (all, applied, proven) in [
            (&[][..], None, None),
            (&[&done, &away], None, None),
            (&[&done, &no, &silent], Some(refused), Some(refused)),
            (&[&silent, &trial, &silent], Some(waiting), Some(waiting)),
            (&[&done, &trial], None, Some(tried)),
        ] {
            assert_eq!(said(Until::Applied, all).as_deref(), applied, "{all:?}");
            assert_eq!(said(Until::Proven, all).as_deref(), proven, "{all:?}");
        }
    }
}
