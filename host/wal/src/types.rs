//! The words of the log's interface.

use std::fmt;

use crate::{Error, Result};

/// One opening of a log: 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub [u8; 16]);

impl Epoch {
    /// A new one, from the operating system's generator.
    ///
    /// # Errors
    /// An I/O error where the generator fails.
    pub fn random() -> Result<Epoch> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)
            .map_err(|e| Error::io("read", "the random generator", std::io::Error::other(e)))?;
        Ok(Epoch(bytes))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({self})")
    }
}

/// The place of a record: its number within its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The epoch.
    pub epoch: Epoch,
    /// The number, from 1.
    pub seq: u64,
}

/// What a [`Reader`](crate::Reader) yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A synced record.
    Record {
        /// Its place.
        position: Position,
        /// Its bytes, as they were appended.
        payload: Vec<u8>,
    },
    /// Records that are gone. Their numbers will not come again.
    Gap {
        /// Their epoch.
        epoch: Epoch,
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
        /// Why they are gone.
        reason: GapReason,
    },
}

/// Why records are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// Their bytes are damaged, or were lost with unsynced neighbours in a power failure.
    Corrupt,
    /// A cap of the owner took them: the log was too large ([`AtCap::DropOldest`](crate::AtCap::DropOldest)) or they were
    /// too old ([`Options::max_age`](crate::Options::max_age)).
    DroppedAtCap,
}

/// How far the records of an epoch got. `committed <= synced <= written`, `committed <= accepted <= synced`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochOffsets {
    /// The epoch.
    pub epoch: Epoch,
    /// The oldest record still kept; `written + 1` while there is none.
    pub first: u64,
    /// The last record in a file.
    pub written: u64,
    /// The last record on the disk: readers go so far.
    pub synced: u64,
    /// The last record of which [`Log::accept`](crate::Log::accept) was told.
    pub accepted: u64,
    /// The last record of which [`Log::commit`](crate::Log::commit) was told.
    pub committed: u64,
    /// Bytes of records kept.
    pub bytes: u64,
}

/// Whether a log takes records, and if not, why. [`Display`](fmt::Display) gives it as one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogState {
    /// It does.
    Working,
    /// The last records were refused: no room, or an I/O error. Each append tries anew.
    Refusing {
        /// Why.
        cause: String,
    },
    /// A sync failed, and so did each attempt since to write its records elsewhere. Appends fail with
    /// [`Error::Suspended`]; the log tries again by itself.
    SyncFailing {
        /// Why the last attempt failed.
        cause: String,
        /// Attempts so far.
        attempts: u64,
        /// Records kept in memory, appended but not synced: lost if the machine goes down before an attempt succeeds.
        records: u64,
    },
    /// It was closed.
    Closed,
}

impl fmt::Display for LogState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogState::Working => f.write_str("working"),
            LogState::Refusing { cause } => write!(f, "refuses records: {cause}"),
            LogState::SyncFailing { cause, attempts, records } => write!(
                f,
                "takes no records: syncs fail ({cause}); {attempts} attempts so far, {records} records wait in memory"
            ),
            LogState::Closed => f.write_str("closed"),
        }
    }
}

/// Disk use and counts of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of disk that segments take, reserved room and the prepared segment included.
    pub disk_bytes: u64,
    /// Segments with records.
    pub segments: u64,
    /// Uncommitted records ever dropped at the cap.
    pub dropped_records: u64,
    /// Syncs that had something to do since the log was opened.
    pub syncs: u64,
    /// Failed syncs since the log was opened, attempts to write their records elsewhere not counted.
    pub sync_failures: u64,
}
