//! From a text to a [`Condition`], with everything that is wrong said at once.

mod expression;
pub(crate) mod measure;

use serde_json::Value;

use crate::condition::{
    Absent, Combine, Comparison, Condition, Grouping, Known, Measure, Threshold,
};
use crate::expression::{Arithmetic, Expression, Keys, Matching, Shape};
use crate::fields::{Fields, Problems, quoted};
use crate::{duration, warnings};
use measure::{DEFAULT_WINDOW_MS, MEASURE};

/// Deepest nesting of `all`, `any` and `not`.
const MAX_DEPTH: usize = 8;
/// Most thresholds and absences in one condition.
pub(crate) const MAX_LEAVES: usize = 100;
/// Longest window, offset and memory of groups: 7 days.
pub(crate) const MAX_SPAN_MS: u64 = 7 * 86_400_000;
/// How long `absent` remembers groups where nothing is written: 1 day.
const DEFAULT_SEEN_WITHIN_MS: u64 = 86_400_000;

const ABSENT: &str = "absent";
const COMBINERS: [&str; 5] = ["all", "any", "not", ABSENT, "holds"];

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

/// A measure, what it is divided by, and its groups.
type Measured = (Measure, Option<(Measure, Combine)>, Option<Grouping>);

/// Whether there is a comparison at every leaf, or an absence.
fn is_negatable(condition: &Condition) -> bool {
    match condition {
        Condition::Holds(Expression::Compared { as_number, .. }) => !as_number,
        Condition::Holds(_) => false,
        Condition::All(members) | Condition::Any(members) => members.iter().all(is_negatable),
        Condition::Not(member) => is_negatable(member),
        Condition::Threshold(_) | Condition::Absent(_) => true,
    }
}

struct Reader<'p> {
    problems: &'p mut Problems,
    leaves: usize,
}

impl Reader<'_> {
    fn condition(&mut self, value: &Value, path: &str, depth: usize) -> Option<Condition> {
        let expected = "a condition: an object with `metric` or `value` and a comparison, \
                        `absent`, `holds`, `all`, `any` or `not`";
        let fields = Fields::of(value, path, expected, self.problems)?;
        let mut combiners = COMBINERS.iter().filter(|key| fields.has(key));
        let Some(&combiner) = combiners.next() else {
            return self.comparing(&fields);
        };
        for key in fields.keys().filter(|key| *key != combiner) {
            let said = format!("`{combiner}` stands alone; write this in a condition of its own");
            self.problems.error(fields.at(key), said);
        }
        let (member, path) = fields.get(combiner)?;
        if combiner == "holds" {
            let rows = self.expression(member, &path, 0)?;
            if rows.shape() == Shape::Number {
                let said = "is one number; a condition needs rows: write {\"vector\": ...}";
                self.problems.error(path, said);
                return None;
            }
            return Some(Condition::Holds(rows));
        }
        if combiner == ABSENT {
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
                if !is_negatable(&member) {
                    let said = "only a comparison can be negated; write `unless` in `holds`";
                    self.problems.error(path, said);
                    return None;
                }
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

    /// A comparison: of a measure with a number, or of expressions.
    fn comparing(&mut self, fields: &Fields<'_>) -> Option<Condition> {
        if fields.has("value") {
            return self.compared(fields, 0).map(Condition::Holds);
        }
        self.leaves += 1;
        let written = Comparison::ALL.iter().find(|(word, _)| fields.has(word));
        let limit = written.and_then(|(word, comparison)| Some((fields.get(word)?, *comparison)));
        match limit {
            Some(((limit, path), comparison)) if limit.is_object() || limit == "now" => {
                let right = self.expression(limit, &path, 1);
                let (measure, divisor, grouping) = self.measured(fields)?;
                self.comparison_word(fields)?;
                let matching = || Matching { keys: Keys::all(), many: None, include: Vec::new() };
                let mut left = Expression::Measured(measure, grouping.clone());
                if let (Some((measure, combine)), Some(grouping)) = (divisor, grouping) {
                    let divisor = Grouping { combine, ..grouping };
                    let sides = Box::new([left, Expression::Measured(measure, Some(divisor))]);
                    left =
                        Expression::Arithmetic { op: Arithmetic::Div, sides, matching: matching() };
                }
                let sides = Box::new([left, right?]);
                let matching = matching();
                let compared =
                    Expression::Compared { comparison, as_number: false, sides, matching };
                Some(Condition::Holds(compared))
            }
            _ => self.threshold(fields).map(Condition::Threshold),
        }
    }

    fn threshold(&mut self, fields: &Fields<'_>) -> Option<Threshold> {
        let measured = self.measured(fields);
        let comparison = self.comparison(fields);
        let ((measure, divisor, grouping), (comparison, limit)) = (measured?, comparison?);
        Some(Threshold { measure, divisor, grouping, comparison, limit })
    }

    /// What stands before a comparison.
    fn measured(&mut self, fields: &Fields<'_>) -> Option<Measured> {
        let mut known = MEASURE.to_vec();
        known.extend(["by", "combine", "divided_by"]);
        known.extend(Comparison::ALL.map(|(name, _)| name));
        fields.only(&known, self.problems);
        let measure = self.measure(fields);
        let grouping = self.grouping(fields);
        let divisor = self.divisor(fields, grouping.as_ref());
        Some((measure?, divisor?, grouping?))
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

    fn combine(&mut self, fields: &Fields<'_>) -> Option<Combine> {
        self.word(fields, "combine", &Combine::ALL)
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

    /// Which comparison is written: exactly one.
    fn comparison_word(&mut self, fields: &Fields<'_>) -> Option<(&'static str, Comparison)> {
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
        Some((name, *comparison))
    }

    fn comparison(&mut self, fields: &Fields<'_>) -> Option<(Comparison, f64)> {
        let (name, comparison) = self.comparison_word(fields)?;
        let (value, path) = fields.get(name)?;
        let limit = value.as_f64().filter(|limit| limit.is_finite());
        if limit.is_none() {
            self.problems.error(path, format!("{} is not a number", quoted(value)));
        }
        limit.map(|limit| (comparison, limit))
    }

    fn absent(&mut self, value: &Value, path: &str) -> Option<Absent> {
        let fields = Fields::of(value, path, "an object with `metric`", self.problems)?;
        fields.only(&["metric", "match", "window", "closed", "by", "seen_within"], self.problems);
        let closed = self.flag(&fields, "closed");
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
        Some(Absent { selector: selector?, window_ms, closed: closed?, groups })
    }
}
