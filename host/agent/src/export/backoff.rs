//! How long to wait after a failure: twice as long each time, up to a bound, and never the
//! same for all agents.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
/// The longest wait, before it is spread.
pub(super) const MOST: Duration = Duration::from_secs(30);

/// The wait after the next failure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    /// After a failure: how long to wait, spread by `lot` (from 0 up to 1) over half to one
    /// and a half of it.
    pub(super) fn next(&mut self, lot: f64) -> Duration {
        let wait = self.0.mul_f64(0.5 + lot.clamp(0.0, 1.0));
        self.0 = (self.0 * 2).min(MOST);
        wait
    }

    /// After a success.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// What the server asked for, within reason: an answer of nothing must not make a busy loop,
/// and one of an hour not a silent agent.
pub(super) fn asked(milliseconds: u32, lot: f64) -> Duration {
    let asked = Duration::from_millis(milliseconds.into()).clamp(FIRST / 2, MOST);
    asked.mul_f64(1.0 + lot.clamp(0.0, 1.0) / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..9).map(|_| backoff.next(0.5).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        backoff.reset();
        assert_eq!(backoff.next(0.5), FIRST);
    }

    #[test]
    fn a_wait_is_spread_over_half_to_one_and_a_half() {
        for (lot, expected) in [(0.0, 250), (0.25, 375), (1.0, 750)] {
            assert_eq!(Backoff::default().next(lot).as_millis(), expected);
        }
    }

    #[test]
    fn what_a_server_asks_for_is_kept_within_bounds() {
        for (asked_ms, expected) in [(0, 250), (1000, 1000), (u32::MAX, 30_000)] {
            assert_eq!(asked(asked_ms, 0.0).as_millis(), expected);
        }
    }
}
