//! A commit of the repository metadata as an object: one JSON object of five texts.

use sentinel_trust::repository::{MetadataFile, OnlineMetadata, Role};
use serde::{Deserialize, Serialize};

/// The five files of a commit, as texts.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Commit {
    root: String,
    targets: String,
    index: String,
    snapshot: String,
    timestamp: String,
}

impl Commit {
    pub(crate) fn new(online: &OnlineMetadata) -> Self {
        let text = |file: &MetadataFile| String::from_utf8_lossy(file.bytes()).into_owned();
        Self {
            root: text(&online.root),
            targets: text(&online.targets),
            index: text(&online.index),
            snapshot: text(&online.snapshot),
            timestamp: text(&online.timestamp),
        }
    }

    pub(crate) fn read(json: &[u8]) -> Result<OnlineMetadata, String> {
        let commit: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let file = |role, text: String| {
            MetadataFile::read(role, text.into_bytes()).map_err(|error| error.to_string())
        };
        Ok(OnlineMetadata {
            root: file(Role::Root, commit.root)?,
            targets: file(Role::Targets, commit.targets)?,
            index: file(Role::Index, commit.index)?,
            snapshot: file(Role::Snapshot, commit.snapshot)?,
            timestamp: file(Role::Timestamp, commit.timestamp)?,
        })
    }
}
