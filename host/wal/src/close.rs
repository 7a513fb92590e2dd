//! The end of a log: everything synced, the shutdown marked as clean; or dropped without that.

use crate::meta::CleanMarker;
use crate::reuse::Reuse;
use crate::{Error, Log, Result};

impl Log {
    /// Syncs everything, writes the offsets, marks the shutdown as clean and lets the next opener in. Appends fail from
    /// now on; readers yield what is synced, then [`Error::Closed`]. Blocks on files. A second call does nothing.
    ///
    /// # Errors
    /// Whatever kept something from becoming durable; the log is closed all the same, the shutdown not clean.
    pub fn close(&self) -> Result<()> {
        let Some(lock) = self.lock.lock().take() else {
            return Ok(());
        };
        self.stop_threads();
        let synced = self.shared.sync_now();
        self.shared.queue.lock().stop(&Error::Closed);
        // Between the sync and the stop a writer may have come in.
        let synced = synced.and_then(|()| self.sync_rest());
        if let Err(error) = &synced {
            self.shared.give_up(error);
        }
        let closed = synced.and_then(|()| self.seal());
        self.shared.state.lock().closed = true;
        self.shared.wake_readers();
        drop(lock);
        closed
    }

    fn sync_rest(&self) -> Result<()> {
        match self.shared.sync_now() {
            Err(Error::Closed) => Ok(()),
            other => other,
        }
    }

    /// Gives back what the last segment does not need and leaves the marker of a clean shutdown.
    fn seal(&self) -> Result<()> {
        let shared = &self.shared;
        {
            let mut tail = shared.tail.lock();
            if let Some(active) = tail.active.take() {
                // Only room is at stake: the end of the data is found without it.
                let _ = active.file.truncate(active.offset).and_then(|()| active.file.sync_data());
                shared.state.lock().shrink_segment(active.number, active.offset);
            }
            shared.discard_spare(&mut tail);
        }
        shared.remove_free()?;
        shared.remove_committed(None, Reuse::None)?;
        shared.write_meta(true)?;
        let last = shared.state.lock().current().written;
        CleanMarker { epoch: shared.epoch, last }.write(shared.storage.as_ref())
    }

    fn stop_threads(&self) {
        self.shared.sync_bell.stop();
        self.shared.keep_bell.stop();
        for thread in self.threads.lock().drain(..) {
            // A panic in it was reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.stop_threads();
        if self.lock.lock().is_some() {
            self.shared.drain(&mut self.shared.tail.lock());
            self.shared.queue.lock().stop(&Error::Closed);
            self.shared.state.lock().closed = true;
            self.shared.wake_readers();
        }
    }
}
