//! One number out of a window of samples, as the contract words it.

use crate::series::{Aggregate, QueryError};

/// `None` where the window has too few samples.
pub(super) fn aggregate(
    aggregate: &Aggregate,
    window: &[(i64, f64)],
) -> Result<Option<f64>, QueryError> {
    if let Aggregate::Quantile(q) = aggregate
        && !(0.0..=1.0).contains(q)
    {
        return Err(QueryError::Invalid(format!("quantile {q} is not in 0..=1")));
    }
    let Some((_, last)) = window.last() else {
        return Ok(None);
    };
    let values = || window.iter().map(|(_, value)| *value);
    let count = window.len() as f64;
    Ok(match aggregate {
        Aggregate::Last => Some(*last),
        Aggregate::Avg => Some(values().sum::<f64>() / count),
        Aggregate::Min => values().reduce(f64::min),
        Aggregate::Max => values().reduce(f64::max),
        Aggregate::Sum => Some(values().sum()),
        Aggregate::Count => Some(count),
        Aggregate::Increase => increase(window).map(|(increase, _)| increase),
        Aggregate::Rate => increase(window).map(|(increase, millis)| increase / (millis / 1e3)),
        Aggregate::Quantile(q) => Some(quantile(*q, values().collect())),
    })
}

/// How much it grew over how many milliseconds. NaN is left out, as the host does; resets are
/// corrected: a value below the one before it counts from zero.
fn increase(window: &[(i64, f64)]) -> Option<(f64, f64)> {
    let numbers: Vec<_> = window.iter().filter(|(_, value)| !value.is_nan()).collect();
    let (first, last) = (numbers.first()?, numbers.last()?);
    let grown = numbers.windows(2).map(|pair| match (pair[0].1, pair[1].1) {
        (before, after) if after < before => after,
        (before, after) => after - before,
    });
    (numbers.len() > 1).then(|| (grown.sum(), (last.0 - first.0) as f64))
}

/// Linear interpolation between the closest ranks, NaN left out.
fn quantile(q: f64, mut values: Vec<f64>) -> f64 {
    values.retain(|value| !value.is_nan());
    values.sort_by(f64::total_cmp);
    let Some(top) = values.len().checked_sub(1) else {
        return f64::NAN;
    };
    let rank = q * top as f64;
    let (below, above) = (values[rank.floor() as usize], values[rank.ceil() as usize]);
    // Between equal infinities there is no difference to take a part of.
    if below == above { below } else { below + (above - below) * rank.fract() }
}
