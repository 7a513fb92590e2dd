//! Making metadata with the offline keys, at the command line: root and targets.
//!
//! Every function checks what it made as a host would, so that nothing leaves here that a host
//! refuses for its signatures.

use std::collections::HashMap;

use tough::schema::{
    DelegatedRole, Delegations, PathPattern, PathSet, Role as Schema, RoleKeys, RoleType, Root,
    Signed, Targets,
};

use super::chain::{self, Custom, INDEX_PATHS, TargetsContent, targets_content};
use super::error::MetadataError;
use super::metadata::{MetadataFile, SPEC_VERSION, key_id, number, read, schema_key, signed, time};
use super::publishers::Publishers;
use super::role::Role;
use super::role_key::{KeyPurpose, RoleKey};
use crate::keys::PublicKey;

/// Whose keys speak for a role, and how many of them must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSpec {
    /// The keys, at least one.
    pub keys: Vec<PublicKey>,
    /// How many must sign, at least one.
    pub threshold: u64,
}

impl RoleSpec {
    /// One key, which must sign.
    #[must_use]
    pub fn one(key: PublicKey) -> Self {
        Self { keys: vec![key], threshold: 1 }
    }
}

/// What a root says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootSpec {
    /// For the next root.
    pub root: RoleSpec,
    /// For targets.
    pub targets: RoleSpec,
    /// For the snapshot.
    pub snapshot: RoleSpec,
    /// For the timestamp.
    pub timestamp: RoleSpec,
}

/// What targets says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetsSpec {
    /// Who publishes.
    pub publishers: Publishers,
    /// For the index.
    pub index: RoleSpec,
}

/// Why metadata was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProduceError {
    /// A role without keys, or with a threshold that they cannot meet.
    #[error(
        "{role} has {keys} keys, of which {threshold} must sign: give 1 to 16 keys and a threshold within their number"
    )]
    Threshold {
        /// Which role.
        role: Role,
        /// Its keys.
        keys: usize,
        /// Its threshold.
        threshold: u64,
    },
    /// A key for something else.
    #[error("the key {id} is for {purpose}, not for {role}")]
    OtherKey {
        /// Its id.
        id: crate::keys::KeyId,
        /// What it is for.
        purpose: KeyPurpose,
        /// What should be signed.
        role: Role,
    },
    /// What was made, or what it follows, is refused.
    #[error(transparent)]
    Refused(#[from] MetadataError),
    /// There is no higher version.
    #[error(
        "the {0} metadata has the highest version that there is; rotate its keys and begin again"
    )]
    LastVersion(Role),
    /// It is past its time before it was written.
    #[error("the {0} metadata would be expired already: choose a later time")]
    Expired(Role),
}

/// Most keys of a role.
const MAX_ROLE_KEYS: usize = 16;

/// The root after `previous`, or the first. To rotate keys, change `spec` and sign with a
/// threshold of the old root keys and of the new ones.
///
/// # Errors
///
/// [`ProduceError`]; too few signatures among them.
pub fn root_file(
    previous: Option<&MetadataFile>,
    spec: &RootSpec,
    keys: &[&RoleKey],
    expires_at: i64,
) -> Result<MetadataFile, ProduceError> {
    let roles = [
        (Role::Root, RoleType::Root, &spec.root),
        (Role::Targets, RoleType::Targets, &spec.targets),
        (Role::Snapshot, RoleType::Snapshot, &spec.snapshot),
        (Role::Timestamp, RoleType::Timestamp, &spec.timestamp),
    ];
    let mut root = Root {
        spec_version: SPEC_VERSION.to_owned(),
        consistent_snapshot: true,
        version: number(next_version(Role::Root, previous)?),
        expires: time(expires_at),
        keys: HashMap::new(),
        roles: HashMap::new(),
        _extra: HashMap::new(),
    };
    for (role, schema, spec) in roles {
        check_spec(role, spec)?;
        let keyids = spec.keys.iter().map(key_id).collect();
        root.keys.extend(spec.keys.iter().map(|key| (key_id(key), schema_key(key))));
        let keys = RoleKeys { keyids, threshold: number(spec.threshold), _extra: HashMap::new() };
        root.roles.insert(schema, keys);
    }
    let file = signed(Role::Root, root, &for_role(Role::Root, keys)?);
    match previous {
        None => chain::root(file.bytes())?,
        Some(previous) => chain::next_root(&chain::root(previous.bytes())?.content, file.bytes())?,
    };
    Ok(file)
}

/// The targets after `previous`, or the first, for hosts that trust `root`.
///
/// # Errors
///
/// [`ProduceError`].
pub fn targets_file(
    root: &MetadataFile,
    previous: Option<&MetadataFile>,
    spec: &TargetsSpec,
    keys: &[&RoleKey],
    expires_at: i64,
) -> Result<MetadataFile, ProduceError> {
    check_spec(Role::Index, &spec.index)?;
    spec.publishers.check().map_err(MetadataError::from)?;
    let paths = PathPattern::new(INDEX_PATHS).expect("the pattern is one");
    let mut targets = plain(next_version(Role::Targets, previous)?, expires_at);
    targets.delegations = Some(Delegations {
        keys: spec.index.keys.iter().map(|key| (key_id(key), schema_key(key))).collect(),
        roles: vec![DelegatedRole {
            name: Role::Index.as_str().to_owned(),
            keyids: spec.index.keys.iter().map(key_id).collect(),
            threshold: number(spec.index.threshold),
            paths: PathSet::Paths(vec![paths]),
            terminating: true,
            targets: None,
        }],
    });
    targets._extra = HashMap::from([Custom::entry(spec.publishers.clone())]);
    let file = signed(Role::Targets, targets, &for_role(Role::Targets, keys)?);
    let written: Signed<Targets> = read(Role::Targets, file.bytes())?;
    targets_content(&written.signed)?;
    verified_by(root, Role::Targets, &written)?;
    Ok(file)
}

impl TargetsSpec {
    /// What a targets file says, to be changed and written anew. Who signed it is not looked at.
    ///
    /// # Errors
    ///
    /// [`MetadataError`].
    pub fn read(targets: &MetadataFile) -> Result<Self, MetadataError> {
        let TargetsContent { publishers, .. } = content(targets)?;
        let file: Signed<Targets> = read(Role::Targets, targets.bytes())?;
        let delegations = file.signed.delegations.unwrap_or_default();
        let role = delegations.roles.first().map(DelegatedRole::keys);
        let index = role
            .map(|role| spec_of(&role, &delegations.keys))
            .unwrap_or(RoleSpec { keys: Vec::new(), threshold: 1 });
        Ok(Self { publishers, index })
    }
}

impl RootSpec {
    /// What a root says, to be changed and written anew.
    ///
    /// # Errors
    ///
    /// [`MetadataError`].
    pub fn read(root: &MetadataFile) -> Result<Self, MetadataError> {
        let root = chain::root(root.bytes())?.content;
        let spec = |role| {
            let keys = root.roles.get(&role);
            let other = MetadataError::OtherRoles { role: Role::Root, why: "a role is missing" };
            keys.map(|keys| spec_of(keys, &root.keys)).ok_or(other)
        };
        Ok(Self {
            root: spec(RoleType::Root)?,
            targets: spec(RoleType::Targets)?,
            snapshot: spec(RoleType::Snapshot)?,
            timestamp: spec(RoleType::Timestamp)?,
        })
    }
}

pub(super) fn content(targets: &MetadataFile) -> Result<TargetsContent, MetadataError> {
    let file: Signed<Targets> = read(Role::Targets, targets.bytes())?;
    targets_content(&file.signed)
}

fn spec_of(
    role: &RoleKeys,
    keys: &HashMap<
        tough::schema::decoded::Decoded<tough::schema::decoded::Hex>,
        tough::schema::key::Key,
    >,
) -> RoleSpec {
    use tough::schema::key::Key;
    let public = |id| match keys.get(id) {
        Some(Key::Ed25519 { keyval, .. }) => PublicKey::from_bytes(&keyval.public),
        _ => None,
    };
    RoleSpec {
        keys: role.keyids.iter().filter_map(public).collect(),
        threshold: role.threshold.get(),
    }
}

pub(super) fn plain(version: u64, expires_at: i64) -> Targets {
    let mut targets = Targets::new(SPEC_VERSION.to_owned(), number(version), time(expires_at));
    targets.delegations = None;
    targets
}

pub(super) fn next_version(
    role: Role,
    previous: Option<&MetadataFile>,
) -> Result<u64, ProduceError> {
    let previous = previous.map_or(0, MetadataFile::version);
    previous.checked_add(1).ok_or(ProduceError::LastVersion(role))
}

fn check_spec(role: Role, spec: &RoleSpec) -> Result<(), ProduceError> {
    let (keys, threshold) = (spec.keys.len(), spec.threshold);
    if !(1..=MAX_ROLE_KEYS).contains(&keys) || !(1..=keys as u64).contains(&threshold) {
        return Err(ProduceError::Threshold { role, keys, threshold });
    }
    Ok(())
}

pub(super) fn for_role<'a>(
    role: Role,
    keys: &[&'a RoleKey],
) -> Result<Vec<&'a RoleKey>, ProduceError> {
    let other = keys.iter().find(|key| key.purpose() != KeyPurpose::from(role));
    match other {
        Some(key) => Err(ProduceError::OtherKey { id: key.id(), purpose: key.purpose(), role }),
        None => Ok(keys.to_vec()),
    }
}

pub(super) fn verified_by<T: Schema>(
    root: &MetadataFile,
    role: Role,
    file: &Signed<T>,
) -> Result<(), ProduceError> {
    chain::by_root(role, &chain::root(root.bytes())?.content, file)?;
    Ok(())
}
