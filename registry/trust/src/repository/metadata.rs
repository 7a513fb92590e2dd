//! One signed file of a role: read, checked, made.

use std::collections::HashMap;
use std::num::NonZeroU64;

use ed25519_dalek::Signer as _;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::key::{Ed25519Key, Ed25519Scheme, Key};
use tough::schema::{Hashes, Metafile, Role as Schema, Signature, Signed};

use super::error::{MetadataError, Misfit};
use super::role::Role;
use super::role_key::RoleKey;
use crate::digest::Digest;
use crate::keys::PublicKey;
use crate::text::message;

/// The version of the TUF specification that the files follow.
pub(super) const SPEC_VERSION: &str = "1.0.31";

/// A file of a role, as it lies below `/metadata/`. That it could be read says nothing about
/// who wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataFile {
    role: Role,
    version: u64,
    expires_at: i64,
    bytes: Vec<u8>,
}

impl MetadataFile {
    /// Reads a file of `role`, of whoever it may be.
    ///
    /// # Errors
    ///
    /// [`MetadataError::TooBig`] or [`MetadataError::Unreadable`].
    pub fn read(role: Role, bytes: Vec<u8>) -> Result<Self, MetadataError> {
        use tough::schema::{Root, Snapshot, Targets, Timestamp};
        match role {
            Role::Root => read::<Root>(role, &bytes).map(|file| Self::of(role, &file, bytes)),
            Role::Targets | Role::Index => {
                read::<Targets>(role, &bytes).map(|file| Self::of(role, &file, bytes))
            }
            Role::Snapshot => {
                read::<Snapshot>(role, &bytes).map(|file| Self::of(role, &file, bytes))
            }
            Role::Timestamp => {
                read::<Timestamp>(role, &bytes).map(|file| Self::of(role, &file, bytes))
            }
        }
    }

    pub(super) fn of<T: Schema>(role: Role, file: &Signed<T>, bytes: Vec<u8>) -> Self {
        Self {
            role,
            version: file.signed.version().get(),
            expires_at: expires_at(&file.signed),
            bytes,
        }
    }

    /// The role.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The version, from 1.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Until when it is good, unix milliseconds.
    #[must_use]
    pub const fn expires_at(&self) -> i64 {
        self.expires_at
    }

    /// The bytes, exactly as they are signed and served.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its place below `/metadata/`.
    #[must_use]
    pub fn path(&self) -> String {
        self.role.path(self.version)
    }

    /// What a parent says of it.
    pub(super) fn listed(&self) -> Metafile {
        Metafile {
            length: Some(self.bytes.len() as u64),
            hashes: Some(hashes(Digest::of(&self.bytes))),
            version: number(self.version),
            _extra: HashMap::new(),
        }
    }
}

/// Reads one file. Only what is read counts from here on, and that is also what signatures are
/// checked against, so that a second reading of the same bytes cannot say something else.
pub(super) fn read<T: DeserializeOwned>(
    role: Role,
    bytes: &[u8],
) -> Result<Signed<T>, MetadataError> {
    if bytes.len() > role.max_bytes() {
        return Err(MetadataError::TooBig { path: role.file(), max: role.max_bytes() as u64 });
    }
    serde_json::from_slice(bytes)
        .map_err(|error| MetadataError::Unreadable { role, why: message(&error) })
}

/// A role's content, signed by each of `keys` and written down.
pub(super) fn signed<T: Schema>(role: Role, content: T, keys: &[&RoleKey]) -> MetadataFile {
    let canonical = content.canonical_form().expect("metadata holds only strings and numbers");
    let signature = |key: &&RoleKey| Signature {
        keyid: key_id(&key.public()),
        sig: key.signing().sign(&canonical).to_bytes().to_vec().into(),
    };
    let file = Signed { signatures: keys.iter().map(signature).collect(), signed: content };
    let bytes = canonical_bytes(&file);
    MetadataFile::of(role, &file, bytes)
}

/// Sorted keys, so that one content has one text.
fn canonical_bytes<T: Serialize>(file: &Signed<T>) -> Vec<u8> {
    let value = serde_json::to_value(file).expect("metadata holds only strings and numbers");
    let mut bytes = serde_json::to_vec_pretty(&value).expect("a value can be written");
    bytes.push(b'\n');
    bytes
}

/// Checks a file against what its parent says of it.
pub(super) fn fits(
    role: Role,
    by: Role,
    listed: &Metafile,
    version: u64,
    bytes: &[u8],
) -> Result<(), MetadataError> {
    let refused = |misfit| Err(MetadataError::Mismatch { role, by, misfit });
    let (Some(length), Some(hashes)) = (listed.length, &listed.hashes) else {
        return Err(MetadataError::OtherRoles {
            role: by,
            why: "a file is listed without its length or SHA-256",
        });
    };
    if bytes.len() as u64 != length {
        return refused(Misfit::Length);
    }
    if *hashes.sha256 != Digest::of(bytes).as_bytes()[..] {
        return refused(Misfit::Digest);
    }
    if version != listed.version.get() {
        return refused(Misfit::Version);
    }
    Ok(())
}

/// Refuses what is past its time at `now`.
pub(super) fn fresh(role: Role, expires_at: i64, now: i64) -> Result<(), MetadataError> {
    if now >= expires_at {
        return Err(MetadataError::Expired { role, expired_at: expires_at });
    }
    Ok(())
}

pub(super) fn expires_at<T: Schema>(content: &T) -> i64 {
    content.expires().as_millisecond()
}

/// A time as metadata has it: whole seconds.
pub(super) fn time(ms: i64) -> Timestamp {
    Timestamp::from_second(ms.div_euclid(1000)).unwrap_or(if ms < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

pub(super) fn number(version: u64) -> NonZeroU64 {
    NonZeroU64::new(version).unwrap_or(NonZeroU64::MIN)
}

pub(super) fn hashes(digest: Digest) -> Hashes {
    Hashes { sha256: digest.as_bytes().to_vec().into(), _extra: HashMap::new() }
}

/// A key as metadata has it.
pub(super) fn schema_key(key: &PublicKey) -> Key {
    Key::Ed25519 {
        keyval: Ed25519Key { public: key.as_bytes().to_vec().into(), _extra: HashMap::new() },
        scheme: Ed25519Scheme::Ed25519,
        _extra: HashMap::new(),
    }
}

/// A key's id as metadata has it: the SHA-256 of the key's canonical JSON.
pub(super) fn key_id(key: &PublicKey) -> Decoded<Hex> {
    schema_key(key).key_id().expect("a key holds only strings")
}
