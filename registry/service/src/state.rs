//! The metadata in force, and what may follow it. Pure.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use sentinel_trust::PublisherName;
use sentinel_trust::repository::{
    IndexEntry, IndexError, MetadataFile, OnlineMetadata, RepositoryView, SignedIndex, Trusted,
    check_new_index, check_new_root, check_new_targets,
};

use crate::refusal::{Code, Refusal};

/// Hosts would refuse it.
pub(crate) fn refused(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::ReleaseInvalid, error.to_string())
}

/// What is in force.
#[derive(Debug)]
pub(crate) struct State {
    /// The number of the commit.
    pub(crate) number: u64,
    pub(crate) online: OnlineMetadata,
    /// What a host believes of it; nothing where it would refuse it, such as once expired.
    pub(crate) trusted: Option<Trusted>,
    /// Files of this commit and of the last ones before it, newest first.
    pub(crate) files: VecDeque<HashMap<String, Bytes>>,
}

impl State {
    /// What a host may install; nothing where it would believe nothing.
    pub(crate) fn view(&self) -> Option<RepositoryView> {
        self.trusted.as_ref().map(Trusted::view)
    }

    /// The root and the targets.
    pub(crate) fn offline(&self) -> (MetadataFile, MetadataFile) {
        (self.online.root.clone(), self.online.targets.clone())
    }

    /// Checks a root and targets that somebody brought against those in force, whether or not
    /// a host would believe these at this moment: expired metadata gives nobody a new right.
    pub(crate) fn check_offline(
        &self,
        root: Option<&MetadataFile>,
        targets: Option<&MetadataFile>,
    ) -> Result<(), Refusal> {
        let new = |file: &&MetadataFile, known: &MetadataFile| file.bytes() != known.bytes();
        let mut trusted = self.online.root.clone();
        if let Some(root) = root.filter(|file| new(file, &self.online.root)) {
            trusted = check_new_root(&self.online.root, root.bytes()).map_err(refused)?;
        }
        if let Some(targets) = targets.filter(|file| new(file, &self.online.targets)) {
            check_new_targets(&trusted, &self.online.targets, targets.bytes()).map_err(refused)?;
        }
        Ok(())
    }

    /// The newest index of a publisher.
    pub(crate) fn index(&self, publisher: &PublisherName) -> Option<&SignedIndex> {
        let mut indexes = self.trusted.as_ref()?.indexes();
        indexes.find(|(name, _)| *name == publisher).map(|(_, index)| index)
    }

    /// Checks an index that a publisher pushed against what is in force, as hosts will.
    pub(crate) fn check_index(&self, bytes: &[u8]) -> Result<(SignedIndex, IndexEntry), Refusal> {
        let read = SignedIndex::read(bytes.to_vec()).map_err(refused)?;
        let previous = self.index(&read.index().publisher);
        check_new_index(&self.online.targets, previous, bytes.to_vec()).map_err(|error| {
            let code = match &error {
                IndexError::Rollback { .. } => Code::Conflict,
                _ => Code::ReleaseInvalid,
            };
            Refusal::new(code, format!("the index is refused: {error}"))
        })
    }
}
