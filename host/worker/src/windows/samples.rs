//! The recent samples of one series, and one number out of them.

use super::estimate;
use sentinel_runtime::evaluator::Aggregate;

/// The most samples of one series that are kept; beyond, the oldest go. A day at one a second.
pub const MAX_SAMPLES: usize = 86_400;

/// Samples in order of time, each time once. Removing from the front is cheap.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples {
    times: Vec<i64>,
    values: Vec<f64>,
    /// Samples before it are gone.
    head: usize,
}

impl Samples {
    pub(crate) fn len(&self) -> usize {
        self.times.len() - self.head
    }

    /// Adds a sample; of several at one time the last added counts.
    pub(crate) fn push(&mut self, time: i64, value: f64) {
        if self.times.last().is_none_or(|&last| last < time) || self.len() == 0 {
            self.times.push(time);
            self.values.push(value);
        } else {
            match self.times[self.head..].binary_search(&time) {
                Ok(at) => self.values[self.head + at] = value,
                Err(at) => {
                    self.times.insert(self.head + at, time);
                    self.values.insert(self.head + at, value);
                }
            }
        }
        if self.len() > MAX_SAMPLES {
            self.drop_front(self.len() - MAX_SAMPLES);
        }
    }

    /// Puts stored samples, strictly increasing in time, under those that are here: at a time
    /// that both have, what is here counts, for it was committed no earlier.
    pub(crate) fn merge(&mut self, times: &[i64], values: &[f64]) {
        let (mut merged_times, mut merged_values) =
            (Vec::with_capacity(times.len() + self.len()), Vec::with_capacity(times.len()));
        let mut stored = times.iter().copied().zip(values.iter().copied()).peekable();
        let own =
            self.times[self.head..].iter().copied().zip(self.values[self.head..].iter().copied());
        for (time, value) in own {
            while let Some((t, v)) = stored.next_if(|(t, _)| *t < time) {
                merged_times.push(t);
                merged_values.push(v);
            }
            stored.next_if(|(t, _)| *t == time);
            merged_times.push(time);
            merged_values.push(value);
        }
        for (t, v) in stored {
            merged_times.push(t);
            merged_values.push(v);
        }
        *self = Self { times: merged_times, values: merged_values, head: 0 };
        if self.len() > MAX_SAMPLES {
            self.drop_front(self.len() - MAX_SAMPLES);
        }
    }

    /// Forgets samples up to and including `until`.
    pub(crate) fn forget(&mut self, until: i64) {
        let gone = self.times[self.head..].partition_point(|&t| t <= until);
        if gone > 0 {
            self.drop_front(gone);
        }
    }

    fn drop_front(&mut self, count: usize) {
        self.head += count;
        if self.head * 2 >= self.times.len() {
            self.times.drain(..self.head);
            self.values.drain(..self.head);
            self.head = 0;
        }
    }

    /// One number out of `start < time <= end`; `None` where there is none.
    pub(crate) fn aggregate(&self, start: i64, end: i64, aggregate: Aggregate) -> Option<f64> {
        let times = &self.times[self.head..];
        let to = times.partition_point(|&t| t <= end);
        let (first, of_times) = match aggregate {
            Aggregate::Estimate { estimate, closed } => {
                (start.saturating_sub(i64::from(closed)), Some(estimate))
            }
            _ => (start, None),
        };
        let from = times[..to].partition_point(|&t| t <= first);
        if from == to {
            return None;
        }
        let (times, values) = (&times[from..to], &self.values[self.head..][from..to]);
        match of_times {
            Some(estimate) => estimate::estimate(estimate, times, values, (start, end)),
            None => compute(times, values, aggregate),
        }
    }
}

/// The contract's aggregates over at least one sample. Where it leaves NaN open: `last`,
/// `count`, `avg` and `sum` take it as any value; the others leave it out, and answer NaN
/// (`min`, `max`, `quantile`) or nothing (`increase`, `rate`) where nothing else is left.
fn compute(times: &[i64], values: &[f64], aggregate: Aggregate) -> Option<f64> {
    let sum = || values.iter().sum::<f64>();
    Some(match aggregate {
        Aggregate::Last => *values.last()?,
        Aggregate::Avg => sum() / values.len() as f64,
        // `f64::min` and `max` give the other of a number and NaN.
        Aggregate::Min => values.iter().copied().fold(f64::NAN, f64::min),
        Aggregate::Max => values.iter().copied().fold(f64::NAN, f64::max),
        Aggregate::Sum => sum(),
        Aggregate::Count => values.len() as f64,
        Aggregate::Increase => increase(times, values)?.0,
        Aggregate::Rate => {
            let (increase, millis) = increase(times, values)?;
            increase / (millis as f64 / 1000.0)
        }
        Aggregate::Quantile(q) => quantile(values, q),
        Aggregate::Estimate { .. } => return None,
    })
}

/// The increase of a counter, and the milliseconds between the first and the last sample. A
/// value below the one before is a counter that began again from zero.
fn increase(times: &[i64], values: &[f64]) -> Option<(f64, i64)> {
    let mut samples = times.iter().zip(values).filter(|(_, v)| !v.is_nan());
    let (&first, &value) = samples.next()?;
    let (mut last, mut before, mut total, mut count) = (first, value, 0.0, 1);
    for (&time, &value) in samples {
        total += if value < before { value } else { value - before };
        (last, before, count) = (time, value, count + 1);
    }
    (count > 1).then_some((total, last.saturating_sub(first)))
}

fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    let Some(top) = sorted.len().checked_sub(1) else { return f64::NAN };
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = q.clamp(0.0, 1.0) * top as f64;
    let (low, high) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
    // The difference of two infinities is no number, hence no interpolation between equals.
    if low == high { low } else { low + (high - low) * rank.fract() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const NAN: f64 = f64::NAN;
    const INF: f64 = f64::INFINITY;

    fn of(values: &[f64]) -> Samples {
        let mut samples = Samples::default();
        for (i, &value) in values.iter().enumerate() {
            samples.push((i as i64 + 1) * 1000, value);
        }
        samples
    }

    #[test]
    fn aggregates_are_what_the_contract_says() {
        use Aggregate::{Avg, Count, Increase, Last, Max, Min, Quantile, Rate, Sum};
        let cases: &[(&[f64], Aggregate, Option<f64>)] = &[
            (&[1.0, 3.0, 2.0], Last, Some(2.0)),
            (&[1.0, 3.0, 2.0], Avg, Some(2.0)),
            (&[1.0, 3.0, 2.0], Min, Some(1.0)),
            (&[1.0, 3.0, 2.0], Max, Some(3.0)),
            (&[1.0, 3.0, 2.0], Sum, Some(6.0)),
            (&[1.0, NAN, 2.0], Count, Some(3.0)),
            (&[NAN, 3.0, NAN], Min, Some(3.0)),
            (&[5.0, 7.0, 1.0, 4.0], Increase, Some(6.0)),
            (&[5.0, 7.0, 1.0, 4.0], Rate, Some(2.0)),
            (&[5.0, NAN, 7.0], Rate, Some(1.0)),
            (&[5.0], Increase, None),
            (&[NAN, 5.0], Rate, None),
            (&[1.0, 2.0, 3.0, 4.0], Quantile(0.5), Some(2.5)),
            (&[4.0, NAN, 1.0], Quantile(1.0), Some(4.0)),
            (&[INF, INF, INF], Quantile(0.25), Some(INF)),
            (&[7.0], Quantile(0.9), Some(7.0)),
            (&[], Count, None),
        ];
        for (values, aggregate, expected) in cases {
            let found = of(values).aggregate(0, 1_000_000, *aggregate);
            assert_eq!(found, *expected, "{aggregate:?} of {values:?}");
        }
        assert!(of(&[NAN, NAN]).aggregate(0, 9_000, Max).unwrap().is_nan());
    }

    #[test]
    fn a_window_is_open_at_its_start_and_closed_at_its_end() {
        let samples = of(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(samples.aggregate(1000, 3000, Aggregate::Sum), Some(5.0));
        assert_eq!(samples.aggregate(4000, 9000, Aggregate::Sum), None);
    }

    #[test]
    fn a_series_keeps_a_bounded_number_of_samples() {
        let mut samples = Samples::default();
        for time in 0..(MAX_SAMPLES as i64 + 500) {
            samples.push(time, 1.0);
        }
        assert_eq!(samples.len(), MAX_SAMPLES);
        assert_eq!(samples.aggregate(-1, 499, Aggregate::Count), None);
    }

    /// From a map of all samples that ever came, looking at every one of them.
    fn naive(all: &BTreeMap<i64, f64>, start: i64, end: i64, aggregate: Aggregate) -> Option<f64> {
        let window: Vec<(i64, f64)> =
            all.iter().map(|(t, v)| (*t, *v)).filter(|(t, _)| *t > start && *t <= end).collect();
        let numbers: Vec<(i64, f64)> =
            window.iter().copied().filter(|(_, v)| !v.is_nan()).collect();
        let n = window.len() as f64;
        if window.is_empty() {
            return None;
        }
        let ordered = || {
            let mut ordered: Vec<f64> = numbers.iter().map(|s| s.1).collect();
            ordered.sort_by(|a, b| a.partial_cmp(b).unwrap());
            ordered
        };
        let total: f64 = window.iter().map(|s| s.1).sum();
        let grown = || {
            let mut grown = 0.0;
            for i in 1..numbers.len() {
                let (before, after) = (numbers[i - 1].1, numbers[i].1);
                grown += if after >= before { after - before } else { after };
            }
            (numbers.len() >= 2).then_some(grown)
        };
        match aggregate {
            Aggregate::Last => Some(window[window.len() - 1].1),
            Aggregate::Count => Some(n),
            Aggregate::Sum => Some(total),
            Aggregate::Avg => Some(total / n),
            Aggregate::Min => Some(ordered().first().copied().unwrap_or(NAN)),
            Aggregate::Max => Some(ordered().last().copied().unwrap_or(NAN)),
            Aggregate::Increase => grown(),
            Aggregate::Rate => {
                let seconds = || (numbers[numbers.len() - 1].0 - numbers[0].0) as f64 / 1000.0;
                grown().map(|g| g / seconds())
            }
            Aggregate::Quantile(q) => {
                let ordered = ordered();
                if ordered.is_empty() {
                    return Some(NAN);
                }
                let rank = q * (ordered.len() - 1) as f64;
                let below = ordered[rank.floor() as usize];
                let above = ordered[rank.ceil() as usize];
                Some(below + (above - below) * (rank - rank.floor()))
            }
            Aggregate::Estimate { .. } => unreachable!("not asked for here"),
        }
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![8 => (-50i32..50).prop_map(f64::from), 1 => Just(NAN), 1 => -1e300f64..1e300]
    }

    fn aggregate() -> impl Strategy<Value = Aggregate> {
        use Aggregate::{Avg, Count, Increase, Last, Max, Min, Quantile, Rate, Sum};
        prop_oneof![
            prop::sample::select(vec![Last, Avg, Min, Max, Sum, Count, Increase, Rate]),
            (0.0f64..=1.0).prop_map(Quantile),
        ]
    }

    fn close(a: f64, b: f64) -> bool {
        a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
    }

    proptest! {
        #[test]
        fn answers_are_those_of_a_naive_reference(
            pushed in prop::collection::vec((0i64..60, value()), 0..80),
            stored in prop::collection::btree_map(0i64..60, value(), 0..40),
            forgotten in 0i64..30,
            asked in prop::collection::vec((0i64..40, 0i64..40, aggregate()), 1..20),
        ) {
            let (mut samples, mut all) = (Samples::default(), stored.clone());
            let half = pushed.len() / 2;
            let mut put = |samples: &mut Samples, part: &[(i64, f64)]| {
                for (time, value) in part {
                    samples.push(*time, *value);
                    all.insert(*time, *value);
                }
            };
            put(&mut samples, &pushed[..half]);
            let (times, values): (Vec<_>, Vec<_>) = stored.into_iter().unzip();
            samples.merge(&times, &values);
            put(&mut samples, &pushed[half..]);
            samples.forget(forgotten);
            for (back, window, aggregate) in asked {
                let end = 60 - back;
                let start = (end - window).max(forgotten);
                let found = samples.aggregate(start, end, aggregate);
                let expected = naive(&all, start, end, aggregate);
                let same = match (found, expected) {
                    (Some(a), Some(b)) => close(a, b),
                    (None, None) => true,
                    (Some(_), None) | (None, Some(_)) => false,
                };
                prop_assert!(same, "{:?} in {}..{}: {:?}, expected {:?}", aggregate, start, end, found, expected);
            }
        }
    }
}
