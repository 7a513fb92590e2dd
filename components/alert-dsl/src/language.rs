//! The language as a JSON Schema: these types are its published form, for editors and people.
//!
//! Conditions are read by hand ([`crate::read`]), so that all problems are told at once; tests
//! hold the two against one another.

#![allow(dead_code, reason = "the schema of these types is their use")]

mod expressions;

use schemars::JsonSchema;
use serde_json::Value;

use expressions::{Compared, Expression};

/// When something is wrong: a threshold, something absent, or a combination of conditions.
#[derive(JsonSchema)]
#[serde(untagged)]
enum Condition {
    All(All),
    Any(Any),
    Not(Not),
    Absent(Absent),
    Holds(Holds),
    Compared(Box<Compared>),
    Threshold(Box<Threshold>),
}

/// Holds for each row of an expression, as an alerting rule of Prometheus does.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Holds {
    /// The rows.
    holds: Expression,
}

/// Holds where every member holds, for labels that agree: each combination of the members'
/// instances that agree on the labels they share is one instance, with the labels of all. Value
/// and words come from the first.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct All {
    /// The members.
    #[schemars(length(min = 1))]
    all: Vec<Condition>,
}

/// Holds where a member holds: the instances of all of them; of two with the same labels the
/// first.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Any {
    /// The members.
    #[schemars(length(min = 1))]
    any: Vec<Condition>,
}

/// Holds where there is data and the member does not hold. `not` of `all` is `any` of `not`,
/// and the other way round.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Not {
    /// The member.
    not: Box<Condition>,
}

/// Holds where series have no samples.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Absent {
    /// What is missed.
    absent: Missed,
}

/// What is missed.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("dependentRequired" = {"seen_within": ["by"]}))]
struct Missed {
    /// The metric's name.
    #[schemars(regex(pattern = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$"))]
    metric: String,
    /// Conditions on labels.
    #[serde(rename = "match")]
    matchers: Option<Match>,
    /// How long there are no samples; 5m unless said.
    window: Option<Duration>,
    /// Whether a sample at the very start of the window counts.
    closed: Option<bool>,
    /// Looks at each group by itself: a group that had samples within `seen_within` and has none
    /// in the window is absent. Without it, the whole selection is, with the labels of its
    /// plain matchers.
    by: Option<By>,
    /// How far back a group is remembered, longer than the window; 1d unless said. Only with
    /// `by`.
    seen_within: Option<Duration>,
}

/// Holds where a measured value is beyond a limit. Exactly one comparison is written.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["above"]}, {"required": ["at_least"]}, {"required": ["below"]},
    {"required": ["at_most"]}, {"required": ["equals"]}, {"required": ["not_equals"]},
], "dependentRequired" = {"by": ["combine"], "combine": ["by"], "divided_by": ["by"]}))]
struct Threshold {
    /// The metric's name.
    #[schemars(regex(pattern = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$"))]
    metric: String,
    /// Conditions on labels.
    #[serde(rename = "match")]
    matchers: Option<Match>,
    /// What is made of the samples of a series; `last` unless said.
    #[serde(rename = "fn")]
    function: Option<Function>,
    /// How far back samples are looked at; 5m unless said.
    window: Option<Duration>,
    /// How long before now the window ends; 0s unless said.
    offset: Option<Duration>,
    /// Whether a sample at the very start of the window counts, as in PromQL before Prometheus 3.
    closed: Option<bool>,
    /// Labels by which series are grouped; each group is an instance with these labels. An
    /// empty list makes one group of all. Without it every series is an instance.
    by: Option<By>,
    /// How the values of a group become one.
    combine: Option<Combine>,
    /// Divides by another measured value of the same group. A group that has only one of the
    /// two has no value.
    divided_by: Option<Divisor>,
    /// Holds where the value is greater.
    above: Option<Limit>,
    /// Holds where the value is greater or the same.
    at_least: Option<Limit>,
    /// Holds where the value is less.
    below: Option<Limit>,
    /// Holds where the value is less or the same.
    at_most: Option<Limit>,
    /// Holds where the value is the same.
    equals: Option<Limit>,
    /// Holds where the value is another.
    not_equals: Option<Limit>,
}

/// What a value is held against: a number, or another expression, row by row of the same labels.
#[derive(JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum Limit {
    Number(f64),
    Expression(Box<Expression>),
}

/// What a value is divided by.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Divisor {
    /// The metric's name.
    #[schemars(regex(pattern = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$"))]
    metric: String,
    /// Conditions on labels.
    #[serde(rename = "match")]
    matchers: Option<Match>,
    /// What is made of the samples of a series; `last` unless said.
    #[serde(rename = "fn")]
    function: Option<Function>,
    /// How far back samples are looked at; 5m unless said.
    window: Option<Duration>,
    /// How long before now the window ends; 0s unless said.
    offset: Option<Duration>,
    /// Whether a sample at the very start of the window counts, as in PromQL before Prometheus 3.
    closed: Option<bool>,
    /// How the values of a group become one; as those of the dividend unless said.
    combine: Option<Combine>,
}

/// What is made of the samples of one series in the window.
#[derive(JsonSchema)]
#[serde(untagged)]
enum Function {
    Named(Named),
    Quantile(Quantile),
    Predict(Predict),
}

#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Named {
    /// The newest.
    Last,
    /// The mean.
    Avg,
    /// The smallest.
    Min,
    /// The greatest.
    Max,
    /// The sum.
    Sum,
    /// How many there are.
    Count,
    /// How much a counter grew, resets corrected; needs two samples.
    Increase,
    /// How fast a counter grew, per second; needs two samples.
    Rate,
    /// As `increase`, extrapolated to the edges of the window: PromQL's `increase`.
    ExtrapolatedIncrease,
    /// As `rate`, extrapolated to the edges of the window: PromQL's `rate`.
    ExtrapolatedRate,
    /// How much a gauge changed, extrapolated to the edges of the window.
    Delta,
    /// How fast a counter grew between the last two samples, per second: PromQL's `irate`.
    InstantRate,
    /// The difference of the last two samples: PromQL's `idelta`.
    InstantDelta,
    /// The slope per second of the line through the samples: PromQL's `deriv`.
    Slope,
    /// How often the value changed.
    Changes,
    /// How often the value fell.
    Resets,
    /// The standard deviation.
    Stddev,
    /// Its square.
    Stdvar,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct Predict {
    /// The value of the line through the samples so long after now: PromQL's `predict_linear`.
    predict: Duration,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct Quantile {
    /// The value below which this part of the samples lies, interpolated between the closest.
    #[schemars(range(min = 0, max = 1))]
    quantile: f64,
}

/// How the values of a group become one. NaN is passed over by `min` and `max`; `count` counts
/// series.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Combine {
    Sum,
    Avg,
    Min,
    Max,
    Count,
}

/// Conditions on labels, by key. A label that is absent counts as the empty text.
#[derive(JsonSchema)]
#[schemars(transparent, extend(
    "maxProperties" = 32,
    "propertyNames" = {"pattern": "^(?!__)[a-zA-Z_][a-zA-Z0-9_]*$"},
))]
struct Match(std::collections::BTreeMap<String, Matcher>);

/// A condition on one label. A plain text must be the value.
#[derive(JsonSchema)]
#[serde(untagged)]
enum Matcher {
    Equal(String),
    Other(OtherMatcher),
}

#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum OtherMatcher {
    /// A regular expression (RE2) that matches the whole value.
    Regex(String),
    /// A text that the value is not.
    Not(String),
    /// A regular expression (RE2) that does not match the whole value.
    NotRegex(String),
}

/// Label keys.
#[derive(JsonSchema)]
#[schemars(transparent, extend(
    "maxItems" = 16,
    "uniqueItems" = true,
    "items" = {"type": "string", "pattern": "^(?!__)[a-zA-Z_][a-zA-Z0-9_]*$"},
))]
struct By(Vec<String>);

/// A duration such as 90s, 5m, 1h30m or 7d; at most 7d.
#[derive(JsonSchema)]
#[schemars(transparent)]
struct Duration(#[schemars(regex(pattern = r"^([0-9]+(w|d|h|ms|m|s))+$"))] String);

/// The JSON Schema (2020-12) of a condition; `schema.json` beside the sources is its text.
#[must_use]
pub fn json_schema() -> Value {
    let mut schema = schemars::schema_for!(Condition).to_value();
    without_null(&mut schema);
    schema
}

/// What is not written is left out, never null.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Array(types)) = fields.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_mut_slice() {
                    let only = only.take();
                    fields.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(choices)) = fields.get_mut("anyOf") {
                choices.retain(|choice| choice["type"] != "null");
                if let [Value::Object(only)] = choices.as_mut_slice() {
                    let only = std::mem::take(only);
                    fields.remove("anyOf");
                    fields.extend(only);
                }
            }
            fields.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}
