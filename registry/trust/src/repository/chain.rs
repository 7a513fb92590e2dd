//! Each step of the chain of trust, as a pure check of one file against those before it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::{
    DelegatedRole, Delegations, Metafile, PathSet, Role as Schema, RoleType, Root, Signed,
    Snapshot, Targets, Timestamp,
};

use super::error::MetadataError;
use super::index::MAX_INDEX_BYTES;
use super::metadata::{MetadataFile, fits, read};
use super::publishers::{MAX_PUBLISHERS, Publishers};
use super::role::{Role, publisher_of_target};
use crate::digest::Digest;
use crate::name::PublisherName;
use crate::text::{excerpt, message};

/// Where the targets metadata has our custom data.
const CUSTOM: &str = "sentinel";
/// The format of that data.
const CUSTOM_FORMAT: u32 = 1;
/// What the delegation to the index role covers.
pub(super) const INDEX_PATHS: &str = "publishers/*";

/// A file and what it says.
#[derive(Debug, Clone)]
pub(super) struct Part<T> {
    pub(super) file: MetadataFile,
    pub(super) content: T,
}

/// What targets says.
#[derive(Debug, Clone)]
pub(super) struct TargetsContent {
    pub(super) publishers: Publishers,
    delegations: Delegations,
}

/// What the registry's index says of a publisher's index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// The index's number.
    pub number: u64,
    /// The SHA-256 of its file.
    pub digest: Digest,
    /// The length of its file in bytes.
    pub length: u64,
}

/// The indexes that the registry's index names.
pub(super) type IndexEntries = BTreeMap<PublisherName, IndexEntry>;

/// The custom data of targets.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Custom {
    format: u32,
    publishers: Publishers,
}

impl Custom {
    pub(super) fn entry(publishers: Publishers) -> (String, serde_json::Value) {
        let custom = Self { format: CUSTOM_FORMAT, publishers };
        let value = serde_json::to_value(custom).expect("publishers hold only strings");
        (CUSTOM.to_owned(), value)
    }
}

/// A root that its own keys signed and that has the constant roles.
pub(super) fn root(bytes: &[u8]) -> Result<Part<Root>, MetadataError> {
    let signed: Signed<Root> = read(Role::Root, bytes)?;
    by_root(Role::Root, &signed.signed, &signed)?;
    let other = |why| Err(MetadataError::OtherRoles { role: Role::Root, why });
    if !signed.signed.consistent_snapshot {
        return other("consistent snapshots are off");
    }
    let four = [RoleType::Root, RoleType::Targets, RoleType::Snapshot, RoleType::Timestamp];
    let has = |role: &RoleType| signed.signed.roles.contains_key(role);
    if signed.signed.roles.len() != four.len() || !four.iter().all(has) {
        return other("a root names keys for root, targets, snapshot and timestamp, and no other");
    }
    Ok(part(Role::Root, signed, bytes))
}

/// The root after `trusted`: signed by the keys of both, its version one higher.
pub(super) fn next_root(trusted: &Root, bytes: &[u8]) -> Result<Part<Root>, MetadataError> {
    let next = root(bytes)?;
    let signed: Signed<Root> = read(Role::Root, bytes)?;
    by_root(Role::Root, trusted, &signed)?;
    let (is, must) = (next.file.version(), trusted.version.get() + 1);
    if is != must {
        return Err(MetadataError::Rollback { role: Role::Root, trusted: must, offered: is });
    }
    Ok(next)
}

pub(super) fn timestamp(root: &Root, bytes: &[u8]) -> Result<Part<Timestamp>, MetadataError> {
    let signed: Signed<Timestamp> = read(Role::Timestamp, bytes)?;
    by_root(Role::Timestamp, root, &signed)?;
    only(Role::Timestamp, &signed.signed.meta, &[Role::Snapshot])?;
    Ok(part(Role::Timestamp, signed, bytes))
}

pub(super) fn snapshot(
    root: &Root,
    timestamp: &Timestamp,
    bytes: &[u8],
) -> Result<Part<Snapshot>, MetadataError> {
    let signed: Signed<Snapshot> = read(Role::Snapshot, bytes)?;
    by_root(Role::Snapshot, root, &signed)?;
    let listed = listed_by(Role::Timestamp, &timestamp.meta, Role::Snapshot)?;
    fits(Role::Snapshot, Role::Timestamp, listed, signed.signed.version.get(), bytes)?;
    only(Role::Snapshot, &signed.signed.meta, &[Role::Targets, Role::Index])?;
    Ok(part(Role::Snapshot, signed, bytes))
}

pub(super) fn targets(
    root: &Root,
    snapshot: &Snapshot,
    bytes: &[u8],
) -> Result<Part<TargetsContent>, MetadataError> {
    let signed: Signed<Targets> = read(Role::Targets, bytes)?;
    by_root(Role::Targets, root, &signed)?;
    let listed = listed_by(Role::Snapshot, &snapshot.meta, Role::Targets)?;
    fits(Role::Targets, Role::Snapshot, listed, signed.signed.version.get(), bytes)?;
    Ok(Part {
        file: MetadataFile::of(Role::Targets, &signed, bytes.to_vec()),
        content: targets_content(&signed.signed)?,
    })
}

/// What targets says, once its signatures are known to be good.
pub(super) fn targets_content(targets: &Targets) -> Result<TargetsContent, MetadataError> {
    let other = |why| MetadataError::OtherRoles { role: Role::Targets, why };
    if !targets.targets.is_empty() {
        return Err(other("it lists files of its own"));
    }
    let delegations = targets.delegations.clone().ok_or_else(|| other("it has no delegation"))?;
    let [DelegatedRole { name, terminating: true, paths: PathSet::Paths(paths), .. }] =
        delegations.roles.as_slice()
    else {
        return Err(other("it delegates other than to one terminating role with paths"));
    };
    if name != Role::Index.as_str() || paths.len() != 1 || paths[0].value() != INDEX_PATHS {
        return Err(other("it delegates other than `publishers/*` to `index`"));
    }
    let custom = targets._extra.get(CUSTOM).ok_or_else(|| other("it has no publishers"))?;
    let unreadable = |why| MetadataError::Unreadable { role: Role::Targets, why };
    let custom = Custom::deserialize(custom).map_err(|error| unreadable(message(&error)))?;
    if custom.format != CUSTOM_FORMAT {
        return Err(unreadable(format!(
            "its publishers have format {} and this host knows format {CUSTOM_FORMAT}",
            custom.format
        )));
    }
    custom.publishers.check()?;
    Ok(TargetsContent { publishers: custom.publishers, delegations })
}

pub(super) fn index(
    targets: &TargetsContent,
    snapshot: &Snapshot,
    bytes: &[u8],
) -> Result<Part<IndexEntries>, MetadataError> {
    let signed = index_by(targets, bytes)?;
    let listed = listed_by(Role::Snapshot, &snapshot.meta, Role::Index)?;
    fits(Role::Index, Role::Snapshot, listed, signed.signed.version.get(), bytes)?;
    Ok(Part {
        file: MetadataFile::of(Role::Index, &signed, bytes.to_vec()),
        content: entries(&signed.signed)?,
    })
}

/// An index that the keys of the delegation signed.
pub(super) fn index_by(
    targets: &TargetsContent,
    bytes: &[u8],
) -> Result<Signed<Targets>, MetadataError> {
    let signed: Signed<Targets> = read(Role::Index, bytes)?;
    targets
        .delegations
        .verify_role(&signed, Role::Index.as_str())
        .map_err(|error| MetadataError::Unsigned { role: Role::Index, why: message(&error) })?;
    // Roles are constant: what a delegation could end, or lead around, there is not.
    let delegates =
        signed.signed.delegations.as_ref().is_some_and(|delegations| !delegations.roles.is_empty());
    if delegates {
        return Err(MetadataError::OtherRoles { role: Role::Index, why: "it delegates further" });
    }
    Ok(signed)
}

/// What an index names.
pub(super) fn entries(index: &Targets) -> Result<IndexEntries, MetadataError> {
    if index.targets.len() > MAX_PUBLISHERS {
        return Err(MetadataError::OtherRoles {
            role: Role::Index,
            why: "it names more publishers than a registry has",
        });
    }
    let entry = |(name, target): (&tough::TargetName, &tough::schema::Target)| {
        let entry = publisher_of_target(name.raw()).and_then(|publisher| {
            let number = target.custom.get("number")?.as_u64().filter(|number| *number > 0)?;
            let digest = Digest::from_bytes(target.hashes.sha256.as_ref().try_into().ok()?);
            let length = Some(target.length).filter(|l| *l <= MAX_INDEX_BYTES as u64)?;
            Some((publisher, IndexEntry { number, digest, length }))
        });
        entry.ok_or_else(|| MetadataError::NoIndex { target: excerpt(name.raw()) })
    };
    index.targets.iter().map(entry).collect()
}

/// Whether the keys that speak for `role` are the same in both roots.
pub(super) fn same_keys(role: RoleType, one: &Root, other: &Root) -> bool {
    let keys = |root: &Root| {
        let keys = root.roles.get(&role);
        keys.map(|keys| (ids(&keys.keyids), keys.threshold))
    };
    keys(one) == keys(other)
}

/// Whether the keys that speak for the index are the same in both targets.
pub(super) fn same_index_keys(one: &TargetsContent, other: &TargetsContent) -> bool {
    let keys = |targets: &TargetsContent| {
        let role = targets.delegations.roles.first();
        role.map(|role| (ids(&role.keyids), role.threshold))
    };
    keys(one) == keys(other)
}

fn ids(ids: &[Decoded<Hex>]) -> BTreeSet<Vec<u8>> {
    ids.iter().map(|id| id.to_vec()).collect()
}

/// What a parent says of a file.
pub(super) fn listed_by(
    by: Role,
    meta: &std::collections::HashMap<String, Metafile>,
    role: Role,
) -> Result<&Metafile, MetadataError> {
    let listed = meta.get(&role.file());
    listed.ok_or(MetadataError::OtherRoles { role: by, why: "it does not list what it must" })
}

fn only(
    role: Role,
    meta: &std::collections::HashMap<String, Metafile>,
    children: &[Role],
) -> Result<(), MetadataError> {
    if meta.len() != children.len() {
        return Err(MetadataError::OtherRoles { role, why: "it lists other files than it must" });
    }
    children.iter().try_for_each(|child| listed_by(role, meta, *child).map(|_| ()))
}

pub(super) fn by_root<T: Schema>(
    role: Role,
    root: &Root,
    file: &Signed<T>,
) -> Result<(), MetadataError> {
    root.verify_role(file).map_err(|error| MetadataError::Unsigned { role, why: message(&error) })
}

fn part<T: Schema>(role: Role, signed: Signed<T>, bytes: &[u8]) -> Part<T> {
    Part { file: MetadataFile::of(role, &signed, bytes.to_vec()), content: signed.signed }
}
