//! Leaving a receiver alone that does not answer, so that what waits does not use up its attempts
//! against a wall, and a receiver that comes back is not met by all of it at once.
//!
//! | before | it answered (took it, or never will) | it failed | it failed and said when to come again |
//! |---|---|---|---|
//! | closed, n failures in a row | closed, none | closed, n + 1; open once they are [`FAILURES`] | open until then |
//! | open until | closed | open until, or later | open until then, or until, whichever is later |
//! | probing (`until` is over: one attempt at a time), fewer than [`FAILURES`] in a row with this one | closed | closed, n + 1 | open until then |
//! | probing, so many or more | closed | open, for twice as long | open until then |
//!
//! The first wait is [`FIRST_WAIT_MS`], the longest [`MAX_WAIT_MS`]; a receiver's own wish counts up
//! to [`MAX_RETRY_AFTER_MS`].

use crate::delivery::{MAX_RETRY_AFTER_MS, Outcome};

/// So many failures in a row open it.
pub const FAILURES: u32 = 5;
/// The first time for which a receiver is left alone.
pub const FIRST_WAIT_MS: i64 = 10_000;
/// The longest.
pub const MAX_WAIT_MS: i64 = 300_000;

/// What came of an attempt, for the receiver as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It answered, whatever it said of this one.
    Answered,
    /// It did not, or said that it cannot now.
    Failed {
        /// When it wants to be asked again.
        after_ms: Option<u64>,
    },
}

impl From<&Outcome> for Answer {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Delivered { .. } | Outcome::Permanent { .. } => Self::Answered,
            Outcome::Retry { after_ms, .. } => Self::Failed { after_ms: *after_ms },
            Outcome::Unknown { .. } => Self::Failed { after_ms: None },
        }
    }
}

/// The circuit of one receiver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Circuit {
    /// Failures in a row.
    failures: u32,
    /// Until when it is left alone, and for how long that is.
    open: Option<(i64, i64)>,
}

impl Circuit {
    /// How many attempts may be under way at `now` (unix milliseconds), of at most `most`.
    #[must_use]
    pub fn allows(&self, now: i64, most: usize) -> usize {
        match self.open {
            None => most,
            Some(_) if self.wait(now) > 0 => 0,
            Some(_) => most.min(1),
        }
    }

    /// How long it is left alone from `now` on, in milliseconds. A time that no wait leads to
    /// comes from a clock that was wrong.
    #[must_use]
    pub fn wait(&self, now: i64) -> i64 {
        let wait = self.open.map_or(0, |(until, _)| until.saturating_sub(now));
        if wait > MAX_RETRY_AFTER_MS { 0 } else { wait.max(0) }
    }

    /// Whether the receiver is taken for down.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some() && self.failures >= FAILURES
    }

    /// After an attempt that ended at `now`.
    #[must_use]
    pub fn step(self, now: i64, answer: Answer) -> Self {
        let Answer::Failed { after_ms } = answer else { return Self::default() };
        let failures = self.failures.saturating_add(1);
        let wish = after_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX).min(MAX_RETRY_AFTER_MS));
        let (until, length) = match (self.open, wish) {
            (None, None) if failures < FAILURES => return Self { failures, open: None },
            (None, None) => (now.saturating_add(FIRST_WAIT_MS), FIRST_WAIT_MS),
            (None, Some(wish)) => (now.saturating_add(wish), FIRST_WAIT_MS),
            (Some((until, length)), None) if self.wait(now) > 0 => (until, length),
            // It had asked for the wait itself, and is not down for that.
            (Some(_), None) if failures < FAILURES => return Self { failures, open: None },
            (Some((_, length)), None) => {
                let length = length.saturating_mul(2).min(MAX_WAIT_MS);
                (now.saturating_add(length), length)
            }
            (Some((until, length)), Some(wish)) if self.wait(now) > 0 => {
                (until.max(now.saturating_add(wish)), length)
            }
            (Some((_, length)), Some(wish)) => (now.saturating_add(wish), length),
        };
        Self { failures, open: Some((until, length)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOWN: Answer = Answer::Failed { after_ms: None };

    fn later(ms: u64) -> Answer {
        Answer::Failed { after_ms: Some(ms) }
    }

    #[test]
    fn the_table_of_the_module_is_what_happens() {
        let closed = |failures| Circuit { failures, open: None };
        let open = |failures, until, length| Circuit { failures, open: Some((until, length)) };
        let last = FAILURES - 1;
        for (i, (before, now, answer, after)) in [
            (closed(3), 0, Answer::Answered, closed(0)),
            (closed(0), 0, DOWN, closed(1)),
            (closed(last), 5, DOWN, open(FAILURES, 10_005, 10_000)),
            (closed(0), 5, later(700), open(1, 705, 10_000)),
            (closed(0), 5, later(u64::MAX), open(1, 5 + MAX_RETRY_AFTER_MS, 10_000)),
            (open(5, 100, 10_000), 50, Answer::Answered, closed(0)),
            (open(5, 100, 10_000), 50, DOWN, open(6, 100, 10_000)),
            (open(5, 100, 10_000), 50, later(10), open(6, 100, 10_000)),
            (open(5, 100, 10_000), 50, later(99), open(6, 149, 10_000)),
            (open(5, 100, 10_000), 100, Answer::Answered, closed(0)),
            (open(5, 100, 10_000), 100, DOWN, open(6, 20_100, 20_000)),
            (open(9, 100, 200_000), 100, DOWN, open(10, 300_100, MAX_WAIT_MS)),
            (open(5, 100, 10_000), 100, later(10), open(6, 110, 10_000)),
            (open(1, 705, 10_000), 705, DOWN, closed(2)),
            (open(last, 705, 10_000), 705, DOWN, open(FAILURES, 20_705, 20_000)),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(before.step(now, answer), after, "row {i}");
        }
    }

    #[test]
    fn an_open_circuit_lets_nothing_through_and_then_one_at_a_time() {
        let open = Circuit { failures: 5, open: Some((100, 10_000)) };
        for (now, allowed, wait) in [(40, 0, 60), (99, 0, 1), (100, 1, 0), (5_000, 1, 0)] {
            assert_eq!((open.allows(now, 4), open.wait(now)), (allowed, wait), "at {now}");
        }
        assert_eq!(Circuit::default().allows(0, 4), 4);
        assert_eq!(open.allows(100 - MAX_RETRY_AFTER_MS - 1, 4), 1, "a clock that was wrong");
    }

    #[test]
    fn a_receiver_that_asks_for_a_wait_is_not_taken_for_down() {
        assert!(!Circuit::default().step(0, later(700)).is_open());
        let down = (0..FAILURES).fold(Circuit::default(), |circuit, _| circuit.step(0, DOWN));
        assert!(down.is_open());
    }

    #[test]
    fn a_receiver_that_refuses_one_notification_is_not_down() {
        let said = |outcome: Outcome| Answer::from(&outcome);
        let message = String::new;
        assert_eq!(said(Outcome::Permanent { message: message() }), Answer::Answered);
        assert_eq!(said(Outcome::Delivered { message: message() }), Answer::Answered);
        assert_eq!(said(Outcome::Unknown { message: message() }), DOWN);
        let retry = Outcome::Retry { message: message(), after_ms: Some(7) };
        assert_eq!(said(retry), later(7));
    }
}
