//! From the queue to the file, and from the file to the disk.
//!
//! Locks are taken in this order: `syncing`, `tail`, `keeping`, `queue`, `state`. A sync holds `syncing` only, so that the
//! next batch fills and is written meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::format::{RecordHeader, SEGMENT_HEADER_BYTES, SegmentHeader, frame_bytes, segment_name};
use crate::log::Shared;
use crate::queue::{Batch, Ticket};
use crate::state::Segment;
use crate::{AtCap, Error, MAX_EPOCHS, MAX_UNSYNCED_BYTES, Result, StorageFile, SyncPolicy};

/// A sync waits for more records at most this part of what the last one took,
const GATHER_FRACTION: u32 = 4;
/// and never longer than this.
const MAX_GATHER: Duration = Duration::from_millis(1);

/// The end of the log, where batches are written.
pub(crate) struct Tail {
    pub(crate) active: Option<Active>,
    pub(crate) next_number: u64,
    pub(crate) spare: Option<Spare>,
    /// Written, not synced: kept until they are, in case the sync fails.
    unsynced: Vec<Unsynced>,
    unsynced_bytes: usize,
    /// Files that hold them.
    sync_files: Vec<SyncFile>,
    written: u64,
}

/// The segment being written.
pub(crate) struct Active {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) offset: u64,
    reserved: u64,
    /// A write failed half way: what lies behind `offset` must go before anything else is written.
    torn: bool,
}

/// A segment file created and reserved ahead of time, its name durable.
pub(crate) struct Spare {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) reserved: u64,
}

struct Unsynced {
    bytes: Vec<u8>,
    first: u64,
    last: u64,
    ticket: Arc<Ticket>,
}

struct SyncFile {
    number: u64,
    file: Arc<dyn StorageFile>,
    end: u64,
}

/// How the last sync went.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LastSync {
    pub(crate) records: u64,
    pub(crate) took: Duration,
}

impl Tail {
    pub(crate) fn new(next_number: u64) -> Tail {
        Tail {
            active: None,
            next_number,
            spare: None,
            unsynced: Vec::new(),
            unsynced_bytes: 0,
            sync_files: Vec::new(),
            written: 0,
        }
    }

    pub(crate) fn over_bound(&self) -> bool {
        self.unsynced_bytes > MAX_UNSYNCED_BYTES
    }

    pub(crate) fn active_number(&self) -> Option<u64> {
        self.active.as_ref().map(|a| a.number)
    }

    pub(crate) fn spare_bytes(&self) -> u64 {
        self.spare.as_ref().map_or(0, |s| s.reserved)
    }

    fn note_unsynced(&mut self, number: u64, file: &Arc<dyn StorageFile>, end: u64) {
        match self.sync_files.last_mut() {
            Some(last) if last.number == number => last.end = end,
            _ => self.sync_files.push(SyncFile { number, file: file.clone(), end }),
        }
    }
}

impl Shared {
    /// Writes what is queued with as few writes as segments allow: one. Reports to its writers.
    pub(crate) fn drain(&self, tail: &mut Tail) {
        let Some(batch) = self.queue.lock().take() else {
            return;
        };
        let (through, error) = self.write_batch(tail, &batch.bytes, batch.first);
        if let Some(error) = &error {
            tracing::warn!(%error, "records could not be appended to the log");
            self.queue.lock().roll_back(through, error);
        }
        let Batch { mut bytes, first, last, ticket } = batch;
        ticket.written(through, error.clone());
        if self.options.sync == SyncPolicy::Never {
            ticket.synced(through);
            self.queue.lock().recycle(bytes);
            self.wake_readers();
            return;
        }
        if through < last {
            bytes.truncate(prefix(&bytes, through + 1 - first));
        }
        if through >= first {
            tail.unsynced_bytes += bytes.len();
            tail.unsynced.push(Unsynced { bytes, first, last: through, ticket });
        }
    }

    /// Writes encoded records; returns the last one that is wholly in a file, and why not all are.
    fn write_batch(&self, tail: &mut Tail, bytes: &[u8], first: u64) -> (u64, Option<Error>) {
        let (mut at, mut next) = (0, first);
        while at < bytes.len() {
            match self.write_some(tail, &bytes[at..], next) {
                Ok((len, count)) => (at, next) = (at + len, next + count),
                Err(error) => return (next - 1, Some(error)),
            }
        }
        (next - 1, None)
    }

    /// Writes the records that fit into the active segment, turning to a new one when none does.
    fn write_some(&self, tail: &mut Tail, bytes: &[u8], next: u64) -> Result<(usize, u64)> {
        self.mend(tail)?;
        let room = tail.active.as_ref().map_or(0, |a| a.reserved - a.offset);
        let (mut len, mut count) = fitting(bytes, room);
        if count == 0 {
            self.turn(tail, next, first_frame(bytes) as u64)?;
            let room = tail.active.as_ref().map_or(0, |a| a.reserved - a.offset);
            (len, count) = fitting(bytes, room);
        }
        let active = tail.active.as_mut().expect("a turn leaves an active segment");
        if let Err(e) = active.file.write_at(&bytes[..len], active.offset) {
            active.torn = true;
            return Err(Error::io("write", &segment_name(active.number), e));
        }
        active.offset += len as u64;
        let (number, file, end) = (active.number, active.file.clone(), active.offset);
        let last = next + count - 1;
        tail.written = last;
        let mut state = self.state.lock();
        state.wrote(number, last, end);
        if self.options.sync == SyncPolicy::Never {
            state.mark_synced(last, std::iter::once((number, end)));
        }
        drop(state);
        tail.note_unsynced(number, &file, end);
        Ok((len, count))
    }

    /// Takes back what a failed write left behind the good end, and leaves that segment: the next record begins a new
    /// one. Should the ghost come back after a power failure, recovery knows it by its number: it is not below the first
    /// number of the next segment. The cut is durable with the next sync, before any record behind it is.
    fn mend(&self, tail: &mut Tail) -> Result<()> {
        let Some(active) = tail.active.take_if(|a| a.torn) else {
            return Ok(());
        };
        if let Err(e) = active.file.truncate(active.offset) {
            let error = Error::io("truncate", &segment_name(active.number), e);
            tail.active = Some(active);
            return Err(error);
        }
        self.state.lock().shrink_segment(active.number, active.offset);
        tail.note_unsynced(active.number, &active.file, active.offset);
        Ok(())
    }

    /// Begins a new segment whose first record is `first`, with room for a frame of `frame` bytes.
    fn turn(&self, tail: &mut Tail, first: u64, frame: u64) -> Result<()> {
        let size = self.options.segment_bytes.max(SEGMENT_HEADER_BYTES as u64 + frame);
        if self.options.sync == SyncPolicy::Never {
            self.sync_full_segment(tail)?;
        }
        if tail.written == 0 {
            let count = self.state.lock().live_epochs();
            if count >= MAX_EPOCHS {
                return Err(Error::TooManyEpochs { count });
            }
        }
        let spare = match tail.spare.take() {
            Some(spare) if spare.reserved >= size => spare,
            unfit => {
                tail.spare = unfit;
                self.make_room(tail, size)?;
                let number = tail.next_number;
                tail.next_number += 1;
                self.reserve(number, size)?
            }
        };
        let header = SegmentHeader { epoch: self.epoch, number: spare.number, first };
        if let Err(e) = spare.file.write_at(&header.encode(), 0) {
            let name = segment_name(spare.number);
            let _ = self.storage.remove(&name);
            return Err(Error::io("write the header of", &name, e));
        }
        let offset = SEGMENT_HEADER_BYTES as u64;
        self.state.lock().begin_segment(Segment {
            number: spare.number,
            first,
            last: first - 1,
            end: offset,
            synced_end: offset,
            disk: spare.reserved,
        });
        tail.active = Some(Active {
            number: spare.number,
            file: spare.file,
            offset,
            reserved: spare.reserved,
            torn: false,
        });
        self.keep_bell.ring();
        Ok(())
    }

    /// Creates a segment file and reserves its room; its name is durable when this returns.
    pub(crate) fn reserve(&self, number: u64, size: u64) -> Result<Spare> {
        let name = segment_name(number);
        let file = self.storage.create(&name).map_err(|e| Error::io("create", &name, e))?;
        let reserved = file.preallocate(size).map_err(|e| Error::io("reserve room for", &name, e));
        let durable = reserved.and_then(|()| {
            self.storage
                .sync_dir()
                .map_err(|e| Error::io("sync the folder after creating", &name, e))
        });
        if let Err(error) = durable {
            let _ = self.storage.remove(&name);
            return Err(error);
        }
        Ok(Spare { number, file, reserved: size })
    }

    /// Keeps within the cap: removes what is committed, then what is oldest, if it may.
    fn make_room(&self, tail: &Tail, size: u64) -> Result<()> {
        let max = self.options.max_bytes;
        let active = tail.active_number();
        loop {
            let used = self.state.lock().disk_bytes() + tail.spare_bytes();
            if used + size <= max {
                return Ok(());
            }
            let freed = self.remove_committed(active)?
                || (self.options.at_cap == AtCap::DropOldest && self.drop_oldest(active)?);
            if !freed {
                return Err(Error::Full { used, max, needed: size });
            }
        }
    }

    fn sync_full_segment(&self, tail: &mut Tail) -> Result<()> {
        for f in tail.sync_files.drain(..) {
            if let Err(e) = f.file.sync_data() {
                let error =
                    Error::SyncFailed { cause: format!("sync {}: {e}", segment_name(f.number)) };
                self.fail_stop(&error);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Waits a little for writers that the last sync released: as many as it served are likely to come again, and a
    /// sync costs much the same for one as for all. The wait is a fraction of what a sync takes.
    pub(crate) fn gather(&self, last: LastSync) {
        let patience = (last.took / GATHER_FRACTION).min(MAX_GATHER);
        let started = Instant::now();
        while self.queue.lock().waiting() < last.records && started.elapsed() < patience {
            std::thread::yield_now();
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

/// How many of the records in `bytes` fit into `room` bytes: their length and number.
fn fitting(bytes: &[u8], room: u64) -> (usize, u64) {
    let (mut len, mut count) = (0, 0);
    while len < bytes.len() {
        let frame = first_frame(&bytes[len..]);
        if (len + frame) as u64 > room {
            break;
        }
        (len, count) = (len + frame, count + 1);
    }
    (len, count)
}

/// Bytes of the first `count` records.
fn prefix(bytes: &[u8], count: u64) -> usize {
    (0..count).fold(0, |at, _| at + first_frame(&bytes[at..]))
}

/// Bytes of the first record. These are our own bytes, encoded a moment ago.
fn first_frame(bytes: &[u8]) -> usize {
    const LENGTH_AT: usize = 4;
    debug_assert!(RecordHeader::decode(bytes).is_some());
    frame_bytes(crate::format::u32_at(bytes, LENGTH_AT) as usize) as usize
}
