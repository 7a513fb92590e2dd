//! Up to where of what was committed windows go, and who reads them meanwhile.
//!
//! Windows are fed from the tail of the store, page by page, each with the position at which they stand after it. What
//! is read from the store besides, for a need that is new, may be ahead of that: windows are *whole* again once a round
//! of the feed that began after it has come to the end of the tail.
//!
//! A call of an evaluator asks several times. For what it sees to be of one position, pages wait while calls are under
//! way, but not for long, and not again for a call that was not waited for: it is told that more came meanwhile.

use super::Windows;
use parking_lot::{Mutex, RwLock};
use sentinel_store::tail::TailPosition;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// Where windows stand.
#[derive(Debug, Default)]
pub(super) struct Progress {
    position: Option<TailPosition>,
    /// Counts what was read from the store besides.
    besides: u64,
    /// Up to which of those the tail was read since.
    covered: u64,
    /// Told at the end of each round of the feed.
    rounds: watch::Sender<u64>,
    /// Asks the feed for a round.
    wake: Arc<Notify>,
    calls: Arc<Calls>,
}

/// Calls under way that no page came in between of.
#[derive(Debug, Default)]
pub struct Calls {
    /// How often pages did not wait, and the calls begun since.
    under_way: Mutex<(u64, usize)>,
    ended: Notify,
}

impl Calls {
    /// Waits until none is under way.
    pub async fn ended(&self) {
        loop {
            let ended = self.ended.notified();
            if self.under_way.lock().1 == 0 {
                return;
            }
            ended.await;
        }
    }

    /// Those under way are not waited for any more.
    pub fn leave_behind(&self) {
        let mut under_way = self.under_way.lock();
        *under_way = (under_way.0 + 1, 0);
    }

    fn begin(self: &Arc<Self>) -> UnderWay {
        let mut under_way = self.under_way.lock();
        under_way.1 += 1;
        UnderWay { calls: Arc::clone(self), since: under_way.0 }
    }
}

struct UnderWay {
    calls: Arc<Calls>,
    since: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut under_way = self.calls.under_way.lock();
        if under_way.0 == self.since {
            under_way.1 -= 1;
            // The feed alone waits, and looks again before it does.
            self.calls.ended.notify_one();
        }
    }
}

/// Over what something was evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Up to where.
    pub position: TailPosition,
    /// Where more came meanwhile: up to where it may have been seen.
    pub until: Option<TailPosition>,
}

/// A call that reads windows.
pub struct Reading {
    windows: Arc<RwLock<Windows>>,
    from: Option<TailPosition>,
    is_whole: bool,
    _under_way: UnderWay,
}

impl Reading {
    /// It begins.
    #[must_use]
    pub fn begin(windows: &Arc<RwLock<Windows>>) -> Self {
        let progress = &windows.read().progress;
        Self {
            windows: Arc::clone(windows),
            from: progress.position.clone(),
            is_whole: progress.is_whole(),
            _under_way: progress.calls.begin(),
        }
    }

    /// It ended: what it saw; `None` of windows that no tail feeds.
    #[must_use]
    pub fn end(self) -> Option<Seen> {
        let progress = &self.windows.read().progress;
        let (position, now) = (self.from.clone()?, progress.position.clone()?);
        let until = match self.is_whole && progress.is_whole() {
            true => Some(now).filter(|now| *now != position),
            false => Some(TailPosition::unknown()),
        };
        Some(Seen { position, until })
    }
}

impl Progress {
    fn is_whole(&self) -> bool {
        self.position.is_none() || self.covered == self.besides
    }

    pub(super) fn reads_besides(&mut self) {
        self.besides += 1;
    }
}

impl Windows {
    /// Sets at which position of the tail they stand.
    pub fn stands_at(&mut self, position: TailPosition) {
        self.progress.position = Some(position);
    }

    /// The position of the tail at which they stand; `None` where no tail feeds them.
    #[must_use]
    pub fn position(&self) -> Option<&TailPosition> {
        self.progress.position.as_ref()
    }

    /// How much was read from the store besides: to be asked before a round of the feed begins.
    #[must_use]
    pub fn besides(&self) -> u64 {
        self.progress.besides
    }

    /// A round came to the end of the tail that began when so much was read besides.
    pub fn has_caught_up(&mut self, besides: u64) {
        self.progress.covered = self.progress.covered.max(besides);
        self.progress.rounds.send_modify(|count| *count += 1);
    }

    /// Whether all that is here is of what was committed up to their position.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.progress.is_whole()
    }

    /// Told at the end of each round of the feed.
    #[must_use]
    pub fn rounds(&self) -> watch::Receiver<u64> {
        self.progress.rounds.subscribe()
    }

    /// Asks the feed for a round.
    #[must_use]
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.progress.wake)
    }

    /// The calls that read them.
    #[must_use]
    pub fn calls(&self) -> Arc<Calls> {
        Arc::clone(&self.progress.calls)
    }
}

/// Waits until windows are whole.
pub async fn until_whole(windows: &RwLock<Windows>) {
    let mut rounds = windows.read().rounds();
    loop {
        {
            let windows = windows.read();
            if windows.is_whole() {
                return;
            }
            windows.progress.wake.notify_one();
        }
        if rounds.changed().await.is_err() {
            // They are others by now.
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    fn position(text: &str) -> TailPosition {
        TailPosition::from_text(text).unwrap()
    }

    #[test]
    fn a_call_is_of_one_position_unless_more_came_meanwhile() {
        let windows = Arc::new(RwLock::new(Windows::default()));
        assert_eq!(Reading::begin(&windows).end(), None, "no tail feeds them");
        windows.write().stands_at(position("1"));
        let reading = Reading::begin(&windows);
        assert_eq!(reading.end(), Some(Seen { position: position("1"), until: None }));
        let reading = Reading::begin(&windows);
        windows.write().stands_at(position("2"));
        let until = Some(position("2"));
        assert_eq!(reading.end(), Some(Seen { position: position("1"), until }));
        windows.write().progress.reads_besides();
        let reading = Reading::begin(&windows);
        let besides = windows.read().besides();
        windows.write().has_caught_up(besides);
        assert!(windows.read().is_whole());
        let until = Some(TailPosition::unknown());
        assert_eq!(reading.end(), Some(Seen { position: position("2"), until }));
        assert_eq!(Reading::begin(&windows).end().unwrap().until, None);
    }

    #[test]
    fn a_round_that_began_before_something_was_read_does_not_make_it_whole() {
        let mut windows = Windows::default();
        windows.stands_at(position("1"));
        let before = windows.besides();
        windows.progress.reads_besides();
        windows.has_caught_up(before);
        assert!(!windows.is_whole());
        windows.has_caught_up(windows.besides());
        assert!(windows.is_whole());
    }

    #[test]
    fn pages_wait_for_calls_but_not_for_one_that_was_left_behind() {
        let windows = Arc::new(RwLock::new(Windows::default()));
        let calls = windows.read().calls();
        let slow = Reading::begin(&windows);
        assert!(calls.ended().now_or_never().is_none());
        calls.leave_behind();
        assert!(calls.ended().now_or_never().is_some());
        let quick = Reading::begin(&windows);
        drop(slow);
        assert!(calls.ended().now_or_never().is_none(), "another one is under way");
        drop(quick);
        assert!(calls.ended().now_or_never().is_some());
    }
}
