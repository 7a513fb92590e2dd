//! What is kept of each release: enough to show it and to hold it still.
//!
//! A record is created once and never changed, so a version means one digest for ever; what
//! it names can be neither moved nor deleted. A record alone publishes nothing: a release is
//! out when the publisher's signed index lists it.

use semver::Version;
use sentinel_trust::{Capability, Digest, Kind, PluginName, SignatureFile};
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
