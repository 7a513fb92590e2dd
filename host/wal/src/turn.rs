//! From one segment to the next: making room, and the segment prepared ahead of time, so that no writer waits for it.

use std::sync::Arc;
use std::time::Instant;

use crate::format::{SEGMENT_HEADER_BYTES, SegmentHeader, segment_name};
use crate::log::Shared;
use crate::reuse::Reuse;
use crate::state::Segment;
use crate::writer::{Active, Tail};
use crate::{AtCap, Error, MAX_EPOCHS, Result, StorageFile, SyncPolicy};

/// A segment file created and reserved ahead of time, its name durable.
pub(crate) struct Spare {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) reserved: u64,
    /// The file held another segment before.
    pub(crate) reused: bool,
}

impl Shared {
    /// Begins a new segment whose first record is `first`, with room for a frame of `frame` bytes.
    pub(crate) fn turn(&self, tail: &mut Tail, first: u64, frame: u64) -> Result<()> {
        let size = self.options.segment_bytes.max(SEGMENT_HEADER_BYTES as u64 + frame);
        if self.options.sync == SyncPolicy::Never {
            self.sync_full_segment(tail);
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
                self.new_file(tail, size)?
            }
        };
        let header =
            SegmentHeader { epoch: self.epoch, number: spare.number, first, reused: spare.reused };
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
            reusable: spare.reserved == self.options.segment_bytes
                && self.options.sync != SyncPolicy::Never,
        });
        tail.active = Some(Active {
            number: spare.number,
            file: spare.file,
            offset,
            reserved: spare.reserved,
            began: Instant::now(),
            torn: false,
        });
        self.keep_bell.ring();
        Ok(())
    }

    /// A file for a segment of `size` bytes that was not prepared.
    fn new_file(&self, tail: &mut Tail, size: u64) -> Result<Spare> {
        let number = tail.next_number;
        tail.next_number += 1;
        let free = self.state.lock().free.take_if(|free| free.disk == size);
        if let Some(spare) = free.and_then(|free| self.reuse(free, number)) {
            return Ok(spare);
        }
        self.make_room(tail, size)?;
        match self.reserve(number, size) {
            Err(Error::NoSpace { .. }) if self.remove_free()? => self.reserve(number, size),
            other => other,
        }
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
        Ok(Spare { number, file, reserved: size, reused: false })
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
            let freed = self.remove_free()?
                || self.remove_committed(active, Reuse::None)?
                || (self.options.at_cap == AtCap::DropOldest && self.drop_oldest(active, None)?);
            if !freed {
                return Err(Error::Full { used, max, needed: size });
            }
        }
    }

    fn sync_full_segment(&self, tail: &mut Tail) {
        for f in std::mem::take(&mut tail.sync_files) {
            if let Err(error) = f.file.sync_data() {
                self.state.lock().sync_failures += 1;
                self.abandon_unsynced(tail, &f, &error);
            }
        }
    }

    /// Makes the next segment ready, so that no writer waits for it.
    pub(crate) fn prepare_spare(&self) {
        let size = self.options.segment_bytes;
        let (number, free) = {
            let mut tail = self.tail.lock();
            if tail.spare.is_some() || tail.active.is_none() {
                return;
            }
            let mut state = self.state.lock();
            let free = state.free.take();
            let used = state.disk_bytes() + tail.spare_bytes();
            if used + size > self.options.max_bytes {
                state.free = free;
                return;
            }
            let number = tail.next_number;
            tail.next_number += 1;
            (number, free)
        };
        let reused = free.and_then(|free| self.reuse(free, number));
        // A failure is not worth a word: the writer that needs the segment tries again, and tells.
        let Some(spare) = reused.or_else(|| self.reserve(number, size).ok()) else {
            return;
        };
        let mut tail = self.tail.lock();
        if tail.spare.is_none() && tail.active_number().is_some_and(|active| active < number) {
            tail.spare = Some(spare);
        } else {
            let _ = self.storage.remove(&segment_name(number));
        }
    }

    pub(crate) fn discard_spare(&self, tail: &mut Tail) {
        if let Some(spare) = tail.spare.take() {
            let _ = self.storage.remove(&segment_name(spare.number));
        }
    }
}
