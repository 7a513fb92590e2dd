//! Opening: what earlier epochs left is found, checked where it was not before, and made durable.

use std::io;
use std::sync::Arc;

use crate::format::{
    BadHeader, SEGMENT_HEADER_BYTES, SEGMENT_VERSION, SegmentHeader, segment_name, segment_number,
};
use crate::meta::{CleanMarker, EpochMeta, Meta, MetaFound, newer};
use crate::scan::Scan;
use crate::state::{EpochState, Segment, State};
use crate::{Epoch, Error, FoundGap, GapReason, MetaFile, Recovery, Result, Storage, StorageFile};

/// Bytes copied at once when a tail is written anew.
const COPY_BYTES: u64 = 256 << 10;

/// A segment file that was found.
struct Found {
    number: u64,
    file: Arc<dyn StorageFile>,
    len: u64,
    epoch: Epoch,
    first: u64,
    reused: bool,
    damaged_header: bool,
}

/// A segment with records that are wanted.
struct Usable {
    segment: Segment,
    /// Its first record.
    begins: u64,
    /// Ranges that are missing between its records, where it was read.
    inside: Vec<(u64, u64)>,
}

struct Opening<'a> {
    storage: &'a dyn Storage,
    marker: Option<CleanMarker>,
    report: Recovery,
}

/// Checks the folder; returns the state with the new epoch as the current one, and the next segment number.
pub(crate) fn recover(storage: &dyn Storage, current: Epoch) -> Result<(State, u64, Recovery)> {
    let names = storage.list().map_err(|e| Error::io("list", &storage.describe(), e))?;
    let (meta, meta_file) = match Meta::load(storage)? {
        MetaFound::Intact(meta) => (meta, MetaFile::Intact),
        MetaFound::Missing => (Meta::default(), MetaFile::Missing),
        MetaFound::Damaged => (Meta::default(), MetaFile::Damaged),
    };
    let marker = CleanMarker::take(storage)?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|n| segment_number(n)).collect();
    numbers.sort_unstable();
    let brand_new = meta_file == MetaFile::Missing && numbers.is_empty();
    let report = Recovery {
        clean: false,
        meta: meta_file,
        epochs: 0,
        records: 0,
        gaps: Vec::new(),
        truncated_bytes: 0,
        damaged_headers: 0,
        set_aside: Vec::new(),
    };
    let mut opening = Opening { storage, marker, report };
    let mut found = Vec::new();
    for number in &numbers {
        found.extend(opening.inspect(*number)?);
    }
    let mut epochs = Vec::new();
    for (ordinal, entry) in in_order(&meta, &found).into_iter().enumerate() {
        let (mine, rest) = found.into_iter().partition(|f| f.epoch == entry.epoch);
        found = rest;
        epochs.extend(opening.epoch(ordinal as u64, entry, mine)?);
    }
    if !numbers.is_empty() {
        storage.sync_dir().map_err(|e| Error::io("sync", &storage.describe(), e))?;
    }
    let mut report = opening.report;
    let damaged =
        report.gaps.iter().any(|g| g.reason == GapReason::Corrupt) || !report.set_aside.is_empty();
    let closed = marker.is_some() && meta_file == MetaFile::Intact;
    report.clean = brand_new
        || (closed && !damaged && report.truncated_bytes == 0 && report.damaged_headers == 0);
    report.epochs = epochs.iter().filter(|e: &&EpochState| e.committed < e.written).count() as u64;
    report.records = epochs.iter().map(records_left).fold(0, u64::saturating_add);
    epochs.push(EpochState::new(epochs.len() as u64, current));
    let state = State {
        epochs,
        active: None,
        free: None,
        tag: meta.tag,
        dropped_records: meta.dropped_records,
        syncs: 0,
        sync_failures: 0,
        sync_trouble: None,
        refused: None,
        closed: false,
        meta_due: !numbers.is_empty(),
    };
    Ok((state, numbers.last().map_or(1, |n| n + 1), report))
}

/// Epochs in the order in which they began: those in the meta file, then those begun after it was written.
fn in_order(meta: &Meta, found: &[Found]) -> Vec<EpochMeta> {
    let mut entries = meta.epochs.clone();
    for f in found {
        if !entries.iter().any(|e| e.epoch == f.epoch) {
            entries.push(EpochMeta::new(f.epoch));
        }
    }
    entries
}

fn records_left(e: &EpochState) -> u64 {
    e.written.saturating_sub(e.committed)
}

impl Opening<'_> {
    /// Opens a segment and learns its epoch and first record, from its header or else from its records.
    fn inspect(&mut self, number: u64) -> Result<Option<Found>> {
        let name = segment_name(number);
        let file = self.storage.open(&name).map_err(|e| Error::io("open", &name, e))?;
        let len = file.len().map_err(|e| Error::io("measure", &name, e))?;
        let mut head = [0; SEGMENT_HEADER_BYTES];
        let read = file.read_at(&mut head, 0).unwrap_or(0);
        match SegmentHeader::decode(&head[..read]) {
            Ok(SegmentHeader { epoch, first, reused, .. }) => {
                Ok(Some(Found { number, file, len, epoch, first, reused, damaged_header: false }))
            }
            Err(BadHeader::Version(found)) => Err(newer(&name, found, SEGMENT_VERSION)),
            Err(BadHeader::Damaged) => {
                let mut scan = Scan::new(file.clone(), SEGMENT_HEADER_BYTES as u64, len);
                if let Some(frame) = scan.next(|_| true) {
                    self.report.damaged_headers += 1;
                    let (epoch, first) = (frame.header.epoch, frame.header.seq);
                    return Ok(Some(Found {
                        number,
                        file,
                        len,
                        epoch,
                        first,
                        reused: false,
                        damaged_header: true,
                    }));
                }
                if scan.trailing_bytes() == 0 && head.iter().all(|b| *b == 0) {
                    // Prepared and never used.
                    self.remove(number)?;
                } else {
                    self.report.truncated_bytes += scan.trailing_bytes();
                    self.set_aside(number)?;
                }
                Ok(None)
            }
        }
    }

    fn epoch(
        &mut self,
        ordinal: u64,
        entry: EpochMeta,
        mut found: Vec<Found>,
    ) -> Result<Option<EpochState>> {
        found.sort_by_key(|f| (f.first, f.number));
        self.set_copies_aside(&mut found)?;
        let mut e = EpochState::new(ordinal, entry.epoch);
        (e.committed, e.committed_durable, e.dropped_through) =
            (entry.committed, entry.committed, entry.dropped_through);
        let marked = self.marker.filter(|m| m.epoch == entry.epoch).map_or(0, |m| m.last);
        let known = entry.synced.max(marked);
        // Segments that end here were to be removed: one that came back goes again.
        let gone = entry.committed.max(entry.dropped_through);
        let mut reached = gone;
        self.report_drop(&entry);
        let (kept, hinted) = self.usable(&entry, found, known, gone)?;
        for Usable { segment, begins, inside } in kept {
            self.gap(entry.epoch, reached + 1, begins - 1);
            for (from, to) in inside {
                self.gap(entry.epoch, from, to);
            }
            reached = segment.last;
            e.segments.push_back(segment);
        }
        let known = known.max(hinted);
        self.gap(entry.epoch, reached + 1, known);
        e.written = reached.max(known);
        e.synced = e.written;
        e.accepted = entry.accepted.max(entry.committed);
        Ok((e.written > 0).then_some(e))
    }

    /// The segments with records that are wanted, and the last number that those without any say was before them; these
    /// are removed. From the last to the first: a segment ends where the next one that *has* records begins. One that is
    /// removed bounds nothing, since the next opening would not know of the bound and find more than this one.
    fn usable(
        &mut self,
        entry: &EpochMeta,
        found: Vec<Found>,
        known: u64,
        gone: u64,
    ) -> Result<(Vec<Usable>, u64)> {
        let (mut kept, mut hinted) = (Vec::new(), 0);
        let mut next: Option<(u64, u64)> = None;
        for f in found.into_iter().rev() {
            let upper = next.map(|(first, _)| first - 1);
            let sure = if upper.is_none() && entry.sealed { Some(known) } else { upper };
            if sure.is_some_and(|last| last <= gone) {
                self.remove(f.number)?;
                continue;
            }
            // Known to be followed by what followed it when the meta file was written.
            let complete = match next {
                Some((_, number)) => number == f.number + 1,
                None => f.number == entry.last_segment,
            };
            let checked =
                sure.filter(|last| *last <= entry.synced && complete && !f.damaged_header);
            let usable = match checked {
                Some(last) => Usable {
                    segment: Segment {
                        number: f.number,
                        first: f.first,
                        last,
                        end: f.len,
                        synced_end: f.len,
                        disk: f.len,
                        reusable: false,
                    },
                    begins: f.first,
                    inside: Vec::new(),
                },
                None => self.check(&f, entry, upper.unwrap_or(u64::MAX))?,
            };
            if usable.segment.last < f.first.max(gone + 1) {
                hinted = hinted.max(usable.segment.last);
                self.remove(f.number)?;
            } else {
                next = Some((f.first, f.number));
                kept.push(usable);
            }
        }
        kept.reverse();
        Ok((kept, hinted))
    }

    /// Reads a segment whole, makes what is intact durable and cuts off the rest. Its records stay as old as they are.
    fn check(&mut self, f: &Found, entry: &EpochMeta, upper: u64) -> Result<Usable> {
        let name = segment_name(f.number);
        let mut scan = Scan::new(f.file.clone(), SEGMENT_HEADER_BYTES as u64, f.len);
        if f.reused {
            scan.expect_remains_below(f.first);
        }
        let (mut last, mut unsure_from) = (f.first - 1, None);
        let (mut begins, mut inside) = (f.first, Vec::new());
        let from = f.first;
        while let Some(frame) =
            scan.next(|h| h.epoch == f.epoch && h.seq > last && (from..=upper).contains(&h.seq))
        {
            let seq = frame.header.seq;
            if last < from {
                begins = seq;
            } else if last + 1 < seq {
                inside.push((last + 1, seq - 1));
            }
            if seq > entry.synced && unsure_from.is_none() {
                unsure_from = Some(frame.offset);
            }
            last = seq;
        }
        let end = scan.good_end();
        self.report.truncated_bytes += scan.trailing_bytes();
        if last >= f.first {
            let written = self
                .storage
                .modified(&name)
                .map_err(|e| Error::io("look at the time of", &name, e))?;
            if let Some(from) = unsure_from {
                // A sync that failed before the crash may have left pages clean that never reached the disk.
                match write_again(f.file.as_ref(), from, end) {
                    Err(e) if e.kind() != io::ErrorKind::StorageFull => {
                        return Err(Error::io("write again", &name, e));
                    }
                    _ => {}
                }
            }
            if f.len > end {
                f.file.truncate(end).map_err(|e| Error::io("truncate", &name, e))?;
            }
            if let Some(at) = written {
                f.file.set_modified(at).map_err(|e| Error::io("set the time of", &name, e))?;
            }
            f.file.sync_data().map_err(|e| Error::io("sync", &name, e))?;
        }
        let segment = Segment {
            number: f.number,
            first: f.first,
            last,
            end,
            synced_end: end,
            disk: end,
            reusable: false,
        };
        Ok(Usable { segment, begins, inside })
    }

    /// Of segments that begin with the same record the one with most records stays.
    fn set_copies_aside(&mut self, found: &mut Vec<Found>) -> Result<()> {
        let mut index = 1;
        while index < found.len() {
            if found[index - 1].first != found[index].first {
                index += 1;
                continue;
            }
            let loser =
                if count(&found[index]) > count(&found[index - 1]) { index - 1 } else { index };
            let copy = found.remove(loser);
            if count(&copy) == 0 { self.remove(copy.number)? } else { self.set_aside(copy.number)? }
        }
        Ok(())
    }

    fn report_drop(&mut self, entry: &EpochMeta) {
        if entry.dropped_through > entry.committed {
            self.report.gaps.push(FoundGap {
                epoch: entry.epoch,
                from: entry.committed + 1,
                to: entry.dropped_through,
                reason: GapReason::DroppedAtCap,
            });
        }
    }

    fn gap(&mut self, epoch: Epoch, from: u64, to: u64) {
        if from <= to {
            self.report.gaps.push(FoundGap { epoch, from, to, reason: GapReason::Corrupt });
        }
    }

    fn remove(&self, number: u64) -> Result<()> {
        let name = segment_name(number);
        self.storage.remove(&name).map_err(|e| Error::io("remove", &name, e))
    }

    fn set_aside(&mut self, number: u64) -> Result<()> {
        let name = segment_name(number);
        let aside = format!("{name}.aside");
        self.storage.rename(&name, &aside).map_err(|e| Error::io("rename", &name, e))?;
        self.report.set_aside.push(aside);
        Ok(())
    }
}

/// Intact records of a segment.
fn count(f: &Found) -> u64 {
    let mut scan = Scan::new(f.file.clone(), SEGMENT_HEADER_BYTES as u64, f.len);
    let (mut last, mut count) = (0, 0);
    while let Some(frame) = scan.next(|h| h.epoch == f.epoch && h.seq > last) {
        last = frame.header.seq;
        count += 1;
    }
    count
}

fn write_again(file: &dyn StorageFile, from: u64, end: u64) -> io::Result<()> {
    let mut at = from;
    let mut buf = Vec::new();
    while at < end {
        buf.resize((end - at).min(COPY_BYTES) as usize, 0);
        let read = file.read_at(&mut buf, at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_at(&buf[..read], at)?;
        at += read as u64;
    }
    Ok(())
}
