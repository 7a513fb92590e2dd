//! Every estimate against a naive reference, on samples as they come in bad weeks.

use super::*;
use proptest::prelude::*;
use proptest::sample::select;
use sentinel_runtime::evaluator::Estimate;
use std::collections::BTreeMap;

const ALL: [Estimate; 11] = [
    Estimate::Increase,
    Estimate::Rate,
    Estimate::Delta,
    Estimate::InstantRate,
    Estimate::InstantDelta,
    Estimate::Slope,
    Estimate::Predict(3_600.0),
    Estimate::Changes,
    Estimate::Resets,
    Estimate::StdDev,
    Estimate::StdVar,
];

/// Huge and tiny ones are such that their squares are numbers.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        20 => (-5i32..30).prop_map(f64::from),
        4 => -1e6f64..1e6,
        1 => select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e100, -1e100, 1e-100, -0.0]),
    ]
}

/// A window of samples in order of time, looked at from its definition.
struct Window<'w> {
    samples: &'w [(i64, f64)],
    start: i64,
    end: i64,
}

impl Window<'_> {
    fn value(&self, at: usize) -> f64 {
        self.samples[at].1
    }

    fn seconds(from: i64, to: i64) -> f64 {
        (to - from) as f64 / 1000.0
    }

    /// Steps from a sample to the next for which something is so.
    fn steps(&self, is: impl Fn(f64, f64) -> bool) -> f64 {
        (1..self.samples.len()).filter(|at| is(self.value(at - 1), self.value(*at))).count() as f64
    }

    fn reference(&self, estimate: Estimate) -> Option<f64> {
        let n = self.samples.len();
        let least = match estimate {
            Estimate::Changes | Estimate::Resets | Estimate::StdDev | Estimate::StdVar => 1,
            _ => 2,
        };
        if n < least {
            return None;
        }
        let last = || (self.value(n - 2), self.value(n - 1));
        Some(match estimate {
            Estimate::Increase => self.extrapolated(true),
            Estimate::Rate => self.extrapolated(true) / Self::seconds(self.start, self.end),
            Estimate::Delta => self.extrapolated(false),
            Estimate::InstantDelta => last().1 - last().0,
            Estimate::InstantRate => {
                let (before, after) = last();
                let grown = if after < before { after } else { after - before };
                grown / Self::seconds(self.samples[n - 2].0, self.samples[n - 1].0)
            }
            Estimate::Slope => self.line().0,
            Estimate::Predict(ahead) => self.line().1 + self.line().0 * ahead,
            Estimate::Changes => self.steps(|a, b| !(a == b || a.is_nan() && b.is_nan())),
            Estimate::Resets => self.steps(|a, b| b < a),
            Estimate::StdDev => self.variance().sqrt(),
            Estimate::StdVar => self.variance(),
        })
    }

    fn extrapolated(&self, is_counter: bool) -> f64 {
        let n = self.samples.len();
        let ((from, first), (to, last)) = (self.samples[0], self.samples[n - 1]);
        let mut grown = last - first;
        for at in 1..n {
            if is_counter && self.value(at) < self.value(at - 1) {
                grown += self.value(at - 1);
            }
        }
        let sampled = Self::seconds(from, to);
        let apart = sampled / (n - 1) as f64;
        let (mut before, after) = (Self::seconds(self.start, from), Self::seconds(to, self.end));
        if is_counter && grown > 0.0 && first >= 0.0 {
            before = before.min(sampled * (first / grown));
        }
        let reach = |distance: f64| if distance < apart * 1.1 { distance } else { apart / 2.0 };
        grown * ((sampled + reach(before) + reach(after)) / sampled)
    }

    /// Slope, and value at the window's end, out of the differences to the means.
    fn line(&self) -> (f64, f64) {
        let n = self.samples.len() as f64;
        if self.samples.iter().all(|(_, value)| *value == self.value(0)) {
            return if self.value(0).is_finite() { (0.0, self.value(0)) } else { (NAN, NAN) };
        }
        let x = |time: i64| Self::seconds(self.end, time);
        let mean_x = self.samples.iter().map(|(time, _)| x(*time)).sum::<f64>() / n;
        let mean_y = self.samples.iter().map(|(_, value)| value).sum::<f64>() / n;
        let both: f64 = self.samples.iter().map(|(t, y)| (x(*t) - mean_x) * (y - mean_y)).sum();
        let own: f64 = self.samples.iter().map(|(t, _)| (x(*t) - mean_x).powi(2)).sum();
        (both / own, mean_y - both / own * mean_x)
    }

    fn variance(&self) -> f64 {
        let n = self.samples.len() as f64;
        let mean = self.samples.iter().map(|(_, value)| value).sum::<f64>() / n;
        self.samples.iter().map(|(_, value)| (value - mean).powi(2)).sum::<f64>() / n
    }

    /// How far apart two ways to compute it may be: rounding is relative to what is summed.
    fn tolerance(&self, estimate: Estimate) -> f64 {
        let finite = self.samples.iter().map(|(_, v)| v.abs()).filter(|v| v.is_finite());
        let sum: f64 = finite.sum();
        let length = Self::seconds(self.start, self.end) + 1.0;
        1e-9 * match estimate {
            Estimate::Changes | Estimate::Resets => 0.0,
            Estimate::StdVar => sum * sum,
            // The root of a variance that is off by so little.
            Estimate::StdDev => sum * 1e5,
            Estimate::Predict(ahead) => sum * (ahead + length) * 1e3,
            _ => sum * length * 1e3,
        }
    }
}

const NAN: f64 = f64::NAN;

/// NaN and infinities are where they are by the reference; for what is not finite on the way, as
/// squares of infinities, it does not matter how.
fn same(found: Option<f64>, expected: Option<f64>, tolerance: f64) -> bool {
    match (found, expected) {
        (Some(a), Some(b)) if a.is_finite() && b.is_finite() => (a - b).abs() <= tolerance,
        (Some(a), Some(b)) => !a.is_finite() && !b.is_finite(),
        (a, b) => a.is_none() && b.is_none(),
    }
}

proptest! {
    #[test]
    fn estimates_are_those_of_a_naive_reference(
        pushed in prop::collection::vec((0i64..60, value()), 0..60),
        forgotten in 0i64..20,
        asked in prop::collection::vec((0i64..40, 1i64..40, any::<bool>()), 1..4),
    ) {
        // In any order, some of them twice, half a second apart and more.
        let (mut samples, mut all) = (Samples::new(60_000), BTreeMap::new());
        for (slot, value) in pushed {
            samples.push(slot * 500, value);
            all.insert(slot * 500, value);
        }
        samples.forget(forgotten * 500);
        for (back, window, closed) in asked {
            let end = 30_000 - back * 500;
            let start = (end - window * 500).max(forgotten * 500 + 1);
            if start >= end {
                continue;
            }
            let first = if closed { start } else { start + 1 };
            let within: Vec<(i64, f64)> = all.range(first..=end).map(|(t, v)| (*t, *v)).collect();
            let window = Window { samples: &within, start, end };
            for estimate in ALL {
                let found = samples.aggregate(start, end, Aggregate::Estimate { estimate, closed });
                let expected = window.reference(estimate);
                let tolerance = window.tolerance(estimate);
                prop_assert!(
                    same(found, expected, tolerance),
                    "{:?} of {:?} in {}..{}: {:?}, expected {:?}",
                    estimate, within, start, end, found, expected
                );
            }
        }
    }
}
