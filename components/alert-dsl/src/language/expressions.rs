//! Expressions in the published schema.

use schemars::JsonSchema;

use super::{By, Combine, Duration, Function, Limit, Match, Missed};

/// A number, `now` (unix seconds), or rows of labels and a value.
#[derive(JsonSchema)]
#[serde(untagged)]
pub(super) enum Expression {
    Number(f64),
    Now(Now),
    Arithmetic(Box<Arithmetic>),
    Set(Set),
    Compared(Box<Compared>),
    Vector(Vector),
    Absent(Absent),
    Grouped(Grouped),
    Applied(Applied),
    HistogramQuantile(HistogramQuantile),
    Measured(Measured),
}

#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(super) enum Now {
    /// The time of evaluation, in unix seconds.
    Now,
}

/// A value for each selected series, or each group of them.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("dependentRequired" = {"by": ["combine"], "combine": ["by"]}))]
pub(super) struct Measured {
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
    /// Labels by which series are grouped.
    by: Option<By>,
    /// How the values of a group become one.
    combine: Option<Combine>,
}

/// Rows that agree in the labels `by`, or in all labels but `without`, become one. Neither: all do.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Grouped {
    /// The rows.
    of: Box<Expression>,
    /// The labels that stay.
    by: Option<By>,
    /// The labels that go.
    without: Option<By>,
    /// How the values of a group become one.
    combine: Combine,
}

/// A function of each value.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Applied {
    /// The values.
    of: Box<Expression>,
    /// The function.
    apply: Apply,
}

#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum Apply {
    Abs,
    Ceil,
    Floor,
    /// To the nearest whole number, halves up.
    Round,
    Sqrt,
    Exp,
    Ln,
    Log2,
    Log10,
    /// 1, 0 or -1.
    Sign,
    Negate,
}

/// The quantile of each histogram: of the rows that differ in the label `le` alone.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HistogramQuantile {
    /// Cumulative buckets, or rates of them.
    of: Box<Expression>,
    /// Which, from 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    histogram_quantile: f64,
}

/// Two sides, row by row. Exactly one operation is written.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["add"]}, {"required": ["sub"]}, {"required": ["mul"]},
    {"required": ["div"]}, {"required": ["mod"]}, {"required": ["pow"]},
]))]
pub(super) struct Arithmetic {
    /// Sum.
    add: Option<[Expression; 2]>,
    /// Difference.
    sub: Option<[Expression; 2]>,
    /// Product.
    mul: Option<[Expression; 2]>,
    /// Quotient.
    div: Option<[Expression; 2]>,
    /// Remainder, with the sign of the first.
    #[serde(rename = "mod")]
    remainder: Option<[Expression; 2]>,
    /// Power.
    pow: Option<[Expression; 2]>,
    /// Only these labels have to agree; all of them unless said.
    on: Option<By>,
    /// All labels but these have to agree.
    ignoring: Option<By>,
    /// The side of which several rows may belong to one of the other.
    many: Option<Many>,
    /// Labels taken from that one row.
    include: Option<By>,
}

#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum Many {
    Left,
    Right,
}

/// The rows for which a comparison holds. Exactly one comparison is written.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["above"]}, {"required": ["at_least"]}, {"required": ["below"]},
    {"required": ["at_most"]}, {"required": ["equals"]}, {"required": ["not_equals"]},
]))]
pub(super) struct Compared {
    /// What is compared.
    value: Box<Expression>,
    /// Greater.
    above: Option<Limit>,
    /// Greater or the same.
    at_least: Option<Limit>,
    /// Less.
    below: Option<Limit>,
    /// Less or the same.
    at_most: Option<Limit>,
    /// The same.
    equals: Option<Limit>,
    /// Another; NaN is other than everything.
    not_equals: Option<Limit>,
    /// All rows, with 1 where the comparison holds and 0 where it does not.
    #[serde(rename = "bool")]
    as_number: Option<bool>,
    /// Only these labels have to agree; all of them unless said.
    on: Option<By>,
    /// All labels but these have to agree.
    ignoring: Option<By>,
    /// The side of which several rows may belong to one of the other.
    many: Option<Many>,
    /// Labels taken from that one row.
    include: Option<By>,
}

/// Rows by what they share. Exactly one operation is written.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["and"]}, {"required": ["or"]}, {"required": ["unless"]},
]))]
pub(super) struct Set {
    /// Rows of the first of which all others have a row with the same labels.
    #[schemars(length(min = 2))]
    and: Option<Vec<Expression>>,
    /// Rows of the first, and those of each other that have new labels.
    #[schemars(length(min = 2))]
    or: Option<Vec<Expression>>,
    /// Rows of the first of which none of the others has a row with the same labels.
    #[schemars(length(min = 2))]
    unless: Option<Vec<Expression>>,
    /// Only these labels have to agree; all of them unless said.
    on: Option<By>,
    /// All labels but these have to agree.
    ignoring: Option<By>,
}

/// A number as a row without labels.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Vector {
    /// The number.
    vector: Box<Expression>,
}

/// A row of the value 1 for what is absent.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Absent {
    /// What is missed.
    absent: Missed,
}
