//! The first-party plugin sentinel/alert-dsl: decides which rules hold.
//!
//! A condition is JSON, pleasant to write as YAML. `schema.json` beside the sources is its
//! JSON Schema, for editors ([`json_schema`] returns it).
//!
//! # Thresholds
//!
//! ```yaml
//! condition: { metric: system_memory_usage_bytes, match: { state: used }, above: 8e9 }
//! condition:
//!   metric: system_cpu_time_seconds_total
//!   match: { mode: idle }
//!   fn: rate              # of each series' samples in the window
//!   window: 5m
//!   by: [agent]           # cores become one value for each agent:
//!   combine: avg          # their mean
//!   below: 0.1
//! ```
//!
//! | key | meaning | unless said |
//! |---|---|---|
//! | `metric` | the metric's name | (must be said) |
//! | `match` | label: text, `{regex: ...}`, `{not: ...}` or `{not_regex: ...}`; expressions match the whole value, a label that is absent is the empty text | every series |
//! | `fn` | `last`, `avg`, `min`, `max`, `sum`, `count`, `increase`, `rate` or `{quantile: 0.95}` of one series' samples | `last` |
//! | `window` | how far back, at most 7d | `5m` |
//! | `offset` | how long before now the window ends, at most 7d | `0s` |
//! | `by`, `combine` | group series by labels, and make one value of each group: `sum`, `avg`, `min`, `max` or `count` (of series) | every series by itself |
//! | `divided_by` | a second measure (`metric`, `match`, `fn`, `window`, `offset`, `combine`) of the same groups; needs `by` | |
//! | `above`, `at_least`, `below`, `at_most`, `equals`, `not_equals` | the comparison: exactly one | (must be said) |
//!
//! Each group, or each series where there is no `by`, whose comparison holds is an instance of
//! the rule. Its labels are those of `by`, or all labels of the series; its value is the one
//! compared. `by: []` makes one group of everything.
//!
//! # Combinations
//!
//! ```yaml
//! condition:
//!   all:
//!     - { metric: system_cpu_load_average_5m, by: [agent], combine: max, above: 8 }
//!     - not: { metric: system_uptime_seconds, by: [agent], combine: max, below: 600 }
//! ```
//!
//! * `all`: instances are **joined on their labels**. Every combination of the members'
//!   instances that agree on the labels they share is an instance, with the labels of all; the
//!   value is the first member's. Members that share no label go with everything, so
//!   `{by: [], ...}` works as a switch.
//! * `any`: the instances of all members; of two with the same labels the first is kept.
//! * `not`: stands for itself, without an enclosing `all`. Where there is data and the
//!   condition does not hold, its negation does: `not` of a threshold holds for every group
//!   that has a value which is not so; `not` of `absent` holds where there are samples. `not`
//!   of `all` is `any` of `not`, and the other way round.
//! * A series, group or half of a ratio **without data is unknown: it neither holds nor does its
//!   negation**, and so is a value that is NaN. Only `absent` makes something of silence.
//!   (A ratio by zero is infinite, or NaN for zero by zero.)
//!
//! # Expressions
//!
//! Where a threshold does not say enough, `value` takes an expression, and so does every
//! comparison; `holds` has an instance for each row of one.
//!
//! ```yaml
//! condition:            # more than 5 % of the requests of a job fail
//!   value:
//!     div:
//!       - { metric: http_requests_total, match: { code: { regex: "5.." } }, fn: rate, by: [job], combine: sum }
//!       - { metric: http_requests_total, fn: rate, by: [job], combine: sum }
//!   above: 0.05
//! condition:            # a disk holds a tenth more than yesterday
//!   metric: disk_used_bytes
//!   above: { mul: [{ metric: disk_used_bytes, offset: 1d }, 1.1] }
//! condition:            # certificates of which less than two weeks are left
//!   value: { sub: [{ metric: probe_ssl_earliest_cert_expiry }, now] }
//!   below: 1209600
//! ```
//!
//! | expression | what it is |
//! |---|---|
//! | `3`, `now` | a number; the time of evaluation in unix seconds |
//! | `{metric, match, fn, window, offset, closed, by, combine}` | rows: series, or groups of them |
//! | `{of, by or without, combine}` | rows that agree in these labels become one |
//! | `{add: [a, b]}`, `sub`, `mul`, `div`, `mod`, `pow` | both sides, row by row |
//! | `{value, above: b}` and the other comparisons | the rows of `value` for which it holds; with `bool: true` all, as 1 and 0 |
//! | `{and: [a, b, ...]}`, `or`, `unless` | rows by what they share, as in PromQL |
//! | `{of, apply}` | `abs`, `ceil`, `floor`, `round`, `sqrt`, `exp`, `ln`, `log2`, `log10`, `sign`, `negate` |
//! | `{of, histogram_quantile: 0.95}` | of classic histograms: rows that differ in `le` alone |
//! | `{absent: ...}`, `{vector: 1}` | a row of 1 where something is absent; a number as a row without labels |
//!
//! Two sides are matched on identity: **all labels the same**, unless `on` names those that matter
//! or `ignoring` those that do not. One row matches one; where several of a side belong to one of
//! the other, `many: left` (or `right`) says so, and `include` takes labels from that one. Rows
//! that cannot be told apart fail the rule, which says which they are. Labels, NaN and infinities
//! are as in PromQL: in particular NaN is other than everything, and a label that is empty is
//! none.
//!
//! # Functions of time
//!
//! `increase` and `rate` say what was seen: the growth between the first and the last sample of
//! the window, resets corrected. `extrapolated_increase` and `extrapolated_rate` are PromQL's:
//! extrapolated to the window's edges, by at most half the distance of samples where an edge is
//! further away than 1.1 of it, and never to below zero. Beside them there are `delta`,
//! `instant_rate`, `instant_delta`, `slope`, `{predict: 4h}` (least squares), `changes`, `resets`,
//! `stddev` and `stdvar`, whose arithmetic is that of Prometheus 2.42. `closed: true` takes a
//! sample at the very start of the window too, as Prometheus did before its version 3.
//!
//! # Absence
//!
//! ```yaml
//! condition: { absent: { metric: system_uptime_seconds, window: 2m, by: [agent], seen_within: 1d } }
//! condition: { absent: { metric: up, match: { job: backup }, window: 26h } }
//! ```
//!
//! With `by`, each group that had samples within `seen_within` (1d unless said) and has none in
//! the window is an instance. Without it the whole selection is missed, and the one instance has
//! the labels of the plain matchers (`job="backup"`). The value is the number of series found: 0;
//! of a negated absence how many there are.
//!
//! # Checks
//!
//! `check` tells everything at once, each with its JSON Pointer: unknown keys, wrong types,
//! malformed names, durations and expressions, values out of range, nesting deeper than 8, more
//! than 100 thresholds. It warns of rates over less than 30 s, of rates of gauges and levels of
//! counters (by their names), and of members of `all` that would join on whatever labels they
//! happen to share.
//!
//! # Failures
//!
//! A rule whose question has no answer, or that holds for more than `max_instances` sets of
//! labels, fails by itself; the others are evaluated.

mod condition;
mod duration;
mod evaluate;
mod expression;
mod fields;
mod groups;
mod histogram;
mod language;
mod matchers;
mod plan;
mod read;
mod relation;
mod term;
mod warnings;
mod words;

use schemars::JsonSchema;
use sentinel_sdk::{
    Condition as Text, Diagnostic, Evaluator, Failure, Outcome, Plan, export_evaluator,
};
use serde::Deserialize;

use condition::Condition;
use fields::Problems;
use groups::Known;
use plan::{Catalogue, Rule};

pub use language::json_schema;

/// Instances that a rule may have unless said.
const DEFAULT_MAX_INSTANCES: u32 = 10_000;
/// Instances that the config may allow; the host takes no more.
const MAX_MAX_INSTANCES: u32 = 100_000;

/// Bounds of the evaluator.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// For how many sets of labels one rule may hold at a time; a rule that holds for more
    /// fails, and says so. 10,000 unless said.
    #[serde(default = "default_max_instances")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_instances: u32,
}

fn default_max_instances() -> u32 {
    DEFAULT_MAX_INSTANCES
}

/// The evaluator.
#[derive(Debug)]
pub struct AlertDsl {
    max_instances: usize,
    rules: Vec<Rule>,
    catalogue: Catalogue,
    known: Known,
}

impl Evaluator for AlertDsl {
    type Config = Config;

    fn configure(config: Config) -> Result<Self, Vec<Diagnostic>> {
        if !(1..=MAX_MAX_INSTANCES).contains(&config.max_instances) {
            return Err(vec![Diagnostic::error(
                "/max_instances",
                format!("{} is not from 1 to {MAX_MAX_INSTANCES}", config.max_instances),
            )]);
        }
        Ok(Self {
            max_instances: config.max_instances as usize,
            rules: Vec::new(),
            catalogue: Catalogue::default(),
            known: Known::default(),
        })
    }

    fn check(&mut self, text: &str) -> Result<Plan, Vec<Diagnostic>> {
        let (condition, warnings) = read(text)?;
        Ok(Plan { needs: plan::needs(&condition), warnings })
    }

    fn load(&mut self, conditions: Vec<Text>) -> Result<(), Vec<Diagnostic>> {
        // The host's ids of series end here, whatever becomes of the new conditions.
        self.known = Known::new(&self.catalogue.groupings);
        let mut catalogue = Catalogue::default();
        let mut rules = Vec::with_capacity(conditions.len());
        let mut found = Vec::new();
        for condition in &conditions {
            match read(&condition.text) {
                Ok((read, _)) => rules.push(plan::rule(&read, &mut catalogue)),
                Err(problems) => found.extend(problems.into_iter().map(|problem| {
                    let said = format!("rule {}: {}", condition.rule, problem.message);
                    Diagnostic::error(problem.path, said)
                })),
            }
        }
        if !found.is_empty() {
            return Err(found);
        }
        self.known = Known::new(&catalogue.groupings);
        (self.rules, self.catalogue) = (rules, catalogue);
        Ok(())
    }

    fn evaluate(&mut self, indexes: &[u32], at: i64) -> Vec<Result<Outcome, Failure>> {
        evaluate::evaluate(
            &self.rules,
            &self.catalogue,
            &mut self.known,
            indexes,
            at,
            self.max_instances,
        )
    }
}

/// A sound condition and what to say of it.
fn read(text: &str) -> Result<(Condition, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut problems = Problems::default();
    match read::condition(text, &mut problems) {
        Some(condition) if problems.errors.is_empty() => Ok((condition, problems.warnings)),
        _ => {
            problems.errors.extend(problems.warnings);
            Err(problems.errors)
        }
    }
}

export_evaluator!(AlertDsl);

#[cfg(test)]
mod tests;
