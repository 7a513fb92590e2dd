//! Rule files of Prometheus as rules of Sentinel: what can be said is said, what cannot is listed
//! with its line and why.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use sentinel_model::document::{Document, MAX_DOCUMENT, Problem};
use sentinel_model::duration::Millis;
use sentinel_model::rule::Rule;
use sentinel_promql::Obstacle;
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::files;
use crate::output::{Printer, human};

/// How often Prometheus evaluates a group that does not say.
const INTERVAL: &str = "1m";
/// Longest name of a rule.
const MAX_NAME: usize = 128;

/// Options of `sentinel rules import`.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Rule files of Prometheus.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub(in crate::commands) fn run(command: &Import, printer: &Printer) -> Result<(), Failure> {
    let mut imported = Imported::default();
    for path in &command.files {
        let text = files::read_text(path, MAX_DOCUMENT)?;
        let document = Document::parse(&path.display().to_string(), &text)
            .map_err(|problems| Failure::new(problems.to_string()))?;
        imported.file(&document);
    }
    for problem in &imported.problems {
        printer.warn(&problem.to_string());
    }
    let (rules, all) = (imported.rules.len(), imported.seen);
    let file = json!({ "version": 1, "rules": imported.rules });
    printer.data(&file, |_| serde_json::to_string_pretty(&file).unwrap_or_default())?;
    printer.say(&format!("{rules} of {} imported", human::plural(all as u64, "rule")));
    if rules < all {
        printer.hint("what is listed above is not in the file: write it by hand, or leave it out");
    }
    Ok(())
}

/// What became of the files.
#[derive(Default)]
struct Imported {
    rules: Vec<Value>,
    problems: Vec<Problem>,
    names: BTreeSet<String>,
    /// Rules that were there.
    seen: usize,
}

impl Imported {
    fn file(&mut self, document: &Document) {
        let Some(groups) = document.value().get("groups").and_then(Value::as_array) else {
            let said = "there is no list `groups`: not a rule file of Prometheus";
            self.problems.push(document.problem("", said));
            return;
        };
        for (at, group) in groups.iter().enumerate() {
            let interval = group.get("interval").cloned().unwrap_or_else(|| json!(INTERVAL));
            let rules = group.get("rules").and_then(Value::as_array);
            for (number, rule) in rules.into_iter().flatten().enumerate() {
                self.seen += 1;
                let path = format!("/groups/{at}/rules/{number}");
                match self.rule(document, &path, rule, &interval) {
                    Ok(rule) => self.rules.push(rule),
                    Err(problems) => self.problems.extend(problems),
                }
            }
        }
    }

    fn rule(
        &mut self,
        document: &Document,
        path: &str,
        rule: &Value,
        interval: &Value,
    ) -> Result<Value, Vec<Problem>> {
        let Some(alert) = rule.get("alert").and_then(Value::as_str) else {
            let said = "is no alerting rule: recorded series are not made here; write their \
                        expression into the rules that read them";
            return Err(vec![document.problem(path, said)]);
        };
        let mut problems = Vec::new();
        let mut made = Map::from_iter([("interval".to_owned(), interval.clone())]);
        let at = |key: &str| format!("{path}/{key}");
        match rule.get("expr") {
            Some(expr) => {
                // A number is a scalar to YAML and an expression to Prometheus.
                let text = expr.as_str().map_or_else(|| expr.to_string(), str::to_owned);
                match sentinel_promql::condition(&text) {
                    Ok(condition) => drop(made.insert("condition".to_owned(), condition)),
                    Err(found) => problems.extend(told(document, &at("expr"), &text, &found)),
                }
            }
            None => problems.push(document.problem(path, "there is no `expr`")),
        }
        for key in ["for", "keep_firing_for"] {
            made.extend(rule.get(key).map(|value| (key.to_owned(), value.clone())));
        }
        for key in ["interval", "for", "keep_firing_for"] {
            let Some(value) = made.get(key) else { continue };
            if serde_json::from_value::<Millis>(value.clone()).is_err() {
                let said = format!("{value} is no duration here; write for example \"5m\"");
                problems.push(document.problem(&at(key), said));
            }
        }
        for key in ["labels", "annotations"] {
            let texts = rule.get(key).and_then(Value::as_object);
            let mut filled = Map::new();
            for (label, value) in texts.into_iter().flatten() {
                let path = format!("{path}/{key}/{}", label.replace('~', "~0").replace('/', "~1"));
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                match sentinel_promql::template(&text) {
                    Ok(text) => drop(filled.insert(label.clone(), json!(text))),
                    Err(found) => problems.extend(told(document, &path, &text, &found)),
                }
            }
            if !filled.is_empty() {
                made.insert(key.to_owned(), Value::Object(filled));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        made.insert("name".to_owned(), json!(self.name(alert)));
        let made = Value::Object(made);
        let read = serde_json::from_value::<Rule>(made.clone());
        let read = read.map_err(|error| vec![document.problem(path, error.to_string())])?;
        let problems = read.problems().into_iter();
        let problems: Vec<_> =
            problems.map(|(at, said)| document.problem(&format!("{path}{at}"), said)).collect();
        if problems.is_empty() { Ok(made) } else { Err(problems) }
    }

    /// A name that no other rule has: Prometheus lets several alerts share one.
    fn name(&mut self, alert: &str) -> String {
        let sound = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
        let mut name: String = alert.chars().map(sound).take(MAX_NAME - 8).collect();
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            name.insert(0, 'r');
        }
        let mut free = name.clone();
        let mut number = 2;
        while !self.names.insert(free.clone()) {
            free = format!("{name}-{number}");
            number += 1;
        }
        free
    }
}

/// Obstacles with the line of the text and the character in it.
fn told(document: &Document, path: &str, text: &str, found: &[Obstacle]) -> Vec<Problem> {
    let problem = |obstacle: &Obstacle| {
        let before = text.get(..obstacle.at).unwrap_or(text);
        let character = before.chars().count() + 1;
        document.problem(path, format!("at character {character}: {obstacle}"))
    };
    found.iter().map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"groups:
- name: hosts
  interval: 30s
  rules:
  - alert: High Load
    expr: avg by (instance) (node_load1) > 4
    for: 5m
    labels: { severity: page }
    annotations: { summary: "{{ $labels.instance }} is at {{ $value | humanize }}" }
  - record: job:up:sum
    expr: sum by (job) (up)
  - alert: High Load
    expr: max_over_time(rate(x[5m])[1h:1m]) > 2 or topk(3, y) > 1
  - alert: Gone
    expr: absent(up{job="a"})
    labels: { at: "{{ $value }}" }
- name: plain
  rules:
  - alert: High Load
    expr: vector(1)
"#;

    fn imported() -> Imported {
        let mut imported = Imported::default();
        imported.file(&Document::parse("prometheus.yml", FILE).unwrap());
        imported
    }

    #[test]
    fn what_can_be_said_becomes_rules_of_our_own() {
        let imported = imported();
        let load = json!({
            "name": "High-Load", "interval": "30s", "for": "5m",
            "labels": {"severity": "page"},
            "annotations": {"summary": "{{ labels.instance }} is at {{ value | humanize }}"},
            "condition": {"holds": {"above": 4.0, "value": {
                "combine": "avg", "by": ["instance"],
                "of": {"metric": "node_load1", "window": "5m", "closed": true},
            }}},
        });
        assert_eq!(imported.rules[0], load);
        let names: Vec<_> =
            imported.rules.iter().map(|rule| rule["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["High-Load", "High-Load-2"]);
        assert_eq!(imported.rules[1]["interval"], "1m");
    }

    #[test]
    fn what_cannot_be_said_is_listed_with_its_line_and_why() {
        let problems: Vec<_> = imported().problems.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(problems.join("\n"), @r"
        prometheus.yml:10:5: /groups/0/rules/1: is no alerting rule: recorded series are not made here; write their expression into the rules that read them
        prometheus.yml:13:5: /groups/0/rules/2/expr: at character 15: subqueries are not expressible: record the inner expression as a metric
        prometheus.yml:13:5: /groups/0/rules/2/expr: at character 42: the aggregation topk has no counterpart
        prometheus.yml:16:15: /groups/0/rules/3/labels/at: labels tell alerts apart, so a value in one would begin a new alert at every evaluation; write it in an annotation
        ");
    }
}
