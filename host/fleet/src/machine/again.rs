//! Waits that double.

/// When something is tried again.
#[derive(Debug, Default)]
pub(super) struct Again {
    pub(super) due: Option<i64>,
    pub(super) failures: u32,
}

impl Again {
    pub(super) fn at_once(&mut self, now: i64) {
        self.due = Some(now);
    }

    /// After a wait that doubles, spread over half of it by `lot` (from 0 up to 1).
    pub(super) fn later(&mut self, now: i64, lot: f64, (first, most): (i64, i64)) {
        let wait = first.saturating_mul(1_i64 << self.failures.min(20)).min(most);
        let spread = (wait as f64 * (0.5 + lot.clamp(0.0, 1.0) / 2.0)) as i64;
        self.failures += 1;
        self.due = Some(now.saturating_add(spread.max(1)));
    }

    pub(super) fn is_due(&self, now: i64) -> bool {
        self.due.is_some_and(|due| due <= now)
    }
}
