//! What the log knows of its epochs and segments. Pure: no I/O.

use std::collections::VecDeque;

use crate::meta::{EpochMeta, Meta};
use crate::{Epoch, EpochOffsets, Error, GapReason, LogState, Result, Stats};

/// One segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) first: u64,
    /// Last record written to it; `first - 1` while there is none.
    pub(crate) last: u64,
    /// End of the last written record.
    pub(crate) end: u64,
    /// Below this everything is synced.
    pub(crate) synced_end: u64,
    /// Bytes of disk it takes.
    pub(crate) disk: u64,
    /// Its file may hold another segment once its records are committed: all its room was written and no sync of it failed.
    pub(crate) reusable: bool,
}

/// The file of a segment whose records are committed, durably, kept to hold another one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Free {
    pub(crate) number: u64,
    pub(crate) disk: u64,
}

/// One epoch. Invariant: `committed <= accepted`, `committed <= synced <= written`.
#[derive(Debug, Clone)]
pub(crate) struct EpochState {
    /// Grows from epoch to epoch; readers find their place by it.
    pub(crate) ordinal: u64,
    pub(crate) epoch: Epoch,
    pub(crate) written: u64,
    pub(crate) synced: u64,
    pub(crate) accepted: u64,
    pub(crate) committed: u64,
    /// What `committed` was in the last meta file that is durable.
    pub(crate) committed_durable: u64,
    pub(crate) dropped_through: u64,
    /// In ascending order of sequence numbers.
    pub(crate) segments: VecDeque<Segment>,
}

/// Where a reader finds the next record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Located {
    /// In this segment, up to record `last` and offset `end`.
    Segment { number: u64, last: u64, end: u64 },
    /// Nowhere: the records up to `to` are gone.
    Gap { to: u64, reason: GapReason },
    /// They were committed and removed: go on at `seq`.
    Skip { seq: u64 },
    /// The epoch has no more: go on in the next one.
    Move { ordinal: u64, epoch: Epoch, seq: u64 },
    /// There is no more for now.
    Wait,
}

/// What keeps the log from syncing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyncTrouble {
    pub(crate) cause: String,
    pub(crate) attempts: u64,
    /// Records in memory that wait for it to end.
    pub(crate) records: u64,
}

/// All epochs, oldest first; the last one is the current one.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) epochs: Vec<EpochState>,
    /// The segment being written.
    pub(crate) active: Option<u64>,
    /// A file to be used again.
    pub(crate) free: Option<Free>,
    pub(crate) tag: Vec<u8>,
    pub(crate) dropped_records: u64,
    pub(crate) syncs: u64,
    pub(crate) sync_failures: u64,
    /// Records could not be synced, in no segment so far.
    pub(crate) sync_trouble: Option<SyncTrouble>,
    /// Why the last batch was refused, as long as none was taken since.
    pub(crate) refused: Option<Error>,
    pub(crate) closed: bool,
    /// A meta file is due: a segment was begun, or something was dropped.
    pub(crate) meta_due: bool,
}

impl EpochState {
    pub(crate) fn new(ordinal: u64, epoch: Epoch) -> EpochState {
        EpochState {
            ordinal,
            epoch,
            written: 0,
            synced: 0,
            accepted: 0,
            committed: 0,
            committed_durable: 0,
            dropped_through: 0,
            segments: VecDeque::new(),
        }
    }

    fn finished(&self) -> bool {
        self.committed >= self.written
    }
}

impl State {
    pub(crate) fn current(&mut self) -> &mut EpochState {
        self.epochs.last_mut().expect("the current epoch is never removed")
    }

    pub(crate) fn find(&mut self, epoch: Epoch) -> Option<&mut EpochState> {
        self.epochs.iter_mut().rev().find(|e| e.epoch == epoch)
    }

    /// Epochs that hold records not committed yet.
    pub(crate) fn live_epochs(&self) -> usize {
        self.epochs.iter().filter(|e| e.written > 0).count()
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        let free = self.free.map_or(0, |f| f.disk);
        free + self.epochs.iter().flat_map(|e| &e.segments).map(|s| s.disk).sum::<u64>()
    }

    pub(crate) fn locate(&self, ordinal: u64, seq: u64) -> Located {
        let Some(e) = self.epochs.iter().find(|e| e.ordinal >= ordinal) else {
            return Located::Wait;
        };
        if e.ordinal != ordinal {
            return Located::Move { ordinal: e.ordinal, epoch: e.epoch, seq: e.committed + 1 };
        }
        if seq > e.synced {
            let next = self.epochs.iter().find(|e| e.ordinal > ordinal);
            return next.map_or(Located::Wait, |n| Located::Move {
                ordinal: n.ordinal,
                epoch: n.epoch,
                seq: n.committed + 1,
            });
        }
        let index = e.segments.partition_point(|s| s.last < seq);
        let next = e.segments.get(index);
        if let Some(s) = next.filter(|s| s.first <= seq) {
            return Located::Segment {
                number: s.number,
                last: s.last.min(e.synced),
                end: s.synced_end,
            };
        }
        let to = next.map_or(e.synced, |s| s.first - 1).min(e.synced);
        if seq <= e.committed {
            Located::Skip { seq: to.min(e.committed) + 1 }
        } else if seq <= e.dropped_through {
            Located::Gap { to: to.min(e.dropped_through), reason: GapReason::DroppedAtCap }
        } else {
            Located::Gap { to, reason: GapReason::Corrupt }
        }
    }

    /// Moves `accepted` (and `committed`) of an epoch forward; whether anything moved.
    pub(crate) fn advance(&mut self, epoch: Epoch, seq: u64, commit: bool) -> Result<bool> {
        let what = if commit { "committed" } else { "accepted" };
        let e = self.find(epoch).ok_or(Error::UnknownEpoch(epoch))?;
        if seq > e.synced {
            return Err(Error::BeyondSynced { epoch, what, seq, synced: e.synced });
        }
        let before = (e.accepted, e.committed);
        e.accepted = e.accepted.max(seq);
        if commit {
            e.committed = e.committed.max(seq);
        }
        Ok(before != (e.accepted, e.committed))
    }

    pub(crate) fn begin_segment(&mut self, segment: Segment) {
        self.active = Some(segment.number);
        self.current().segments.push_back(segment);
        self.meta_due = true;
    }

    /// Records up to `last` are in segment `number`, which ends at `end`.
    pub(crate) fn wrote(&mut self, number: u64, last: u64, end: u64) {
        let e = self.current();
        e.written = e.written.max(last);
        if let Some(s) = e.segments.iter_mut().rev().find(|s| s.number == number) {
            (s.last, s.end) = (last, end);
        }
    }

    pub(crate) fn shrink_segment(&mut self, number: u64, disk: u64) {
        if let Some(s) = self.current().segments.iter_mut().rev().find(|s| s.number == number) {
            (s.disk, s.reusable) = (disk, false);
        }
    }

    /// Everything up to `through` is synced, and these segments up to these offsets.
    pub(crate) fn mark_synced(&mut self, through: u64, ends: impl Iterator<Item = (u64, u64)>) {
        let e = self.current();
        for (number, end) in ends {
            if let Some(s) = e.segments.iter_mut().rev().find(|s| s.number == number) {
                s.synced_end = s.synced_end.max(end);
            }
        }
        e.synced = e.synced.max(through);
    }

    /// Forgets what was written after the last good sync; returns the segments that hold nothing else, and their bytes of
    /// disk.
    pub(crate) fn cut_to_synced(&mut self) -> Vec<(u64, u64)> {
        self.active = None;
        let e = self.current();
        let synced = e.synced;
        e.written = synced;
        let gone = e.segments.iter().filter(|s| s.first > synced);
        let gone = gone.map(|s| (s.number, s.disk)).collect();
        e.segments.retain(|s| s.first <= synced);
        for s in &mut e.segments {
            if s.last > synced {
                (s.last, s.end, s.reusable) = (synced, s.end.min(s.synced_end), false);
            }
        }
        gone
    }

    /// Segments whose records are all committed, durably, and that nobody writes to.
    pub(crate) fn removable(&self, active: Option<u64>) -> Vec<(Epoch, u64)> {
        let in_epoch = |e: &EpochState| {
            let (epoch, committed) = (e.epoch, e.committed_durable);
            let done = e
                .segments
                .iter()
                .take_while(move |s| s.last <= committed && Some(s.number) != active);
            done.map(move |s| (epoch, s.number)).collect::<Vec<_>>()
        };
        self.epochs.iter().flat_map(in_epoch).collect()
    }

    /// Whether a segment could be removed once a meta file is written.
    pub(crate) fn wants_removal(&self, active: Option<u64>) -> bool {
        let current = self.epochs.len().saturating_sub(1);
        self.epochs.iter().enumerate().any(|(i, e)| {
            let first = e.segments.front();
            first.is_some_and(|s| s.last <= e.committed && Some(s.number) != active)
                || (i < current && e.finished())
        })
    }

    pub(crate) fn forget_segment(&mut self, epoch: Epoch, number: u64) {
        if let Some(e) = self.find(epoch) {
            e.segments.retain(|s| s.number != number);
        }
    }

    /// Forgets a segment as [`State::forget_segment`] does, but keeps its file to be used again, if it is fit for that and
    /// there is none yet; whether it did.
    pub(crate) fn free_segment(&mut self, epoch: Epoch, number: u64) -> bool {
        let found = self.find(epoch).and_then(|e| e.segments.iter().find(|s| s.number == number));
        let fit = found.filter(|s| s.reusable).map(|s| Free { number, disk: s.disk });
        if self.free.is_some() || fit.is_none() {
            return false;
        }
        self.free = fit;
        self.forget_segment(epoch, number);
        true
    }

    /// Whether older epochs have nothing left to keep.
    pub(crate) fn has_finished_epochs(&self) -> bool {
        let current = self.epochs.len().saturating_sub(1);
        self.epochs[..current].iter().any(|e| e.finished() && e.segments.is_empty())
    }

    /// Forgets older epochs that have nothing left to keep.
    pub(crate) fn forget_finished_epochs(&mut self) {
        let current = self.epochs.len().saturating_sub(1);
        let mut index = 0;
        self.epochs.retain(|e| {
            index += 1;
            index > current || !(e.finished() && e.segments.is_empty())
        });
    }

    /// The oldest segment but the active one: its epoch, number and last record.
    pub(crate) fn oldest(&self, active: Option<u64>) -> Option<(Epoch, Segment)> {
        let (epoch, segment) =
            self.epochs.iter().find_map(|e| e.segments.front().map(|s| (e.epoch, *s)))?;
        (Some(segment.number) != active).then_some((epoch, segment))
    }

    pub(crate) fn to_meta(&self, closing: bool) -> Meta {
        let current = self.epochs.len().saturating_sub(1);
        let kept =
            self.epochs.iter().enumerate().filter(|(_, e)| e.written > 0 || !e.segments.is_empty());
        let epochs = kept.map(|(i, e)| EpochMeta {
            epoch: e.epoch,
            synced: e.synced,
            accepted: e.accepted,
            committed: e.committed,
            dropped_through: e.dropped_through,
            last_segment: e.segments.back().map_or(0, |s| s.number),
            sealed: closing || i < current,
        });
        Meta {
            dropped_records: self.dropped_records,
            tag: self.tag.clone(),
            epochs: epochs.collect(),
        }
    }

    /// A meta file with these offsets is durable.
    pub(crate) fn mark_durable(&mut self, meta: &Meta) {
        for m in &meta.epochs {
            if let Some(e) = self.find(m.epoch) {
                e.committed_durable = e.committed_durable.max(m.committed);
            }
        }
    }

    pub(crate) fn offsets(&self) -> Vec<EpochOffsets> {
        let one = |e: &EpochState| EpochOffsets {
            epoch: e.epoch,
            first: e.segments.front().map_or(e.written + 1, |s| s.first),
            written: e.written,
            synced: e.synced,
            accepted: e.accepted,
            committed: e.committed,
            bytes: e.segments.iter().map(|s| s.end).sum(),
        };
        self.epochs.iter().map(one).collect()
    }

    pub(crate) fn log_state(&self) -> LogState {
        if self.closed {
            return LogState::Closed;
        }
        if let Some(SyncTrouble { cause, attempts, records }) = self.sync_trouble.clone() {
            return LogState::SyncFailing { cause, attempts, records };
        }
        match &self.refused {
            Some(error) => LogState::Refusing { cause: error.to_string() },
            None => LogState::Working,
        }
    }

    pub(crate) fn stats(&self, spare_bytes: u64) -> Stats {
        Stats {
            disk_bytes: self.disk_bytes() + spare_bytes,
            segments: self.epochs.iter().map(|e| e.segments.len() as u64).sum(),
            dropped_records: self.dropped_records,
            syncs: self.syncs,
            sync_failures: self.sync_failures,
        }
    }
}
