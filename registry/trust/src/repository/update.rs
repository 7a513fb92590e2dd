//! Bringing what a host trusts forward: the client workflow of The Update Framework as a state
//! machine without I/O.
//!
//! | stage | asks for | goes on to |
//! |---|---|---|
//! | root | `N+1.root.json` | root again, or timestamp where there is none |
//! | timestamp | `timestamp.json` | snapshot |
//! | snapshot | the one that the timestamp names | targets |
//! | targets | the one that the snapshot names | index |
//! | index | the one that the snapshot names | publishers |
//! | publishers | the newest index of each publisher of interest | done |
//!
//! A file that is trusted already and is the one that its parent names is not asked for again,
//! but checked again. An error ends the update, and what was trusted stays; only a publisher's
//! own index may fail alone.
//!
//! Versions never go back below what was seen or, at first, below what the enrolment says. A
//! floor is given up when the keys that could have raised it were changed: those of timestamp
//! or snapshot by root, those of targets by root, those of index by targets, those of a
//! publisher by targets. That is how a registry recovers from a thief who ran numbers up.

use std::collections::{BTreeSet, VecDeque};

use tough::schema::{RoleType, Snapshot, Timestamp};

use super::chain::{self, IndexEntry, Part, TargetsContent, listed_by};
use super::error::MetadataError;
use super::index::IndexError;
use super::metadata::{MetadataFile, fits, fresh};
use super::role::{MAX_ROOT_UPDATES, Role, publisher_index_path};
use super::trusted::{Newest, Trusted};
use crate::digest::Digest;
use crate::name::PublisherName;

/// Whose releases a host wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interest {
    /// Everybody's: to search, to bundle, to mirror.
    All,
    /// These publishers', beside those that are known already.
    Only(BTreeSet<PublisherName>),
}

/// A file that an update needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its place below `/metadata/`.
    pub path: String,
    /// Most bytes to read of it.
    pub max_bytes: u64,
    /// Whether it may well not be there.
    pub may_be_missing: bool,
}

/// An update that is under way.
#[derive(Debug)]
pub struct Update {
    trusted: Trusted,
    /// What was trusted below the root when the update began.
    before: Option<Newest>,
    interest: Interest,
    now: i64,
    roots: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Root,
    Timestamp,
    Snapshot { timestamp: Part<Timestamp> },
    Targets { timestamp: Part<Timestamp>, snapshot: Part<Snapshot> },
    Index { timestamp: Part<Timestamp>, snapshot: Part<Snapshot>, targets: Part<TargetsContent> },
    Publishers(VecDeque<(PublisherName, IndexEntry)>),
}

impl Update {
    /// Begins an update at `now`, unix milliseconds. A `now` before the last update is a wrong
    /// clock, which must not make old metadata young: the time of that update counts then.
    #[must_use]
    pub fn new(trusted: &Trusted, interest: Interest, now: i64) -> Self {
        Self::begin(trusted, interest, now, None)
    }

    /// Begins an update from an offline bundle: its metadata must have been fresh when the
    /// operator sealed it, and counts until the bundle's own expiry.
    pub(super) fn sealed(trusted: &Trusted, sealed_at: i64, sealed_until: i64) -> Self {
        Self::begin(trusted, Interest::All, sealed_at, Some(sealed_until))
    }

    fn begin(trusted: &Trusted, interest: Interest, now: i64, sealed_until: Option<i64>) -> Self {
        let mut trusted = trusted.clone();
        let before = trusted.newest.take();
        trusted.problems.clear();
        trusted.sealed_until = sealed_until;
        let now = now.max(trusted.refreshed_at);
        Self { trusted, before, interest, now, roots: 0, stage: Stage::Root }
    }

    /// The next file that is needed; none where the update is complete.
    #[must_use]
    pub fn next(&self) -> Option<Request> {
        let listed = |role: Role, version: u64, length: Option<u64>| Request {
            path: role.path(version),
            max_bytes: length.unwrap_or(u64::MAX).min(role.max_bytes() as u64),
            may_be_missing: false,
        };
        let child = |by, meta, role| {
            // A parent that lists too little was refused.
            let listing = listed_by(by, meta, role).ok();
            listing.map(|listing| listed(role, listing.version.get(), listing.length))
        };
        match &self.stage {
            Stage::Root => Some(Request {
                may_be_missing: true,
                ..listed(Role::Root, self.trusted.root.file.version().saturating_add(1), None)
            }),
            Stage::Timestamp => Some(listed(Role::Timestamp, 0, None)),
            Stage::Snapshot { timestamp } => {
                child(Role::Timestamp, &timestamp.content.meta, Role::Snapshot)
            }
            Stage::Targets { snapshot, .. } => {
                child(Role::Snapshot, &snapshot.content.meta, Role::Targets)
            }
            Stage::Index { snapshot, .. } => {
                child(Role::Snapshot, &snapshot.content.meta, Role::Index)
            }
            Stage::Publishers(queue) => queue.front().map(|(publisher, entry)| Request {
                path: publisher_index_path(publisher, entry.number, entry.digest),
                max_bytes: entry.length,
                may_be_missing: true,
            }),
        }
    }

    /// Gives the file that was asked for, or nothing where it is not to be had.
    ///
    /// # Errors
    ///
    /// [`MetadataError`]: the update is over, and what was trusted before stays.
    pub fn provide(&mut self, bytes: Option<Vec<u8>>) -> Result<(), MetadataError> {
        if let (Some(bytes), Some(request)) = (&bytes, self.next())
            && bytes.len() as u64 > request.max_bytes
            && !matches!(self.stage, Stage::Publishers(_))
        {
            return Err(MetadataError::TooBig { path: request.path, max: request.max_bytes });
        }
        match bytes {
            Some(bytes) => self.take(bytes)?,
            None => self.missing()?,
        }
        self.reuse()
    }

    /// What is trusted now.
    ///
    /// # Errors
    ///
    /// [`MetadataError::Missing`] where a file is still needed.
    pub fn finish(self) -> Result<Trusted, MetadataError> {
        match self.next() {
            Some(request) => Err(MetadataError::Missing { path: request.path }),
            None => Ok(self.trusted),
        }
    }

    fn missing(&mut self) -> Result<(), MetadataError> {
        match &mut self.stage {
            Stage::Root => {
                let root = &self.trusted.root.file;
                fresh(Role::Root, root.expires_at(), self.now)?;
                self.stage = Stage::Timestamp;
                Ok(())
            }
            Stage::Publishers(queue) => {
                if let Some((publisher, _)) = queue.pop_front() {
                    self.trusted.problems.insert(publisher, IndexError::Unavailable);
                }
                Ok(())
            }
            Stage::Timestamp
            | Stage::Snapshot { .. }
            | Stage::Targets { .. }
            | Stage::Index { .. } => {
                let path = self.next().map(|request| request.path).unwrap_or_default();
                Err(MetadataError::Missing { path })
            }
        }
    }

    fn take(&mut self, bytes: Vec<u8>) -> Result<(), MetadataError> {
        // A stage that fails is never looked at again: the update is over.
        match std::mem::replace(&mut self.stage, Stage::Root) {
            Stage::Root => self.root(&bytes),
            Stage::Timestamp => self.timestamp(&bytes),
            Stage::Snapshot { timestamp } => self.snapshot(timestamp, &bytes),
            Stage::Targets { timestamp, snapshot } => self.targets(timestamp, snapshot, &bytes),
            Stage::Index { timestamp, snapshot, targets } => {
                self.index(timestamp, snapshot, targets, &bytes)
            }
            Stage::Publishers(mut queue) => {
                if let Some((publisher, entry)) = queue.pop_front() {
                    self.publisher(publisher, entry, bytes);
                }
                self.stage = Stage::Publishers(queue);
                Ok(())
            }
        }
    }

    fn root(&mut self, bytes: &[u8]) -> Result<(), MetadataError> {
        if self.roots == MAX_ROOT_UPDATES {
            return Err(MetadataError::TooManyRoots);
        }
        let next = chain::next_root(&self.trusted.root.content, bytes)?;
        let same = |role| chain::same_keys(role, &self.trusted.root.content, &next.content);
        let online = same(RoleType::Timestamp) && same(RoleType::Snapshot);
        let targets = same(RoleType::Targets);
        let minimum = &mut self.trusted.minimum;
        if !online {
            (minimum.timestamp, minimum.snapshot) = (0, 0);
        }
        if !targets {
            minimum.targets = 0;
        }
        self.roots += 1;
        self.trusted.root = next;
        self.stage = Stage::Root;
        Ok(())
    }

    fn timestamp(&mut self, bytes: &[u8]) -> Result<(), MetadataError> {
        let timestamp = chain::timestamp(&self.trusted.root.content, bytes)?;
        self.check(&timestamp.file)?;
        // A timestamp that is newer and leads back to an older snapshot is no better.
        let listed = listed_by(Role::Timestamp, &timestamp.content.meta, Role::Snapshot)?;
        self.not_below(Role::Snapshot, listed.version.get())?;
        self.stage = Stage::Snapshot { timestamp };
        Ok(())
    }

    fn snapshot(&mut self, timestamp: Part<Timestamp>, bytes: &[u8]) -> Result<(), MetadataError> {
        let root = &self.trusted.root.content;
        let snapshot = chain::snapshot(root, &timestamp.content, bytes)?;
        self.check(&snapshot.file)?;
        let listed = listed_by(Role::Snapshot, &snapshot.content.meta, Role::Targets)?;
        self.not_below(Role::Targets, listed.version.get())?;
        self.stage = Stage::Targets { timestamp, snapshot };
        Ok(())
    }

    fn targets(
        &mut self,
        timestamp: Part<Timestamp>,
        snapshot: Part<Snapshot>,
        bytes: &[u8],
    ) -> Result<(), MetadataError> {
        let root = &self.trusted.root.content;
        let targets = chain::targets(root, &snapshot.content, bytes)?;
        self.check(&targets.file)?;
        if let Some(before) = &self.before
            && !chain::same_index_keys(&before.targets.content, &targets.content)
        {
            self.trusted.minimum.index = 0;
        }
        // What nobody may speak for any more is forgotten, with its number.
        self.trusted.publishers.retain(|name, index| {
            let publisher = targets.content.publishers.get(name);
            publisher.is_some_and(|publisher| index.verify(&publisher.keys).is_ok())
        });
        self.stage = Stage::Index { timestamp, snapshot, targets };
        Ok(())
    }

    fn index(
        &mut self,
        timestamp: Part<Timestamp>,
        snapshot: Part<Snapshot>,
        targets: Part<TargetsContent>,
        bytes: &[u8],
    ) -> Result<(), MetadataError> {
        let index = chain::index(&targets.content, &snapshot.content, bytes)?;
        self.check(&index.file)?;
        let wanted = |name: &PublisherName| match &self.interest {
            Interest::All => true,
            Interest::Only(names) => {
                names.contains(name) || self.trusted.publishers.contains_key(name)
            }
        };
        let known = |name: &PublisherName| targets.content.publishers.get(name).is_some();
        let queue = index.content.iter().filter(|(name, entry)| {
            let has = self.trusted.publishers.get(*name);
            let has = has.is_some_and(|has| Digest::of(has.bytes()) == entry.digest);
            known(name) && wanted(name) && !has
        });
        let queue = queue.map(|(name, entry)| (name.clone(), *entry)).collect();
        let newest = Newest { timestamp, snapshot, targets, index };
        for file in newest.files() {
            self.raise_floor(file.role(), file.version());
        }
        self.trusted.newest = Some(newest);
        self.trusted.refreshed_at = self.now;
        self.stage = Stage::Publishers(queue);
        Ok(())
    }

    fn publisher(&mut self, name: PublisherName, entry: IndexEntry, bytes: Vec<u8>) {
        match self.trusted.check_index(&name, entry, bytes) {
            Ok(index) => {
                self.trusted.publishers.insert(name, index);
            }
            Err(problem) => {
                self.trusted.problems.insert(name, problem);
            }
        }
    }

    /// Gives what is trusted already wherever it is what is asked for.
    fn reuse(&mut self) -> Result<(), MetadataError> {
        let Some(before) = &self.before else { return Ok(()) };
        let (by, meta, has) = match &self.stage {
            Stage::Snapshot { timestamp } => {
                (Role::Timestamp, &timestamp.content.meta, &before.snapshot.file)
            }
            Stage::Targets { snapshot, .. } => {
                (Role::Snapshot, &snapshot.content.meta, &before.targets.file)
            }
            Stage::Index { snapshot, .. } => {
                (Role::Snapshot, &snapshot.content.meta, &before.index.file)
            }
            Stage::Root | Stage::Timestamp | Stage::Publishers(_) => return Ok(()),
        };
        let listed = listed_by(by, meta, has.role())?;
        let same = fits(has.role(), by, listed, has.version(), has.bytes());
        if same.is_err() {
            return Ok(());
        }
        let bytes = has.bytes().to_vec();
        self.take(bytes)?;
        self.reuse()
    }

    /// Checks that a verified file is fresh and no older than what counts.
    fn check(&self, file: &MetadataFile) -> Result<(), MetadataError> {
        self.not_below(file.role(), file.version())?;
        fresh(file.role(), file.expires_at(), self.now)
    }

    fn not_below(&self, role: Role, offered: u64) -> Result<(), MetadataError> {
        let trusted = self.floor(role);
        if offered < trusted {
            return Err(MetadataError::Rollback { role, trusted, offered });
        }
        Ok(())
    }

    /// From now on nothing older than `version` counts.
    fn raise_floor(&mut self, role: Role, version: u64) {
        let minimum = &mut self.trusted.minimum;
        let floor = match role {
            Role::Root => return,
            Role::Targets => &mut minimum.targets,
            Role::Index => &mut minimum.index,
            Role::Snapshot => &mut minimum.snapshot,
            Role::Timestamp => &mut minimum.timestamp,
        };
        *floor = (*floor).max(version);
    }

    /// The least version that counts.
    fn floor(&self, role: Role) -> u64 {
        let minimum = &self.trusted.minimum;
        match role {
            Role::Root => self.trusted.root.file.version(),
            Role::Targets => minimum.targets,
            Role::Index => minimum.index,
            Role::Snapshot => minimum.snapshot,
            Role::Timestamp => minimum.timestamp,
        }
    }
}
