//! Whom a host trusts: which keys speak for which publisher, and what was revoked.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;
use crate::keys::{KeyId, PublicKey};
use crate::name::PublisherName;

/// What a host trusts. An empty policy trusts nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrustPolicy {
    /// Publishers by name. A plugin's name begins with its publisher's, and only that
    /// publisher's keys may sign it.
    pub publishers: BTreeMap<PublisherName, PublisherTrust>,
    /// Plugins that must not run whoever signed them.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub revoked_digests: BTreeSet<Digest>,
}

/// What is trusted of one publisher.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PublisherTrust {
    /// Keys that speak for the publisher.
    pub keys: Vec<PublicKey>,
    /// Keys that no longer speak for anybody, as key ids or as the keys themselves. A key
    /// that is revoked under one publisher is revoked under all.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", deserialize_with = "ids_or_keys")]
    #[schemars(with = "BTreeSet<String>")]
    pub revoked: BTreeSet<KeyId>,
}

/// Whoever moves a key from `keys` to `revoked` moves its line; both forms mean the same.
fn ids_or_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<KeyId>, D::Error> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Either(#[serde(deserialize_with = "id_or_key")] KeyId);

    fn id_or_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<KeyId, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.starts_with("ed25519:") {
            // A weak key may be revoked too, but it never counts, so an error is harmless.
            let key: PublicKey = text.parse().map_err(serde::de::Error::custom)?;
            return Ok(key.id());
        }
        text.parse().map_err(serde::de::Error::custom)
    }

    let list = Vec::<Either>::deserialize(deserializer)?;
    Ok(list.into_iter().map(|Either(id)| id).collect())
}

impl TrustPolicy {
    /// A policy that trusts one key for one publisher and nothing else.
    #[must_use]
    pub fn trusting(publisher: PublisherName, key: PublicKey) -> Self {
        let trust = PublisherTrust { keys: vec![key], revoked: BTreeSet::new() };
        Self { publishers: BTreeMap::from([(publisher, trust)]), revoked_digests: BTreeSet::new() }
    }

    /// Whether a key was revoked, under whichever publisher.
    #[must_use]
    pub fn is_revoked(&self, key: KeyId) -> bool {
        self.publishers.values().any(|trust| trust.revoked.contains(&key))
    }

    /// The publisher, other than `besides`, that a key belongs to.
    pub(crate) fn owner(&self, key: KeyId, besides: &PublisherName) -> Option<&PublisherName> {
        self.publishers
            .iter()
            .find(|(name, trust)| *name != besides && trust.keys.iter().any(|one| one.id() == key))
            .map(|(name, _)| name)
    }

    /// Everything in the policy that cannot be meant, each with its path. A policy with
    /// problems still verifies: they are for whoever edits it.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut owners: BTreeMap<KeyId, &PublisherName> = BTreeMap::new();
        for (name, trust) in &self.publishers {
            if trust.keys.is_empty() && trust.revoked.is_empty() {
                problems.push(format!(
                    "publishers.{name}.keys: none, so nothing of {name} is trusted; add its public key or remove it"
                ));
            }
            for key in &trust.keys {
                match owners.insert(key.id(), name) {
                    Some(other) if other == name => problems.push(format!(
                        "publishers.{name}.keys: {} stands there twice",
                        key.id()
                    )),
                    Some(other) => problems.push(format!(
                        "publishers.{name}.keys: {} belongs to {other} already; a key speaks for one publisher",
                        key.id()
                    )),
                    None => {}
                }
            }
        }
        problems
    }
}
