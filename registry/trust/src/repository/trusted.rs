//! What a host goes by: the newest metadata that was verified as a whole, and its file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tough::schema::{Root, Snapshot, Timestamp};

use super::chain::{self, IndexEntries, IndexEntry, Part, TargetsContent};
use super::container::{Container, ContainerError, ContainerKind};
use super::enrolment::{Enrolment, MinimumVersions};
use super::error::{MetadataError, Misfit};
use super::index::{IndexError, SignedIndex};
use super::metadata::MetadataFile;
use super::role::Role;
use super::view::{PublisherState, RepositoryView, Versions};
use crate::digest::Digest;
use crate::keys::PublicKey;
use crate::name::PublisherName;
use crate::text::message;

/// Most bytes of the file that holds it (512 MiB).
pub const MAX_STATE_BYTES: usize = 512 << 20;
/// The format of what the file says beside the metadata.
const STATE_FORMAT: u32 = 1;
const STATE: &str = "state.json";
const PUBLISHERS: &str = "publishers/";

/// The metadata that a host goes by. Every file of it was verified together with the others;
/// it changes only as a whole, by an [`Update`](super::Update).
#[derive(Debug, Clone)]
pub struct Trusted {
    pub(super) root: Part<Root>,
    pub(super) newest: Option<Newest>,
    pub(super) publishers: BTreeMap<PublisherName, SignedIndex>,
    /// Why a publisher's newest index was not taken, at the last update of this process.
    pub(super) problems: BTreeMap<PublisherName, IndexError>,
    pub(super) minimum: MinimumVersions,
    pub(super) operators: Vec<PublicKey>,
    /// The time of the last update. A clock that says less is wrong.
    pub(super) refreshed_at: i64,
    /// Until when an offline bundle said it is good, where the last update was one.
    pub(super) sealed_until: Option<i64>,
}

/// The files below the root: all of them or none.
#[derive(Debug, Clone)]
pub(super) struct Newest {
    pub(super) timestamp: Part<Timestamp>,
    pub(super) snapshot: Part<Snapshot>,
    pub(super) targets: Part<TargetsContent>,
    pub(super) index: Part<IndexEntries>,
}

impl Newest {
    pub(super) fn files(&self) -> [&MetadataFile; 4] {
        [&self.timestamp.file, &self.snapshot.file, &self.targets.file, &self.index.file]
    }
}

/// Why the file of what a host trusts is refused. A host without it installs nothing new.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Cut short or changed.
    #[error("it is damaged: {0}")]
    Damaged(#[from] ContainerError),
    /// Whole, but not what this crate wrote.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// Its metadata does not hold together.
    #[error("its metadata is refused: {0}")]
    Metadata(#[from] MetadataError),
    /// A publisher's index in it is none.
    #[error("the index of {publisher} in it is refused: {error}")]
    Index {
        /// Whose.
        publisher: PublisherName,
        /// Why.
        error: IndexError,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    format: u32,
    minimum: MinimumVersions,
    operators: Vec<PublicKey>,
    refreshed_at: i64,
    sealed_until: Option<i64>,
}

impl Trusted {
    /// What a host goes by before it has heard of its registry: the root it was given.
    ///
    /// # Errors
    ///
    /// A root that its own keys did not sign, or without the constant roles.
    pub fn enrolled(enrolment: &Enrolment) -> Result<Self, MetadataError> {
        Ok(Self {
            root: chain::root(enrolment.root.bytes())?,
            newest: None,
            publishers: BTreeMap::new(),
            problems: BTreeMap::new(),
            minimum: enrolment.minimum.clone(),
            operators: enrolment.operators.clone(),
            refreshed_at: i64::MIN,
            sealed_until: None,
        })
    }

    /// The root that counts.
    #[must_use]
    pub const fn root(&self) -> &MetadataFile {
        &self.root.file
    }

    /// The root and, once there was an update, timestamp, snapshot, targets and index.
    #[must_use]
    pub fn files(&self) -> Vec<&MetadataFile> {
        let newest = self.newest.iter().flat_map(Newest::files);
        std::iter::once(&self.root.file).chain(newest).collect()
    }

    /// The indexes of publishers that were fetched.
    pub fn indexes(&self) -> impl Iterator<Item = (&PublisherName, &SignedIndex)> {
        self.publishers.iter()
    }

    /// Keys of the operators whose bundles are believed.
    #[must_use]
    pub fn operators(&self) -> &[PublicKey] {
        &self.operators
    }

    /// What may be installed and run by it.
    #[must_use]
    pub fn view(&self) -> RepositoryView {
        let Some(newest) = &self.newest else {
            return RepositoryView::unknown(self.root.file.version());
        };
        let expiry = std::iter::once(&self.root.file)
            .chain(newest.files())
            .min_by_key(|file| file.expires_at())
            .expect("there is a root");
        let (mut expires_at, mut first_to_expire) = (expiry.expires_at(), expiry.role());
        if let Some(sealed) = self.sealed_until {
            (expires_at, first_to_expire) = (sealed, Role::Timestamp);
        }
        let state = |name: &PublisherName| PublisherState {
            index: self.publishers.get(name).map(|signed| signed.index().clone()),
            offered: newest.index.content.get(name).map(|entry| entry.number),
            problem: self.problems.get(name).cloned(),
        };
        let publishers = &newest.targets.content.publishers;
        RepositoryView {
            versions: Versions {
                root: self.root.file.version(),
                targets: newest.targets.file.version(),
                index: newest.index.file.version(),
                snapshot: newest.snapshot.file.version(),
                timestamp: newest.timestamp.file.version(),
            },
            expires_at,
            first_to_expire,
            refreshed_at: self.refreshed_at,
            policy: publishers.policy(),
            publishers: publishers.iter().map(|(name, _)| (name.clone(), state(name))).collect(),
        }
    }

    /// The same, knowing also the publishers' indexes that `other` knows, where their keys
    /// count here and they are newer: two processes of a host that asked for different ones.
    #[must_use]
    pub fn with_indexes_of(mut self, other: &Self) -> Self {
        let Some(newest) = &self.newest else { return self };
        for (name, theirs) in &other.publishers {
            let number = self.publishers.get(name).map_or(0, |ours| ours.index().number);
            let publisher = newest.targets.content.publishers.get(name);
            if theirs.index().number > number
                && publisher.is_some_and(|publisher| theirs.verify(&publisher.keys).is_ok())
            {
                self.publishers.insert(name.clone(), theirs.clone());
            }
        }
        self
    }

    /// The file that holds it: to be written beside the old one, synced, and renamed over it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let state = State {
            format: STATE_FORMAT,
            minimum: self.minimum.clone(),
            operators: self.operators.clone(),
            refreshed_at: self.refreshed_at,
            sealed_until: self.sealed_until,
        };
        let state = serde_json::to_vec(&state).expect("it holds only strings and numbers");
        let mut container = Container::new(ContainerKind::State);
        container.push(STATE, state);
        for file in self.files() {
            container.push(file.role().as_str(), file.bytes().to_vec());
        }
        for (name, index) in &self.publishers {
            container.push(&format!("{PUBLISHERS}{name}"), index.bytes().to_vec());
        }
        container.to_bytes()
    }

    /// Reads the file again, every signature checked anew. Nothing in it is left out because
    /// it could not be read.
    ///
    /// # Errors
    ///
    /// [`StateError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        let container = Container::read(ContainerKind::State, bytes)?;
        let get = |name: &str| {
            let missing = || StateError::Unreadable(format!("`{name}` is missing"));
            container.get(name).ok_or_else(missing)
        };
        let state: State = serde_json::from_slice(get(STATE)?)
            .map_err(|error| StateError::Unreadable(message(&error)))?;
        if state.format != STATE_FORMAT {
            return Err(StateError::Unreadable(format!(
                "its format is {} and this host knows format {STATE_FORMAT}",
                state.format
            )));
        }
        let root = chain::root(get(Role::Root.as_str())?)?;
        let mut trusted = Self {
            newest: None,
            publishers: BTreeMap::new(),
            problems: BTreeMap::new(),
            minimum: state.minimum,
            operators: state.operators,
            refreshed_at: state.refreshed_at,
            sealed_until: state.sealed_until,
            root,
        };
        let mut known = 2;
        if container.get(Role::Timestamp.as_str()).is_some() {
            trusted.newest = Some(newest(&trusted.root.content, get)?);
            known += 4;
        }
        for (name, bytes) in container.entries() {
            let Some(publisher) = name.strip_prefix(PUBLISHERS) else { continue };
            let (publisher, index) = trusted.index(publisher, bytes)?;
            trusted.publishers.insert(publisher, index);
            known += 1;
        }
        if container.entries().count() != known {
            return Err(StateError::Unreadable("it holds what does not belong there".into()));
        }
        Ok(trusted)
    }

    /// Checks what a registry gave as a publisher's newest index against everything that is
    /// trusted.
    pub(super) fn check_index(
        &self,
        name: &PublisherName,
        entry: IndexEntry,
        bytes: Vec<u8>,
    ) -> Result<SignedIndex, IndexError> {
        if bytes.len() as u64 != entry.length {
            return Err(IndexError::Mismatch(Misfit::Length));
        }
        if Digest::of(&bytes) != entry.digest {
            return Err(IndexError::Mismatch(Misfit::Digest));
        }
        let index = SignedIndex::read(bytes)?;
        let targets = self.newest.as_ref().map(|newest| &newest.targets.content);
        let publisher = targets.and_then(|targets| targets.publishers.get(name));
        let unsigned = || IndexError::Unsigned { publisher: name.clone() };
        if index.index().publisher != *name {
            return Err(unsigned());
        }
        index.verify(&publisher.ok_or_else(unsigned)?.keys)?;
        if index.index().number != entry.number {
            return Err(IndexError::Mismatch(Misfit::Version));
        }
        let known = self.minimum.publishers.get(name).copied().unwrap_or_default();
        if index.index().number < known {
            return Err(IndexError::Rollback { known, offered: index.index().number });
        }
        if let Some(known) = self.publishers.get(name) {
            index.follows(known)?;
        }
        Ok(index)
    }

    fn index(&self, name: &str, bytes: &[u8]) -> Result<(PublisherName, SignedIndex), StateError> {
        let publisher: PublisherName =
            name.parse().map_err(|error| StateError::Unreadable(message(&error)))?;
        let refused = |error| StateError::Index { publisher: publisher.clone(), error };
        let index = SignedIndex::read(bytes.to_vec()).map_err(refused)?;
        let newest = self.newest.as_ref();
        let known = newest.and_then(|newest| newest.targets.content.publishers.get(&publisher));
        let keys = known.map_or(&[][..], |known| known.keys.as_slice());
        if index.index().publisher != publisher {
            return Err(refused(IndexError::Unsigned { publisher: publisher.clone() }));
        }
        index.verify(keys).map_err(refused)?;
        Ok((publisher, index))
    }
}

fn newest<'a>(
    root: &Root,
    get: impl Fn(&str) -> Result<&'a [u8], StateError>,
) -> Result<Newest, StateError> {
    let timestamp = chain::timestamp(root, get(Role::Timestamp.as_str())?)?;
    let snapshot = chain::snapshot(root, &timestamp.content, get(Role::Snapshot.as_str())?)?;
    let targets = chain::targets(root, &snapshot.content, get(Role::Targets.as_str())?)?;
    let index = chain::index(&targets.content, &snapshot.content, get(Role::Index.as_str())?)?;
    Ok(Newest { timestamp, snapshot, targets, index })
}
