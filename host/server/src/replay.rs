//! The replay window: a send time must be near the server's, and a nonce new.
//!
//! Two generations of nonces, turned every window, remember each for at least one window. A
//! replay would do no harm (a record is counted once by its number); the window keeps a
//! recorded stream from costing anything.

use std::collections::HashSet;

/// How far a send time may be from the server's clock, in milliseconds.
pub const WINDOW_MS: i64 = 5 * 60 * 1000;
/// The most nonces of one generation; beyond, it is turned early: a server that forgets is
/// better than one that takes nothing, since a replay does no harm.
const MAX_NONCES: usize = 2_000_000;

/// What a window says of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is new.
    Fresh,
    /// Its time is too far from the server's.
    OutOfTime,
    /// Its nonce was seen.
    Replayed,
}

/// Remembers nonces.
#[derive(Debug, Default)]
pub struct ReplayWindow {
    turned_at: i64,
    current: HashSet<[u8; 16]>,
    previous: HashSet<[u8; 16]>,
}

impl ReplayWindow {
    /// Judges a message whose signature was verified, and remembers its nonce.
    pub fn judge(&mut self, now: i64, sent_at: i64, nonce: [u8; 16]) -> Verdict {
        if now.saturating_sub(sent_at).saturating_abs() > WINDOW_MS {
            return Verdict::OutOfTime;
        }
        // A message may be sent `WINDOW_MS` ahead and be replayed until `WINDOW_MS` after its
        // time, so a generation lasts two windows.
        if now - self.turned_at >= 2 * WINDOW_MS || now < self.turned_at {
            self.previous = std::mem::take(&mut self.current);
            self.turned_at = now;
        }
        if self.previous.contains(&nonce) || self.current.contains(&nonce) {
            return Verdict::Replayed;
        }
        if self.current.len() >= MAX_NONCES {
            self.previous = std::mem::take(&mut self.current);
            self.turned_at = now;
        }
        self.current.insert(nonce);
        Verdict::Fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_fresh_once_and_near_its_time() {
        let mut window = ReplayWindow::default();
        let now = 1_000_000_000;
        for (sent, nonce, expected) in [
            (now, 1, Verdict::Fresh),
            (now, 1, Verdict::Replayed),
            (now - WINDOW_MS, 2, Verdict::Fresh),
            (now + WINDOW_MS, 3, Verdict::Fresh),
            (now - WINDOW_MS - 1, 4, Verdict::OutOfTime),
            (now + WINDOW_MS + 1, 5, Verdict::OutOfTime),
            (i64::MIN, 6, Verdict::OutOfTime),
        ] {
            assert_eq!(window.judge(now, sent, [nonce; 16]), expected, "{sent} {nonce}");
        }
    }

    #[test]
    fn a_nonce_is_remembered_as_long_as_its_time_is_near() {
        let mut window = ReplayWindow::default();
        let start = 1_000_000_000;
        for step in 0..40 {
            let now = start + step * WINDOW_MS / 8;
            let sent = start + WINDOW_MS;
            let verdict = window.judge(now, sent, [9; 16]);
            let expected = match step {
                0 => Verdict::Fresh,
                _ if now - sent > WINDOW_MS => Verdict::OutOfTime,
                _ => Verdict::Replayed,
            };
            assert_eq!(verdict, expected, "step {step}");
        }
    }
}
