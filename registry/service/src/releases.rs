//! What is kept of each release: enough to show it and to hold it still.
//!
//! A record is created once and never changed, so a version means one digest for ever; what
//! it names can be neither moved nor deleted. A record alone publishes nothing: a release is
//! out when the publisher's signed index lists it.

use semver::Version;
use sentinel_trust::{Capability, Digest, Kind, Manifest, PluginName, SignatureFile};
use serde::{Deserialize, Serialize};

use crate::names::Repository;
use crate::oci::store_failed;
use crate::refusal::{Code, Refusal};
use crate::store::{Store, StoreError, path};

/// What is kept of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Release {
    /// The plugin.
    pub name: PluginName,
    /// The version.
    pub version: Version,
    /// Digest of the component.
    pub digest: Digest,
    /// Digest of the OCI manifest that holds it.
    pub manifest: Digest,
    /// What it is for.
    pub kind: Kind,
    /// The contract it was built for.
    pub contract: Version,
    /// What it asks for.
    pub capabilities: Vec<Capability>,
    /// Its description.
    pub description: String,
    /// Its licence.
    pub license: String,
    /// Size of the component in bytes.
    pub size: u64,
    /// When it came, unix milliseconds.
    pub published: i64,
    /// Who signed it.
    pub signatures: SignatureFile,
}

impl Release {
    /// The record of a component.
    #[must_use]
    pub(crate) fn new(
        component: &Manifest,
        (digest, size): (Digest, u64),
        manifest: Digest,
        signatures: SignatureFile,
        published: i64,
    ) -> Self {
        let asks = |one: &Capability| component.requests.asks_for(*one);
        Self {
            name: component.name.clone(),
            version: component.version.clone(),
            digest,
            manifest,
            kind: component.kind,
            contract: component.contract.clone(),
            capabilities: Capability::ALL.into_iter().filter(asks).collect(),
            description: component.description.clone(),
            license: component.license.clone(),
            size,
            published,
            signatures,
        }
    }

    /// Whether two records are of the same bytes, whenever they came and whoever signed.
    #[must_use]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (&self.name, &self.version, self.digest, self.manifest)
            == (&other.name, &other.version, other.digest, other.manifest)
    }
}

/// The records.
#[derive(Debug, Clone)]
pub(crate) struct Releases {
    store: Store,
}

impl Releases {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Every record of a plugin, by version.
    ///
    /// # Errors
    /// If the store fails or a record is damaged.
    pub(crate) async fn of(&self, name: &PluginName) -> Result<Vec<Release>, StoreError> {
        let folder = path(&["plugins", name.publisher().as_str(), name.plugin()]);
        let mut releases = Vec::new();
        for meta in self.store.list(&folder).await? {
            let Some(json) = self.store.read(&meta.location).await? else { continue };
            let release: Release = serde_json::from_slice(&json).map_err(|error| {
                StoreError::Damaged { object: meta.location.to_string(), why: error.to_string() }
            })?;
            releases.push(release);
        }
        releases.sort_by(|a, b| a.version.cmp(&b.version));
        Ok(releases)
    }

    /// The names of all plugins that have a record.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) async fn names(&self) -> Result<Vec<PluginName>, StoreError> {
        let mut names: Vec<PluginName> = Vec::new();
        for meta in self.store.list(&path(&["plugins"])).await? {
            let parts: Vec<_> = meta.location.parts().collect();
            let [_, publisher, plugin, _] = parts.as_slice() else { continue };
            let name = format!("{}/{}", publisher.as_ref(), plugin.as_ref());
            names.extend(name.parse::<PluginName>());
        }
        names.dedup();
        Ok(names)
    }

    /// Keeps a record. Gives the one that is there already where there is one.
    ///
    /// # Errors
    /// If the store fails or the record that is there is damaged.
    pub(crate) async fn keep(&self, release: &Release) -> Result<Option<Release>, StoreError> {
        let object = path(&[
            "plugins",
            release.name.publisher().as_str(),
            release.name.plugin(),
            &release.version.to_string(),
        ]);
        let damaged = |error: serde_json::Error| StoreError::Damaged {
            object: object.to_string(),
            why: error.to_string(),
        };
        let json = serde_json::to_vec(release).map_err(damaged)?;
        if self.store.create(&object, json.into()).await? {
            return Ok(None);
        }
        let Some(json) = self.store.read(&object).await? else {
            return Err(StoreError::Damaged {
                object: object.to_string(),
                why: "it was there and is gone".to_owned(),
            });
        };
        serde_json::from_slice(&json).map(Some).map_err(damaged)
    }

    /// Refuses to change a repository where a release that `is_meant` holds it still.
    pub(crate) async fn refuse_change(
        &self,
        repository: &Repository,
        is_meant: impl Fn(&Release) -> bool,
    ) -> Result<(), Refusal> {
        let Some(name) = repository.plugin() else { return Ok(()) };
        let releases = self.of(&name).await.map_err(store_failed)?;
        match releases.iter().find(|release| is_meant(release)) {
            None => Ok(()),
            Some(release) => Err(Refusal::new(
                Code::Denied,
                format!(
                    "{} {} is released, and a release never changes: publish another version, or yank this one",
                    release.name, release.version
                ),
            )),
        }
    }
}
