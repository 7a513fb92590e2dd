//! A series' samples summed up in blocks of time, so that a long window costs its two edges and a
//! number of blocks, whatever lies between.
//!
//! A block is all samples of one stretch of time, `[n * length, (n + 1) * length)`. Which they are
//! and how they are added depends on the samples alone, not on how they came: after a restart, and
//! whatever came late, a window gives the same number to the last bit.

use super::estimate::Sum;
use std::collections::VecDeque;

/// A series' longest window has at least so many blocks, and less than twice as many.
const BLOCKS: i64 = 64;

/// What samples in order of time come to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Summary {
    pub(super) count: u64,
    pub(super) sum: Sum,
    /// Smallest and greatest; NaN where nothing else is there.
    pub(super) min: f64,
    pub(super) max: f64,
    /// Time and value of the first and the last sample that is no NaN.
    ends: Option<((i64, f64), (i64, f64))>,
    numbers: u64,
    /// Growth between these two, resets corrected.
    grown: f64,
}

impl Default for Summary {
    fn default() -> Self {
        let (min, max) = (f64::NAN, f64::NAN);
        Self { count: 0, sum: Sum::default(), min, max, ends: None, numbers: 0, grown: 0.0 }
    }
}

impl Summary {
    fn add(&mut self, time: i64, value: f64) {
        self.count += 1;
        self.sum.add(value);
        if value.is_nan() {
            return;
        }
        (self.min, self.max) = (self.min.min(value), self.max.max(value));
        self.numbers += 1;
        self.ends = Some(match self.ends {
            None => ((time, value), (time, value)),
            Some((first, (_, last))) => {
                self.grown += step(last, value);
                (first, (time, value))
            }
        });
    }

    fn add_all(&mut self, times: &[i64], values: &[f64]) {
        times.iter().zip(values).for_each(|(time, value)| self.add(*time, *value));
    }

    /// Takes what comes after.
    fn join(&mut self, later: &Self) {
        self.count += later.count;
        self.sum.join(&later.sum);
        (self.min, self.max) = (self.min.min(later.min), self.max.max(later.max));
        self.numbers += later.numbers;
        self.ends = match (self.ends, later.ends) {
            (Some((first, last)), Some((next, end))) => {
                self.grown += step(last.1, next.1) + later.grown;
                Some((first, end))
            }
            (None, ends) => {
                self.grown = later.grown;
                ends
            }
            (ends, None) => ends,
        };
    }

    /// The increase of a counter and the milliseconds in which it grew; needs two numbers.
    pub(super) fn grown(&self) -> Option<(f64, i64)> {
        let (first, last) = self.ends?;
        (self.numbers > 1).then(|| (self.grown, last.0.saturating_sub(first.0)))
    }
}

/// The growth of a counter: a value below the one before has begun again from zero.
fn step(before: f64, after: f64) -> f64 {
    if after < before { after } else { after - before }
}

/// The blocks of a series.
#[derive(Debug, Clone)]
pub(super) struct Blocks {
    /// Of a block, in milliseconds: a power of two.
    length: i64,
    /// In order of their number; none is empty.
    list: VecDeque<(i64, Summary)>,
}

impl Blocks {
    pub(super) fn new(span: i64, times: &[i64], values: &[f64]) -> Self {
        let wanted = u64::try_from(span / BLOCKS).unwrap_or(0).max(1);
        let length = 1 << (63 - wanted.leading_zeros());
        let mut blocks = Self { length, list: VecDeque::new() };
        times.iter().zip(values).for_each(|(time, value)| blocks.append(*time, *value));
        blocks
    }

    fn number(&self, time: i64) -> i64 {
        time.div_euclid(self.length)
    }

    /// Takes a sample later than all.
    pub(super) fn append(&mut self, time: i64, value: f64) {
        let number = self.number(time);
        match self.list.back_mut() {
            Some((last, summary)) if *last == number => summary.add(time, value),
            Some(_) | None => {
                let mut summary = Summary::default();
                summary.add(time, value);
                self.list.push_back((number, summary));
            }
        }
    }

    /// Sums a time's block up anew, out of all samples: one of it is new, or another.
    pub(super) fn renew(&mut self, time: i64, times: &[i64], values: &[f64]) {
        let number = self.number(time);
        let from = times.partition_point(|&t| self.number(t) < number);
        let to = from + times[from..].partition_point(|&t| self.number(t) == number);
        let mut summary = Summary::default();
        summary.add_all(&times[from..to], &values[from..to]);
        match self.list.binary_search_by_key(&number, |(number, _)| *number) {
            Ok(at) => self.list[at].1 = summary,
            Err(at) => self.list.insert(at, (number, summary)),
        }
    }

    /// Forgets blocks that are wholly before the first sample that is left.
    pub(super) fn forget(&mut self, first: i64) {
        let number = self.number(first);
        while self.list.front().is_some_and(|(of, _)| *of < number) {
            self.list.pop_front();
        }
    }

    /// What the samples `within` a window come to; blocks that lie in `start < time <= end` are
    /// taken whole.
    pub(super) fn summary(
        &self,
        (times, values): (&[i64], &[f64]),
        start: i64,
        end: i64,
    ) -> Summary {
        let mut summary = Summary::default();
        let (first, until) = (self.number(start) + 1, self.number(end.saturating_add(1)));
        if until <= first {
            summary.add_all(times, values);
            return summary;
        }
        let before = times.partition_point(|&t| self.number(t) < first);
        let after = times.partition_point(|&t| self.number(t) < until);
        summary.add_all(&times[..before], &values[..before]);
        let at = self.list.partition_point(|(number, _)| *number < first);
        for (_, block) in self.list.range(at..).take_while(|(number, _)| *number < until) {
            summary.join(block);
        }
        summary.add_all(&times[after..], &values[after..]);
        summary
    }
}
