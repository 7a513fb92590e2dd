//! Rules as operators write them. The condition is opaque: only its evaluator knows it.

use crate::columns::check_label_key;
use crate::duration::Millis;
use crate::ids::SlotName;
use crate::series::Labels;
use crate::template::{Template, is_template};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The most rules a set may have.
pub const MAX_RULES: usize = 100_000;
/// The most bytes a condition may have as JSON text.
pub const MAX_CONDITION: usize = 64 << 10;
/// The label that [`Rule::severity`] sets.
pub const SEVERITY: &str = "severity";
/// The annotation that [`Rule::runbook_url`] sets.
pub const RUNBOOK_URL: &str = "runbook_url";
/// In [`Rule::group_by`]: each alert is a group of its own.
pub const GROUP_EACH: &str = "...";
/// The most labels of `group_by` and of `equal`.
pub const MAX_KEYS: usize = 64;
/// The most rules that one inhibits.
pub const MAX_INHIBITED: usize = 1_000;

/// A file of rules: what `sentinel rules apply` takes. Its JSON Schema, for editors, is
/// `rule-file.schema.json` beside the sources.
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
    /// How bad it is: the label `severity` of its alerts. Notifiers know `critical`, `error`,
    /// `warning` and `info`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// Where to read what to do: the annotation `runbook_url` of its alerts. A template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook_url: Option<String>,
    /// Labels by whose values its alerts are told together, whatever the route says; `["..."]`
    /// tells each by itself. As the route says where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_by: Option<Vec<String>>,
    /// What nobody needs to hear of while one of its alerts fires. Rules that inhibit each other,
    /// be it through others, inhibit nothing of each other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inhibits: Vec<Inhibits>,
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

/// Alerts of other rules that are not told while one of this rule fires.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inhibits {
    /// The names of these rules; one that there is not (yet) does no harm.
    pub rules: Vec<String>,
    /// Labels that both alerts must have with the same value.
    #[serde(default)]
    pub equal: Vec<String>,
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
    /// The labels of its alerts that are its own, `severity` among them. Templates.
    #[must_use]
    pub fn own_labels(&self) -> Cow<'_, Labels> {
        with(&self.labels, SEVERITY, self.severity.as_deref())
    }

    /// The words of its alerts, `runbook_url` among them. Templates.
    #[must_use]
    pub fn own_annotations(&self) -> Cow<'_, Labels> {
        with(&self.annotations, RUNBOOK_URL, self.runbook_url.as_deref())
    }

    /// What is wrong with it, but for its condition: each with its JSON Pointer into the rule.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = self.template_problems();
        let mut say = |path: &str, said: &str| problems.push((path.to_owned(), said.to_owned()));
        let short = [
            ("/severity", &self.severity, self.labels.get(SEVERITY), "labels.severity"),
            (
                "/runbook_url",
                &self.runbook_url,
                self.annotations.get(RUNBOOK_URL),
                "annotations.runbook_url",
            ),
        ];
        for (path, field, same, other) in short {
            match (field.as_deref(), same) {
                (Some(""), _) => say(path, "it is empty; leave it out"),
                (Some(field), Some(other_text)) if field != other_text => {
                    say(path, &format!("{other} says {other_text:?}; write it once"));
                }
                _ => {}
            }
        }
        if self.severity.as_deref().is_some_and(is_template) {
            say("/severity", "it is no template; write a template as `labels.severity`");
        }
        if let Some(Err(error)) = self.runbook_url.as_deref().map(Template::parse) {
            say("/runbook_url", &error.to_string());
        }
        let each = self.group_by.as_deref() == Some(&[GROUP_EACH.to_owned()]);
        for (i, why) in (!each)
            .then(|| key_problems(self.group_by.as_deref().unwrap_or(&[])))
            .into_iter()
            .flatten()
        {
            say(&format!("/group_by/{i}"), &why);
        }
        for (at, inhibits) in self.inhibits.iter().enumerate() {
            if inhibits.rules.is_empty() {
                say(&format!("/inhibits/{at}/rules"), "name at least one rule");
            }
            if let Some(own) = inhibits.rules.iter().position(|name| *name == self.name) {
                say(&format!("/inhibits/{at}/rules/{own}"), "a rule does not inhibit itself");
            }
            for (i, why) in key_problems(&inhibits.equal) {
                say(&format!("/inhibits/{at}/equal/{i}"), &why);
            }
        }
        if self.inhibits.iter().map(|one| one.rules.len()).sum::<usize>() > MAX_INHIBITED {
            say("/inhibits", &format!("more than {MAX_INHIBITED} rules"));
        }
        problems
    }

    /// What is wrong with its templates, each with its JSON Pointer into the rule.
    fn template_problems(&self) -> Vec<(String, String)> {
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

/// Some texts, with one more where it is said.
fn with<'t>(texts: &'t Labels, key: &str, text: Option<&str>) -> Cow<'t, Labels> {
    let mut all = Cow::Borrowed(texts);
    if let Some(text) = text.filter(|text| texts.get(key) != Some(text)) {
        all.to_mut().set(key, text);
    }
    all
}

/// What is wrong with names of labels, each with its place.
fn key_problems(keys: &[String]) -> Vec<(usize, String)> {
    let mut problems = Vec::new();
    if keys.len() > MAX_KEYS {
        problems.push((MAX_KEYS, format!("more than {MAX_KEYS} labels")));
    }
    for (i, key) in keys.iter().enumerate() {
        if check_label_key(key).is_err() {
            problems.push((i, format!("{key:?} is no name of a label")));
        } else if keys[..i].contains(key) {
            problems.push((i, format!("{key:?} stands here twice")));
        }
    }
    problems
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
        let paths: Vec<String> = rule.problems().into_iter().map(|one| one.0).collect();
        assert_eq!(paths, ["/labels/bad", "/annotations/a~1b"]);
    }

    #[test]
    fn severity_and_runbook_are_a_label_and_an_annotation() {
        let rule: Rule = serde_json::from_value(serde_json::json!({
            "name": "a", "condition": {}, "severity": "critical",
            "runbook_url": "https://wiki/{{ labels.agent }}", "group_by": ["agent"],
            "inhibits": [{"rules": ["b"], "equal": ["agent"]}], "labels": {"team": "db"},
        }))
        .unwrap();
        assert_eq!(rule.problems(), []);
        assert_eq!(rule.own_labels().to_string(), r#"{severity="critical", team="db"}"#);
        assert_eq!(
            rule.own_annotations().get("runbook_url"),
            Some("https://wiki/{{ labels.agent }}")
        );
        let again: Rule = serde_json::from_value(serde_json::to_value(&rule).unwrap()).unwrap();
        assert_eq!(again, rule, "the canonical form says the same");
    }

    #[test]
    fn what_is_wrong_with_a_rules_fields_is_told_each_with_its_place() {
        let rule: Rule = serde_json::from_value(serde_json::json!({
            "name": "a", "condition": {}, "severity": "{{ labels.x }}", "runbook_url": "{{ what }}",
            "labels": {"severity": "page"}, "group_by": ["agent", "...", "agent"],
            "inhibits": [{"rules": []}, {"rules": ["b", "a"], "equal": ["1x"]}],
        }))
        .unwrap();
        let paths: Vec<String> = rule.problems().into_iter().map(|one| one.0).collect();
        let expected = [
            "/severity",
            "/severity",
            "/runbook_url",
            "/group_by/1",
            "/group_by/2",
            "/inhibits/0/rules",
            "/inhibits/1/rules/1",
            "/inhibits/1/equal/0",
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn the_published_schema_is_that_of_the_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/rule-file.schema.json");
        let schema = schemars::schema_for!(RuleFile);
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(found == text, "{path} is stale; run the test with UPDATE_SCHEMA=1");
    }
}
