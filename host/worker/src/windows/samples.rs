//! The recent samples of one series, and one number out of them.

use super::blocks::{Blocks, Summary};
use super::estimate::{self, Sum};
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
    /// Samples up to this time are gone.
    forgotten: Option<i64>,
    /// Longest window that reads it, in milliseconds.
    span: i64,
    /// Where there are more than [`DIRECT`]: what a long window is made of.
    blocks: Option<Box<Blocks>>,
}

/// Windows with so many samples are made of the samples, longer ones of blocks of them. Quantiles
/// and estimates read all samples of their window: at most [`MAX_SAMPLES`].
const DIRECT: usize = 1_000;

impl Samples {
    /// Without samples, for windows of at most `span` milliseconds.
    pub(crate) fn new(span: i64) -> Self {
        Self { span, ..Self::default() }
    }

    /// For windows of another length.
    pub(crate) fn with_span(self, span: i64) -> Self {
        let blocks = if span == self.span { self.blocks } else { None };
        let mut samples = Self { span, blocks, ..self };
        samples.block();
        samples
    }

    pub(crate) fn len(&self) -> usize {
        self.times.len() - self.head
    }

    /// All that are here.
    pub(crate) fn kept(&self) -> (&[i64], &[f64]) {
        (&self.times[self.head..], &self.values[self.head..])
    }

    /// Makes blocks where they are worth it, and drops them where they no longer are.
    fn block(&mut self) {
        if self.blocks.is_none() && self.len() > DIRECT {
            let (times, values) = self.kept();
            self.blocks = Some(Box::new(Blocks::new(self.span, times, values)));
        } else if self.blocks.is_some() && self.len() <= DIRECT / 2 {
            self.blocks = None;
        }
    }

    /// Adds a sample; of several at one time the last added counts.
    pub(crate) fn push(&mut self, time: i64, value: f64) {
        if self.times.last().is_none_or(|&last| last < time) || self.len() == 0 {
            self.times.push(time);
            self.values.push(value);
            if let Some(blocks) = &mut self.blocks {
                blocks.append(time, value);
            }
        } else {
            match self.times[self.head..].binary_search(&time) {
                // Of the tail that is read once more nothing is new.
                Ok(at) if self.values[self.head + at].to_bits() == value.to_bits() => return,
                Ok(at) => self.values[self.head + at] = value,
                Err(at) => {
                    self.times.insert(self.head + at, time);
                    self.values.insert(self.head + at, value);
                }
            }
            if let Some(blocks) = &mut self.blocks {
                blocks.renew(time, &self.times[self.head..], &self.values[self.head..]);
            }
        }
        if self.len() > MAX_SAMPLES {
            self.drop_front(self.len() - MAX_SAMPLES);
        }
        self.block();
    }

    /// Puts stored samples, strictly increasing in time, under those that are here: at a time
    /// that both have, what is here counts, for it was committed no earlier.
    pub(crate) fn merge(&mut self, times: &[i64], values: &[f64]) {
        if self.len() == 0 {
            let (times, values) = (times.to_vec(), values.to_vec());
            *self = Self { times, values, ..Self::new(self.span) };
            self.settle();
            return;
        }
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
        *self = Self { times: merged_times, values: merged_values, ..Self::new(self.span) };
        self.settle();
    }

    /// Drops what is beyond the bound, and makes blocks of the rest where they are worth it.
    fn settle(&mut self) {
        if self.len() > MAX_SAMPLES {
            self.drop_front(self.len() - MAX_SAMPLES);
        }
        self.block();
    }

    /// Forgets samples up to and including `until`.
    pub(crate) fn forget(&mut self, until: i64) {
        let gone = self.times[self.head..].partition_point(|&t| t <= until);
        if gone > 0 {
            self.drop_front(gone);
            self.block();
        }
    }

    fn drop_front(&mut self, count: usize) {
        self.head += count;
        self.forgotten = self.times.get(self.head - 1).copied();
        if let (Some(blocks), Some(first)) = (&mut self.blocks, self.times.get(self.head)) {
            blocks.forget(*first);
        }
        if self.head * 2 >= self.times.len() {
            self.times.drain(..self.head);
            self.values.drain(..self.head);
            self.head = 0;
        }
    }

    /// One number out of `start < time <= end`; `None` where there is none.
    pub(crate) fn aggregate(&self, start: i64, end: i64, aggregate: Aggregate) -> Option<f64> {
        let (times, values) = self.kept();
        let is_over = times.last().is_some_and(|&last| last <= end);
        let to = if is_over { times.len() } else { times.partition_point(|&t| t <= end) };
        let (first, of_times) = match aggregate {
            Aggregate::Estimate { estimate, closed } => {
                (start.saturating_sub(i64::from(closed)), Some(estimate))
            }
            _ => (start, None),
        };
        if to == 0 || times[to - 1] <= first {
            return None;
        }
        if aggregate == Aggregate::Last {
            return Some(values[to - 1]);
        }
        let from = times[..to].partition_point(|&t| t <= first);
        let within = (&times[from..to], &values[from..to]);
        match (of_times, &self.blocks) {
            (Some(estimate), _) => estimate::estimate(estimate, within.0, within.1, (start, end)),
            (None, Some(blocks)) if to - from > DIRECT && is_summed_up(aggregate) => {
                // A block of which the beginning is forgotten is not whole.
                let whole_from = self.forgotten.map_or(start, |until| until.max(start));
                of_summary(&blocks.summary(within, whole_from, end), aggregate)
            }
            (None, _) => compute(within.0, within.1, aggregate),
        }
    }
}

fn is_summed_up(aggregate: Aggregate) -> bool {
    !matches!(aggregate, Aggregate::Last | Aggregate::Quantile(_) | Aggregate::Estimate { .. })
}

/// What [`compute`] would find, within rounding, of what [`is_summed_up`].
fn of_summary(summary: &Summary, aggregate: Aggregate) -> Option<f64> {
    match aggregate {
        Aggregate::Avg => Some(summary.sum.value() / summary.count as f64),
        Aggregate::Min => Some(summary.min),
        Aggregate::Max => Some(summary.max),
        Aggregate::Sum => Some(summary.sum.value()),
        Aggregate::Count => Some(summary.count as f64),
        Aggregate::Increase => summary.grown().map(|(grown, _)| grown),
        Aggregate::Rate => summary.grown().map(|(grown, millis)| grown / (millis as f64 / 1000.0)),
        Aggregate::Last | Aggregate::Quantile(_) | Aggregate::Estimate { .. } => None,
    }
}

/// The contract's aggregates over at least one sample. Where it leaves NaN open: `last`,
/// `count`, `avg` and `sum` take it as any value; the others leave it out, and answer NaN
/// (`min`, `max`, `quantile`) or nothing (`increase`, `rate`) where nothing else is left.
fn compute(times: &[i64], values: &[f64], aggregate: Aggregate) -> Option<f64> {
    let sum = || values.iter().copied().collect::<Sum>().value();
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
    // Of each its part, as Prometheus does: the difference of two huge ones may be no number. Nor
    // is no part of an infinity, hence nothing is made of equals.
    if low == high { low } else { low * (1.0 - rank.fract()) + high * rank.fract() }
}

#[cfg(test)]
mod estimates;
#[cfg(test)]
mod tests;
