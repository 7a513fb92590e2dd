//! Rules as operators write them. The condition is opaque: only its evaluator knows it.

use crate::duration::Millis;
use crate::ids::SlotName;
use crate::series::Labels;
use crate::template::Template;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most rules a set may have.
pub const MAX_RULES: usize = 100_000;
/// The most bytes a condition may have as JSON text.
pub const MAX_CONDITION: usize = 64 << 10;

/// A file of rules: what `sentinel rules apply` takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    /// Version of the format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// The rules; names are unique over all files applied together.
    pub rules: Vec<Rule>,
}

/// One rule: when something is wrong, for how long, and what to say of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Unique name: letters, digits, '-', '_' and '.'.
    #[schemars(regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}$"))]
    pub name: String,
    /// The worker's slot whose plugin evaluates the condition.
    #[serde(default = "default_evaluator")]
    pub evaluator: SlotName,
    /// How often it is evaluated.
    #[serde(default = "default_interval")]
    pub interval: Millis,
    /// How long the condition must hold before the alert fires.
    #[serde(default, rename = "for")]
    pub hold: Millis,
    /// How long the alert goes on firing after the condition stopped holding.
    #[serde(default)]
    pub keep_firing_for: Millis,
    /// What it means when the condition reads no series at all.
    #[serde(default)]
    pub no_data: NoData,
    /// How long there is no data before that counts: until then what held goes on. With `keep` it
    /// is how long what held goes on at most, and for ever where it is 0.
    #[serde(default)]
    pub no_data_for: Millis,
    /// Labels added to each of its alerts, such as `severity`. Templates, of labels alone.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub labels: Labels,
    /// Words for people: `summary`, `description`, `runbook_url`. Templates.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub annotations: Labels,
    /// Notifier slots that are told; all of the worker's where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Vec<SlotName>>,
    /// The condition, in the evaluator's language.
    pub condition: serde_json::Value,
}

/// What it means when a condition reads no series at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NoData {
    /// The condition does not hold.
    #[default]
    Ok,
    /// An alert of its own, labelled `no_data="true"`.
    #[serde(alias = "alerting")]
    Alert,
    /// Whatever held goes on.
    Keep,
}

impl Rule {
    /// What is wrong with its templates, each with its JSON Pointer into the rule.
    #[must_use]
    pub fn template_problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        for (place, texts, identify) in
            [("labels", &self.labels, true), ("annotations", &self.annotations, false)]
        {
            for (key, text) in texts.iter() {
                let path = format!("/{place}/{}", key.replace('~', "~0").replace('/', "~1"));
                match Template::parse(text) {
                    Ok(template) if identify && template.reads_value() => {
                        let said = "labels tell alerts apart, so a value in one would begin a new \
                                    alert at every evaluation; write it in an annotation";
                        problems.push((path, said.to_owned()));
                    }
                    Ok(_) => {}
                    Err(error) => problems.push((path, error.to_string())),
                }
            }
        }
        problems
    }
}

fn default_evaluator() -> SlotName {
    SlotName::new("alert-dsl").expect("a valid name")
}

fn default_interval() -> Millis {
    Millis(15_000)
}

/// The rules in force, as the store keeps them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleSet {
    /// Counts applies, from 1; 0 before the first.
    pub version: u64,
    /// Unix milliseconds of the apply.
    pub applied_at: i64,
    /// The rules, in order of names.
    pub rules: Vec<Rule>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_needs_only_a_name_and_a_condition() {
        let rule: Rule = serde_json::from_str(r#"{"name": "a", "condition": {"x": 1}}"#).unwrap();
        assert_eq!(
            (rule.interval, rule.hold, rule.no_data),
            (Millis(15_000), Millis(0), NoData::Ok)
        );
        assert!(
            serde_json::from_str::<Rule>(r#"{"name": "a", "condition": {}, "fro": "5m"}"#).is_err()
        );
    }

    #[test]
    fn templates_are_checked_each_with_its_place() {
        let rule: Rule = serde_json::from_value(serde_json::json!({
            "name": "a", "condition": {}, "no_data": "alerting", "no_data_for": "5m",
            "labels": {"team": "{{ labels.team | default \"ops\" }}", "bad": "{{ value }}"},
            "annotations": {"summary": "{{ value | percent }}", "a/b": "{{ what }}"},
        }))
        .unwrap();
        assert_eq!((rule.no_data, rule.no_data_for), (NoData::Alert, Millis(300_000)));
        let paths: Vec<String> = rule.template_problems().into_iter().map(|one| one.0).collect();
        assert_eq!(paths, ["/labels/bad", "/annotations/a~1b"]);
    }
}
