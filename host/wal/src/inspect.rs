//! Looking at a log's folder without opening the log: nothing is locked, written, renamed or removed, whoever has it open.
//!
//! What a running log does meanwhile shows as it was at one moment or the other: a segment that goes while it is looked at
//! is left out, one whose file became another segment's too. The offsets are those of the meta file, which a running
//! log writes with each new segment: it may know of more by now. What is behind the last whole record of the segment that
//! is being written is a record on its way, and no damage.

mod holder;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::format::{
    BadHeader, SEGMENT_HEADER_BYTES, SEGMENT_VERSION, SegmentHeader, segment_name, segment_number,
};
use crate::meta::{CLEAN_FILE, CleanMarker, EpochMeta, META_FILE, Meta, newer};
use crate::scan::Scan;
use crate::storage::LOCK_FILE;
use crate::{Epoch, Error, FoundGap, GapReason, MAX_META_BYTES, MetaFile, Result, StorageFile};

/// What a folder holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The process that has the log open; 0 where it is one that this one cannot see.
    pub holder: Option<u32>,
    /// Whether the last opener closed it, with all that it had appended.
    pub closed: bool,
    /// State of the meta file.
    pub meta: MetaFile,
    /// Uncommitted records ever dropped at the cap.
    pub dropped_records: u64,
    /// Epochs, oldest first.
    pub epochs: Vec<InspectedEpoch>,
    /// Segment files that hold no record that counts: prepared for the next segment.
    pub prepared: Vec<InspectedFile>,
    /// Segment files without an intact record or header.
    pub unreadable: Vec<InspectedFile>,
    /// What recovery set aside earlier.
    pub aside: Vec<InspectedFile>,
}

/// A file, and its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedFile {
    /// Its name in the folder.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// One epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedEpoch {
    /// Which.
    pub epoch: Epoch,
    /// The last record that is in a file, or is known to have been.
    pub written: u64,
    /// The last record on the disk, as of the meta file.
    pub synced: u64,
    /// The last record that was accepted, as of the meta file.
    pub accepted: u64,
    /// The last record that was committed, as of the meta file.
    pub committed: u64,
    /// Its segments, in the order of their records.
    pub segments: Vec<InspectedSegment>,
    /// Records that are missing and not committed.
    pub gaps: Vec<FoundGap>,
}

impl InspectedEpoch {
    /// Records that are in a file and not committed.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let missing: u64 = self.gaps.iter().map(|gap| gap.to - gap.from + 1).sum();
        self.written.saturating_sub(self.committed).saturating_sub(missing)
    }
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedSegment {
    /// Its file's name.
    pub name: String,
    /// Its number.
    pub number: u64,
    /// Its first intact record.
    pub first: u64,
    /// Its last intact record; `first - 1` while it has none.
    pub last: u64,
    /// Intact records.
    pub records: u64,
    /// Records missing between them, each range with both its ends.
    pub missing: Vec<(u64, u64)>,
    /// Bytes of its header and of its records.
    pub bytes: u64,
    /// The file's size.
    pub file_bytes: u64,
    /// Bytes behind the last record that are none; of the segment that is being written, a record on its way.
    pub trailing_bytes: u64,
    /// Its header is damaged, and its records were read all the same.
    pub damaged_header: bool,
    /// Whether a running log writes to it.
    pub active: bool,
    /// When it was last written to, unix milliseconds.
    pub written_at: i64,
}

/// Looks at the log in `folder`.
///
/// # Errors
/// A folder that is not there or cannot be read; a log of a newer version. Damage is none: it is what is looked for.
pub fn inspect(folder: &Path) -> Result<Inspection> {
    let looking = Looking { folder: folder.to_owned() };
    let names = looking.names()?;
    let (meta, state) = looking.meta()?;
    let closed = looking.small(CLEAN_FILE)?.and_then(|bytes| CleanMarker::decode(&bytes));
    let mut found = Inspection {
        holder: looking.holder()?,
        closed: closed.is_some() || (names.is_empty() && state == MetaFile::Missing),
        meta: state,
        dropped_records: meta.dropped_records,
        epochs: Vec::new(),
        prepared: Vec::new(),
        unreadable: Vec::new(),
        aside: Vec::new(),
    };
    let mut segments = Vec::new();
    for name in names {
        let Some(number) = segment_number(&name) else {
            if name.ends_with(".aside") {
                found.aside.extend(looking.file(&name)?);
            }
            continue;
        };
        match looking.segment(number)? {
            Seen::Segment(epoch, segment) => segments.push((epoch, segment)),
            Seen::Prepared(file) => found.prepared.push(file),
            Seen::Unreadable(file) => found.unreadable.push(file),
            Seen::Gone => {}
        }
    }
    found.epochs = epochs(&meta, closed, segments, found.holder.is_some());
    Ok(found)
}

/// What became of a segment's file.
enum Seen {
    Segment(Epoch, InspectedSegment),
    Prepared(InspectedFile),
    Unreadable(InspectedFile),
    Gone,
}

/// A file that can only be read.
struct ReadOnly(File);

fn never() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "a log that is looked at is not changed")
}

impl StorageFile for ReadOnly {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.0.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(never())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(never())
    }

    fn preallocate(&self, _: u64) -> io::Result<()> {
        Err(never())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(never())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

struct Looking {
    folder: PathBuf,
}

impl Looking {
    fn names(&self) -> Result<Vec<String>> {
        let failed = |e| Error::io("list", &self.folder.display().to_string(), e);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            names.extend(entry.map_err(failed)?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// `None` where it is not there, or not any more.
    fn open(&self, name: &str) -> Result<Option<File>> {
        match File::open(self.folder.join(name)) {
            Ok(file) => Ok(Some(file)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("open", name, e)),
        }
    }

    fn small(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open(name)? else { return Ok(None) };
        let len = file.metadata().map_err(|e| Error::io("measure", name, e))?.len();
        let mut bytes = vec![0; len.min(MAX_META_BYTES) as usize];
        // What cannot be read is as good as damaged.
        let read = ReadOnly(file).read_at(&mut bytes, 0).unwrap_or(0);
        bytes.truncate(read);
        Ok(Some(bytes))
    }

    fn meta(&self) -> Result<(Meta, MetaFile)> {
        let Some(bytes) = self.small(META_FILE)? else {
            return Ok((Meta::default(), MetaFile::Missing));
        };
        match Meta::decode(&bytes) {
            Ok(Some(meta)) => Ok((meta, MetaFile::Intact)),
            Ok(None) => Ok((Meta::default(), MetaFile::Damaged)),
            Err(version) => Err(newer(META_FILE, version, crate::meta::META_VERSION)),
        }
    }

    /// Who holds the lock, without taking it: an opener that comes meanwhile must not be refused for it.
    fn holder(&self) -> Result<Option<u32>> {
        let Some(file) = self.open(LOCK_FILE)? else { return Ok(None) };
        let inode = file.metadata().map_err(|e| Error::io("measure", LOCK_FILE, e))?.ino();
        let said = self.small(LOCK_FILE)?.unwrap_or_default();
        let said = std::str::from_utf8(&said).ok().and_then(|text| text.trim().parse().ok());
        Ok(holder::of(inode, said))
    }

    fn file(&self, name: &str) -> Result<Option<InspectedFile>> {
        let Some(file) = self.open(name)? else { return Ok(None) };
        let bytes = file.metadata().map_err(|e| Error::io("measure", name, e))?.len();
        Ok(Some(InspectedFile { name: name.to_owned(), bytes }))
    }

    fn segment(&self, number: u64) -> Result<Seen> {
        let name = segment_name(number);
        let Some(file) = self.open(&name)? else { return Ok(Seen::Gone) };
        let metadata = file.metadata().map_err(|e| Error::io("measure", &name, e))?;
        let here = InspectedFile { name: name.clone(), bytes: metadata.len() };
        let file: Arc<dyn StorageFile> = Arc::new(ReadOnly(file));
        let before = head(&*file);
        let (epoch, first, reused, damaged_header) = match SegmentHeader::decode(&before) {
            // Its file has the next name already, and not the next header.
            Ok(header) if header.number < number => return Ok(Seen::Prepared(here)),
            Ok(header) => (Some(header.epoch), header.first, header.reused, false),
            Err(BadHeader::Version(found)) => return Err(newer(&name, found, SEGMENT_VERSION)),
            Err(BadHeader::Damaged) if before.iter().all(|b| *b == 0) => (None, 1, false, false),
            Err(BadHeader::Damaged) => (None, 1, false, true),
        };
        let mut scan = Scan::new(Arc::clone(&file), SEGMENT_HEADER_BYTES as u64, metadata.len());
        if reused {
            scan.expect_remains_below(first);
        }
        let (mut of, mut begins, mut last, mut records) = (epoch, None, first - 1, 0);
        let mut missing = Vec::new();
        while let Some(frame) = scan.next(|h| of.is_none_or(|of| h.epoch == of) && h.seq > last) {
            of = Some(frame.header.epoch);
            if begins.is_some() && last + 1 < frame.header.seq {
                missing.push((last + 1, frame.header.seq - 1));
            }
            begins.get_or_insert(frame.header.seq);
            last = frame.header.seq;
            records += 1;
        }
        if head(&*file) != before {
            return Ok(Seen::Gone);
        }
        let Some(epoch) = of else {
            let empty = !damaged_header && scan.trailing_bytes() == 0;
            return Ok(if empty { Seen::Prepared(here) } else { Seen::Unreadable(here) });
        };
        let segment = InspectedSegment {
            name,
            number,
            first: begins.unwrap_or(first),
            last,
            records,
            missing,
            bytes: scan.good_end(),
            file_bytes: metadata.len(),
            trailing_bytes: scan.trailing_bytes(),
            damaged_header: damaged_header || before.iter().all(|b| *b == 0),
            active: false,
            written_at: metadata.modified().map_or(0, unix_ms),
        };
        Ok(Seen::Segment(epoch, segment))
    }
}

fn head(file: &dyn StorageFile) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut head = [0; SEGMENT_HEADER_BYTES];
    let _ = file.read_at(&mut head, 0);
    head
}

fn unix_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Segments by epoch, in the order in which the epochs began, and what is missing of each.
fn epochs(
    meta: &Meta,
    closed: Option<CleanMarker>,
    segments: Vec<(Epoch, InspectedSegment)>,
    held: bool,
) -> Vec<InspectedEpoch> {
    let mut order = meta.epochs.clone();
    for (epoch, _) in &segments {
        if !order.iter().any(|one| one.epoch == *epoch) {
            order.push(EpochMeta::new(*epoch));
        }
    }
    let newest = order.len().saturating_sub(1);
    let mut out = Vec::new();
    for (at, entry) in order.into_iter().enumerate() {
        let mine = segments.iter().filter(|(epoch, _)| *epoch == entry.epoch);
        let mut mine: Vec<InspectedSegment> = mine.map(|(_, one)| one.clone()).collect();
        mine.sort_by_key(|one| (one.first, one.number));
        if let Some(last) = mine.last_mut().filter(|_| held && at == newest && !entry.sealed) {
            last.active = true;
        }
        let marked = closed.filter(|m| m.epoch == entry.epoch).map_or(0, |m| m.last);
        out.push(epoch(&entry, mine, entry.synced.max(marked)));
    }
    out
}

fn epoch(entry: &EpochMeta, segments: Vec<InspectedSegment>, known: u64) -> InspectedEpoch {
    let mut gaps = Vec::new();
    let mut gap = |from: u64, to: u64, reason| {
        if from <= to {
            gaps.push(FoundGap { epoch: entry.epoch, from, to, reason });
        }
    };
    gap(entry.committed + 1, entry.dropped_through, GapReason::DroppedAtCap);
    let mut reached = entry.committed.max(entry.dropped_through);
    for one in segments.iter().filter(|one| one.records > 0) {
        gap(reached + 1, one.first - 1, GapReason::Corrupt);
        for (from, to) in &one.missing {
            gap((*from).max(reached + 1), *to, GapReason::Corrupt);
        }
        reached = reached.max(one.last);
    }
    gap(reached + 1, known, GapReason::Corrupt);
    InspectedEpoch {
        epoch: entry.epoch,
        written: reached.max(known),
        synced: known,
        accepted: entry.accepted,
        committed: entry.committed,
        segments,
        gaps,
    }
}

#[cfg(test)]
mod tests;
