//! From a text to a [`Condition`], with everything that is wrong said at once.

use sentinel_sdk::series::{Aggregate, Selector};
use sentinel_sdk::{is_label_key, is_metric_name};
use serde_json::Value;

use crate::condition::{
    Absent, Combine, Comparison, Condition, Grouping, Known, Measure, Threshold,
};
use crate::duration;
use crate::fields::{Fields, Problems, quoted, quoted_text};
use crate::{matchers, warnings};

/// Deepest nesting of `all`, `any` and `not`.
const MAX_DEPTH: usize = 8;
/// Most thresholds and absences in one condition.
pub(crate) const MAX_LEAVES: usize = 100;
/// Most labels in `by`.
const MAX_BY: usize = 16;
/// Longest window, offset and memory of groups: 7 days.
pub(crate) const MAX_SPAN_MS: u64 = 7 * 86_400_000;
/// A window where none is written: 5 minutes.
const DEFAULT_WINDOW_MS: u64 = 300_000;
/// How long `absent` remembers groups where nothing is written: 1 day.
const DEFAULT_SEEN_WITHIN_MS: u64 = 86_400_000;

const COMBINERS: [&str; 4] = ["all", "any", "not", "absent"];
const MEASURE: [&str; 5] = ["metric", "match", "fn", "window", "offset"];
const FUNCTIONS: [(&str, Aggregate); 8] = [
    ("last", Aggregate::Last),
    ("avg", Aggregate::Avg),
    ("min", Aggregate::Min),
    ("max", Aggregate::Max),
    ("sum", Aggregate::Sum),
    ("count", Aggregate::Count),
    ("increase", Aggregate::Increase),
    ("rate", Aggregate::Rate),
];

/// Reads a condition. It is sound only if `problems` holds no errors.
pub(crate) fn condition(text: &str, problems: &mut Problems) -> Option<Condition> {
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            problems.error("", format!("not JSON: {error}"));
            return None;
        }
    };
    let mut reader = Reader { problems, leaves: 0 };
    let condition = reader.condition(&value, "", 0);
    if reader.leaves > MAX_LEAVES {
        let said = format!(
            "{} thresholds and absences; at most {MAX_LEAVES} are allowed: make several rules",
            reader.leaves
        );
        problems.error("", said);
    }
    condition
}

struct Reader<'p> {
    problems: &'p mut Problems,
    leaves: usize,
}

impl Reader<'_> {
    fn condition(&mut self, value: &Value, path: &str, depth: usize) -> Option<Condition> {
        let expected = "a condition: an object with `metric` and a comparison, `absent`, `all`, \
                        `any` or `not`";
        let fields = Fields::of(value, path, expected, self.problems)?;
        let mut combiners = COMBINERS.iter().filter(|key| fields.has(key));
        let Some(&combiner) = combiners.next() else {
            self.leaves += 1;
            return self.threshold(&fields).map(Condition::Threshold);
        };
        for key in fields.keys().filter(|key| *key != combiner) {
            let said = format!("`{combiner}` stands alone; write this in a condition of its own");
            self.problems.error(fields.at(key), said);
        }
        let (member, path) = fields.get(combiner)?;
        if combiner == "absent" {
            self.leaves += 1;
            return self.absent(member, &path).map(Condition::Absent);
        }
        if depth == MAX_DEPTH {
            let said = format!("nested deeper than {MAX_DEPTH}; split the rule");
            self.problems.error(path, said);
            return None;
        }
        match combiner {
            "not" => {
                let member = self.condition(member, &path, depth + 1)?;
                Some(Condition::Not(Box::new(member)))
            }
            "all" => {
                let members = self.members(member, &path, depth)?;
                warnings::of_bare_members(&members, &path, self.problems);
                Some(Condition::All(members))
            }
            _ => self.members(member, &path, depth).map(Condition::Any),
        }
    }

    fn members(&mut self, value: &Value, path: &str, depth: usize) -> Option<Vec<Condition>> {
        let Value::Array(members) = value else {
            let said = format!("{} is not a list of conditions", quoted(value));
            self.problems.error(path, said);
            return None;
        };
        if members.is_empty() {
            self.problems.error(path, "is empty; write at least one condition");
            return None;
        }
        // Each member is read, whatever is wrong with those before it.
        let read: Vec<_> = members
            .iter()
            .enumerate()
            .map(|(at, member)| self.condition(member, &format!("{path}/{at}"), depth + 1))
            .collect();
        read.into_iter().collect()
    }

    fn threshold(&mut self, fields: &Fields<'_>) -> Option<Threshold> {
        let mut known = MEASURE.to_vec();
        known.extend(["by", "combine", "divided_by"]);
        known.extend(Comparison::ALL.map(|(name, _)| name));
        fields.only(&known, self.problems);
        let measure = self.measure(fields);
        let grouping = self.grouping(fields);
        let divisor = self.divisor(fields, grouping.as_ref());
        let comparison = self.comparison(fields);
        let (comparison, limit) = comparison?;
        Some(Threshold {
            measure: measure?,
            divisor: divisor?,
            grouping: grouping?,
            comparison,
            limit,
        })
    }

    fn measure(&mut self, fields: &Fields<'_>) -> Option<Measure> {
        let selector = self.selector(fields);
        let function = self.function(fields);
        let window = self.span(fields, "window", DEFAULT_WINDOW_MS, 1);
        let offset = self.span(fields, "offset", 0, 0);
        let (selector, function, window_ms) = (selector?, function?, window?);
        let measure = Measure { selector, function, window_ms, offset_ms: offset? };
        warnings::of_counters(&measure, fields, self.problems);
        Some(measure)
    }

    fn selector(&mut self, fields: &Fields<'_>) -> Option<Selector> {
        let matchers = match fields.get("match") {
            Some((value, path)) => matchers::read(value, &path, self.problems),
            None => Some(Vec::new()),
        };
        let Some((name, path)) = fields.text("metric", self.problems) else {
            if !fields.has("metric") {
                self.problems.error(&*fields.path, "`metric` is missing; name the metric to read");
            }
            return None;
        };
        if !is_metric_name(name) {
            let said = format!(
                "{} is no metric name; use letters, digits, `_` and `:`, no digit first; \
                 conditions on labels stand in `match`",
                quoted_text(name)
            );
            self.problems.error(path, said);
            return None;
        }
        Some(Selector { name: name.to_owned(), matchers: matchers? })
    }

    fn function(&mut self, fields: &Fields<'_>) -> Option<Aggregate> {
        let Some((value, path)) = fields.get("fn") else {
            return Some(Aggregate::Last);
        };
        match value {
            Value::String(name) => {
                let found = FUNCTIONS.iter().find(|(known, _)| known == name);
                if found.is_none() {
                    let known = FUNCTIONS.map(|(known, _)| known).join(", ");
                    let said = format!(
                        "{} is no function; write one of {known}, or {{\"quantile\": 0.95}}",
                        quoted_text(name)
                    );
                    self.problems.error(path, said);
                }
                found.map(|(_, function)| *function)
            }
            Value::Object(_) => {
                let fields = Fields::of(value, &path, "a function", self.problems)?;
                fields.only(&["quantile"], self.problems);
                let Some((value, path)) = fields.get("quantile") else {
                    self.problems.error(path, "`quantile` is missing; write {\"quantile\": 0.95}");
                    return None;
                };
                let quantile = value.as_f64().filter(|q| (0.0..=1.0).contains(q));
                if quantile.is_none() {
                    let said = format!("{} is no number from 0 to 1", quoted(value));
                    self.problems.error(path, said);
                }
                quantile.map(Aggregate::Quantile)
            }
            other => {
                let said = format!("{} is no function; write for example \"avg\"", quoted(other));
                self.problems.error(path, said);
                None
            }
        }
    }

    /// A duration from `least` milliseconds to [`MAX_SPAN_MS`].
    fn span(&mut self, fields: &Fields<'_>, key: &str, unsaid: u64, least: u64) -> Option<u64> {
        let Some((value, path)) = fields.get(key) else {
            return Some(unsaid);
        };
        let span = value.as_str().and_then(duration::parse);
        let Some(span) = span else {
            let said = match value {
                Value::Number(number) => {
                    format!("{number} has no unit; write for example \"{number}s\"")
                }
                other => format!(
                    "{} is no duration; write numbers with units, largest first, such as 90s, 5m \
                     or 1h30m",
                    quoted(other)
                ),
            };
            self.problems.error(path, said);
            return None;
        };
        if span < least {
            self.problems.error(path, "is no time at all; write for example 5m");
            return None;
        }
        if span > MAX_SPAN_MS {
            let said = format!("{} is longer than 7d, the longest", quoted(value));
            self.problems.error(path, said);
            return None;
        }
        Some(span)
    }

    /// The outer `None` is an error; the inner one no grouping.
    #[expect(clippy::option_option, reason = "an error that was said, and nothing written")]
    fn grouping(&mut self, fields: &Fields<'_>) -> Option<Option<Grouping>> {
        let by = fields.get("by").map(|(value, path)| self.by(value, &path));
        let combine = self.combine(fields);
        match (by, fields.has("combine")) {
            (None, false) => Some(None),
            (None, true) => {
                let said = "`combine` needs `by`: name the labels to group by, or write `by: []` \
                            for one group of all";
                self.problems.error(fields.at("combine"), said);
                None
            }
            (Some(_), false) => {
                let said = "`by` needs `combine`: say how the values of a group become one: sum, \
                            avg, min, max or count";
                self.problems.error(fields.at("by"), said);
                None
            }
            (Some(by), true) => Some(Some(Grouping { by: by?, combine: combine? })),
        }
    }

    /// Label keys, sorted.
    fn by(&mut self, value: &Value, path: &str) -> Option<Vec<String>> {
        let Value::Array(items) = value else {
            let said =
                format!("{} is not a list of labels; write for example [agent]", quoted(value));
            self.problems.error(path, said);
            return None;
        };
        let errors = self.problems.errors.len();
        if items.len() > MAX_BY {
            let said = format!("{} labels; at most {MAX_BY} are allowed", items.len());
            self.problems.error(path, said);
        }
        let mut by: Vec<String> = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            let path = format!("{path}/{at}");
            match item.as_str().filter(|key| is_label_key(key)) {
                None => {
                    let said = format!(
                        "{} is no label; use letters, digits and `_`, no digit and no `__` first",
                        quoted(item)
                    );
                    self.problems.error(path, said);
                }
                Some(key) if by.iter().any(|known| known == key) => {
                    self.problems.error(path, format!("{key:?} stands twice"));
                }
                Some(key) => by.push(key.to_owned()),
            }
        }
        by.sort_unstable();
        (self.problems.errors.len() == errors).then_some(by)
    }

    fn combine(&mut self, fields: &Fields<'_>) -> Option<Combine> {
        let (value, path) = fields.get("combine")?;
        let found =
            value.as_str().and_then(|name| Combine::ALL.iter().find(|(known, _)| *known == name));
        if found.is_none() {
            let known = Combine::ALL.map(|(known, _)| known).join(", ");
            let said = format!("{} is not one of {known}", quoted(value));
            self.problems.error(path, said);
        }
        found.map(|(_, combine)| *combine)
    }

    /// The outer `None` is an error; the inner one no divisor.
    #[expect(clippy::option_option, reason = "an error that was said, and nothing written")]
    fn divisor(
        &mut self,
        fields: &Fields<'_>,
        grouping: Option<&Option<Grouping>>,
    ) -> Option<Option<(Measure, Combine)>> {
        let Some((value, path)) = fields.get("divided_by") else {
            return Some(None);
        };
        if !fields.has("by") {
            let said = "`divided_by` needs `by` and `combine`: the labels on which both sides are \
                        joined";
            self.problems.error(&*path, said);
        }
        let expected = "an object with `metric`";
        let fields = Fields::of(value, &path, expected, self.problems)?;
        let mut known = MEASURE.to_vec();
        known.push("combine");
        fields.only(&known, self.problems);
        let own = self.combine(&fields);
        let measure = self.measure(&fields);
        let combine = if fields.has("combine") { own? } else { grouping?.as_ref()?.combine };
        Some(Some((measure?, combine)))
    }

    fn comparison(&mut self, fields: &Fields<'_>) -> Option<(Comparison, f64)> {
        let known = Comparison::ALL.map(|(name, _)| name).join(", ");
        let mut written = Comparison::ALL.iter().filter(|(name, _)| fields.has(name));
        let Some((name, comparison)) = written.next() else {
            let said = format!("no comparison; write one of {known}, for example `above: 0.9`");
            self.problems.error(&*fields.path, said);
            return None;
        };
        for (other, _) in written {
            let said = format!(
                "a second comparison beside `{name}`; join two conditions with `all` or `any`"
            );
            self.problems.error(fields.at(other), said);
        }
        let (value, path) = fields.get(name)?;
        let limit = value.as_f64().filter(|limit| limit.is_finite());
        if limit.is_none() {
            self.problems.error(path, format!("{} is not a number", quoted(value)));
        }
        limit.map(|limit| (*comparison, limit))
    }

    fn absent(&mut self, value: &Value, path: &str) -> Option<Absent> {
        let fields = Fields::of(value, path, "an object with `metric`", self.problems)?;
        fields.only(&["metric", "match", "window", "by", "seen_within"], self.problems);
        let selector = self.selector(&fields);
        let window = self.span(&fields, "window", DEFAULT_WINDOW_MS, 1);
        let within = self.span(&fields, "seen_within", DEFAULT_SEEN_WITHIN_MS, 1);
        let by = fields.get("by").map(|(value, path)| self.by(value, &path));
        if by.is_none() && fields.has("seen_within") {
            let said = "`seen_within` needs `by`: it says how long groups are remembered";
            self.problems.error(fields.at("seen_within"), said);
            return None;
        }
        let (window_ms, within_ms) = (window?, within?);
        if by.is_some() && within_ms <= window_ms {
            let said = format!(
                "groups are remembered for {}, which must be longer than the window, {}",
                duration::words(within_ms),
                duration::words(window_ms)
            );
            let key = if fields.has("seen_within") { "seen_within" } else { "window" };
            self.problems.error(fields.at(key), said);
            return None;
        }
        let groups = match by {
            Some(by) => Some(Known { by: by?, within_ms }),
            None => None,
        };
        Some(Absent { selector: selector?, window_ms, groups })
    }
}
