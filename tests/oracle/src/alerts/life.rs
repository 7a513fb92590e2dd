//! The life of one alert, in the plainest way.

/// Where it is. What never fired and does not hold is not stored at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// It does not hold.
    #[default]
    Ok,
    /// It holds, not long enough yet.
    Pending,
    /// It fires.
    Firing,
}

/// From one word of the history to another; none stands for ok.
pub type Change = (Option<&'static str>, Option<&'static str>);

/// One alert.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Life {
    /// Where it is.
    pub state: State,
    /// When it last began to hold.
    pub since: i64,
    /// When it last began to fire.
    pub fired_at: Option<i64>,
    /// When that was over, if it is.
    pub resolved_at: Option<i64>,
    /// How often it fired.
    pub incident: u64,
}

impl Life {
    /// Takes whether the condition holds at a time; what the history says of that, if anything.
    pub fn step(&mut self, holds: bool, at: i64, hold: i64) -> Option<Change> {
        match (self.state, holds) {
            (State::Ok, false) | (State::Firing, true) => None,
            (State::Ok, true) => {
                self.since = at;
                if hold == 0 {
                    return Some((None, self.fire(at)));
                }
                self.state = State::Pending;
                Some((None, Some("pending")))
            }
            (State::Pending, true) => {
                // A clock that was set back begins it anew.
                self.since = self.since.min(at);
                (at - self.since >= hold).then(|| (Some("pending"), self.fire(at)))
            }
            (State::Pending, false) => {
                self.state = State::Ok;
                Some((Some("pending"), None))
            }
            (State::Firing, false) => {
                self.state = State::Ok;
                self.resolved_at = self.fired_at.max(Some(at));
                Some((Some("firing"), Some("resolved")))
            }
        }
    }

    fn fire(&mut self, at: i64) -> Option<&'static str> {
        self.state = State::Firing;
        (self.fired_at, self.resolved_at) = (Some(at), None);
        self.incident += 1;
        Some("firing")
    }

    /// The word under which it is stored, if it is.
    #[must_use]
    pub fn word(&self) -> Option<&'static str> {
        match self.state {
            State::Pending => Some("pending"),
            State::Firing => Some("firing"),
            State::Ok => (self.incident > 0).then_some("resolved"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_pending_fires_is_resolved_and_pending_again() {
        let mut life = Life::default();
        let mut said = Vec::new();
        for (at, holds) in [(1, false), (2, true), (3, true), (5, true), (6, true), (7, false)] {
            said.extend(life.step(holds, at, 3).map(|change| (at, change)));
        }
        let (pending, firing) = (Some("pending"), Some("firing"));
        let expected =
            [(2, (None, pending)), (5, (pending, firing)), (7, (firing, Some("resolved")))];
        assert_eq!(said, expected);
        let stands = (life.since, life.fired_at, life.resolved_at, life.incident, life.word());
        assert_eq!(stands, (2, Some(5), Some(7), 1, Some("resolved")));
        assert_eq!(life.step(true, 8, 3), Some((None, pending)));
        assert_eq!(life.word(), pending);
        assert_eq!(life.step(false, 9, 3), Some((pending, None)));
        assert_eq!((life.resolved_at, life.word()), (Some(7), Some("resolved")));
        assert_eq!(life.step(true, 10, 0), Some((None, firing)));
        assert_eq!((life.fired_at, life.resolved_at, life.incident), (Some(10), None, 2));
    }

    #[test]
    fn what_never_fired_is_not_stored() {
        let mut life = Life::default();
        assert_eq!(life.step(true, 1, 5), Some((None, Some("pending"))));
        assert_eq!(life.step(false, 2, 5), Some((Some("pending"), None)));
        assert_eq!(life.word(), None);
    }
}
