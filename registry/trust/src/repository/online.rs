//! Making metadata with the online keys, in the service: index, snapshot, timestamp.

use std::collections::{BTreeMap, HashMap};

use tough::TargetName;
use tough::schema::{Signed, Snapshot, Target, Targets, Timestamp};

use super::chain::{self, IndexEntry};
use super::error::MetadataError;
use super::index::{IndexError, SignedIndex};
use super::metadata::{MetadataFile, SPEC_VERSION, hashes, number, read, signed, time};
use super::offline::{ProduceError, content, for_role, next_version, plain, verified_by};
use super::role::{Role, index_target};
use super::role_key::RoleKey;
use crate::name::PublisherName;

/// The keys of the service.
#[derive(Debug)]
pub struct OnlineKeys {
    /// Signs the index.
    pub index: RoleKey,
    /// Signs the snapshot.
    pub snapshot: RoleKey,
    /// Signs the timestamp.
    pub timestamp: RoleKey,
}

/// The metadata that a registry serves at one time, publishers' indexes aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnlineMetadata {
    /// The newest root.
    pub root: MetadataFile,
    /// The newest targets.
    pub targets: MetadataFile,
    /// The newest index.
    pub index: MetadataFile,
    /// The newest snapshot.
    pub snapshot: MetadataFile,
    /// The newest timestamp.
    pub timestamp: MetadataFile,
}

/// The index after `previous`, or the first, for hosts that trust `targets`.
///
/// # Errors
///
/// [`ProduceError`].
pub fn index_file(
    targets: &MetadataFile,
    previous: Option<&MetadataFile>,
    entries: &BTreeMap<PublisherName, IndexEntry>,
    key: &RoleKey,
    expires_at: i64,
) -> Result<MetadataFile, ProduceError> {
    let mut index = plain(next_version(Role::Index, previous)?, expires_at);
    for (publisher, entry) in entries {
        let name = TargetName::new(index_target(publisher)).expect("a publisher's name is no path");
        let custom = HashMap::from([("number".to_owned(), entry.number.into())]);
        let target = Target {
            length: entry.length,
            hashes: hashes(entry.digest),
            custom,
            _extra: HashMap::new(),
        };
        index.targets.insert(name, target);
    }
    let file = signed(Role::Index, index, &for_role(Role::Index, &[key])?);
    chain::entries(&chain::index_by(&content(targets)?, file.bytes())?.signed)?;
    Ok(file)
}

/// What an index file names. Who signed it is not looked at.
///
/// # Errors
///
/// [`MetadataError`].
pub fn index_entries(
    index: &MetadataFile,
) -> Result<BTreeMap<PublisherName, IndexEntry>, MetadataError> {
    let index: Signed<Targets> = read(Role::Index, index.bytes())?;
    chain::entries(&index.signed)
}

/// The snapshot after `previous`, or the first.
///
/// # Errors
///
/// [`ProduceError`].
pub fn snapshot_file(
    root: &MetadataFile,
    previous: Option<&MetadataFile>,
    targets: &MetadataFile,
    index: &MetadataFile,
    key: &RoleKey,
    expires_at: i64,
) -> Result<MetadataFile, ProduceError> {
    let version = number(next_version(Role::Snapshot, previous)?);
    let mut snapshot = Snapshot::new(SPEC_VERSION.to_owned(), version, time(expires_at));
    for file in [targets, index] {
        snapshot.meta.insert(file.role().file(), file.listed());
    }
    let file = signed(Role::Snapshot, snapshot, &for_role(Role::Snapshot, &[key])?);
    verified_by::<Snapshot>(root, Role::Snapshot, &read(Role::Snapshot, file.bytes())?)?;
    Ok(file)
}

/// A timestamp of version `version` that leads to `snapshot`. Hosts take the same version
/// again, and a higher one, but never a lower; two instances of a service that derive it from
/// the snapshot's version and the time agree without asking each other.
///
/// # Errors
///
/// [`ProduceError`].
pub fn timestamp_file(
    root: &MetadataFile,
    version: u64,
    snapshot: &MetadataFile,
    key: &RoleKey,
    expires_at: i64,
) -> Result<MetadataFile, ProduceError> {
    let mut timestamp = Timestamp::new(SPEC_VERSION.to_owned(), number(version), time(expires_at));
    timestamp.meta.insert(snapshot.role().file(), snapshot.listed());
    let file = signed(Role::Timestamp, timestamp, &for_role(Role::Timestamp, &[key])?);
    chain::timestamp(&chain::root(root.bytes())?.content, file.bytes())?;
    Ok(file)
}

impl OnlineMetadata {
    /// The first metadata of a registry, nothing published yet.
    ///
    /// # Errors
    ///
    /// [`ProduceError`].
    pub fn first(
        root: MetadataFile,
        targets: MetadataFile,
        keys: &OnlineKeys,
        now: i64,
    ) -> Result<Self, ProduceError> {
        let until = |role: Role| now + role.lifetime_ms();
        let index = index_file(&targets, None, &BTreeMap::new(), &keys.index, until(Role::Index))?;
        let snapshot =
            snapshot_file(&root, None, &targets, &index, &keys.snapshot, until(Role::Snapshot))?;
        let timestamp =
            timestamp_file(&root, 1, &snapshot, &keys.timestamp, until(Role::Timestamp))?;
        Ok(Self { root, targets, index, snapshot, timestamp })
    }

    /// What follows when publishers have new indexes, when root or targets were replaced, or
    /// when time has passed: index, snapshot and timestamp are made anew wherever what they
    /// say has changed, their keys have, or half of their time is over.
    ///
    /// # Errors
    ///
    /// [`ProduceError`].
    pub fn next(
        &self,
        root: &MetadataFile,
        targets: &MetadataFile,
        changes: &BTreeMap<PublisherName, IndexEntry>,
        keys: &OnlineKeys,
        now: i64,
    ) -> Result<Self, ProduceError> {
        let until = |role: Role| now + role.lifetime_ms();
        let good = |file: &MetadataFile| file.expires_at() - now > file.role().lifetime_ms() / 2;
        let entries = index_entries(&self.index)?;
        let mut wanted = entries.clone();
        wanted.extend(changes.iter().map(|(name, entry)| (name.clone(), *entry)));
        let content = content(targets)?;
        wanted.retain(|name, _| content.publishers.get(name).is_some());
        let signed = chain::index_by(&content, self.index.bytes()).is_ok();
        let index = if wanted == entries && signed && good(&self.index) {
            self.index.clone()
        } else {
            index_file(targets, Some(&self.index), &wanted, &keys.index, until(Role::Index))?
        };
        let trusted = chain::root(root.bytes())?.content;
        let timestamp = chain::timestamp(&trusted, self.timestamp.bytes());
        let signed = timestamp.as_ref().is_ok_and(|timestamp| {
            chain::snapshot(&trusted, &timestamp.content, self.snapshot.bytes()).is_ok()
        });
        let same = index == self.index && *targets == self.targets;
        let snapshot = if same && signed && good(&self.snapshot) {
            self.snapshot.clone()
        } else {
            let (previous, until) = (Some(&self.snapshot), until(Role::Snapshot));
            snapshot_file(root, previous, targets, &index, &keys.snapshot, until)?
        };
        let timestamp = if snapshot == self.snapshot && timestamp.is_ok() && good(&self.timestamp) {
            self.timestamp.clone()
        } else {
            let version = next_version(Role::Timestamp, Some(&self.timestamp))?;
            timestamp_file(root, version, &snapshot, &keys.timestamp, until(Role::Timestamp))?
        };
        Ok(Self { root: root.clone(), targets: targets.clone(), index, snapshot, timestamp })
    }

    /// Every file.
    #[must_use]
    pub fn files(&self) -> [&MetadataFile; 5] {
        [&self.root, &self.targets, &self.index, &self.snapshot, &self.timestamp]
    }
}

/// Checks a root that somebody gave, as hosts will that trust `previous`. Whoever carries it
/// needs no right of his own: it is signed by the root keys, or refused.
///
/// # Errors
///
/// [`MetadataError`].
pub fn check_new_root(
    previous: &MetadataFile,
    bytes: &[u8],
) -> Result<MetadataFile, MetadataError> {
    let previous = chain::root(previous.bytes())?.content;
    Ok(chain::next_root(&previous, bytes)?.file)
}

/// Checks targets that somebody gave: signed by the keys that `root` names, and newer than
/// `previous`.
///
/// # Errors
///
/// [`MetadataError`].
pub fn check_new_targets(
    root: &MetadataFile,
    previous: &MetadataFile,
    bytes: &[u8],
) -> Result<MetadataFile, MetadataError> {
    let signed: Signed<Targets> = read(Role::Targets, bytes)?;
    chain::by_root(Role::Targets, &chain::root(root.bytes())?.content, &signed)?;
    chain::targets_content(&signed.signed)?;
    let file = MetadataFile::of(Role::Targets, &signed, bytes.to_vec());
    let (trusted, offered) = (previous.version(), file.version());
    if offered <= trusted {
        return Err(MetadataError::Rollback { role: Role::Targets, trusted, offered });
    }
    Ok(file)
}

/// Checks an index that a publisher pushed, as hosts will: its signature by a key that speaks
/// for it, its number, that no release changed. `previous` is the publisher's index so far; it
/// does not count where no key signed it that still speaks for the publisher.
///
/// # Errors
///
/// [`IndexError`].
pub fn check_new_index(
    targets: &MetadataFile,
    previous: Option<&SignedIndex>,
    bytes: Vec<u8>,
) -> Result<(SignedIndex, IndexEntry), IndexError> {
    let index = SignedIndex::read(bytes)?;
    let publisher = index.index().publisher.clone();
    let content =
        content(targets).map_err(|error| IndexError::Unreadable(crate::text::message(&error)))?;
    let keys = content.publishers.get(&publisher).map(|one| one.keys.as_slice());
    let keys = keys.ok_or(IndexError::Unsigned { publisher })?;
    index.verify(keys)?;
    let previous = previous.filter(|previous| previous.verify(keys).is_ok());
    if let Some(previous) = previous {
        index.follows(previous)?;
    }
    let entry = IndexEntry {
        number: index.index().number,
        digest: crate::digest::Digest::of(index.bytes()),
        length: index.bytes().len() as u64,
    };
    Ok((index, entry))
}
