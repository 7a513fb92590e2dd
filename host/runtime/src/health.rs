//! When a slot's plugin is called and when it is left alone: a pure state machine.
//!
//! | state | asked | succeeded | failed |
//! |---|---|---|---|
//! | running, n failures in a row | go | running, 0 | n = 0: running, 1; else backing off; the [`MAX_FAILURES`]th: quarantined, give up |
//! | backing off until t | before t: wait; else go, running, n | running, 0 | as running |
//! | quarantined until t | before t: refuse; else one trial | running, 0 | quarantined again |
//!
//! The first failure costs nothing but a fresh instance, so that one poisonous input does not
//! stop the rest; each further one in a row doubles the wait. A new generation starts anew, and
//! what an old one still reports is ignored.

/// Failures in a row after which a plugin is quarantined.
pub(crate) const MAX_FAILURES: u32 = 6;
/// The wait after the second failure in a row, in milliseconds, unless set otherwise; it
/// doubles from there.
pub(crate) const FIRST_WAIT_MS: i64 = 1_000;
/// How long a quarantine lasts before one call is tried, in milliseconds (15 minutes).
const TRIAL_AFTER_MS: i64 = 15 * 60_000;

/// Whether a slot's plugin is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    generation: u64,
    first_wait_ms: i64,
    failures: u32,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    BackingOff { until: i64 },
    Quarantined { reason: String, until: i64 },
}

/// What may be done with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    Go,
    Wait { until: i64, failures: u32 },
    Refuse { reason: String },
}

impl Health {
    pub(crate) fn new(generation: u64, first_wait_ms: i64) -> Self {
        Self { generation, first_wait_ms, failures: 0, state: State::Running }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// A call is wanted at `now`.
    pub(crate) fn asked(&mut self, now: i64) -> Decision {
        match &self.state {
            State::Running => Decision::Go,
            State::BackingOff { until } if now < *until => {
                Decision::Wait { until: *until, failures: self.failures }
            }
            State::BackingOff { .. } => {
                self.state = State::Running;
                Decision::Go
            }
            State::Quarantined { reason, until } if now < *until => {
                Decision::Refuse { reason: reason.clone() }
            }
            State::Quarantined { reason, .. } => {
                // Others wait for what becomes of this one.
                let reason = reason.clone();
                self.state = State::Quarantined { reason, until: now + TRIAL_AFTER_MS };
                Decision::Go
            }
        }
    }

    /// A call of a generation gave a result, be it one that says that it has none.
    pub(crate) fn succeeded(&mut self, generation: u64) {
        if generation == self.generation {
            self.failures = 0;
            self.state = State::Running;
        }
    }

    /// A call of a generation failed at `now`. Whether it is to be given up.
    pub(crate) fn failed(&mut self, generation: u64, now: i64, reason: &str) -> bool {
        if generation != self.generation {
            return false;
        }
        let was_quarantined = matches!(self.state, State::Quarantined { .. });
        self.failures = (self.failures + 1).min(MAX_FAILURES);
        self.state = match self.failures {
            1 => State::Running,
            MAX_FAILURES => {
                State::Quarantined { reason: reason.to_owned(), until: now + TRIAL_AFTER_MS }
            }
            n => State::BackingOff { until: now + (self.first_wait_ms << (n - 2)) },
        };
        self.failures == MAX_FAILURES && !was_quarantined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_double_the_wait_and_end_in_quarantine() {
        let mut health = Health::new(1, FIRST_WAIT_MS);
        let mut waits = Vec::new();
        let mut now = 0;
        let given_up = loop {
            assert_eq!(health.asked(now), Decision::Go);
            let give_up = health.failed(1, now, "boom");
            if let Decision::Wait { until, .. } = health.asked(now) {
                waits.push(until - now);
                assert!(matches!(health.asked(until - 1), Decision::Wait { .. }));
                now = until;
            }
            if give_up {
                break now;
            }
        };
        assert_eq!(waits, [1_000, 2_000, 4_000, 8_000]);
        assert_eq!(health.asked(given_up), Decision::Refuse { reason: "boom".into() });
    }

    #[test]
    fn a_quarantined_plugin_gets_one_trial_at_a_time() {
        let mut health = Health::new(1, FIRST_WAIT_MS);
        for _ in 0..MAX_FAILURES {
            health.failed(1, 0, "boom");
        }
        assert!(matches!(health.asked(TRIAL_AFTER_MS - 1), Decision::Refuse { .. }));
        assert_eq!(health.asked(TRIAL_AFTER_MS), Decision::Go);
        assert!(matches!(health.asked(TRIAL_AFTER_MS), Decision::Refuse { .. }));
        assert!(!health.failed(1, TRIAL_AFTER_MS, "again"), "it was given up before");
        assert_eq!(
            *health.state(),
            State::Quarantined { reason: "again".into(), until: 2 * TRIAL_AFTER_MS }
        );
        assert_eq!(health.asked(2 * TRIAL_AFTER_MS), Decision::Go);
        health.succeeded(1);
        assert_eq!(health, Health::new(1, FIRST_WAIT_MS));
    }

    #[test]
    fn a_success_in_between_starts_the_count_again() {
        let mut health = Health::new(1, FIRST_WAIT_MS);
        for now in 0..100 {
            assert!(!health.failed(1, now, "boom"));
            assert_eq!(health.asked(now), Decision::Go, "one failure costs no wait");
            health.succeeded(1);
        }
    }

    #[test]
    fn what_an_old_generation_reports_is_ignored() {
        let mut health = Health::new(2, FIRST_WAIT_MS);
        for _ in 0..10 {
            assert!(!health.failed(1, 0, "boom"));
        }
        assert_eq!(health, Health::new(2, FIRST_WAIT_MS));
        health.failed(2, 0, "boom");
        health.succeeded(1);
        assert_ne!(health, Health::new(2, FIRST_WAIT_MS));
    }
}
