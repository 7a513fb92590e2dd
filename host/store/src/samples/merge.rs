//! Stored samples and those of the tail as one answer.

use super::tail::Ranked;
use crate::query::{Points, TimeRange};

/// Takes samples in order of time, and keeps the last of each step.
pub(crate) struct Sink {
    pub(crate) points: Points,
    pub(crate) range: TimeRange,
    pub(crate) step: Option<i64>,
}

impl Sink {
    /// Steps are `(start, start + step]`, `(start + step, start + 2 step]` …
    fn step_of(&self, step: i64, time: i64) -> i128 {
        (i128::from(time) - i128::from(self.range.start) - 1) / i128::from(step)
    }

    fn push(&mut self, time: i64, value: f64) {
        if time <= self.range.start || time > self.range.end {
            return;
        }
        if let (Some(step), Some(&last)) = (self.step, self.points.times.last())
            && self.step_of(step, last) == self.step_of(step, time)
        {
            self.points.times.pop();
            self.points.values.pop();
        }
        self.points.times.push(time);
        self.points.values.push(value);
    }
}

/// Stored samples and those of the tail in order of time; at one time the tail's is newer.
pub(crate) fn merge(
    stored: impl Iterator<Item = (i64, f64)>,
    tail: &[Ranked],
    mut sink: Sink,
) -> Points {
    let mut tail = tail.iter().peekable();
    for (time, value) in stored {
        while let Some(newer) = tail.next_if(|t| t.0 < time) {
            sink.push(newer.0, newer.2);
        }
        if tail.peek().is_none_or(|t| t.0 != time) {
            sink.push(time, value);
        }
    }
    for rest in tail {
        sink.push(rest.0, rest.2);
    }
    sink.points
}
