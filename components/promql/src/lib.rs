//! PromQL in the language of `sentinel/alert-dsl`.
//!
//! [`condition`] turns the expression of an alerting rule into a condition that holds at the same
//! times, for the same labels, as Prometheus 2.42 has the alert active; or says everything that
//! stands in the way, each with its place. [`template`] does the same for words.
//!
//! | PromQL | becomes |
//! |---|---|
//! | a selector | `last` over the lookback of 5 minutes, `closed` |
//! | `rate`, `increase`, `delta`, `irate`, `idelta`, `deriv`, `predict_linear`, `changes`, `resets` | `fn: extrapolated_rate`, `extrapolated_increase`, `delta`, `instant_rate`, `instant_delta`, `slope`, `predict`, `changes`, `resets` |
//! | `avg_over_time` and its kin | `fn: avg`, `min`, `max`, `sum`, `count`, `last`, `stddev`, `stdvar`, `{quantile: q}` |
//! | arithmetic, comparisons, `bool`, `on`, `ignoring`, `group_left`, `group_right` | `add` ... `pow`, `above` ... `not_equals`, `bool`, `on`, `ignoring`, `many`, `include` |
//! | `and`, `or`, `unless` | the same words |
//! | `sum`, `avg`, `min`, `max`, `count`, `group` with `by` or `without` | `combine` |
//! | `abs`, `ceil`, `floor`, `round`, `sqrt`, `exp`, `ln`, `log2`, `log10`, `sgn`, unary minus | `apply` |
//! | `histogram_quantile`, `absent`, `absent_over_time`, `time`, `vector` | `histogram_quantile`, `absent`, `now`, `vector` |
//!
//! What has no counterpart: subqueries, `@`, negative offsets, windows beyond 7 days, selectors
//! without a metric's name, two matchers on one label, parameters that are no constants, what is
//! nested deeper or reads more than one condition may, and every other function. Markers of staleness have none either: a series that ends is there until it
//! leaves the window, as when Prometheus only misses its scrapes.
//!
//! The parser is written by hand: one command uses it, and it says the place of what it refuses.

mod bounds;
mod lex;
mod parse;
mod template;
mod translate;

use std::fmt;

use serde_json::{Value, json};

pub use template::template;

/// Something that stands in the way of a translation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// Byte offset into the text.
    pub at: usize,
    /// What and why.
    pub message: String,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The condition of an alerting rule with this expression.
///
/// # Errors
/// Everything that stands in the way; at least one obstacle.
pub fn condition(expression: &str) -> Result<Value, Vec<Obstacle>> {
    let parsed = parse::parse(expression).map_err(|obstacle| vec![obstacle])?;
    let mut translator = translate::Translator::default();
    let rows = translator.rows(&parsed);
    match rows {
        Some(rows) if translator.obstacles.is_empty() => match bounds::exceeded(&rows) {
            Some(message) => Err(vec![Obstacle { at: parsed.at, message }]),
            None => Ok(json!({ "holds": rows })),
        },
        _ => Err(translator.obstacles),
    }
}
