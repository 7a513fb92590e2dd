//! One number out of a window for which the times of its samples matter, as PromQL makes it:
//! the arithmetic of Prometheus 2.42, its compensated sums included, so that rules brought from
//! there hold at the same times. NaN is taken as any value.

use sentinel_runtime::evaluator::Estimate;

/// Edges further than so many mean distances from a sample are not extrapolated to.
const REACH: f64 = 1.1;

/// Out of samples in order of time, at least one, within `window` (milliseconds). `None` where
/// they are too few.
pub(crate) fn estimate(
    estimate: Estimate,
    times: &[i64],
    values: &[f64],
    window: (i64, i64),
) -> Option<f64> {
    match estimate {
        Estimate::Increase => extrapolated(times, values, window, true),
        Estimate::Rate => {
            extrapolated(times, values, window, true).map(|i| i / seconds(window.0, window.1))
        }
        Estimate::Delta => extrapolated(times, values, window, false),
        Estimate::InstantRate => last_two(times, values).map(|(before, after, seconds)| {
            (if after < before { after } else { after - before }) / seconds
        }),
        Estimate::InstantDelta => last_two(times, values).map(|(before, after, _)| after - before),
        // The slope is the same wherever the line is looked at; near the samples it is exact.
        Estimate::Slope => line(times, values, *times.first()?).map(|(slope, _)| slope),
        Estimate::Predict(ahead) => {
            line(times, values, window.1).map(|(slope, at)| slope * ahead + at)
        }
        Estimate::Changes => Some(pairs(values, |before, after| {
            before != after && !(before.is_nan() && after.is_nan())
        })),
        Estimate::Resets => Some(pairs(values, |before, after| after < before)),
        Estimate::StdDev => Some(variance(values).sqrt()),
        Estimate::StdVar => Some(variance(values)),
    }
}

fn seconds(from: i64, to: i64) -> f64 {
    to.saturating_sub(from) as f64 / 1000.0
}

fn pairs(values: &[f64], is: impl Fn(f64, f64) -> bool) -> f64 {
    values.windows(2).filter(|pair| is(pair[0], pair[1])).count() as f64
}

fn last_two(times: &[i64], values: &[f64]) -> Option<(f64, f64, f64)> {
    let ([.., from, to], [.., before, after]) = (times, values) else { return None };
    Some((*before, *after, seconds(*from, *to)))
}

/// The change over the whole window. A counter is not taken to have been below zero.
fn extrapolated(
    times: &[i64],
    values: &[f64],
    window: (i64, i64),
    is_counter: bool,
) -> Option<f64> {
    let ([first, .., last], [from, .., to]) = (values, times) else { return None };
    let mut grown = last - first;
    if is_counter {
        for pair in values.windows(2).filter(|pair| pair[1] < pair[0]) {
            grown += pair[0];
        }
    }
    let sampled = seconds(*from, *to);
    let apart = sampled / (values.len() - 1) as f64;
    let (mut to_start, to_end) = (seconds(window.0, *from), seconds(*to, window.1));
    if is_counter && grown > 0.0 && *first >= 0.0 {
        let to_zero = sampled * (first / grown);
        if to_zero < to_start {
            to_start = to_zero;
        }
    }
    let mut covered = sampled;
    for distance in [to_start, to_end] {
        covered += if distance < apart * REACH { distance } else { apart / 2.0 };
    }
    Some(grown * (covered / sampled))
}

/// A sum and what was rounded away of it (Kahan, Neumaier).
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sum {
    sum: f64,
    lost: f64,
}

impl Sum {
    pub(super) fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if self.sum.abs() >= value.abs() {
            self.lost += (self.sum - total) + value;
        } else {
            self.lost += (value - total) + self.sum;
        }
        self.sum = total;
    }

    fn total(&self) -> f64 {
        self.sum + self.lost
    }

    /// Adds what was summed elsewhere.
    pub(super) fn join(&mut self, other: &Self) {
        self.add(other.sum);
        self.lost += other.lost;
    }

    /// The sum. Of infinities nothing is lost: theirs is what adding them gives.
    pub(super) fn value(&self) -> f64 {
        if self.sum.is_finite() { self.total() } else { self.sum }
    }
}

impl FromIterator<f64> for Sum {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut sum = Self::default();
        values.into_iter().for_each(|value| sum.add(value));
        sum
    }
}

/// Slope a second and value at `at` of the line with the least squares.
fn line(times: &[i64], values: &[f64], at: i64) -> Option<(f64, f64)> {
    let first = *values.first().filter(|_| values.len() > 1)?;
    if values.iter().all(|value| *value == first) {
        return Some(if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) });
    }
    let [mut sum_x, mut sum_y, mut sum_xy, mut sum_xx] = [const { Sum { sum: 0.0, lost: 0.0 } }; 4];
    for (time, y) in times.iter().zip(values) {
        let x = seconds(at, *time);
        sum_x.add(x);
        sum_y.add(*y);
        sum_xy.add(x * y);
        sum_xx.add(x * x);
    }
    let (n, x, y) = (values.len() as f64, sum_x.total(), sum_y.total());
    let slope = (sum_xy.total() - x * y / n) / (sum_xx.total() - x * x / n);
    Some((slope, y / n - slope * x / n))
}

fn variance(values: &[f64]) -> f64 {
    let (mut count, mut mean, mut squares) = (0.0, Sum::default(), Sum::default());
    for value in values {
        count += 1.0;
        let delta = value - mean.total();
        mean.add(delta / count);
        squares.add(delta * (value - mean.total()));
    }
    squares.total() / count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: i64 = 60_000;

    fn of(values: &[f64], what: Estimate) -> Option<f64> {
        let times: Vec<i64> = (1..=values.len() as i64).map(|at| at * 15_000).collect();
        estimate(what, &times, values, (0, MINUTE))
    }

    #[test]
    fn estimates_are_what_the_contract_says() {
        use Estimate::{
            Changes, Delta, Increase, InstantDelta, InstantRate, Predict, Rate, Resets, Slope,
            StdDev, StdVar,
        };
        let cases: &[(&[f64], Estimate, Option<f64>)] = &[
            // 30 in 45 s, 15 s before the first sample, none after the last.
            (&[100.0, 110.0, 120.0, 130.0], Increase, Some(40.0)),
            (&[100.0, 110.0, 120.0, 130.0], Rate, Some(40.0 / 60.0)),
            // It cannot have begun below zero: 10 s before the first sample.
            (&[10.0, 20.0, 30.0, 40.0], Increase, Some(40.0)),
            (&[0.0, 10.0, 20.0, 30.0], Increase, Some(30.0)),
            (&[100.0, 110.0, 5.0, 15.0], Increase, Some(25.0 * 4.0 / 3.0)),
            (&[100.0, 90.0, 80.0, 70.0], Delta, Some(-40.0)),
            // The end is further away than 1.1 of 15 s: half of it.
            (&[100.0, 110.0], Increase, Some(10.0 * 37.5 / 15.0)),
            (&[1.0, 4.0], InstantRate, Some(0.2)),
            (&[4.0, 1.0], InstantRate, Some(1.0 / 15.0)),
            (&[4.0, 1.0], InstantDelta, Some(-3.0)),
            (&[1.0, 2.0, 3.0, 4.0], Slope, Some(1.0 / 15.0)),
            (&[1.0, 2.0, 3.0, 4.0], Predict(60.0), Some(8.0)),
            (&[2.0, 2.0], Predict(1e9), Some(2.0)),
            (&[1.0, 1.0, 2.0, 1.0], Changes, Some(2.0)),
            (&[f64::NAN, f64::NAN, 1.0], Changes, Some(1.0)),
            (&[1.0, 1.0, 2.0, 1.0], Resets, Some(1.0)),
            (&[1.0, 3.0], StdDev, Some(1.0)),
            (&[1.0, 5.0], StdVar, Some(4.0)),
            (&[1.0], Increase, None),
            (&[1.0], InstantRate, None),
            (&[1.0], Slope, None),
            (&[1.0], Changes, Some(0.0)),
        ];
        for (values, what, expected) in cases {
            let found = of(values, *what);
            let same = match (found, expected) {
                (Some(found), Some(expected)) => (found - expected).abs() < 1e-12,
                (found, expected) => found == *expected,
            };
            assert!(same, "{what:?} of {values:?}: {found:?}, not {expected:?}");
        }
        assert!(of(&[f64::INFINITY; 2], Slope).unwrap().is_nan());
    }

    proptest! {
        #[test]
        fn an_increase_is_never_less_than_what_was_seen_nor_more_than_the_window_could_hold(
            steps in prop::collection::vec(0u32..1000, 2..40), start in 0u32..1000,
        ) {
            let values: Vec<f64> = steps.iter().scan(f64::from(start), |total, step| {
                *total += f64::from(*step);
                Some(*total)
            }).collect();
            let times: Vec<i64> = (1..=values.len() as i64).map(|at| at * 1000).collect();
            let window = (0, values.len() as i64 * 1000 + 500);
            let found = estimate(Estimate::Increase, &times, &values, window).unwrap();
            let seen = values[values.len() - 1] - values[0];
            let all = seconds(window.0, window.1) / seconds(times[0], times[times.len() - 1]);
            prop_assert!(found >= seen - 1e-9 && found <= seen * all + 1e-9, "{} {}", found, seen);
        }

        #[test]
        fn a_line_through_points_of_a_line_is_that_line(
            slope in -1e6f64..1e6, at_zero in -1e6f64..1e6, count in 2i64..50, ahead in -1e4f64..1e4,
        ) {
            let times: Vec<i64> = (1..=count).map(|at| at * 7000).collect();
            let values: Vec<f64> = times.iter().map(|at| at_zero + slope * seconds(0, *at)).collect();
            let end = *times.last().unwrap() + 100;
            let found = estimate(Estimate::Predict(ahead), &times, &values, (0, end)).unwrap();
            let expected = at_zero + slope * (seconds(0, end) + ahead);
            let scale = slope.abs() * 1e4 + at_zero.abs() + 1.0;
            prop_assert!((found - expected).abs() <= scale * 1e-8, "{} {}", found, expected);
        }
    }
}
