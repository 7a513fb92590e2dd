//! How a log is opened, and its bounds.

use std::time::Duration;

use crate::{Error, Result};

/// Largest record. At the bound: [`Error::RecordSize`](crate::Error::RecordSize).
pub const MAX_RECORD_BYTES: usize = 4 << 20;
/// Segment size unless [`Options::segment_bytes`] says otherwise.
pub const DEFAULT_SEGMENT_BYTES: u64 = 16 << 20;
/// Smallest segment size.
pub const MIN_SEGMENT_BYTES: u64 = 4 << 10;
/// Largest segment size.
pub const MAX_SEGMENT_BYTES: u64 = 256 << 20;
/// Disk cap unless [`Options::max_bytes`] says otherwise.
pub const DEFAULT_MAX_BYTES: u64 = 1 << 30;
/// The cap must hold this many segments: the one being written, the one before it, and the prepared one.
pub const MIN_SEGMENTS_IN_CAP: u64 = 3;
/// Most epochs with uncommitted records. At the bound: [`Error::TooManyEpochs`](crate::Error::TooManyEpochs).
pub const MAX_EPOCHS: usize = 4096;
/// Largest meta file: a full tag and [`MAX_EPOCHS`] epochs fit. A larger file is damaged.
pub const MAX_META_BYTES: u64 = 512 << 10;
/// Largest owner's tag.
pub const MAX_TAG_BYTES: usize = 1 << 10;
/// Bytes encoded and not yet handed to the file. At the bound writers wait for the file.
pub const MAX_PENDING_BYTES: usize = 8 << 20;
/// Bytes written and not yet synced, kept in memory so that a failed sync loses nothing. At the bound the appending
/// thread syncs, whatever the interval. Two of the largest records fit.
pub const MAX_UNSYNCED_BYTES: usize = 8 << 20;

/// Shortest age at which records may be dropped.
pub const MIN_AGE: Duration = Duration::from_secs(1);

/// When appended records are synced (fdatasync) without anybody asking.
///
/// Readers see a record only once it is synced, and [`Log::append_synced`](crate::Log::append_synced) always waits
/// for a sync (except under [`SyncPolicy::Never`]), whatever the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// At once; records that arrive during a sync share the next one. The risk: none beyond the disk itself. A record
    /// that was only [appended](crate::Log::append) is lost by a power failure within about one sync (a millisecond or a few).
    Always,
    /// At most so long after the first unsynced record. The risk: a power failure or kernel crash loses what was appended in
    /// the last interval. `kill -9` loses nothing: the page cache survives the process.
    Interval(Duration),
    /// Never; the operating system writes back when it likes (Linux: about 30 s). "Synced" then means no more than
    /// written. The risk: a power failure loses anything not written back, in any order, so that there may be holes
    /// before surviving records; they are found and reported as gaps, but records that a reader has passed on may be gone.
    Never,
}

/// What happens when a new segment would exceed [`Options::max_bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtCap {
    /// The oldest segment is removed, with its uncommitted records: counted in [`Stats`](crate::Stats) and yielded to
    /// readers as a [`Gap`](crate::Item::Gap).
    DropOldest,
    /// The append fails with [`Error::Full`](crate::Error::Full) until records are committed.
    Refuse,
}

/// How a log is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// When records are synced.
    pub sync: SyncPolicy,
    /// Bytes reserved for one segment file. A record that does not fit gets a segment of its own size.
    pub segment_bytes: u64,
    /// Bytes of disk that segments may take, prepared ones included; the meta files (at most 1 MiB) are extra.
    pub max_bytes: u64,
    /// What happens at that cap.
    pub at_cap: AtCap,
    /// Records that were not committed for longer are dropped, as [`AtCap::DropOldest`] drops them and whatever `at_cap`
    /// says: a whole segment once its newest record is older, by the time at which its file was last written. A segment
    /// is written to for at most an eighth of this, so that no record stays much longer. Looked at by the log's
    /// threads: without [`Options::background`] nothing goes by age.
    pub max_age: Option<Duration>,
    /// Whether two threads of the log sync, prepare segments and remove old ones. Without them the calling threads do
    /// it: slower, but deterministic, which is what fault-injecting tests want. [`SyncPolicy::Interval`] then
    /// syncs only when asked or when [`MAX_UNSYNCED_BYTES`] is reached.
    pub background: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            sync: SyncPolicy::Always,
            segment_bytes: DEFAULT_SEGMENT_BYTES,
            max_bytes: DEFAULT_MAX_BYTES,
            at_cap: AtCap::DropOldest,
            max_age: None,
            background: true,
        }
    }
}

impl Options {
    /// How long a segment is written to, and how often old ones are looked for, where records go by age.
    pub(crate) fn turn_after(&self) -> Option<Duration> {
        self.max_age.map(|age| age / 8)
    }

    pub(crate) fn check(&self) -> Result<()> {
        if !(MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&self.segment_bytes) {
            return Err(Error::BadOption {
                option: "segment_bytes",
                value: self.segment_bytes,
                problem: format!("must be {MIN_SEGMENT_BYTES} to {MAX_SEGMENT_BYTES}"),
            });
        }
        let least = self.segment_bytes * MIN_SEGMENTS_IN_CAP;
        if self.max_bytes < least {
            return Err(Error::BadOption {
                option: "max_bytes",
                value: self.max_bytes,
                problem: format!("must hold {MIN_SEGMENTS_IN_CAP} segments, so at least {least}"),
            });
        }
        if self.max_age.is_some_and(|age| age < MIN_AGE) {
            return Err(Error::BadOption {
                option: "max_age",
                value: self.max_age.unwrap_or_default().as_secs(),
                problem: format!("must be at least {} s", MIN_AGE.as_secs()),
            });
        }
        Ok(())
    }
}
