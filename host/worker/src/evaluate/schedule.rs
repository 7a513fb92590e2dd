//! When each rule is evaluated: at multiples of its interval, and at once when it is new.
//!
//! The first evaluation of a schedule is as of now, not as of a multiple that is past: since
//! then samples may have had the rule evaluated, by a process that ended, and what was decided
//! from them is stored. As of an earlier time it would be decided anew.

/// The shortest interval, in milliseconds; a shorter one is evaluated so often.
pub const MIN_INTERVAL_MS: i64 = 1_000;

/// The next evaluation of one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    interval: i64,
    next: i64,
    has_begun: bool,
}

/// An evaluation that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    /// The time as of which it is evaluated.
    pub(crate) at: i64,
    /// How many before it were not made.
    pub(crate) missed: i64,
}

impl Schedule {
    /// Due at once.
    pub(crate) fn new(interval_ms: u64, now: i64) -> Self {
        let interval = i64::try_from(interval_ms).unwrap_or(i64::MAX).max(MIN_INTERVAL_MS);
        Self { interval, next: now - now.rem_euclid(interval), has_begun: false }
    }

    /// Goes on as before if the interval is the same.
    pub(crate) fn or(self, before: Option<Self>) -> Self {
        before.filter(|b| b.interval == self.interval).unwrap_or(self)
    }

    /// When it is due.
    pub(crate) fn next(&self) -> i64 {
        self.next
    }

    /// Takes the evaluation that is due at `now`, if one is. A clock that went back makes one
    /// due: none waits for a time that was wrong.
    pub(crate) fn take(&mut self, now: i64) -> Option<Due> {
        let at = now - now.rem_euclid(self.interval);
        let missed = match at.saturating_sub(self.next) {
            late if late >= 0 => late / self.interval,
            early if early < -2 * self.interval => 0,
            _ => return None,
        };
        self.next = at + self.interval;
        let as_of = if std::mem::replace(&mut self.has_begun, true) { at } else { now };
        Some(Due { at: as_of, missed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluations_but_the_first_are_aligned_and_those_that_were_missed_are_counted() {
        let mut schedule = Schedule::new(10_000, 103_000);
        let mut taken = Vec::new();
        for now in [103_000, 104_000, 110_000, 119_999, 121_000, 152_000, 153_000] {
            taken.push(schedule.take(now).map(|due| (due.at, due.missed)));
        }
        let expected = [
            Some((103_000, 0)),
            None,
            Some((110_000, 0)),
            None,
            Some((120_000, 0)),
            Some((150_000, 2)),
            None,
        ];
        assert_eq!(taken, expected);
        assert_eq!(schedule.next(), 160_000);
    }

    #[test]
    fn a_clock_that_goes_back_stops_nothing() {
        let mut schedule = Schedule::new(10_000, 1_000_000);
        assert!(schedule.take(1_000_000).is_some());
        assert_eq!(schedule.take(995_000), None, "a little is waited for");
        assert_eq!(schedule.take(505_000), Some(Due { at: 500_000, missed: 0 }));
        assert_eq!(schedule.take(510_000), Some(Due { at: 510_000, missed: 0 }));
    }

    #[test]
    fn a_rule_keeps_its_times_when_others_change() {
        let mut before = Schedule::new(10_000, 103_000);
        before.take(103_000);
        assert_eq!(Schedule::new(10_000, 105_000).or(Some(before)).next(), 110_000);
        assert_eq!(Schedule::new(5_000, 106_000).or(Some(before)).next(), 105_000);
        assert_eq!(Schedule::new(0, 1_500).next(), 1_000);
    }
}
