//! Why metadata is refused.

use super::index::MAX_INDEX_BYTES;
use super::publishers::PublishersError;
use super::role::{MAX_ROOT_UPDATES, Role};

/// Why metadata of a registry is refused. What a host trusted before stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// A file that must be there is not.
    #[error("the registry has no {path}; ask whoever runs it, nothing was changed here")]
    Missing {
        /// Its place below `/metadata/`.
        path: String,
    },
    /// More bytes than the role or the file that lists it allows.
    #[error("{path} has more than {max} bytes, so it was not read")]
    TooBig {
        /// Its place below `/metadata/`.
        path: String,
        /// The most.
        max: u64,
    },
    /// Not a file of the role.
    #[error("the {role} metadata cannot be read: {why}")]
    Unreadable {
        /// Which role.
        role: Role,
        /// What the parser found.
        why: String,
    },
    /// Not signed by enough keys of the role.
    #[error(
        "the {role} metadata is not signed as it must be ({why}): somebody other than the registry may have answered; if this stays, ask whoever runs it"
    )]
    Unsigned {
        /// Which role.
        role: Role,
        /// What is missing.
        why: String,
    },
    /// An older version than the one that is trusted already.
    #[error(
        "the registry offers {role} metadata of version {offered}, and version {trusted} was seen before: somebody may be replaying old metadata; nothing was changed here"
    )]
    Rollback {
        /// Which role.
        role: Role,
        /// The version that counts here.
        trusted: u64,
        /// The version that was offered.
        offered: u64,
    },
    /// Past its time.
    #[error(
        "the {role} metadata expired {}: nothing new is installed until the registry renews it; what is installed goes on", at(*.expired_at)
    )]
    Expired {
        /// Which role.
        role: Role,
        /// When, unix milliseconds.
        expired_at: i64,
    },
    /// Not the file that its parent lists.
    #[error(
        "the {role} metadata is not the file that the {by} metadata names: its {misfit} differs"
    )]
    Mismatch {
        /// Which role.
        role: Role,
        /// Which role names it.
        by: Role,
        /// What differs.
        misfit: Misfit,
    },
    /// The roles are not those that every registry has.
    #[error("the {role} metadata does not have the constant roles: {why}")]
    OtherRoles {
        /// Which role's file says so.
        role: Role,
        /// What is different.
        why: &'static str,
    },
    /// Further behind than one update goes.
    #[error(
        "the registry has changed its root more than {MAX_ROOT_UPDATES} times since: enrol this host again"
    )]
    TooManyRoots,
    /// What targets says of publishers is wrong.
    #[error("the publishers in the targets metadata are refused: {0}")]
    Publishers(#[from] PublishersError),
    /// The index lists a file that no index is.
    #[error(
        "the index metadata lists `{target}`, which is no publisher's index of at most {MAX_INDEX_BYTES} bytes"
    )]
    NoIndex {
        /// What it lists, made safe to print.
        target: String,
    },
}

/// What differs between a file and what its parent says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// The number of bytes.
    Length,
    /// The SHA-256.
    Digest,
    /// The version.
    Version,
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Length => "length",
            Self::Digest => "SHA-256",
            Self::Version => "version",
        })
    }
}

/// A time as people read it.
pub(super) fn at(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| format!("{ms} ms"), |time| format!("{time:.0}"))
}
