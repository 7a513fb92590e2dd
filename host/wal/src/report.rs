//! What an opening says of what it found.

use crate::{Epoch, GapReason};

/// What opening a log found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The last opener closed the log, everything it had appended is there, and no damage was seen. Also of a new log.
    pub clean: bool,
    /// State of the meta file. After `Damaged` or a `Missing` one among segments, offsets begin at zero: records are sent again.
    pub meta: MetaFile,
    /// Earlier epochs with records not committed.
    pub epochs: u64,
    /// Numbers in them that are not committed: readers yield each once, as a record or as part of a gap.
    pub records: u64,
    /// Ranges known to be missing, not committed. Readers yield them too, and such as they find themselves.
    pub gaps: Vec<FoundGap>,
    /// Bytes that are no intact record, at the ends of segments: torn tails, or damage there.
    pub truncated_bytes: u64,
    /// Segments with a damaged header whose records were read all the same.
    pub damaged_headers: u64,
    /// Files without an intact record, and copies of segments: renamed to `NAME.aside`, for you to look at and remove.
    pub set_aside: Vec<String>,
}

/// A range of records that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundGap {
    /// The epoch.
    pub epoch: Epoch,
    /// The first missing record.
    pub from: u64,
    /// The last missing record.
    pub to: u64,
    /// Why.
    pub reason: GapReason,
}

/// State of the meta file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaFile {
    /// Read and whole.
    Intact,
    /// Not there: a new log, or one that lost it.
    Missing,
    /// There, but not whole.
    Damaged,
}
