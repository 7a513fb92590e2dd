//! From the file to the disk: group commit, and what follows a sync that fails.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::format::segment_name;
use crate::log::Shared;
use crate::writer::Unsynced;
use crate::{Error, Result, SyncPolicy};

/// A sync waits for more records at most this part of what the last one took,
const GATHER_FRACTION: u32 = 4;
/// and never longer than this.
const MAX_GATHER: Duration = Duration::from_millis(1);
/// While a sync waits for more records, so many bytes are written at once.
const WRITE_AHEAD_BYTES: usize = 64 << 10;

/// How the last sync went.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LastSync {
    pub(crate) records: u64,
    pub(crate) took: Duration,
}

impl Shared {
    /// Waits a little for writers that the last sync released: as many as it served are likely to come again, and a
    /// sync costs much the same for one as for all. The wait is a fraction of what a sync takes. What has come is
    /// written meanwhile, while the rest is still being encoded. Whether there is anything to sync.
    pub(crate) fn gather(&self, last: LastSync) -> bool {
        let patience = (last.took / GATHER_FRACTION).min(MAX_GATHER);
        let started = Instant::now();
        let mut written = 0;
        loop {
            let waiting = self.waiting.records.load(Ordering::Relaxed);
            if written + waiting >= last.records || started.elapsed() >= patience {
                return written + waiting > 0;
            }
            if self.waiting.bytes.load(Ordering::Relaxed) >= WRITE_AHEAD_BYTES {
                written += waiting;
                self.drain(&mut self.tail.lock());
            } else {
                std::thread::yield_now();
            }
        }
    }

    /// Writes what is queued and syncs all that is written. One at a time; writers go on meanwhile.
    pub(crate) fn sync_now(&self) -> Result<()> {
        let _one = self.syncing.lock();
        if let Some(error) =
            self.queue.lock().stopped().filter(|e| matches!(e, Error::SyncFailed { .. }))
        {
            return Err(error);
        }
        let (files, batches, through) = {
            let mut tail = self.tail.lock();
            self.drain(&mut tail);
            tail.unsynced_bytes = 0;
            (std::mem::take(&mut tail.sync_files), std::mem::take(&mut tail.unsynced), tail.written)
        };
        if files.is_empty() {
            return self.queue.lock().stopped().map_or(Ok(()), Err);
        }
        for f in &files {
            if let Err(error) = f.file.sync_data() {
                if self.options.sync == SyncPolicy::Never {
                    let error = Error::SyncFailed {
                        cause: format!("sync {}: {error}", segment_name(f.number)),
                    };
                    self.fail_stop(&error);
                    return Err(error);
                }
                tracing::error!(%error, segment = f.number, "a sync failed; its records are written to a new segment");
                return self.write_anew(batches);
            }
        }
        {
            let mut state = self.state.lock();
            state.mark_synced(through, files.iter().map(|f| (f.number, f.end)));
            state.syncs += 1;
        }
        self.finish(batches, through);
        Ok(())
    }

    fn finish(&self, batches: Vec<Unsynced>, through: u64) {
        for batch in batches {
            batch.ticket.synced(through);
            self.queue.lock().recycle(batch.bytes);
        }
        self.wake_readers();
    }

    /// After a failed sync its file is never trusted again: the kernel may have marked the lost pages clean. All that
    /// was written since the last good sync goes, with the same numbers, into a new segment. If that fails too,
    /// the log stops.
    fn write_anew(&self, mut batches: Vec<Unsynced>) -> Result<()> {
        let mut tail = self.tail.lock();
        batches.append(&mut tail.unsynced);
        tail.unsynced_bytes = 0;
        tail.sync_files.clear();
        tail.active = None;
        let gone = {
            let mut state = self.state.lock();
            state.sync_failures += 1;
            state.cut_to_synced()
        };
        let mut through = 0;
        let mut outcome = Ok(());
        for batch in &batches {
            let (last, error) = self.write_batch(&mut tail, &batch.bytes, batch.first);
            through = last;
            if let Some(error) = error {
                outcome = Err(error.to_string());
                break;
            }
        }
        let files = std::mem::take(&mut tail.sync_files);
        for f in &files {
            if outcome.is_ok() {
                outcome =
                    f.file.sync_data().map_err(|e| format!("sync {}: {e}", segment_name(f.number)));
            }
        }
        if let Err(cause) = outcome {
            let error = Error::SyncFailed { cause };
            self.fail_stop(&error);
            batches.iter().for_each(|b| b.ticket.failed(&error));
            return Err(error);
        }
        debug_assert!(batches.last().is_none_or(|b| b.last == through));
        self.state.lock().mark_synced(through, files.iter().map(|f| (f.number, f.end)));
        for number in gone {
            // Its records are in the new segment; left behind, they are only duplicates.
            let _ = self.storage.remove(&segment_name(number));
        }
        drop(tail);
        self.finish(batches, through);
        Ok(())
    }

    pub(crate) fn fail_stop(&self, error: &Error) {
        tracing::error!(%error, "the log stopped");
        self.queue.lock().stop(error);
        self.wake_readers();
    }
}
