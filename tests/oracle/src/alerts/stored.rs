//! Everything that alerts are judged by, read from the database in one moment.

use super::position::{Origin, Position};
use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Labels by their names.
pub type Labels = BTreeMap<String, String>;

/// One call of an evaluator, as it was journaled.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Whose.
    pub term: i64,
    /// Which of a term.
    pub number: i64,
    /// The time as of which, unix milliseconds.
    pub at: i64,
    /// The version of the rules.
    pub rules_version: i64,
    /// Which of them, by their places.
    pub rules: Vec<usize>,
    /// Those of them that failed.
    pub failed: Vec<usize>,
    /// Whether all that was to be expected was there.
    pub settled: bool,
    /// Up to where it saw what was committed.
    pub position: Position,
    /// Up to where it may have seen more.
    pub until: Option<Position>,
    /// Both as they are written.
    pub written: String,
}

/// Columns of the table `evaluations`, without the id.
#[derive(Debug)]
pub(super) struct EvaluationRow {
    pub(super) term: i64,
    pub(super) number: i64,
    pub(super) at: i64,
    pub(super) rules_version: i64,
    pub(super) rules: String,
    pub(super) failed: String,
    pub(super) settled: bool,
    pub(super) position: String,
    pub(super) until: Option<String>,
}

impl EvaluationRow {
    pub(super) fn read(self) -> Result<Evaluation> {
        let position =
            |text: &str| Position::parse(text).with_context(|| format!("{text:?} is no position"));
        Ok(Evaluation {
            term: self.term,
            number: self.number,
            at: self.at,
            rules_version: self.rules_version,
            rules: places(&self.rules)?,
            failed: places(&self.failed)?,
            settled: self.settled,
            position: position(&self.position)?,
            until: self.until.as_deref().map(position).transpose()?,
            written: match &self.until {
                Some(until) => format!("{} to {until}", self.position),
                None => self.position.clone(),
            },
        })
    }
}

/// `0-2,5` as numbers.
fn places(text: &str) -> Result<Vec<usize>> {
    let mut places = Vec::new();
    for run in text.split(',').filter(|run| !run.is_empty()) {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        let number = |text: &str| text.parse::<usize>().with_context(|| format!("rules {text:?}"));
        places.extend(number(first)?..=number(last)?);
    }
    Ok(places)
}

/// What the history says that happened to an alert.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Transition {
    /// Which alert.
    pub fingerprint: String,
    /// Of which rule.
    pub rule: String,
    /// Which firing.
    pub incident: u64,
    /// The state before; none is ok.
    pub from: Option<String>,
    /// The state after.
    pub to: Option<String>,
    /// Unix milliseconds.
    pub at: i64,
    /// The version of the rules.
    pub rules_version: i64,
    /// The value; of one that does not hold any more, some earlier one.
    #[serde(skip)]
    pub value: f64,
}

/// An alert as it is stored.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Alert {
    /// Its identity.
    pub fingerprint: String,
    /// Of which rule.
    pub rule: String,
    /// Where it is.
    pub state: String,
    /// What tells it from the rule's others.
    pub labels: Labels,
    /// When the condition began to hold.
    pub active_since: i64,
    /// When it began to fire.
    pub fired_at: Option<i64>,
    /// When that was over.
    pub resolved_at: Option<i64>,
    /// How often it fired.
    pub incident: u64,
}

/// An entry of the journal of notifications.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Notification {
    /// Its identity.
    pub id: String,
    /// Who is told.
    pub notifier: String,
    /// What it says of all: `firing` or `resolved`.
    pub status: String,
    /// Of which alerts, as they were.
    pub alerts: Vec<Alert>,
}

/// The form in which all three are kept: JSON has no NaN and may be off in the last bit, so the
/// bits of values stand beside it.
#[derive(Debug, Deserialize)]
struct Kept<T> {
    what: T,
    bits: Vec<u64>,
}

pub(super) fn transition(text: &str) -> Result<Transition> {
    let Kept { what, bits }: Kept<Transition> =
        serde_json::from_str(text).with_context(|| format!("a transition: {text}"))?;
    let value = bits.first().context("a transition without a value")?;
    Ok(Transition { value: f64::from_bits(*value), ..what })
}

pub(super) fn kept<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    let kept: Kept<T> = serde_json::from_str(text).with_context(|| text.to_owned())?;
    Ok(kept.what)
}

/// A sample, and what it was committed with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Unix milliseconds.
    pub time: i64,
    /// The value.
    pub value: f64,
    /// Where it comes from.
    pub origin: Origin,
}

/// A series with all its samples, in the order of their times.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// The metric.
    pub name: String,
    /// What tells it from others.
    pub labels: Labels,
    /// The samples.
    pub samples: Vec<Sample>,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// By version, in their order.
    pub rules: BTreeMap<i64, Vec<Value>>,
    /// In the order of their ids.
    pub evaluations: Vec<Evaluation>,
    /// In the order of their ids.
    pub transitions: Vec<Transition>,
    /// In no order.
    pub alerts: Vec<Alert>,
    /// In the order in which they were decided.
    pub notifications: Vec<Notification>,
    /// Of the metrics that rules read.
    pub series: Vec<Series>,
    /// Up to where something of a batch was packed: what evaluations saw before is lost.
    pub packed_to: i64,
}

impl Stored {
    pub(super) fn metrics(&self) -> BTreeSet<String> {
        let of = |rule: &Value| rule["condition"]["metric"].as_str().map(str::to_owned);
        self.rules.values().flatten().filter_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_rules_are_read() {
        assert_eq!(places("").unwrap(), Vec::<usize>::new());
        assert_eq!(places("0-2,5,7-8").unwrap(), [0, 1, 2, 5, 7, 8]);
        assert!(places("0-x").is_err());
    }

    #[test]
    fn every_bit_of_a_value_comes_from_beside_it() {
        let text = r#"{"what":{"fingerprint":"0f","rule":"r","incident":1,"from":null,
            "to":"firing","at":5,"value":0.0,"rules_version":1},"bits":[9221120237041090560]}"#;
        let read = transition(text).unwrap();
        assert!(read.value.is_nan() && read.from.is_none() && read.to.as_deref() == Some("firing"));
    }
}
