//! After a failed sync.
//!
//! Its file is never trusted again: the kernel may have marked the lost pages clean, and the next sync of it would say that
//! all is well. Everything written since the last good sync, kept in memory until then, goes with the same numbers into
//! a new segment, and is synced there. Where that fails too (the disk is full, or broken for a while) the log takes no more
//! records, keeps what it has, and tries again, each time in a file of its own.

use std::io;
use std::time::Duration;

use crate::format::segment_name;
use crate::log::Shared;
use crate::state::SyncTrouble;
use crate::writer::{SyncFile, Tail, Unsynced};
use crate::{Error, Result, SyncPolicy};

/// The first attempt after a failed one follows so long after it,
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// each later one after twice the time, but never more than this.
const MAX_RETRY: Duration = Duration::from_secs(10);

impl Shared {
    /// What the log does about a sync that failed. `batches` are the records it was for.
    pub(crate) fn sync_failed(
        &self,
        f: &SyncFile,
        error: &io::Error,
        mut batches: Vec<Unsynced>,
    ) -> Result<()> {
        self.state.lock().sync_failures += 1;
        let mut tail = self.tail.lock();
        if self.options.sync == SyncPolicy::Never {
            return Err(self.abandon_unsynced(&mut tail, f, error));
        }
        tracing::error!(%error, segment = f.number, "a sync failed; its records are written to a new segment");
        batches.append(&mut tail.unsynced);
        tail.unsynced = batches;
        let gone = self.leave_segment(&mut tail);
        // The file may be all that is left of its records should the process die now: it stays until they are safe.
        tail.abandoned.extend(gone);
        self.write_anew(&mut tail)
    }

    /// Under [`SyncPolicy::Never`] nothing is kept in memory and nothing was promised: the log goes on elsewhere.
    pub(crate) fn abandon_unsynced(
        &self,
        tail: &mut Tail,
        f: &SyncFile,
        error: &io::Error,
    ) -> Error {
        let cause = format!("sync {}: {error}", segment_name(f.number));
        tracing::error!(cause, "a sync failed; what it was for may be lost in a power failure");
        tail.active.take_if(|a| a.number == f.number);
        Error::SyncFailed { cause }
    }

    /// Leaves the active segment and the prepared one; returns segments that hold nothing synced, with their bytes of disk.
    fn leave_segment(&self, tail: &mut Tail) -> Vec<(u64, u64)> {
        tail.active = None;
        tail.sync_files.clear();
        self.discard_spare(tail);
        self.state.lock().cut_to_synced()
    }

    /// Writes what is unsynced to a new segment, once, and syncs it there.
    pub(crate) fn write_anew(&self, tail: &mut Tail) -> Result<()> {
        let batches = std::mem::take(&mut tail.unsynced);
        let written = batches.last().map_or(tail.written, |b| b.last);
        let outcome = self
            .write_and_sync(tail, &batches)
            .and_then(|files| self.remove_abandoned(tail).map(|()| files));
        // Also where it failed half way: the numbers are taken.
        tail.written = written;
        let files = match outcome {
            Ok(files) => files,
            Err(cause) => {
                tail.unsynced = batches;
                return Err(self.suspend(tail, cause));
            }
        };
        {
            let mut state = self.state.lock();
            state.mark_synced(written, files.iter().map(|f| (f.number, f.end)));
            state.sync_trouble = None;
        }
        tail.unsynced_bytes = 0;
        tail.sync_files.clear();
        if std::mem::take(&mut tail.failing) {
            tracing::info!(through = written, "syncs succeed again; the log goes on");
            self.queue.lock().resume();
        }
        self.finish(batches, written);
        Ok(())
    }

    fn write_and_sync(
        &self,
        tail: &mut Tail,
        batches: &[Unsynced],
    ) -> std::result::Result<Vec<SyncFile>, String> {
        for batch in batches {
            let (_, error) = self.write_batch(tail, &batch.bytes, batch.first);
            if let Some(error) = error {
                return Err(error.to_string());
            }
        }
        let files = std::mem::take(&mut tail.sync_files);
        for f in &files {
            f.file.sync_data().map_err(|e| format!("sync {}: {e}", segment_name(f.number)))?;
        }
        Ok(files)
    }

    /// Removes the segments given up, durably: only then are their records acknowledged. One that came back after a power
    /// failure, damaged as it may be, would stand beside the new ones with the same numbers.
    fn remove_abandoned(&self, tail: &mut Tail) -> std::result::Result<(), String> {
        if tail.abandoned.is_empty() {
            return Ok(());
        }
        for (number, _) in &tail.abandoned {
            self.remove_segment(*number).map_err(|e| e.to_string())?;
        }
        self.storage.sync_dir().map_err(|e| format!("sync the folder: {e}"))?;
        tail.abandoned.clear();
        Ok(())
    }

    /// After a failed attempt: no more records until one succeeds, which the log's thread tries.
    fn suspend(&self, tail: &mut Tail, cause: String) -> Error {
        for (number, bytes) in self.leave_segment(tail) {
            if self.storage.remove(&segment_name(number)).is_err() {
                tail.abandoned.push((number, bytes));
            }
        }
        tail.failing = true;
        tail.unsynced_bytes = tail.unsynced.iter().map(|b| b.bytes.len()).sum();
        let records = tail.unsynced.iter().map(|b| b.last + 1 - b.first).sum();
        let attempts = {
            let mut state = self.state.lock();
            let attempts = state.sync_trouble.as_ref().map_or(0, |t| t.attempts) + 1;
            state.sync_trouble = Some(SyncTrouble { cause: cause.clone(), attempts, records });
            attempts
        };
        tracing::error!(cause, attempts, records, "the log takes no records until a sync succeeds");
        self.queue.lock().suspend(&Error::Suspended { cause: cause.clone() });
        self.sync_bell.ring_soon();
        Error::SyncFailed { cause }
    }

    /// When the next attempt is due; `None` while there is nothing to try again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let attempts = self.state.lock().sync_trouble.as_ref()?.attempts;
        let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
        Some((FIRST_RETRY * (1 << doublings)).min(MAX_RETRY))
    }

    /// The log is closed with records that could not be synced: whoever waits for them learns that.
    pub(crate) fn give_up(&self, error: &Error) {
        let mut tail = self.tail.lock();
        for batch in tail.unsynced.drain(..) {
            batch.ticket.failed(error);
        }
    }
}
