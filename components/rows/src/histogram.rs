//! Flattening of cumulative histograms.

use std::collections::BTreeMap;

use sentinel_sdk::{Batch, Kind, is_metric_name, rows};

use crate::plan::Flatten;

/// The label that tells quantiles apart.
const QUANTILE: &str = "quantile";

/// One histogram at one time: base name, labels without `le`, time.
type Key = (String, Vec<(u32, u32)>, i64);

#[derive(Debug, Default)]
struct Histogram {
    /// Upper bound and cumulative count.
    buckets: Vec<(f64, f64)>,
    sum: Option<f64>,
    count: Option<f64>,
    rows: Vec<usize>,
    sum_and_count_rows: Vec<usize>,
}

/// What a row is to a histogram.
enum Part {
    Bucket { le: f64 },
    Sum,
    Count,
}

/// Replaces the bucket rows of complete histograms.
pub(crate) fn flatten(batch: Batch, plan: &Flatten) -> Batch {
    if !batch.kind.contains(&(Kind::HistogramBucket as u8)) {
        return batch;
    }
    // After an edit equal texts are equal symbols, and so labels can be compared by them.
    let batch = rows::edit(batch, |_| {});
    let mut found: BTreeMap<Key, Histogram> = BTreeMap::new();
    for row in 0..batch.rows() {
        let Some((key, part)) = part_of(&batch, row, plan) else {
            continue;
        };
        let histogram = found.entry(key).or_default();
        let value = batch.value[row];
        match part {
            Part::Bucket { le } => {
                histogram.buckets.push((le, value));
                histogram.rows.push(row);
            }
            Part::Sum => {
                histogram.sum = Some(value);
                histogram.sum_and_count_rows.push(row);
            }
            Part::Count => {
                histogram.count = Some(value);
                histogram.sum_and_count_rows.push(row);
            }
        }
    }
    found.retain(|_, histogram| histogram.buckets.iter().any(|(le, _)| *le == f64::INFINITY));
    if found.is_empty() {
        return batch;
    }
    let mut output = without(batch, &found, plan.keep_sum_and_count);
    let key = output.intern(QUANTILE);
    let quantiles: Vec<_> =
        plan.quantiles.iter().map(|(q, label)| (*q, [key, output.intern(label)])).collect();
    for (key, histogram) in &mut found {
        append(&mut output, key, histogram, &quantiles, plan.average);
    }
    output
}

fn part_of(batch: &Batch, row: usize, plan: &Flatten) -> Option<(Key, Part)> {
    let name = batch.symbol(batch.name[row]);
    let kind = Kind::from_column(batch.kind[row]);
    let suffix = match kind {
        Kind::HistogramBucket => "_bucket",
        Kind::HistogramSum => "_sum",
        Kind::HistogramCount => "_count",
        Kind::Gauge | Kind::Counter => return None,
    };
    // `_bucket` alone has no base that could be a name.
    let base = name.strip_suffix(suffix).filter(|base| is_metric_name(base))?;
    let range = batch.label_offsets[row] as usize..batch.label_offsets[row + 1] as usize;
    let mut le = None;
    let mut labels = Vec::new();
    for [key, value] in batch.labels[range].as_chunks::<2>().0 {
        if kind == Kind::HistogramBucket && batch.symbol(*key) == "le" {
            le = Some(batch.symbol(*value).parse::<f64>().ok()?);
        } else if batch.symbol(*key) == QUANTILE {
            // The row would have the label twice.
            return None;
        } else {
            labels.push((*key, *value));
        }
    }
    labels.sort_unstable();
    // The selector speaks of bucket rows; sums and counts follow their buckets.
    let bucket_name = match kind {
        Kind::HistogramBucket => name.to_owned(),
        _ => format!("{base}_bucket"),
    };
    let taken = plan.select.takes_name(&bucket_name)
        && plan.select.labels.iter().all(|condition| {
            let value = labels
                .iter()
                .find(|(key, _)| batch.symbol(*key) == condition.key)
                .map_or("", |(_, value)| batch.symbol(*value));
            condition.holds(value)
        });
    let part = match kind {
        Kind::HistogramBucket => Part::Bucket { le: le? },
        Kind::HistogramSum => Part::Sum,
        _ => Part::Count,
    };
    taken.then(|| ((base.to_owned(), labels, batch.time[row]), part))
}

fn without(batch: Batch, found: &BTreeMap<Key, Histogram>, keep_sum_and_count: bool) -> Batch {
    let mut gone = vec![false; batch.rows()];
    for histogram in found.values() {
        let others = if keep_sum_and_count { &[][..] } else { &histogram.sum_and_count_rows };
        for row in histogram.rows.iter().chain(others) {
            gone[*row] = true;
        }
    }
    let mut gone = gone.into_iter();
    rows::edit(batch, |row| {
        if gone.next() == Some(true) {
            row.drop();
        }
    })
}

fn append(
    batch: &mut Batch,
    key: &Key,
    histogram: &mut Histogram,
    quantiles: &[(f64, [u32; 2])],
    average: bool,
) {
    let (base, labels, time) = key;
    let total = cumulate(&mut histogram.buckets);
    if total == 0.0 {
        return;
    }
    let push = |batch: &mut Batch, name: u32, extra: &[u32], value: f64| {
        batch.name.push(name);
        for (key, value) in labels {
            batch.labels.extend_from_slice(&[*key, *value]);
        }
        batch.labels.extend_from_slice(extra);
        batch.label_offsets.push(batch.labels.len() as u32);
        batch.kind.push(Kind::Gauge as u8);
        batch.value.push(value);
        batch.time.push(*time);
    };
    if !quantiles.is_empty() {
        let name = batch.intern(base);
        for (q, pair) in quantiles {
            push(batch, name, pair, quantile(*q, &histogram.buckets, total));
        }
    }
    let count = histogram.count.unwrap_or(total);
    if average
        && let Some(sum) = histogram.sum
        && count > 0.0
    {
        let name = batch.intern(&format!("{base}_avg"));
        push(batch, name, &[], sum / count);
    }
}

/// Sorts buckets and makes their counts grow, as those of one moment do. Returns the total, which
/// is not negative and not NaN.
fn cumulate(buckets: &mut Vec<(f64, f64)>) -> f64 {
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    buckets.dedup_by(|again, first| again.0 == first.0);
    let mut most = 0.0_f64;
    for (_, count) in buckets.iter_mut() {
        most = most.max(*count);
        *count = most;
    }
    most
}

/// Linear within the bucket that holds the quantile; the first begins at 0 where its bound is
/// above 0, and what lies in the last one is said to lie at its lower bound.
fn quantile(q: f64, buckets: &[(f64, f64)], total: f64) -> f64 {
    let rank = q * total;
    let at = buckets.partition_point(|(_, count)| *count < rank).min(buckets.len() - 1);
    let (upper, count) = buckets[at];
    let (lower, below) = match at {
        0 if upper <= 0.0 => return upper,
        0 => (0.0, 0.0),
        _ => buckets[at - 1],
    };
    if upper == f64::INFINITY {
        return lower;
    }
    if count == below {
        return upper;
    }
    lower + (upper - lower) * (rank - below) / (count - below)
}

#[cfg(test)]
mod tests {
    use super::{cumulate, quantile};

    #[test]
    fn quantiles_are_interpolated_in_their_bucket() {
        let buckets = [(0.1, 10.0), (0.5, 30.0), (1.0, 40.0), (f64::INFINITY, 50.0)];
        for (q, expect) in [
            (0.0, 0.0),
            (0.1, 0.05),
            (0.2, 0.1),
            (0.4, 0.3),
            (0.6, 0.5),
            (0.8, 1.0),
            (0.9, 1.0),
            (1.0, 1.0),
        ] {
            let got = quantile(q, &buckets, 50.0);
            assert!((got - expect).abs() < 1e-12, "{q}: {got}, not {expect}");
        }
        assert_eq!(quantile(0.5, &[(-1.0, 9.0), (f64::INFINITY, 10.0)], 10.0), -1.0);
        assert_eq!(quantile(0.5, &[(f64::INFINITY, 10.0)], 10.0), 0.0);
    }

    #[test]
    fn counts_that_shrink_are_levelled() {
        let mut buckets = vec![(f64::INFINITY, 9.0), (1.0, 5.0), (2.0, 4.0), (1.0, 7.0)];
        assert_eq!(cumulate(&mut buckets), 9.0);
        assert_eq!(buckets, [(1.0, 5.0), (2.0, 5.0), (f64::INFINITY, 9.0)]);
    }
}
