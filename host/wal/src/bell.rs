//! Wakes a thread of the log.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Rung by writers, heard by one thread. A ring while the thread works is heard when it comes back.
#[derive(Default)]
pub(crate) struct Bell {
    asked: Mutex<Asked>,
    condvar: Condvar,
}

#[derive(Default)]
struct Asked {
    now: bool,
    soon: bool,
    stop: bool,
}

/// Why the thread was woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Work,
    Stop,
}

impl Bell {
    /// Work is to be done at once.
    pub(crate) fn ring(&self) {
        let mut asked = self.asked.lock();
        if !asked.now {
            asked.now = true;
            self.condvar.notify_one();
        }
    }

    /// Work is to be done when the interval that begins with the first such ring is over.
    pub(crate) fn ring_soon(&self) {
        let mut asked = self.asked.lock();
        if !asked.soon {
            asked.soon = true;
            self.condvar.notify_one();
        }
    }

    pub(crate) fn stop(&self) {
        self.asked.lock().stop = true;
        self.condvar.notify_one();
    }

    pub(crate) fn stopped(&self) -> bool {
        self.asked.lock().stop
    }

    /// Blocks until there is work, or the thread is to end.
    pub(crate) fn wait(&self, interval: Duration) -> Heard {
        let mut asked = self.asked.lock();
        let mut deadline = None;
        loop {
            if asked.stop {
                return Heard::Stop;
            }
            let over = deadline.is_some_and(|d| Instant::now() >= d);
            if asked.now || over {
                (asked.now, asked.soon) = (false, false);
                return Heard::Work;
            }
            if asked.soon {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + interval);
                self.condvar.wait_until(&mut asked, deadline);
            } else {
                self.condvar.wait(&mut asked);
            }
        }
    }
}
