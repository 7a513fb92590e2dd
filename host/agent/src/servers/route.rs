//! Which way an agent sends, of several servers and two ways to each: a state machine without a clock.
//!
//! Ways are in order of preference; the first is the one to which everything returns.
//!
//! | state | what happens | then |
//! |---|---|---|
//! | `On(way)` | it answers | the same |
//! | `On(way)` | it fails | `Searching` from the next way on, at once or after all were tried |
//! | `On(way)`, not the first, [`RETURN`] is over | [`Route::next`] | `Trying(first)`, `way` kept |
//! | `Searching(way)` | it answers | `On(way)` |
//! | `Searching(way)` | it fails | `Searching` the next one, round and round |
//! | `Trying(first)` | it answers | `On(first)`, the wait is as at first |
//! | `Trying(first)` | it fails | `On` the way that was kept, the next wait is twice as long, up to [`MOST`] |
//!
//! Each wait is spread over half to one and a half of it, and each step of a search over [`STEP`], so that
//! the agents of a server that fails, or comes back, do not all move at one moment.
//! Times are milliseconds of any clock that only goes forward.

/// How long the first way is left alone after it failed, at first.
pub(super) const RETURN: i64 = 60_000;
/// The longest it is left alone.
pub(super) const MOST: i64 = 900_000;
/// The longest pause before the next way is tried.
pub(super) const STEP: i64 = 1000;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Route {
    ways: usize,
    state: State,
    /// How long the first way is left alone the next time.
    wait: i64,
    /// When it is tried again, where another one is used.
    return_at: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    On(usize),
    Searching { way: usize, tried: usize },
    Trying { kept: usize },
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// Try the next way after so many milliseconds.
    Next(i64),
    /// All were tried: wait as long as after any failure.
    AllFailed,
}

fn spread(milliseconds: i64, lot: f64) -> i64 {
    (milliseconds as f64 * (0.5 + lot.clamp(0.0, 1.0))) as i64
}

impl Route {
    /// On the first of so many ways, at least one.
    pub(super) fn new(ways: usize) -> Self {
        Self { ways: ways.max(1), state: State::On(0), wait: RETURN, return_at: 0 }
    }

    /// The way that is in use.
    pub(super) fn way(&self) -> usize {
        match self.state {
            State::On(way) | State::Searching { way, .. } => way,
            State::Trying { .. } => 0,
        }
    }

    /// The way to take now.
    pub(super) fn next(&mut self, now: i64) -> usize {
        if let State::On(way) = self.state
            && way != 0
            && now >= self.return_at
        {
            self.state = State::Trying { kept: way };
        }
        self.way()
    }

    /// The way in use answered.
    pub(super) fn answered(&mut self, now: i64, lot: f64) {
        match self.state {
            State::On(_) => {}
            State::Searching { way: 0, .. } | State::Trying { .. } => {
                self.state = State::On(0);
                self.wait = RETURN;
            }
            State::Searching { way, .. } => {
                self.state = State::On(way);
                self.return_at = now.saturating_add(spread(self.wait, lot));
            }
        }
    }

    /// The way in use cannot be taken.
    pub(super) fn failed(&mut self, now: i64, lot: f64) -> After {
        let (way, tried) = match self.state {
            State::On(way) => (way, 1),
            State::Searching { way, tried } => (way, tried + 1),
            State::Trying { kept } => {
                self.state = State::On(kept);
                self.wait = self.wait.saturating_mul(2).min(MOST);
                self.return_at = now.saturating_add(spread(self.wait, lot));
                return After::Next(0);
            }
        };
        let all = tried >= self.ways;
        let tried = if all { 0 } else { tried };
        self.state = State::Searching { way: (way + 1) % self.ways, tried };
        if all { After::AllFailed } else { After::Next((STEP as f64 * lot.clamp(0.0, 1.0)) as i64) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_that_fails_is_left_for_the_next_and_all_that_fail_are_waited_for() {
        let mut route = Route::new(3);
        assert_eq!((route.next(0), route.failed(0, 0.5)), (0, After::Next(500)));
        assert_eq!((route.next(1), route.failed(1, 0.0)), (1, After::Next(0)));
        assert_eq!((route.next(2), route.failed(2, 1.0)), (2, After::AllFailed));
        assert_eq!(route.next(3), 0, "round and round");
        assert_eq!(route.failed(3, 0.0), After::Next(0));
        route.answered(4, 0.5);
        assert_eq!(route.next(5), 1);
        let mut alone = Route::new(1);
        assert_eq!((alone.next(0), alone.failed(0, 0.5), alone.next(1)), (0, After::AllFailed, 0));
    }

    #[test]
    fn the_first_way_is_returned_to_when_it_answers_and_less_and_less_often_tried_when_not() {
        let mut route = Route::new(2);
        route.failed(0, 0.5);
        route.answered(0, 0.5);
        let mut now = 0;
        for wait in [60_000, 120_000, 240_000, 480_000, 900_000, 900_000] {
            assert_eq!(route.next(now + wait - 1), 1, "{wait}");
            now += wait;
            assert_eq!(route.next(now), 0, "{wait}");
            assert_eq!(route.failed(now, 0.5), After::Next(0), "back to the one that answers");
            assert_eq!(route.way(), 1);
        }
        assert_eq!(route.next(now + 900_000), 0);
        route.answered(now + 900_000, 0.5);
        assert_eq!(route.next(i64::MAX), 0);
        route.failed(0, 0.5);
        route.answered(0, 0.5);
        assert_eq!((route.next(59_999), route.next(60_000)), (1, 0), "the wait is as at first");
    }

    #[test]
    fn agents_do_not_return_at_one_moment() {
        let returns = |lot| {
            let mut route = Route::new(2);
            route.failed(0, lot);
            route.answered(0, lot);
            (0..).step_by(1000).find(|now| route.clone().next(*now) == 0).unwrap()
        };
        assert_eq!([returns(0.0), returns(0.5), returns(1.0)], [30_000, 60_000, 90_000]);
    }

    #[test]
    fn a_way_that_fails_while_the_first_is_away_leads_to_the_others() {
        let mut route = Route::new(3);
        route.failed(0, 0.5);
        route.answered(0, 0.5);
        assert_eq!(route.failed(10, 0.0), After::Next(0));
        assert_eq!(route.way(), 2);
        route.answered(11, 0.5);
        assert_eq!(route.next(12), 2);
    }
}
