//! The rules as they are written.

use schemars::JsonSchema;
use sentinel_sdk::Glob;
use serde::Deserialize;

/// Rules in the order in which they are applied; each sees what the one before it left.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The rules. An empty list lets everything pass as it is.
    pub rules: Vec<Rule>,
}

/// One rule: an object with one key, the rule's verb.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Rule {
    /// Drops the selected rows.
    Drop(Choose),
    /// Drops all rows but the selected.
    Keep(Choose),
    /// Gives selected metrics another name.
    Rename(Rename),
    /// Sets a label out of other labels, by a regular expression.
    Relabel(Relabel),
    /// Sets a label.
    SetLabel(SetLabel),
    /// Takes a label away.
    DropLabel(DropLabel),
    /// Gives a label another key.
    RenameLabel(RenameLabel),
    /// Multiplies and shifts values.
    Scale(Scale),
    /// Turns cumulative histograms into quantiles and an average.
    FlattenHistogram(FlattenHistogram),
}

/// Which rows a rule is about: all that fulfil every condition given.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Select {
    /// The whole metric name, with `*` for any text and `?` for one character.
    pub name: Option<Glob>,
    /// A regular expression that matches the whole metric name.
    pub name_regex: Option<String>,
    /// Conditions on labels.
    pub labels: Vec<Matcher>,
}

/// A condition on one label. A label that is absent counts as the empty text.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Matcher {
    /// The label's key.
    pub label: String,
    /// How to compare; `equal` unless said.
    #[serde(default)]
    pub op: Op,
    /// The text to compare with, or a regular expression that matches the whole value.
    pub value: String,
}

/// How a matcher compares.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// The value is the text.
    #[default]
    Equal,
    /// The value is not the text.
    NotEqual,
    /// The value matches the regular expression.
    Regex,
    /// The value does not match the regular expression.
    NotRegex,
}

/// A rule that is nothing but a choice.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Choose {
    /// Which rows.
    pub select: Select,
}

/// Gives selected metrics another name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// Which rows; all of them unless said.
    #[serde(default)]
    pub select: Select,
    /// A regular expression that matches the whole name; names that it does not match stay.
    /// `(.*)` unless said.
    #[serde(default = "anything")]
    pub pattern: String,
    /// The new name; `${1}` stands for the pattern's first group. A name that would be malformed
    /// is not given.
    pub to: String,
}

/// Sets a label out of other labels: as Prometheus' relabelling with the action `replace`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Relabel {
    /// Which rows; all of them unless said.
    #[serde(default)]
    pub select: Select,
    /// Labels whose values are joined; `__name__` is the metric name.
    #[schemars(length(min = 1))]
    pub source_labels: Vec<String>,
    /// What stands between the values; `;` unless said.
    #[serde(default = "semicolon")]
    pub separator: String,
    /// A regular expression that matches the whole joined text; rows that it does not match
    /// stay as they are. `(.*)` unless said.
    #[serde(default = "anything")]
    pub regex: String,
    /// The label to set; `__name__` is the metric name.
    pub target_label: String,
    /// Its new value; `${1}` stands for the first group. An empty result takes the label away.
    #[serde(default = "first_group")]
    pub replacement: String,
}

/// Sets a label, whether or not a row has it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetLabel {
    /// Which rows; all of them unless said.
    #[serde(default)]
    pub select: Select,
    /// The label's key.
    pub label: String,
    /// Its value.
    pub value: String,
}

/// Takes a label away where it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DropLabel {
    /// Which rows; all of them unless said.
    #[serde(default)]
    pub select: Select,
    /// The label's key.
    pub label: String,
}

/// Gives a label another key; a label that already has that key gives way.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameLabel {
    /// Which rows; all of them unless said.
    #[serde(default)]
    pub select: Select,
    /// The label's key.
    pub from: String,
    /// The new key.
    pub to: String,
}

/// Makes each value `value × factor + offset`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Which rows; all of them unless said.
    #[serde(default)]
    pub select: Select,
    /// The factor; 1 unless said.
    #[serde(default = "one")]
    pub factor: f64,
    /// What is added; 0 unless said.
    #[serde(default)]
    pub offset: f64,
}

/// Turns cumulative histograms into quantiles and an average.
///
/// The rows `x_bucket{le}` of one histogram and time are replaced by `x{quantile}`, linearly
/// interpolated in the bucket that holds it, and by `x_avg`, sum by count. Both speak of
/// everything that was observed since the counters began. A histogram without its `+Inf` bucket
/// in the batch, or with a label `quantile`, stays as it is; one without observations yields
/// nothing.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlattenHistogram {
    /// Which bucket rows, by their full name (`*_bucket`); all of them unless said.
    #[serde(default)]
    pub select: Select,
    /// Quantiles to make, each from 0 to 1; 0.5, 0.9 and 0.99 unless said.
    #[serde(default = "quantiles")]
    pub quantiles: Vec<f64>,
    /// Whether to make the average; yes unless said.
    #[serde(default = "yes")]
    pub average: bool,
    /// Whether `x_sum` and `x_count` stay; yes unless said.
    #[serde(default = "yes")]
    pub keep_sum_and_count: bool,
}

fn anything() -> String {
    "(.*)".to_owned()
}

fn semicolon() -> String {
    ";".to_owned()
}

fn first_group() -> String {
    "${1}".to_owned()
}

fn one() -> f64 {
    1.0
}

fn yes() -> bool {
    true
}

fn quantiles() -> Vec<f64> {
    vec![0.5, 0.9, 0.99]
}
