//! Rules beside what is stored: what is not there, and what is dear. Pure.

use super::spelling::hint;
use super::stored::{Metric, Stored};
use super::{Entry, RuleRead, Sheet};
use crate::api::{CheckedBody, CostBody, ReadBody};
use crate::rest::problem_body;
use sentinel_model::document::Problem;
use sentinel_model::series::{Matcher, SeriesKey};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Series of one rule beyond which it is said to be dear.
pub const MAX_RULE_SERIES: u64 = 20_000;
/// Samples in the windows of one rule beyond which it is said to be dear (160 MB of times and values).
pub const MAX_RULE_SAMPLES: u64 = 10_000_000;
/// Series times evaluations a minute of one rule beyond which it is said to be dear: about an
/// eighth of a core.
pub const MAX_SERIES_A_MINUTE: f64 = 1_000_000.0;
/// What is committed within so many milliseconds is evaluated together.
const GATHER_MS: f64 = 200.0;
/// Samples that a worker keeps of one series, at most.
const MAX_KEPT: u64 = 86_400;
/// Comparisons of series with selectors that are made for one check, at most.
const MAX_COMPARED: usize = 50_000_000;
/// The label that says whose samples these are: they are committed together.
const AGENT: &str = "agent";
const MINUTE_MS: f64 = 60_000.0;

/// What one read costs.
struct Cost {
    series: u64,
    samples: u64,
    /// Commits a minute that bring samples of it.
    commits: f64,
}

/// What one read costs, and what is to be said of it.
type Judged = (Cost, Vec<String>);

struct Judge<'s> {
    stored: &'s Stored,
    compared: usize,
    /// Reads that were judged: most rules of a set read what others read too.
    known: BTreeMap<(String, u64), Option<Judged>>,
}

/// What is to be said of rules beside what is stored, and what each costs. Without what is stored
/// only their own intervals are known.
fn judge(sheet: &Sheet, stored: Option<&Stored>) -> (Vec<Problem>, Vec<CostBody>) {
    let mut judge = stored.map(|stored| Judge { stored, compared: 0, known: BTreeMap::new() });
    let (mut warnings, mut costs) = (Vec::new(), Vec::new());
    for entry in sheet.entries.iter().filter(|entry| !entry.reads.is_empty()) {
        let place = sheet.at(entry, "", "");
        let mut cost = CostBody {
            rule: entry.rule.name.clone(),
            file: place.file,
            line: place.line,
            evaluations: MINUTE_MS / (entry.rule.interval.0.max(1) as f64),
            series: None,
            samples: None,
            reads: Vec::new(),
        };
        let said = match &mut judge {
            Some(judge) => judge.entry(entry, &mut cost),
            None => {
                cost.reads = entry.reads.iter().map(|read| read_body(read, None)).collect();
                Vec::new()
            }
        };
        warnings.extend(said.into_iter().map(|(path, said)| sheet.at(entry, &path, said)));
        warnings.extend(dear(&cost).map(|said| sheet.at(entry, "/condition", said)));
        costs.push(cost);
    }
    (warnings, costs)
}

impl CheckedBody {
    /// All there is to say of rules, beside what is stored if that is known.
    #[must_use]
    pub fn of(sheet: Sheet, stored: Option<&Stored>) -> Self {
        let (found, costs) = judge(&sheet, stored);
        let bodies = |mut problems: Vec<Problem>| {
            problems.sort_by(|a, b| {
                (&a.file, a.line, a.column, &a.path).cmp(&(&b.file, b.line, b.column, &b.path))
            });
            problems.into_iter().map(problem_body).collect()
        };
        Self {
            problems: bodies(sheet.problems),
            warnings: bodies(sheet.warnings.into_iter().chain(found).collect()),
            looked_up: stored.is_some(),
            rules: sheet.entries.len(),
            costs,
        }
    }
}

/// Why a rule is dear.
fn dear(cost: &CostBody) -> Option<String> {
    let (series, samples) = (cost.series?, cost.samples?);
    let a_minute = series as f64 * cost.evaluations;
    if series > MAX_RULE_SERIES {
        Some(format!("it reads {series} series, more than {MAX_RULE_SERIES}: select fewer"))
    } else if samples > MAX_RULE_SAMPLES {
        let why = "shorten its windows or select fewer series";
        Some(format!(
            "about {samples} samples lie in its windows, more than {MAX_RULE_SAMPLES}: {why}"
        ))
    } else if a_minute > MAX_SERIES_A_MINUTE {
        let why = "lengthen its interval or select fewer series";
        Some(format!(
            "it reads {series} series about {:.0} times a minute, more than {MAX_SERIES_A_MINUTE} in all: {why}",
            cost.evaluations
        ))
    } else {
        None
    }
}

fn read_body(read: &RuleRead, cost: Option<&Cost>) -> ReadBody {
    ReadBody {
        selector: read.selector.to_string(),
        window_ms: read.window_ms,
        series: cost.map(|cost| cost.series),
        samples: cost.map(|cost| cost.samples),
    }
}

impl Judge<'_> {
    /// What is to be said of one rule, each with its JSON Pointer, and what it costs.
    fn entry(&mut self, entry: &Entry, cost: &mut CostBody) -> Vec<(String, String)> {
        let mut said: Vec<(String, String)> = Vec::new();
        let mut all = Some(Cost { series: 0, samples: 0, commits: 0.0 });
        for read in &entry.reads {
            let Some((one, words)) = self.read(read) else {
                all = None;
                cost.reads.push(read_body(read, None));
                continue;
            };
            if let Some(all) = &mut all {
                all.series += one.series;
                all.samples += one.samples;
                // Most rules read series that come together.
                all.commits = all.commits.max(one.commits);
            }
            cost.reads.push(read_body(read, Some(one)));
            let path = place_of(&entry.rule.condition, &read.selector.name);
            for words in words {
                let one = (format!("/condition{path}"), words.clone());
                if !said.contains(&one) {
                    said.push(one);
                }
            }
        }
        if let Some(all) = all {
            (cost.series, cost.samples) = (Some(all.series), Some(all.samples));
            cost.evaluations += all.commits.min(MINUTE_MS / GATHER_MS);
        }
        said
    }

    /// What a read costs and what is to be said of it; nothing where it would take too long to
    /// find out.
    fn read(&mut self, read: &RuleRead) -> Option<&Judged> {
        let key = (read.selector.to_string(), read.window_ms);
        if !self.known.contains_key(&key) {
            let judged = self.judge(read);
            self.known.insert(key.clone(), judged);
        }
        self.known.get(&key).and_then(Option::as_ref)
    }

    fn judge(&mut self, read: &RuleRead) -> Option<Judged> {
        let nothing = Cost { series: 0, samples: 0, commits: 0.0 };
        let name = &read.selector.name;
        if !self.stored.names.contains(name) {
            let hint = meant(name, &self.stored.names);
            return Some((
                nothing,
                vec![format!("nothing is stored under the name {name:?}{hint}")],
            ));
        }
        let metric = self.stored.metrics.get(name)?;
        // One comparison for the selection, and one for each condition where it selects nothing.
        self.compared += metric.series.len() * (2 + read.selector.matchers.len());
        if self.compared > MAX_COMPARED {
            return None;
        }
        let chosen: Vec<&SeriesKey> =
            metric.series.iter().filter(|key| read.selector.matches(key)).collect();
        let mut said = unknown_labels(metric, &read.selector.matchers, name);
        if chosen.is_empty() && said.is_empty() {
            said.push(format!("no series is selected by {}", read.selector));
        } else if metric.live == 0.0 && said.is_empty() {
            said.push(format!("no sample of {name:?} came within the last hour"));
        }
        Some((cost(metric, &chosen, read.window_ms), said))
    }
}

fn meant(name: &str, names: &BTreeSet<String>) -> String {
    match super::spelling::nearest(name, names.iter().map(String::as_str)) {
        Some(meant) => format!("; did you mean {meant:?}?"),
        None => String::new(),
    }
}

fn cost(metric: &Metric, chosen: &[&SeriesKey], window_ms: u64) -> Cost {
    let series = (chosen.len() as f64 * metric.live).ceil() as u64;
    let window = window_ms as f64 / MINUTE_MS;
    let of_one = ((window * metric.per_minute).ceil() as u64).clamp(1, MAX_KEPT);
    let agents: BTreeSet<&str> =
        chosen.iter().map(|key| key.labels.get(AGENT).unwrap_or_default()).collect();
    let commits = agents.len() as f64 * metric.live * metric.per_minute;
    Cost { series, samples: series.saturating_mul(of_one), commits }
}

/// Conditions on labels that say something of no series at all.
fn unknown_labels(metric: &Metric, matchers: &[Matcher], name: &str) -> Vec<String> {
    let mut said = Vec::new();
    for matcher in matchers {
        let label = matcher.label.as_str();
        let values: BTreeSet<&str> =
            metric.series.iter().filter_map(|key| key.labels.get(label)).collect();
        if values.is_empty() {
            // A condition that wants the label to be absent is met by all of them.
            if matcher.value.is_empty() {
                continue;
            }
            let labels = metric.series.iter().flat_map(|key| key.labels.iter().map(|one| one.0));
            let hint = hint(label, labels.collect::<BTreeSet<&str>>());
            said.push(format!("no series of {name:?} has the label {label:?}{hint}"));
            continue;
        }
        let selects = |key: &SeriesKey| matcher.matches(key.labels.get(label).unwrap_or_default());
        if !metric.series.iter().any(selects) {
            let hint = hint(&matcher.value, values);
            let condition = condition(matcher);
            said.push(format!("no series of {name:?} has {condition}{hint}"));
        }
    }
    said
}

fn condition(matcher: &Matcher) -> String {
    // A selector of one condition, without its name.
    let one =
        sentinel_model::series::Selector { name: String::new(), matchers: vec![matcher.clone()] };
    one.to_string().trim_matches(['{', '}']).to_owned()
}

/// The first place of a condition in which a name stands, whatever language it is in; the whole
/// condition where it stands nowhere.
fn place_of(condition: &Value, name: &str) -> String {
    fn stands_in(text: &str, name: &str) -> bool {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
        text.match_indices(name).any(|(at, _)| {
            !text[..at].ends_with(is_part) && !text[at + name.len()..].starts_with(is_part)
        })
    }
    fn find(value: &Value, name: &str, path: &mut String) -> bool {
        let mut go = |step: &str, value: &Value| {
            let length = path.len();
            path.push('/');
            path.push_str(&step.replace('~', "~0").replace('/', "~1"));
            let found = find(value, name, path);
            if !found {
                path.truncate(length);
            }
            found
        };
        match value {
            Value::String(text) => stands_in(text, name),
            Value::Array(all) => all.iter().enumerate().any(|(i, one)| go(&i.to_string(), one)),
            Value::Object(all) => all.iter().any(|(key, one)| go(key, one)),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
    let mut path = String::new();
    find(condition, name, &mut path);
    path
}

#[cfg(test)]
mod tests;
