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
        (&[-INF, 5.0], Quantile(0.5), Some(-INF)),
        (&[f64::MIN, f64::MAX], Quantile(0.5), Some(0.0)),
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
    let numbers: Vec<(i64, f64)> = window.iter().copied().filter(|(_, v)| !v.is_nan()).collect();
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
            let (below, above) = (rank.floor(), rank.ceil());
            let (low, high) = (ordered[below as usize], ordered[above as usize]);
            // Of two ranks each has the part that the other is away.
            Some(if low == high { low } else { low * (above - rank) + high * (rank - below) })
        }
        Aggregate::Estimate { .. } => unreachable!("not asked for here"),
    }
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        16 => (-50i32..50).prop_map(f64::from),
        2 => Just(NAN),
        2 => -1e300f64..1e300,
        1 => prop::sample::select(vec![INF, -INF, f64::MAX, 1e-300, -1e-300, -0.0]),
    ]
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
            // A sum is not off by more than adding its samples one by one may lose of the largest.
            let within = all.iter().filter(|(t, v)| **t > start && **t <= end && v.is_finite());
            let scale: f64 = match aggregate {
                Aggregate::Sum | Aggregate::Avg => within.map(|(_, v)| v.abs()).sum(),
                _ => 0.0,
            };
            let same = match (found, expected) {
                (Some(a), Some(b)) => close(a, b) || (a - b).abs() <= 1e-12 * scale,
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            prop_assert!(same, "{:?} in {}..{}: {:?}, expected {:?}", aggregate, start, end, found, expected);
        }
    }
}

/// Samples as they come in a bad week, out of a few numbers: resets, gaps, NaN, infinities, huge
/// and tiny values.
fn week(seed: u64, count: usize) -> Vec<(i64, f64)> {
    let (mut lot, mut time, mut counter) = (seed | 1, 0, 0.0);
    let mut next = || {
        lot ^= lot << 13;
        lot ^= lot >> 7;
        lot ^= lot << 17;
        lot >> 11
    };
    let mut sample = || {
        time += if next() % 50 == 0 { 90_000 } else { 1 + (next() % 2_000) as i64 };
        counter = if next() % 97 == 0 { 0.0 } else { counter + (next() % 1_000) as f64 };
        let value = match next() % 400 {
            0..4 => NAN,
            4 if seed.is_multiple_of(3) => INF,
            5 if seed.is_multiple_of(3) => -INF,
            6..9 => 1e300,
            9..12 => 1e-300,
            12..20 => -counter,
            _ => counter,
        };
        (time, value)
    };
    (0..count).map(|_| sample()).collect()
}

const SUMMED_UP: [Aggregate; 7] = [
    Aggregate::Avg,
    Aggregate::Min,
    Aggregate::Max,
    Aggregate::Sum,
    Aggregate::Count,
    Aggregate::Increase,
    Aggregate::Rate,
];

/// Each case has more than a thousand samples: a quarter of the cases is enough.
fn quarter() -> ProptestConfig {
    let all = ProptestConfig::default();
    ProptestConfig { cases: all.cases.div_ceil(4), ..all }
}

proptest! {
    #![proptest_config(quarter())]

    #[test]
    fn a_long_window_is_the_same_however_its_samples_came(
        seed in any::<u64>(), count in 1_050usize..1_500, late in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        stored in 0usize..1_500, forgotten in 0usize..400, span in 1_000i64..10_000_000,
        asked in prop::collection::vec((0usize..400, 0i64..400_000), 1..4),
    ) {
        let week = week(seed, count);
        let end_of_all = week[count - 1].0;
        let mut in_order = Samples::new(span);
        week.iter().for_each(|(time, value)| in_order.push(*time, *value));
        // Some come late, some come twice (first with another value), the first from the store.
        let late: std::collections::BTreeSet<usize> = late.iter().map(|at| at.index(count)).collect();
        let stored = stored.min(count);
        let mut other = Samples::new(span / 2);
        for (at, (time, value)) in week.iter().enumerate().skip(stored) {
            if late.contains(&at) { continue }
            if at % 100 == 0 { other.push(*time, 7.0); }
            other.push(*time, *value);
        }
        let (times, values): (Vec<i64>, Vec<f64>) = week[..stored].iter().copied().unzip();
        other.merge(&times, &values);
        for at in late.into_iter().filter(|at| *at >= stored) {
            other.push(week[at].0, week[at].1);
        }
        let mut other = other.with_span(span);
        let forgotten = week[forgotten].0;
        other.forget(forgotten);
        prop_assert!(in_order.blocks.is_some());
        let all: BTreeMap<i64, f64> = week.iter().copied().collect();
        for (from, back) in asked {
            let (start, end) = (week[from].0.max(forgotten), end_of_all - back);
            for aggregate in SUMMED_UP {
                let found = in_order.aggregate(start, end, aggregate);
                let again = other.aggregate(start, end, aggregate);
                let bits = |v: Option<f64>| v.map(|v| if v.is_nan() { 0 } else { v.to_bits() });
                prop_assert_eq!(bits(found), bits(again), "{:?}", aggregate);
                let expected = naive(&all, start, end, aggregate);
                let scale: f64 = all.values().filter(|v| v.is_finite()).map(|v| v.abs()).sum();
                let same = match (found, expected) {
                    (Some(a), Some(b)) => close(a, b) || (a - b).abs() <= 1e-12 * scale,
                    (a, b) => a.is_none() && b.is_none(),
                };
                prop_assert!(same, "{:?}: {:?}, expected {:?}", aggregate, found, expected);
            }
        }
    }
}

#[test]
fn a_window_that_rolls_over_more_samples_than_are_kept_stays_right() {
    let mut samples = Samples::new(3_600_000);
    for second in 0..5_000i64 {
        samples.push(second * 1_000, second as f64);
        if second % 10 == 0 {
            samples.forget((second - 4_000) * 1_000);
        }
    }
    let start = (4_999 - 3_600) * 1_000;
    assert_eq!(samples.aggregate(start, 4_999_000, Aggregate::Count), Some(3_600.0));
    let sum = (1_400..5_000).sum::<i64>() as f64;
    assert_eq!(samples.aggregate(start, 4_999_000, Aggregate::Sum), Some(sum));
    assert_eq!(samples.aggregate(start, 4_999_000, Aggregate::Increase), Some(3_599.0));
}
