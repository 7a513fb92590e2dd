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
    let Some((last_time, last)) = window.last() else {
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
        Aggregate::Increase => increase(window),
        Aggregate::Rate => {
            let seconds = (last_time - window[0].0) as f64 / 1e3;
            increase(window).map(|increase| increase / seconds)
        }
        Aggregate::Quantile(q) => Some(quantile(*q, values().collect())),
    })
}

/// Resets corrected: a value below the one before it counts from zero.
fn increase(window: &[(i64, f64)]) -> Option<f64> {
    if window.len() < 2 {
        return None;
    }
    Some(
        window
            .windows(2)
            .map(|pair| match pair[1].1 - pair[0].1 {
                grown if grown >= 0.0 => grown,
                _ => pair[1].1,
            })
            .sum(),
    )
}

/// Linear interpolation between the closest ranks.
fn quantile(q: f64, mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = q * (values.len() - 1) as f64;
    let below = values[rank.floor() as usize];
    let above = values[rank.ceil() as usize];
    below + (above - below) * rank.fract()
}
