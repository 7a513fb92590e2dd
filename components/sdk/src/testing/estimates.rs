//! One number out of a window and its times, as the contract words it.

use crate::series::Estimate;

/// `None` where the window has too few samples.
pub(super) fn estimate(
    estimate: &Estimate,
    window: &[(i64, f64)],
    from: i64,
    until: i64,
) -> Option<f64> {
    let pairs = || window.windows(2).map(|pair| (pair[0].1, pair[1].1));
    let count = |is: fn(f64, f64) -> bool| pairs().filter(|(a, b)| is(*a, *b)).count() as f64;
    let range = (until - from) as f64 / 1e3;
    match estimate {
        Estimate::ExtrapolatedIncrease => extrapolated(window, from, until, true),
        Estimate::ExtrapolatedRate => {
            extrapolated(window, from, until, true).map(|increase| increase / range)
        }
        Estimate::ExtrapolatedDelta => extrapolated(window, from, until, false),
        Estimate::InstantRate => last_two(window).map(|(before, after, seconds)| {
            (if after < before { after } else { after - before }) / seconds
        }),
        Estimate::InstantDelta => last_two(window).map(|(before, after, _)| after - before),
        Estimate::Slope => line(window, until).map(|(slope, _)| slope),
        Estimate::Predict(ahead) => line(window, until).map(|(slope, at)| at + slope * ahead),
        Estimate::Changes => (!window.is_empty()).then(|| {
            count(|before, after| before != after && !(before.is_nan() && after.is_nan()))
        }),
        Estimate::Resets => (!window.is_empty()).then(|| count(|before, after| after < before)),
        Estimate::Stddev => variance(window).map(f64::sqrt),
        Estimate::Stdvar => variance(window),
    }
}

fn last_two(window: &[(i64, f64)]) -> Option<(f64, f64, f64)> {
    let [.., before, after] = window else { return None };
    Some((before.1, after.1, (after.0 - before.0) as f64 / 1e3))
}

/// PromQL's extrapolation (Prometheus 2.42, `extrapolatedRate`).
fn extrapolated(window: &[(i64, f64)], from: i64, until: i64, counter: bool) -> Option<f64> {
    let [first, .., last] = window else { return None };
    let resets = window.windows(2).filter(|pair| pair[1].1 < pair[0].1).map(|pair| pair[0].1);
    let grown = last.1 - first.1 + if counter { resets.sum() } else { 0.0 };
    let seconds = |from: i64, to: i64| (to - from) as f64 / 1e3;
    let sampled = seconds(first.0, last.0);
    let apart = sampled / (window.len() - 1) as f64;
    let mut to_start = seconds(from, first.0);
    if counter && grown > 0.0 && first.1 >= 0.0 {
        to_start = to_start.min(sampled * (first.1 / grown));
    }
    let edge = |distance: f64| if distance < apart * 1.1 { distance } else { apart / 2.0 };
    Some(grown * ((sampled + edge(to_start) + edge(seconds(last.0, until))) / sampled))
}

/// Slope a second and value at `at` of the line with the least squares.
fn line(window: &[(i64, f64)], at: i64) -> Option<(f64, f64)> {
    let first = window.first().filter(|_| window.len() > 1)?.1;
    if window.iter().all(|(_, value)| *value == first) {
        return Some(if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) });
    }
    let count = window.len() as f64;
    let x = |time: i64| (time - at) as f64 / 1e3;
    let mean_x = window.iter().map(|(time, _)| x(*time)).sum::<f64>() / count;
    let mean_y = window.iter().map(|(_, value)| value).sum::<f64>() / count;
    let both: f64 = window.iter().map(|(t, v)| (x(*t) - mean_x) * (v - mean_y)).sum();
    let own: f64 = window.iter().map(|(t, _)| (x(*t) - mean_x).powi(2)).sum();
    let slope = both / own;
    Some((slope, mean_y - slope * mean_x))
}

/// In one pass, so that what cannot be summed is no number either, as with the host.
fn variance(window: &[(i64, f64)]) -> Option<f64> {
    let (mut count, mut mean, mut squares) = (0.0, (0.0, 0.0), (0.0, 0.0));
    for (_, value) in window {
        count += 1.0;
        let delta = value - (mean.0 + mean.1);
        mean = added(mean, delta / count);
        squares = added(squares, delta * (value - (mean.0 + mean.1)));
    }
    (!window.is_empty()).then(|| (squares.0 + squares.1) / count)
}

/// A sum with what was rounded away of it.
fn added((sum, lost): (f64, f64), value: f64) -> (f64, f64) {
    let total = sum + value;
    let (large, small) = if sum.abs() >= value.abs() { (sum, value) } else { (value, sum) };
    (total, lost + ((large - total) + small))
}
