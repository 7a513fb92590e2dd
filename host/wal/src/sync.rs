//! From the file to the disk: group commit.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::Result;
use crate::log::Shared;
use crate::writer::Unsynced;

/// A sync waits for more records at most this part of what the last one took,
const GATHER_FRACTION: u32 = 4;
/// and never longer than this.
const MAX_GATHER: Duration = Duration::from_millis(1);
/// While a sync waits for more records, so many bytes are written at once: the sooner the first are, the sooner the last.
const WRITE_AHEAD_BYTES: usize = 16 << 10;

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
        let (files, batches, through) = {
            let mut tail = self.tail.lock();
            if tail.failing {
                return self.write_anew(&mut tail);
            }
            self.drain(&mut tail);
            tail.unsynced_bytes = 0;
            (std::mem::take(&mut tail.sync_files), std::mem::take(&mut tail.unsynced), tail.written)
        };
        if files.is_empty() {
            return self.queue.lock().stopped().map_or(Ok(()), Err);
        }
        for f in &files {
            if let Err(error) = f.file.sync_data() {
                return self.sync_failed(f, &error, batches);
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

    pub(crate) fn finish(&self, batches: Vec<Unsynced>, through: u64) {
        for batch in batches {
            batch.ticket.synced(through);
            self.queue.lock().recycle(batch.bytes);
        }
        self.wake_readers();
    }
}
