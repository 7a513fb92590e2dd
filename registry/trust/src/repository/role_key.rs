//! Secret keys of roles and of operators, and their files.

use std::fmt;

use ed25519_dalek::{Signer as _, SigningKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::role::Role;
use crate::keys::{KeyError, KeyFile, KeyId, PublicKey, random_secret, write_secret};

/// The `format` of a secret key file of a role or an operator.
pub const ROLE_KEY_FORMAT: &str = "sentinel-role-key-v1";

/// What a key is for. A key signs nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyPurpose {
    /// Metadata: [`Role::Root`].
    Root,
    /// Metadata: [`Role::Targets`].
    Targets,
    /// Metadata: [`Role::Index`].
    Index,
    /// Metadata: [`Role::Snapshot`].
    Snapshot,
    /// Metadata: [`Role::Timestamp`].
    Timestamp,
    /// What operators decide: desired sets and offline bundles.
    Operator,
}

impl KeyPurpose {
    /// The purpose's name in key files and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Index => "index",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
            Self::Operator => "operator",
        }
    }
}

impl From<Role> for KeyPurpose {
    fn from(role: Role) -> Self {
        match role {
            Role::Root => Self::Root,
            Role::Targets => Self::Targets,
            Role::Index => Self::Index,
            Role::Snapshot => Self::Snapshot,
            Role::Timestamp => Self::Timestamp,
        }
    }
}

impl fmt::Display for KeyPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for KeyPurpose {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        [Self::Root, Self::Targets, Self::Index, Self::Snapshot, Self::Timestamp, Self::Operator]
            .into_iter()
            .find(|purpose| purpose.as_str() == text)
            .ok_or(KeyError::NotASecretKey("its purpose is none that a key has"))
    }
}

/// A secret key of a role or an operator. Wiped from memory when dropped; never printed.
pub struct RoleKey {
    purpose: KeyPurpose,
    signing: SigningKey,
}

impl RoleKey {
    /// Makes a new key out of the system's randomness.
    ///
    /// # Errors
    ///
    /// [`KeyError::NoRandomness`].
    pub fn generate(purpose: KeyPurpose) -> Result<Self, KeyError> {
        Ok(Self::from_secret(purpose, &*random_secret()?))
    }

    /// A key from its 32 secret bytes (the seed of RFC 8032).
    #[must_use]
    pub fn from_secret(purpose: KeyPurpose, secret: &[u8; 32]) -> Self {
        Self { purpose, signing: SigningKey::from_bytes(secret) }
    }

    /// What the key is for.
    #[must_use]
    pub const fn purpose(&self) -> KeyPurpose {
        self.purpose
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey::of(&self.signing)
    }

    /// The key's id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.public().id()
    }

    /// The secret key file: JSON, to be written with mode 0600. Wiped when dropped.
    #[must_use]
    pub fn to_file_text(&self) -> Zeroizing<String> {
        write_secret(ROLE_KEY_FORMAT, ("purpose", self.purpose.as_str()), &self.signing)
    }

    /// Reads a secret key file. The caller keeps the bytes in a buffer that is wiped.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotASecretKey`], which never repeats what was read.
    pub fn from_file_text(text: &[u8]) -> Result<Self, KeyError> {
        let file = KeyFile::parse(text)?;
        if file.format != ROLE_KEY_FORMAT {
            return Err(KeyError::NotASecretKey("its format is not `sentinel-role-key-v1`"));
        }
        Ok(Self { purpose: file.owner.parse()?, signing: file.pair()? })
    }

    /// Signs `content` under `domain`, which says what kind of thing it is (it ends in a zero
    /// byte and belongs to one kind only): the signature is over `domain ‖ content`. For what
    /// operators sign; metadata is made by the functions of this module.
    #[must_use]
    pub fn sign(&self, domain: &[u8], content: &[u8]) -> [u8; 64] {
        self.signing.sign(&[domain, content].concat()).to_bytes()
    }

    pub(super) const fn signing(&self) -> &SigningKey {
        &self.signing
    }
}

impl fmt::Debug for RoleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoleKey")
            .field("purpose", &self.purpose)
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}
