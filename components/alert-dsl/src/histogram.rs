//! Quantiles of classic histograms: cumulative buckets told apart by the label `le`.

use std::collections::HashMap;

use crate::relation::Labels;
use crate::term::Rows;

/// The label of a bucket's upper bound.
const BOUND: &str = "le";

/// Upper bound and cumulative count.
type Bucket = (f64, f64);

/// One row for each histogram. A row whose `le` is no number is passed over.
pub(crate) fn quantiles(quantile: f64, rows: Rows) -> Rows {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut histograms: Vec<(Labels, Vec<Bucket>)> = Vec::new();
    for (labels, count) in rows {
        let bound = labels.iter().find(|(key, _)| key == BOUND);
        let Some(bound) = bound.and_then(|(_, value)| value.parse().ok()) else { continue };
        let own: Labels = labels.iter().filter(|(key, _)| key != BOUND).cloned().collect();
        let place = *places.entry(own).or_insert_with_key(|own| {
            histograms.push((Labels::clone(own), Vec::new()));
            histograms.len() - 1
        });
        histograms[place].1.push((bound, count));
    }
    histograms.into_iter().map(|(own, buckets)| (own, of_buckets(quantile, buckets))).collect()
}

/// Linear between the bounds of the bucket in which the quantile lies, as PromQL does; NaN where
/// there is no bucket without a bound, only that one, or nothing was observed.
fn of_buckets(quantile: f64, mut buckets: Vec<Bucket>) -> f64 {
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    if buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
        return f64::NAN;
    }
    // Two of one bound are parts of one; a count below an earlier one was read a little before.
    buckets.dedup_by(|later, first| {
        let same = later.0 == first.0;
        first.1 += if same { later.1 } else { 0.0 };
        same
    });
    let mut most = f64::NEG_INFINITY;
    for (_, count) in &mut buckets {
        if *count > most {
            most = *count;
        } else if *count < most {
            *count = most;
        }
    }
    let last = buckets.len() - 1;
    let observed = buckets[last].1;
    if last == 0 || observed == 0.0 || observed.is_nan() {
        return f64::NAN;
    }
    let rank = quantile * observed;
    // What is no number reaches no rank.
    let reaches = |count: f64| count >= rank;
    let at = buckets[..last].partition_point(|(_, count)| !reaches(*count));
    let (end, count) = buckets[at];
    if at == last {
        return buckets[last - 1].0;
    }
    let (start, before) = match at.checked_sub(1) {
        Some(at) => buckets[at],
        None if end <= 0.0 => return end,
        None => (0.0, 0.0),
    };
    start + (end - start) * ((rank - before) / (count - before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// From the definition: the first bound by which the quantile's rank is reached.
    fn naive(quantile: f64, buckets: &[Bucket]) -> f64 {
        let mut bounds: Vec<f64> = buckets.iter().map(|(bound, _)| *bound).collect();
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        let n = bounds.len();
        if n < 2 || bounds[n - 1] != f64::INFINITY {
            return f64::NAN;
        }
        let own = |at: usize| -> f64 {
            buckets.iter().filter(|(bound, _)| *bound == bounds[at]).map(|(_, count)| count).sum()
        };
        // Counts never fall from a bound to the next.
        let count = |at: usize| (0..=at).map(own).fold(f64::NEG_INFINITY, f64::max);
        let rank = quantile * count(n - 1);
        if count(n - 1) == 0.0 {
            return f64::NAN;
        }
        for at in 0..n - 1 {
            if count(at) < rank {
                continue;
            }
            return match at {
                0 if bounds[0] <= 0.0 => bounds[0],
                0 => bounds[0] * (rank / count(0)),
                _ => {
                    let part = (rank - count(at - 1)) / (count(at) - count(at - 1));
                    bounds[at - 1] + (bounds[at] - bounds[at - 1]) * part
                }
            };
        }
        bounds[n - 2]
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_a_naive_reference(
            buckets in prop::collection::vec(
                (
                    select(vec![-2.0, 0.0, 0.1, 0.5, 1.0, 2.5, 1e9, f64::INFINITY, f64::INFINITY]),
                    prop_oneof![
                        20 => (0i32..50).prop_map(f64::from),
                        5 => 0.0f64..1.0,
                        1 => select(vec![1e300, 1e-300]),
                    ],
                ),
                0..10,
            ),
            quantile in prop_oneof![3 => 0.0f64..=1.0, 1 => select(vec![0.0, 0.5, 0.99, 1.0])],
        ) {
            let (found, expected) = (of_buckets(quantile, buckets.clone()), naive(quantile, &buckets));
            let same = found == expected
                || found.is_nan() && expected.is_nan()
                || (found - expected).abs() <= 1e-9 * expected.abs();
            prop_assert!(same, "{:?}, expected {:?}", found, expected);
        }
    }

    #[test]
    fn quantiles_are_linear_within_a_bucket() {
        const INF: f64 = f64::INFINITY;
        let cases: &[(f64, &[Bucket], f64)] = &[
            (0.5, &[(1.0, 10.0), (2.0, 20.0), (INF, 20.0)], 1.0),
            (0.75, &[(1.0, 10.0), (2.0, 20.0), (INF, 20.0)], 1.5),
            (0.25, &[(1.0, 10.0), (2.0, 20.0), (INF, 20.0)], 0.5),
            // Beyond the last bound there is nothing to interpolate to.
            (0.99, &[(1.0, 10.0), (2.0, 20.0), (INF, 30.0)], 2.0),
            (0.5, &[(-1.0, 10.0), (INF, 10.0)], -1.0),
            // Parts of a bucket, in any order, and one that fell behind.
            (0.5, &[(INF, 20.0), (2.0, 5.0), (1.0, 5.0), (1.0, 5.0)], 1.0),
        ];
        for (quantile, buckets, expected) in cases {
            assert_eq!(
                of_buckets(*quantile, buckets.to_vec()),
                *expected,
                "{quantile} {buckets:?}"
            );
        }
        for none in [vec![], vec![(INF, 3.0)], vec![(1.0, 3.0)], vec![(1.0, 0.0), (INF, 0.0)]] {
            assert!(of_buckets(0.5, none).is_nan());
        }
    }
}
