//! So many messages a minute.

use std::collections::VecDeque;

/// The window in which messages are counted, in milliseconds.
const WINDOW_MS: i64 = 60_000;

/// When the messages of the last minute were begun, the oldest first.
#[derive(Debug)]
pub(super) struct Throttle {
    most: usize,
    begun: VecDeque<i64>,
}

impl Throttle {
    pub(super) fn new(most: u64) -> Self {
        Self { most: usize::try_from(most).unwrap_or(usize::MAX), begun: VecDeque::new() }
    }

    /// Counts a message that is begun now, or says in how many milliseconds one may be. A clock
    /// that was set back frees what lies ahead of it.
    pub(super) fn take(&mut self, now: i64) -> Result<(), u64> {
        self.begun.retain(|begun| *begun <= now && now - *begun < WINDOW_MS);
        if self.begun.len() < self.most {
            self.begun.push_back(now);
            return Ok(());
        }
        let oldest = self.begun.front().copied().unwrap_or(now);
        Err((oldest + WINDOW_MS - now).max(1).unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_place_is_free_again_a_minute_after_it_was_taken() {
        let mut throttle = Throttle::new(2);
        for (now, taken) in [
            (1_000, Ok(())),
            (31_000, Ok(())),
            (31_000, Err(30_000)),
            (60_999, Err(1)),
            (61_000, Ok(())),
            (61_001, Err(29_999)),
        ] {
            assert_eq!(throttle.take(now), taken, "at {now}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_stop_mail() {
        let mut throttle = Throttle::new(1);
        assert_eq!(throttle.take(10_000_000), Ok(()));
        assert_eq!(throttle.take(1_000), Ok(()));
        assert_eq!(throttle.take(2_000), Err(59_000));
    }

    proptest! {
        #[test]
        fn no_minute_has_more_than_it_may(
            most in 1u64..5,
            steps in proptest::collection::vec(0i64..40_000, 1..60),
        ) {
            let (mut throttle, mut now, mut taken) = (Throttle::new(most), 0, Vec::new());
            for step in steps {
                now += step;
                if let Err(wait) = throttle.take(now) {
                    prop_assert!((1..=60_000).contains(&wait));
                    now += wait as i64;
                    prop_assert_eq!(throttle.take(now), Ok(()));
                }
                taken.push(now);
                let within = taken.iter().filter(|at| **at > now - WINDOW_MS).count();
                prop_assert!(within as u64 <= most);
            }
        }
    }
}
