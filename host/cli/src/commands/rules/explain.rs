//! `sentinel rules explain`: why a rule is, or is not, firing now.
//!
//! The rule is evaluated here, on what the server has stored, by the evaluator that the worker
//! uses too; what it asked is told with the answers. What the worker itself made of the rule stands
//! beside it: its alerts with their timers, who is told of them and when next or why nobody is, its
//! last evaluation.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use sentinel_model::alert::{Alert, AlertState};
use sentinel_model::number::Number;
use sentinel_model::rule::{Rule, RuleSet};
use sentinel_model::series::Labels;
use sentinel_rule_tests::{Asked, Checked, RigError, look};
use sentinel_server::api::{AlertsBody, StatusBody, Way, WaysBody};
use serde::Serialize;

use super::lab::{Plugins, worker};
use super::past::Stored;
use super::told;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Look, Printer, clean, human};

/// Series of one question that are shown, unless as JSON.
const SHOWN: usize = 20;

/// Options of `sentinel rules explain`.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The rule's name.
    name: String,
    /// Configuration whose `worker.evaluators` evaluate; else `sentinel/alert-dsl` does
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    plugins: Plugins,
}

/// All there is to say.
#[derive(Debug, Serialize)]
struct Explained {
    rule: Rule,
    /// The server's time, as of which the rule was evaluated.
    at: i64,
    questions: Vec<Question>,
    /// For what the condition holds now.
    holds: Vec<Instance>,
    /// Why it could not be evaluated here.
    failed: Option<String>,
    /// What the worker has of it.
    alerts: Vec<Known>,
    /// When workers last said how their rules are, and what is wrong with this one.
    evaluated: Vec<Evaluated>,
}

#[derive(Debug, Serialize)]
struct Question {
    selector: String,
    aggregate: String,
    window_ms: u64,
    offset_ms: u64,
    /// Why there is no answer.
    refused: Option<String>,
    series: Vec<Instance>,
}

#[derive(Debug, Serialize)]
struct Instance {
    labels: Labels,
    value: Number,
}

#[derive(Debug, Serialize)]
struct Known {
    #[serde(flatten)]
    alert: Alert,
    /// How long it must still hold until it fires, in milliseconds.
    fires_in_ms: Option<i64>,
    silences: Vec<String>,
    /// Who has it in hand.
    owner: Option<String>,
    /// How it comes to people; nothing where no worker said that it keeps alerts.
    ways: Vec<Way>,
}

#[derive(Debug, Serialize)]
struct Evaluated {
    worker: String,
    as_of: i64,
    version: u64,
    error: Option<String>,
}

pub(super) async fn run(
    command: Explain,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    let set: RuleSet = client.get("/v1/rules", &[]).await?;
    let Some(rule) = set.rules.into_iter().find(|rule| rule.name == command.name) else {
        return Err(Failure::new(format!("there is no rule {:?} in force", command.name))
            .hint("`sentinel rules show` lists them"));
    };
    let status: StatusBody = client.get("/v1/status", &[]).await?;
    let known: AlertsBody = client.get("/v1/alerts", &[]).await?;
    let of_rule = [("rule", rule.name.clone())];
    let ways: WaysBody = client.get("/v1/alerts/ways", &of_rule).await?;
    let config = worker(command.config.as_deref())?;
    let mut rig = command.plugins.open(printer)?.evaluators(&config).await?;
    let plan = rig.check(&rule).await.map_err(no_plan)?.map_err(|said| {
        let said: Vec<String> =
            said.iter().map(|one| format!("{}: {}", one.path, one.message)).collect();
        Failure::new(format!("the condition is refused: {}", said.join("; ")))
    })?;
    let one = Checked { rule: Arc::new(rule.clone()), plan };
    let seen = look(&mut rig, &one, &Stored(client), status.now).await?;
    let explained = Explained {
        at: status.now,
        questions: seen.asked.into_iter().map(question).collect(),
        holds: seen.holds.iter().map(|a| instance(a.labels.clone(), a.value)).collect(),
        failed: seen.failed,
        alerts: alerts(&rule, known, ways, status.now),
        evaluated: status
            .workers
            .iter()
            .map(|one| evaluated(&rule, &one.name, &one.status))
            .collect(),
        rule,
    };
    printer.data(&explained, |look| text(&explained, look))
}

/// An evaluator that is not here is one that only a configuration names.
fn no_plan(error: RigError) -> Failure {
    let elsewhere = matches!(error, RigError::NoEvaluator { .. });
    let failure = Failure::from(error);
    if elsewhere {
        return failure.hint("name a configuration that has it with --config");
    }
    failure
}

fn instance(labels: Labels, value: f64) -> Instance {
    Instance { labels, value: Number(value) }
}

fn question(asked: Asked) -> Question {
    let Asked { query, answer } = asked;
    let (series, refused) = match answer {
        Ok(series) => (series.into_iter().map(|(l, v)| instance(l, v)).collect(), None),
        Err(why) => (Vec::new(), Some(why.to_string())),
    };
    Question {
        selector: query.selector.to_string(),
        aggregate: format!("{:?}", query.aggregate).to_lowercase(),
        window_ms: query.window_ms,
        offset_ms: query.offset_ms,
        refused,
        series,
    }
}

fn alerts(rule: &Rule, known: AlertsBody, ways: WaysBody, now: i64) -> Vec<Known> {
    let AlertsBody { alerts, acknowledgements, silenced } = known;
    let mut ways: BTreeMap<String, Vec<Way>> =
        ways.alerts.into_iter().map(|one| (one.fingerprint, one.ways)).collect();
    let of = |alert: Alert| {
        let held = now.saturating_sub(alert.active_since);
        let left = i64::try_from(rule.hold.0).unwrap_or(i64::MAX).saturating_sub(held);
        let is_it = |one: &&sentinel_model::attention::Acknowledgement| {
            one.fingerprint == alert.fingerprint && one.incident == alert.incident
        };
        Known {
            fires_in_ms: (alert.state == AlertState::Pending).then_some(left.max(0)),
            silences: silenced.get(&alert.fingerprint.to_string()).cloned().unwrap_or_default(),
            ways: ways.remove(&alert.fingerprint.to_string()).unwrap_or_default(),
            owner: acknowledgements.iter().find(is_it).map(|one| one.owner.clone()),
            alert,
        }
    };
    alerts.into_iter().filter(|alert| alert.rule == rule.name).map(of).collect()
}

fn evaluated(rule: &Rule, worker: &str, status: &serde_json::Value) -> Evaluated {
    let rules = &status["rules"];
    Evaluated {
        worker: worker.to_owned(),
        as_of: rules["as_of"].as_i64().unwrap_or(0),
        version: rules["version"].as_u64().unwrap_or(0),
        error: rules["errors"][&rule.name].as_str().map(str::to_owned),
    }
}

fn text(explained: &Explained, _: Look) -> String {
    let Explained { rule, at, .. } = explained;
    let mut lines = vec![format!("{} at {}", rule.name, human::moment(*at))];
    let condition = serde_json::to_string(&rule.condition).unwrap_or_default();
    lines.push(format!("condition  {}", clean(&condition)));
    let hold = human::millis(rule.hold.0);
    lines.push(format!("evaluated every {}, fires after {hold}", rule.interval));
    for question in &explained.questions {
        let offset = match question.offset_ms {
            0 => String::new(),
            offset => format!(", {} ago", human::millis(offset)),
        };
        let (window, count) = (human::millis(question.window_ms), question.series.len() as u64);
        lines.push(String::new());
        lines.push(format!(
            "{} of {} over {window}{offset}: {}",
            question.aggregate,
            clean(&question.selector),
            question.refused.clone().unwrap_or_else(|| human::plural(count, "series")),
        ));
        for one in question.series.iter().take(SHOWN) {
            lines.push(format!("  {} = {}", shown(&one.labels), human::value(one.value.0)));
        }
        if count as usize > SHOWN {
            lines.push(format!("  and {} more; see --json", count as usize - SHOWN));
        }
    }
    lines.push(String::new());
    match (&explained.failed, explained.holds.len()) {
        (Some(why), _) => lines.push(format!("it cannot be evaluated: {}", clean(why))),
        (None, 0) => lines.push("the condition holds for nothing".to_owned()),
        (None, _) => lines.push("the condition holds for".to_owned()),
    }
    for one in explained.holds.iter().take(SHOWN) {
        lines.push(format!("  {} = {}", shown(&one.labels), human::value(one.value.0)));
    }
    for one in explained.alerts.iter().take(SHOWN) {
        lines.push(timers(one, *at));
        lines.extend(one.ways.iter().map(|way| format!("  {}", told::line(way, *at))));
    }
    for one in &explained.evaluated {
        let said = match &one.error {
            Some(error) => format!(": {}", clean(error)),
            None => String::new(),
        };
        let ago = human::ago(at - one.as_of);
        lines.push(format!(
            "{}: version {}, looked at {ago}{said}",
            clean(&one.worker),
            one.version
        ));
    }
    lines.join("\n")
}

fn shown(labels: &Labels) -> String {
    if labels.is_empty() { "{}".to_owned() } else { clean(&labels.to_string()) }
}

fn timers(known: &Known, at: i64) -> String {
    let alert = &known.alert;
    let since = |then: i64| human::span(at.saturating_sub(then));
    let mut text = format!("{} {}", alert.state.as_str(), shown(&alert.labels));
    match (alert.state, alert.fired_at) {
        (AlertState::Pending, _) => {
            text.push_str(&format!(" for {}", since(alert.active_since)));
            text.push_str(&format!(", fires in {}", human::span(known.fires_in_ms.unwrap_or(0))));
        }
        (AlertState::Firing, Some(fired)) => text.push_str(&format!(" for {}", since(fired))),
        (AlertState::Firing | AlertState::Resolved, _) => {
            let ended = alert.resolved_at.unwrap_or(alert.last_active);
            text.push_str(&format!(" {} ago", since(ended)));
        }
    }
    if !known.silences.is_empty() {
        text.push_str(&format!("; silenced by {}", known.silences.join(", ")));
    }
    if let Some(owner) = &known.owner {
        text.push_str(&format!("; {} has it in hand", clean(owner)));
    }
    text
}
