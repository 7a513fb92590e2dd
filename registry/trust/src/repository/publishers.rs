//! What `targets` says of publishers: the custom data that only the offline key can change.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::keys::{KeyId, PublicKey};
use crate::name::PublisherName;
use crate::policy::{PublisherTrust, TrustPolicy};

/// Most publishers of a registry.
pub const MAX_PUBLISHERS: usize = 10_000;
/// Most keys of one publisher.
pub const MAX_PUBLISHER_KEYS: usize = 16;
/// Most revoked keys, and most revoked digests, of one publisher.
pub const MAX_REVOKED: usize = 5_000;

/// One publisher, as the owner of the targets key approved it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publisher {
    /// Keys that speak for it: they sign its plugins and its index.
    pub keys: Vec<PublicKey>,
    /// Keys that no longer speak for anybody. What they alone signed no longer runs.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub revoked_keys: BTreeSet<KeyId>,
    /// Plugins of it that must not run, whoever signed them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub revoked_digests: BTreeSet<Digest>,
}

/// Every publisher by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Publishers(BTreeMap<PublisherName, Publisher>);

/// Why a change to the publishers cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishersError {
    /// More than [`MAX_PUBLISHERS`].
    #[error("there are more than {MAX_PUBLISHERS} publishers")]
    TooMany,
    /// More than the bound on keys or revocations of one publisher.
    #[error(
        "{publisher} has too many keys or revocations: at most {MAX_PUBLISHER_KEYS} keys and {MAX_REVOKED} revocations of each kind are kept"
    )]
    TooLong {
        /// Which.
        publisher: PublisherName,
    },
    /// The publisher is not there.
    #[error("there is no publisher `{publisher}`; approve it first")]
    Unknown {
        /// Which.
        publisher: PublisherName,
    },
    /// A key that another publisher has.
    #[error(
        "the key {key} of {publisher} belongs to {owner} already; a key speaks for one publisher"
    )]
    KeyOfAnother {
        /// The key.
        key: KeyId,
        /// Who should have it.
        publisher: PublisherName,
        /// Who has it.
        owner: PublisherName,
    },
    /// A key that was revoked.
    #[error("the key {key} was revoked and cannot speak for {publisher} again; make a new one")]
    KeyRevoked {
        /// The key.
        key: KeyId,
        /// Who should have it.
        publisher: PublisherName,
    },
}

impl Publishers {
    /// Every publisher, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&PublisherName, &Publisher)> {
        self.0.iter()
    }

    /// A publisher.
    #[must_use]
    pub fn get(&self, name: &PublisherName) -> Option<&Publisher> {
        self.0.get(name)
    }

    /// Adds a publisher, or a key to one that is there. A key that it has stays as it is.
    ///
    /// # Errors
    ///
    /// A key of somebody else, a revoked one, or too many.
    pub fn approve(&mut self, name: &PublisherName, key: PublicKey) -> Result<(), PublishersError> {
        let mut next = self.clone();
        let publisher = next.0.entry(name.clone()).or_default();
        if !publisher.keys.contains(&key) {
            publisher.keys.push(key);
        }
        next.check()?;
        *self = next;
        Ok(())
    }

    /// Revokes a key: what it alone signed no longer runs anywhere.
    ///
    /// # Errors
    ///
    /// An unknown publisher, or too many revocations.
    pub fn revoke_key(&mut self, name: &PublisherName, key: KeyId) -> Result<(), PublishersError> {
        self.change(name, |publisher| {
            publisher.keys.retain(|one| one.id() != key);
            publisher.revoked_keys.insert(key);
        })
    }

    /// Takes a key away without revoking it: a publisher that has signed everything anew with
    /// another one retires it.
    ///
    /// # Errors
    ///
    /// An unknown publisher.
    pub fn retire_key(&mut self, name: &PublisherName, key: KeyId) -> Result<(), PublishersError> {
        self.change(name, |publisher| publisher.keys.retain(|one| one.id() != key))
    }

    /// Revokes a plugin: it stops wherever it runs.
    ///
    /// # Errors
    ///
    /// An unknown publisher, or too many revocations.
    pub fn revoke_digest(
        &mut self,
        name: &PublisherName,
        digest: Digest,
    ) -> Result<(), PublishersError> {
        self.change(name, |publisher| {
            publisher.revoked_digests.insert(digest);
        })
    }

    fn change(
        &mut self,
        name: &PublisherName,
        change: impl FnOnce(&mut Publisher),
    ) -> Result<(), PublishersError> {
        let mut next = self.clone();
        let publisher = next
            .0
            .get_mut(name)
            .ok_or_else(|| PublishersError::Unknown { publisher: name.clone() })?;
        change(publisher);
        next.check()?;
        *self = next;
        Ok(())
    }

    /// Checks every bound, and that a key speaks for one publisher and is not revoked.
    ///
    /// # Errors
    ///
    /// [`PublishersError`].
    pub fn check(&self) -> Result<(), PublishersError> {
        if self.0.len() > MAX_PUBLISHERS {
            return Err(PublishersError::TooMany);
        }
        let revoked: BTreeSet<KeyId> =
            self.0.values().flat_map(|publisher| publisher.revoked_keys.iter().copied()).collect();
        let mut owners: BTreeMap<KeyId, &PublisherName> = BTreeMap::new();
        for (name, publisher) in &self.0 {
            if publisher.keys.len() > MAX_PUBLISHER_KEYS
                || publisher.revoked_keys.len() > MAX_REVOKED
                || publisher.revoked_digests.len() > MAX_REVOKED
            {
                return Err(PublishersError::TooLong { publisher: name.clone() });
            }
            for key in publisher.keys.iter().map(PublicKey::id) {
                let publisher = name.clone();
                if revoked.contains(&key) {
                    return Err(PublishersError::KeyRevoked { key, publisher });
                }
                if let Some(owner) = owners.insert(key, name) {
                    return Err(PublishersError::KeyOfAnother {
                        key,
                        publisher,
                        owner: owner.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    /// The same as a policy by which components are verified.
    #[must_use]
    pub fn policy(&self) -> TrustPolicy {
        let trust = |publisher: &Publisher| PublisherTrust {
            keys: publisher.keys.clone(),
            revoked: publisher.revoked_keys.clone(),
        };
        TrustPolicy {
            publishers: self.0.iter().map(|(name, one)| (name.clone(), trust(one))).collect(),
            revoked_digests: self
                .0
                .values()
                .flat_map(|publisher| publisher.revoked_digests.iter().copied())
                .collect(),
        }
    }
}
