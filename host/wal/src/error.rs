//! What can go wrong, each with what it means for the caller.

use std::io;
use std::sync::Arc;

use crate::Epoch;

/// The result of an operation on the log.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on the log failed. Cheap to clone: one failed write is reported to every writer it concerns.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process (or another `Log` of this process) has the folder open.
    #[error(
        "the log in {folder} is already open in {holder}; one log has one opener, stop that one first"
    )]
    Locked {
        /// The folder.
        folder: String,
        /// `process 123`, or `another process` where its pid could not be read.
        holder: String,
    },
    /// An option is out of its bounds.
    #[error("log option {option} = {value}: {problem}")]
    BadOption {
        /// The field of [`Options`](crate::Options).
        option: &'static str,
        /// The value given.
        value: u64,
        /// What it must be.
        problem: String,
    },
    /// A file was written by a newer version of this program.
    #[error(
        "{file} has format version {found}, this program reads up to {known}; use the program that wrote it"
    )]
    Version {
        /// The file.
        file: String,
        /// The version found.
        found: u16,
        /// The newest version known.
        known: u16,
    },
    /// The record is empty or larger than [`MAX_RECORD_BYTES`](crate::MAX_RECORD_BYTES). Nothing was written.
    #[error("a record of {bytes} bytes cannot be appended: 1 to {max} are allowed")]
    RecordSize {
        /// Its size.
        bytes: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// The tag is larger than [`MAX_TAG_BYTES`](crate::MAX_TAG_BYTES). The old one stays.
    #[error("a tag of {bytes} bytes cannot be stored: at most {max} are allowed")]
    TagSize {
        /// Its size.
        bytes: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// The log holds as much as it may ([`AtCap::Refuse`](crate::AtCap::Refuse), or a record that does not fit even in
    /// an empty log). The record is not in the log; append again when records have been committed.
    #[error(
        "the log is full: {used} of {max} bytes are held by records not committed yet, {needed} more are needed"
    )]
    Full {
        /// Bytes of disk the log holds.
        used: u64,
        /// Its cap.
        max: u64,
        /// What the next segment would take.
        needed: u64,
    },
    /// Too many epochs with uncommitted records ([`MAX_EPOCHS`](crate::MAX_EPOCHS)). The record is not in the log.
    #[error(
        "the log holds {count} epochs with uncommitted records, the most it may; commit or remove some"
    )]
    TooManyEpochs {
        /// How many.
        count: usize,
    },
    /// The disk is full. The record is not in the log; append again when there is room.
    #[error(
        "no space left on the device for {file} ({operation}); appends go on when there is room"
    )]
    NoSpace {
        /// The file being written.
        file: String,
        /// The operation that failed.
        operation: &'static str,
    },
    /// A file operation failed.
    #[error("{operation} {file}: {source}")]
    Io {
        /// The operation that failed.
        operation: &'static str,
        /// The file.
        file: String,
        /// What the operating system says.
        source: Arc<io::Error>,
    },
    /// A sync failed, and so did writing its records anew elsewhere. Whether the records written since the last
    /// good sync survive a power failure is unknown. The log keeps them and tries again, unless it is being closed.
    #[error(
        "a sync failed and its records could not be written elsewhere ({cause}); whether they survive a power failure is unknown"
    )]
    SyncFailed {
        /// The last failure.
        cause: String,
    },
    /// Syncs fail ([`LogState::SyncFailing`](crate::LogState::SyncFailing)). The record is not in the log; append again
    /// later: the log goes on by itself as soon as it can.
    #[error(
        "the log takes no records because its syncs fail ({cause}); it goes on by itself once one succeeds"
    )]
    Suspended {
        /// The last failure.
        cause: String,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// The log has no such epoch: it never had, or all of its records are committed and gone.
    #[error("the log has no epoch {0}")]
    UnknownEpoch(Epoch),
    /// An offset lies beyond what this log ever handed out: whoever reports it speaks of another log.
    #[error("epoch {epoch}: {what} {seq} is beyond the last synced record {synced}")]
    BeyondSynced {
        /// The epoch.
        epoch: Epoch,
        /// `accepted` or `committed`.
        what: &'static str,
        /// The offset given.
        seq: u64,
        /// The last synced record.
        synced: u64,
    },
}

impl Error {
    pub(crate) fn io(operation: &'static str, file: &str, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::NoSpace { file: file.to_owned(), operation }
            }
            _ => Error::Io { operation, file: file.to_owned(), source: Arc::new(source) },
        }
    }

    /// Whether the same append may succeed later without the log being opened again: it or the disk is full, or
    /// syncs fail for now.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Error::Full { .. }
                | Error::NoSpace { .. }
                | Error::TooManyEpochs { .. }
                | Error::Suspended { .. }
        )
    }
}
