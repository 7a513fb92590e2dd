//! The constant roles: names, files, bounds, lifetimes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::PublisherName;

/// Most roots that one update follows; a host that is further behind updates again.
pub const MAX_ROOT_UPDATES: u64 = 256;

/// A minute in milliseconds.
const MINUTE_MS: i64 = 60_000;
/// A day in milliseconds.
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// What the registry signs and in which order a host believes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Whose keys speak for every role. Its keys stay offline.
    Root,
    /// Publishers, their keys, what was revoked. Its keys stay offline.
    Targets,
    /// Which index each publisher has. Its key is with the service.
    Index,
    /// Which versions of targets and index belong together. Its key is with the service.
    Snapshot,
    /// Which snapshot is the newest. Its key is with the service.
    Timestamp,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] =
        [Self::Root, Self::Targets, Self::Index, Self::Snapshot, Self::Timestamp];

    /// The role's name in metadata, file names and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Index => "index",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
        }
    }

    /// Whether the role's keys must never lie on the machine of the registry.
    #[must_use]
    pub const fn is_offline(self) -> bool {
        matches!(self, Self::Root | Self::Targets)
    }

    /// For how long a file of the role is good unless somebody chooses otherwise, in
    /// milliseconds: a year for root, 90 days for targets, a week for index and snapshot, a
    /// day for timestamp.
    #[must_use]
    pub const fn lifetime_ms(self) -> i64 {
        match self {
            Self::Root => 365 * DAY_MS,
            Self::Targets => 90 * DAY_MS,
            Self::Index | Self::Snapshot => 7 * DAY_MS,
            Self::Timestamp => DAY_MS,
        }
    }

    /// Most bytes of a file of the role.
    #[must_use]
    pub const fn max_bytes(self) -> usize {
        match self {
            Self::Root => 256 << 10,
            Self::Targets => 8 << 20,
            Self::Index => 4 << 20,
            Self::Snapshot | Self::Timestamp => 16 << 10,
        }
    }

    /// Where version `version` of the role's file lies below `/metadata/`: `3.root.json`. Only
    /// the timestamp has one place for all its versions.
    #[must_use]
    pub fn path(self, version: u64) -> String {
        match self {
            Self::Timestamp => "timestamp.json".to_owned(),
            _ => format!("{version}.{}", self.file()),
        }
    }

    /// What the role's file is called where a snapshot or timestamp lists it.
    pub(super) fn file(self) -> String {
        format!("{self}.json")
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a publisher's index lies below `/metadata/`: by number for people, by digest so that
/// two files never share a place.
#[must_use]
pub fn publisher_index_path(publisher: &PublisherName, number: u64, digest: Digest) -> String {
    format!("publishers/{publisher}/{number}.{}.json", digest.to_hex())
}

/// What the index role calls a publisher's index.
pub(super) fn index_target(publisher: &PublisherName) -> String {
    format!("publishers/{publisher}.json")
}

/// The publisher whose index a target of the index role is, if it is one.
pub(super) fn publisher_of_target(target: &str) -> Option<PublisherName> {
    target.strip_prefix("publishers/")?.strip_suffix(".json")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_names_a_publisher_or_nothing() {
        let acme: PublisherName = "acme".parse().unwrap();
        assert_eq!(publisher_of_target(&index_target(&acme)), Some(acme));
        for target in
            ["publishers/../root.json", "publishers/a/b.json", "acme.json", "publishers/.json"]
        {
            assert_eq!(publisher_of_target(target), None, "{target}");
        }
    }

    #[test]
    fn every_role_has_its_place() {
        let paths: Vec<_> = Role::ALL.iter().map(|role| role.path(7)).collect();
        assert_eq!(
            paths,
            ["7.root.json", "7.targets.json", "7.index.json", "7.snapshot.json", "timestamp.json"]
        );
    }
}
