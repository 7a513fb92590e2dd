//! What holds, in words for people.

use sentinel_sdk::series::{Aggregate, Estimate, MatchOp, Selector};

use crate::condition::{Absent, Combine, Comparison, Function, Measure, Threshold};
use crate::duration;
use crate::expression::{Arithmetic, Expression, SetOp};
use crate::read::measure;

/// Longest summary, in bytes.
pub(crate) const MAX_SUMMARY_BYTES: usize = 1_024;
/// Digits of a number that are shown.
const DIGITS: i32 = 4;

/// What stands before and after the value.
pub(crate) fn of_threshold(threshold: &Threshold, negated: bool) -> (String, String) {
    let combine = threshold.grouping.as_ref().map(|grouping| grouping.combine);
    let mut before = of_measure(&threshold.measure, combine);
    if let Some((divisor, combine)) = &threshold.divisor {
        before.push_str(&format!(" divided by {}", of_measure(divisor, Some(*combine))));
    }
    before.push_str(" is ");
    let comparison = of_comparison(threshold.comparison);
    let not = if negated { "not " } else { "" };
    (before, format!(", {not}{comparison} {}", number(threshold.limit)))
}

/// The whole summary.
pub(crate) fn of_absence(absent: &Absent, negated: bool) -> String {
    let there = if negated { "there are samples" } else { "there are no samples" };
    let span = duration::words(absent.window_ms);
    cut(format!("{there} of {} in {span}", of_selector(&absent.selector)))
}

/// A threshold's summary.
pub(crate) fn around(before: &str, value: f64, after: &str) -> String {
    cut(format!("{before}{}{after}", number(value)))
}

/// The summaries of conditions that hold together.
pub(crate) fn together(first: &str, second: &str) -> String {
    match (first.is_empty(), second.is_empty()) {
        (true, _) => second.to_owned(),
        (_, true) => first.to_owned(),
        _ => cut(format!("{first}, and {second}")),
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_SUMMARY_BYTES));
    text
}

fn of_comparison(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Above => "above",
        Comparison::AtLeast => "at least",
        Comparison::Below => "below",
        Comparison::AtMost => "at most",
        Comparison::Equals => "equal to",
        Comparison::NotEquals => "other than",
    }
}

/// What stands before and after the value of rows that hold.
pub(crate) fn of_rows(rows: &Expression, negated: bool) -> (String, String) {
    let not = if negated { "not " } else { "" };
    match rows {
        Expression::Compared { comparison, as_number: false, sides, .. } => {
            let after =
                format!(", {not}{} {}", of_comparison(*comparison), of_expression(&sides[1]));
            (cut(format!("{} is ", of_expression(&sides[0]))), cut(after))
        }
        other => (cut(format!("{} is ", of_expression(other))), String::new()),
    }
}

fn of_expression(expression: &Expression) -> String {
    let nested = |of: &Expression| match of {
        Expression::Arithmetic { .. } | Expression::Compared { .. } | Expression::Set { .. } => {
            format!("({})", of_expression(of))
        }
        other => of_expression(other),
    };
    match expression {
        Expression::Number(value) => number(*value),
        Expression::Now => "now".to_owned(),
        Expression::Measured(measure, grouping) => {
            of_measure(measure, grouping.as_ref().map(|grouping| grouping.combine))
        }
        Expression::Grouped { of, combine, .. } => {
            format!("{} of {}", of_combine(*combine), nested(of))
        }
        Expression::Arithmetic { op, sides, .. } => {
            let sign = Arithmetic::ALL.iter().find(|(_, known, _)| known == op);
            let sign = sign.map_or("", |(.., sign)| sign);
            format!("{} {sign} {}", nested(&sides[0]), nested(&sides[1]))
        }
        Expression::Compared { comparison, sides, .. } => {
            let comparison = of_comparison(*comparison);
            format!("{} {comparison} {}", nested(&sides[0]), nested(&sides[1]))
        }
        Expression::Set { op, members, .. } => {
            let word =
                SetOp::ALL.iter().find(|(_, known)| known == op).map_or("", |(word, _)| word);
            members.iter().map(nested).collect::<Vec<_>>().join(&format!(" {word} "))
        }
        Expression::Applied { function, of } => {
            format!("{} of {}", format!("{function:?}").to_lowercase(), nested(of))
        }
        Expression::HistogramQuantile { quantile, of } => {
            format!("{quantile} quantile of histograms of {}", nested(of))
        }
        Expression::Vector(of) => nested(of),
        Expression::Absent(absent) => format!("absence of {}", of_selector(&absent.selector)),
    }
}

fn of_combine(combine: Combine) -> &'static str {
    match combine {
        Combine::Sum => "sum",
        Combine::Avg => "avg",
        Combine::Min => "min",
        Combine::Max => "max",
        Combine::Count => "number",
    }
}

fn of_measure(measure: &Measure, combine: Option<Combine>) -> String {
    let combined = match combine {
        None => "",
        Some(Combine::Sum) => "sum of ",
        Some(Combine::Avg) => "avg of ",
        Some(Combine::Min) => "min of ",
        Some(Combine::Max) => "max of ",
        Some(Combine::Count) => "number of ",
    };
    let function = match measure.function {
        Function::Of(Aggregate::Last) => String::new(),
        Function::Of(Aggregate::Quantile(quantile)) => format!("{quantile} quantile of "),
        Function::Estimated(Estimate::Predict(ahead)) => format!("{}s ahead of ", number(ahead)),
        function => {
            let word = measure::word(function).unwrap_or_default();
            format!("{} of ", word.trim_start_matches("extrapolated_").replace('_', " "))
        }
    };
    let span = match measure.function {
        Function::Of(Aggregate::Last) => String::new(),
        _ => format!(" over {}", duration::words(measure.window_ms)),
    };
    let offset = match measure.offset_ms {
        0 => String::new(),
        offset => format!(" {} ago", duration::words(offset)),
    };
    format!("{combined}{function}{}{span}{offset}", of_selector(&measure.selector))
}

fn of_selector(selector: &Selector) -> String {
    if selector.matchers.is_empty() {
        return selector.name.clone();
    }
    let matchers: Vec<_> = selector
        .matchers
        .iter()
        .map(|matcher| {
            let op = match matcher.op {
                MatchOp::Equal => "=",
                MatchOp::NotEqual => "!=",
                MatchOp::Regex => "=~",
                MatchOp::NotRegex => "!~",
            };
            format!("{}{op}{:?}", matcher.label, matcher.value)
        })
        .collect();
    format!("{}{{{}}}", selector.name, matchers.join(","))
}

/// A number with few digits: `0.9312`, `12`, `1.5e12`.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return value.to_string();
    }
    let magnitude = value.abs().log10().floor();
    if !(-4.0..15.0).contains(&magnitude) {
        return format!("{value:.3e}");
    }
    #[expect(clippy::cast_possible_truncation, reason = "between -4 and 14")]
    let decimals = usize::try_from(DIGITS - 1 - magnitude as i32).unwrap_or(0);
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.931_249, "0.9312"),
            (12.0, "12"),
            (1_234_567.8, "1234568"),
            (-0.000_25, "-0.00025"),
            (0.999_99, "1"),
            (1.5e18, "1.500e18"),
            (2e-7, "2.000e-7"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
            (100.0, "100"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
