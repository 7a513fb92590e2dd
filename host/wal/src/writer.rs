//! From the queue to the file.
//!
//! Locks are taken in this order: `syncing`, `tail`, `keeping`, `queue`, `state`. A sync holds `syncing` only, so that the
//! next batch fills and is written meanwhile.

use std::sync::Arc;
use std::time::Instant;

use crate::format::{RecordHeader, frame_bytes, segment_name};
use crate::log::Shared;
use crate::queue::{Batch, Ticket};
use crate::turn::Spare;
use crate::{Error, MAX_UNSYNCED_BYTES, Result, StorageFile, SyncPolicy};

/// The end of the log, where batches are written.
pub(crate) struct Tail {
    pub(crate) active: Option<Active>,
    pub(crate) next_number: u64,
    pub(crate) spare: Option<Spare>,
    /// Written, not synced: kept until they are, in case the sync fails.
    pub(crate) unsynced: Vec<Unsynced>,
    pub(crate) unsynced_bytes: usize,
    /// Files that hold them.
    pub(crate) sync_files: Vec<SyncFile>,
    pub(crate) written: u64,
    /// Syncs fail, in whatever segment: nothing is written until one succeeds.
    pub(crate) failing: bool,
    /// Segments given up after a failed sync, and their bytes of disk: removed once their records are safe elsewhere.
    pub(crate) abandoned: Vec<(u64, u64)>,
}

/// The segment being written.
pub(crate) struct Active {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) offset: u64,
    pub(crate) reserved: u64,
    /// When it was begun.
    pub(crate) began: Instant,
    /// A write failed half way: what lies behind `offset` must go before anything else is written.
    pub(crate) torn: bool,
}

pub(crate) struct Unsynced {
    pub(crate) bytes: Vec<u8>,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) ticket: Arc<Ticket>,
}

pub(crate) struct SyncFile {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) end: u64,
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
            failing: false,
            abandoned: Vec::new(),
        }
    }

    pub(crate) fn over_bound(&self) -> bool {
        self.unsynced_bytes > MAX_UNSYNCED_BYTES
    }

    pub(crate) fn active_number(&self) -> Option<u64> {
        self.active.as_ref().map(|a| a.number)
    }

    /// Bytes of disk beyond those of segments with records: the prepared one, and those given up.
    pub(crate) fn spare_bytes(&self) -> u64 {
        let abandoned: u64 = self.abandoned.iter().map(|(_, bytes)| bytes).sum();
        self.spare.as_ref().map_or(0, |s| s.reserved) + abandoned
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
        self.state.lock().refused.clone_from(&error);
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
    pub(crate) fn write_batch(
        &self,
        tail: &mut Tail,
        bytes: &[u8],
        first: u64,
    ) -> (u64, Option<Error>) {
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
        self.leave_aged(tail);
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

    /// Where records go by age, leaves a segment that was written to for long: they go by segments.
    fn leave_aged(&self, tail: &mut Tail) {
        let Some(after) = self.options.turn_after() else { return };
        let aged = tail.active.take_if(|active| active.began.elapsed() > after);
        if let Some(active) = aged {
            // Not all of its room was written: no other segment gets its file.
            self.state.lock().shrink_segment(active.number, active.reserved);
        }
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
