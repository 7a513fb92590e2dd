//! The few shapes of rules that the reference reads.
//!
//! ```yaml
//! - name: NAME
//!   for: 2s              # may be left out
//!   notify: [SLOT]
//!   condition:
//!     metric: NAME
//!     match: {LABEL: TEXT}
//!     window: 1m
//!     by: [LABEL]        # with it
//!     combine: sum
//!     above: 0.5         # or at_least, below, at_most
//! ```
//!
//! The newest value of each series in the window, or their sum by labels, is held against a
//! number. Everything else is refused: what is not understood is not judged.

use super::stored::Labels;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// How long it must hold before it fires, in milliseconds.
    pub hold: i64,
    /// Who is told.
    pub notify: Vec<String>,
    /// The metric whose newest values it reads.
    pub metric: String,
    /// Labels that series must have.
    pub matches: Labels,
    /// How far back, in milliseconds.
    pub window: i64,
    /// Labels by which values are summed up; else each series stands for itself.
    pub sum_by: Option<Vec<String>>,
    comparison: Comparison,
    limit: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
}

const COMPARISONS: [(&str, Comparison); 4] = [
    ("above", Comparison::Above),
    ("at_least", Comparison::AtLeast),
    ("below", Comparison::Below),
    ("at_most", Comparison::AtMost),
];

/// What a rule may say only in this way, where it says it.
const FIXED: [(&str, &str); 6] = [
    ("evaluator", r#""alert-dsl""#),
    ("keep_firing_for", r#""0s""#),
    ("no_data", r#""ok""#),
    ("no_data_for", r#""0s""#),
    ("labels", "{}"),
    ("annotations", "{}"),
];

impl Rule {
    /// Reads one as it is stored.
    ///
    /// # Errors
    /// Where it has another shape.
    pub fn read(rule: &Value) -> Result<Self> {
        let name = rule["name"].as_str().context("a rule without a name")?;
        Self::of(name, rule).with_context(|| format!("the reference cannot read rule {name}"))
    }

    fn of(name: &str, rule: &Value) -> Result<Self> {
        let fields = rule.as_object().context("it is no object")?;
        for (key, value) in fields {
            match FIXED.iter().find(|(fixed, _)| fixed == key) {
                Some((_, only)) => {
                    let said = value.to_string();
                    ensure!(said == *only, "{key} is {said}");
                }
                None => {
                    let known = ["name", "interval", "for", "notify", "condition"];
                    ensure!(known.contains(&key.as_str()), "it has {key}");
                }
            }
        }
        let hold = fields.get("for").map_or(Ok(0), millis)?;
        let notify = texts(&rule["notify"]).context("notify")?;
        let condition = rule["condition"].as_object().context("its condition is no object")?;
        let known = ["metric", "match", "fn", "window", "by", "combine"];
        for key in condition.keys() {
            let compares = COMPARISONS.iter().any(|(word, _)| word == key);
            ensure!(compares || known.contains(&key.as_str()), "its condition has {key}");
        }
        let function = condition.get("fn").is_none_or(|function| function == "last");
        ensure!(function, "fn is {}", rule["condition"]["fn"]);
        let (comparison, limit) = comparison(condition)?;
        Ok(Self {
            name: name.to_owned(),
            hold,
            notify,
            metric: condition["metric"].as_str().context("metric")?.to_owned(),
            matches: condition.get("match").map_or(Ok(Labels::new()), labels)?,
            window: condition.get("window").map_or(Ok(300_000), millis)?,
            sum_by: sum_by(condition)?,
            comparison,
            limit,
        })
    }

    /// Whether a value is one of which it warns.
    #[must_use]
    pub fn holds(&self, value: f64) -> bool {
        match self.comparison {
            Comparison::Above => value > self.limit,
            Comparison::AtLeast => value >= self.limit,
            Comparison::Below => value < self.limit,
            Comparison::AtMost => value <= self.limit,
        }
    }
}

fn comparison(condition: &Map<String, Value>) -> Result<(Comparison, f64)> {
    let mut found = None;
    for (word, comparison) in COMPARISONS {
        if let Some(limit) = condition.get(word) {
            ensure!(found.is_none(), "it compares twice");
            found = Some((comparison, limit.as_f64().with_context(|| format!("{word}: {limit}"))?));
        }
    }
    found.context("it compares with nothing")
}

fn sum_by(condition: &Map<String, Value>) -> Result<Option<Vec<String>>> {
    match (condition.get("by"), condition.get("combine").and_then(Value::as_str)) {
        (None, None) => Ok(None),
        (Some(by), Some("sum")) => texts(by).context("by").map(Some),
        (by, combine) => bail!("by is {by:?}, and combine {combine:?}"),
    }
}

fn texts(list: &Value) -> Result<Vec<String>> {
    let text = |one: &Value| one.as_str().map(str::to_owned).context("it is no text");
    list.as_array().context("it is no list")?.iter().map(text).collect()
}

fn labels(map: &Value) -> Result<Labels> {
    let label = |(key, value): (&String, &Value)| {
        Ok((key.clone(), value.as_str().context("a matcher that is no text")?.to_owned()))
    };
    map.as_object().context("match is no object")?.iter().map(label).collect()
}

/// A duration such as `1m30s`.
fn millis(text: &Value) -> Result<i64> {
    let text = text.as_str().context("a duration that is no text")?;
    let (mut total, mut number, mut unit) = (0, String::new(), String::new());
    for (at, letter) in text.char_indices() {
        match letter.is_ascii_digit() {
            true => number.push(letter),
            false => unit.push(letter),
        }
        let ends = text[at + letter.len_utf8()..].chars().next();
        if !unit.is_empty() && ends.is_none_or(|next| next.is_ascii_digit()) {
            let length = match unit.as_str() {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                _ => bail!("{text:?} is no duration"),
            };
            total += length * number.parse::<i64>().with_context(|| format!("{text:?}"))?;
            (number, unit) = (String::new(), String::new());
        }
    }
    ensure!(number.is_empty() && !text.is_empty(), "{text:?} is no duration");
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A rule as it is stored, with these changes.
    fn rule(changes: &Value, condition: &Value) -> Value {
        let mut rule = json!({
            "name": "r", "evaluator": "alert-dsl", "interval": "1s", "for": "2s",
            "keep_firing_for": "0s", "no_data": "ok", "no_data_for": "0s", "labels": {},
            "annotations": {}, "notify": ["pager"],
            "condition": {"metric": "m", "window": "1m30s", "above": 0.5},
        });
        for (part, changes) in [("", changes), ("condition", condition)] {
            let part = if part.is_empty() { &mut rule } else { &mut rule[part] };
            for (key, value) in changes.as_object().unwrap() {
                part[key] = value.clone();
            }
        }
        rule
    }

    #[test]
    fn rules_of_the_known_shapes_are_read() {
        let read = |condition| Rule::read(&rule(&json!({}), &condition)).unwrap();
        let plain = read(json!({}));
        assert_eq!((plain.hold, plain.window, plain.sum_by.as_ref()), (2_000, 90_000, None));
        assert!(plain.holds(0.6) && !plain.holds(0.5));
        let sum = read(json!({"match": {"wave": "1"}, "by": ["agent"], "combine": "sum"}));
        assert_eq!(sum.sum_by, Some(vec!["agent".to_owned()]));
        assert_eq!(sum.matches["wave"], "1");
    }

    #[test]
    fn others_are_refused_with_what_is_not_understood() {
        for (changes, condition, words) in [
            (json!({"keep_firing_for": "5s"}), json!({}), "keep_firing_for"),
            (json!({"labels": {"a": "b"}}), json!({}), "labels"),
            (json!({"severity": "error"}), json!({}), "severity"),
            (json!({"notify": null}), json!({}), "notify"),
            (json!({}), json!({"fn": "avg"}), "fn is \"avg\""),
            (json!({}), json!({"offset": "1m"}), "offset"),
            (json!({}), json!({"below": 3}), "compares twice"),
            (json!({}), json!({"by": ["a"], "combine": "max"}), "combine"),
            (json!({}), json!({"match": {"a": {"regex": "b"}}}), "matcher"),
            (json!({}), json!({"window": "1x"}), "no duration"),
        ] {
            let error = Rule::read(&rule(&changes, &condition)).unwrap_err();
            assert!(format!("{error:#}").contains(words), "{words}: {error:#}");
        }
    }
}
