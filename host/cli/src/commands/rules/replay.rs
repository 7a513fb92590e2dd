//! `sentinel rules replay`: what rules would have done on the stored past.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use sentinel_model::duration::Millis;
use sentinel_model::ids::SlotName;
use sentinel_rule_tests::{Outcome, Replay as Replayed, check_files, outcomes};
use serde::Serialize;

use super::lab::{Plugins, worker};
use super::past::Stored;
use super::{collect, texts};
use crate::client::Client;
use crate::commands::now;
use crate::failure::Failure;
use crate::output::table::{Table, Tone};
use crate::output::{Look, Printer, human};

/// Who is told where neither a rule nor a configuration says.
const EVERYBODY: &str = "everybody";
/// The longest past (35 days).
const MOST: Millis = Millis(35 * 86_400_000);

/// Options of `sentinel rules replay`.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Rule files, and folders whose .yaml, .yml and .json files are taken.
    #[arg(required = true, value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// How far back.
    #[arg(long, value_name = "DURATION", default_value = "7d")]
    last: Millis,
    /// Configuration whose `worker` says who is told; else each rule's `notify`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    plugins: Plugins,
}

/// What a replay gave.
#[derive(Debug, Serialize)]
struct Report {
    from: i64,
    until: i64,
    evaluations: u64,
    /// What was too much to be counted.
    dropped: u64,
    rules: Vec<Outcome>,
}

pub(super) async fn run(
    command: Replay,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    if command.last == Millis(0) || command.last > MOST {
        let said = format!("--last {} is no past of at most {MOST}", command.last);
        return Err(Failure::new(said).misused());
    }
    let config = worker(command.config.as_deref())?;
    let routing = config.routing().map_err(|problems| {
        let said: Vec<String> =
            problems.into_iter().map(|(at, said)| format!("/worker{at}: {said}")).collect();
        Failure::new(said.join("\n")).misused()
    })?;
    // Nobody is told here, so no notifier is needed.
    let slots: Vec<SlotName> = config.notifiers.iter().map(|one| one.slot.clone()).collect();
    let mut rig = command.plugins.open(printer)?.evaluators(&config).await?;
    let rules = check_files(&mut rig, &texts(collect(&command.paths)?)).await;
    let rules = rules.map_err(|problems| Failure::new(problems.to_string()).misused())?;
    let until = now();
    let from = until - i64::try_from(command.last.0)?;
    let everybody = if slots.is_empty() { vec![SlotName::new(EVERYBODY)?] } else { slots };
    let replay = Replayed { rules, routing: Arc::new(routing), everybody, from, until };
    let progress = |at: i64| {
        let part = (at - from).saturating_mul(100) / (until - from).max(1);
        printer.progress(&format!("{part:>3} %  {}", human::moment(at)));
    };
    let record = replay.run(&mut rig, &Stored(client), progress).await?;
    let report = Report {
        from,
        until,
        evaluations: record.evaluations,
        dropped: record.dropped,
        rules: outcomes(&record, &replay.rules, until),
    };
    printer.data(&report, |look| text(&report, look))?;
    for rule in &report.rules {
        if let Some((times, why)) = &rule.failed {
            printer.warn(&format!("{} could not be evaluated {times} times: {why}", rule.rule));
        }
    }
    if report.dropped > 0 {
        let dropped = human::count(report.dropped);
        printer.warn(&format!("{dropped} changes and notifications were too many to be counted"));
    }
    let fired: u64 = report.rules.iter().map(|rule| rule.fired).sum();
    let pages: u64 = report.rules.iter().map(|rule| rule.pages).sum();
    let (rules, last) = (human::plural(report.rules.len() as u64, "rule"), command.last);
    printer.say(&format!("{rules} over {last}: fired {fired} times, {pages} notifications"));
    Ok(())
}

fn text(report: &Report, look: Look) -> String {
    let header = ["rule", ">fired", ">alerts", ">firing", ">longest", ">told", ">flaps", ">now"];
    let mut table = Table::new(look, &header);
    for rule in &report.rules {
        let quiet = if rule.fired == 0 { Tone::Quiet } else { Tone::Plain };
        let flaps = if rule.flaps > 0 { Tone::Warning } else { quiet };
        let now = if rule.firing_now > 0 { Tone::Bad } else { quiet };
        table.toned([
            (rule.rule.clone(), quiet),
            (rule.fired.to_string(), quiet),
            (rule.alerts.to_string(), quiet),
            (human::span(rule.firing_ms), quiet),
            (human::span(rule.longest_ms), quiet),
            (rule.pages.to_string(), quiet),
            (rule.flaps.to_string(), flaps),
            (rule.firing_now.to_string(), now),
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_is_a_table_of_what_each_rule_did() {
        let outcome = |rule: &str, fired| Outcome {
            rule: rule.into(),
            fired,
            alerts: fired.min(2),
            firing_ms: fired as i64 * 90_000,
            longest_ms: 90_000,
            pages: fired,
            flaps: fired.saturating_sub(1),
            firing_now: u64::from(fired > 0),
            failed: None,
        };
        let rules = vec![outcome("hot", 3), outcome("quiet", 0)];
        let report = Report { from: 0, until: 1, evaluations: 9, dropped: 0, rules };
        let look = Look { color: false, width: 100 };
        insta::assert_snapshot!(text(&report, look), @r"
        RULE   FIRED  ALERTS  FIRING  LONGEST  TOLD  FLAPS  NOW
        hot        3       2  4m 30s   1m 30s     3      2    1
        quiet      0       0     0ms   1m 30s     0      0    0
        ");
    }
}
