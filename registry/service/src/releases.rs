//! What is kept of each release: enough to hold it still.
//!
//! A record alone publishes nothing: a release is out when its publisher's signed index lists
//! it, and from then on its tag does not move and nothing that it is made of is deleted. A
//! record is written before that index comes into force, so a kill in between leaves one that
//! nothing lists: it binds nobody, and publishing again, as these bytes or others, goes on.
//! Its name has the component's digest, so a record of other bytes never takes its place.

use semver::Version;
use sentinel_trust::{Capability, Digest, Kind, Manifest, PluginName, SignatureFile};
use serde::{Deserialize, Serialize};

use crate::names::Repository;
use crate::oci::store_failed;
use crate::refusal::{Code, Refusal};
use crate::service::Shared;
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
    /// Whether an index that lists it was in force: then it is released for ever, also where
    /// its publisher begins a new index after a key was stolen.
    pub released: bool,
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
            released: false,
        }
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

    /// Keeps a record.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) async fn keep(&self, release: &Release) -> Result<(), StoreError> {
        let file = format!("{}.{}", release.version, release.digest.to_hex());
        let object =
            path(&["plugins", release.name.publisher().as_str(), release.name.plugin(), &file]);
        let json = serde_json::to_vec(release).map_err(|error| StoreError::Damaged {
            object: object.to_string(),
            why: error.to_string(),
        })?;
        self.store.write(&object, json.into()).await
    }
}

/// The records of a repository that are released: listed by the index in force, or by one
/// before it. Where hosts believe nothing of
/// the registry now, what is listed cannot be known, and every record counts.
async fn published(shared: &Shared, repository: &Repository) -> Result<Vec<Release>, Refusal> {
    let Some(name) = repository.plugin() else { return Ok(Vec::new()) };
    let mut releases = shared.releases.of(&name).await.map_err(store_failed)?;
    if releases.is_empty() {
        return Ok(releases);
    }
    let state = shared.catalogue.newest((shared.options.clock)()).await?;
    let Some(state) = state.filter(|state| state.trusted.is_some()) else { return Ok(releases) };
    let listed = state.index(&name.publisher()).map_or(&[][..], |index| &index.index().releases);
    releases.retain(|one| {
        if one.released {
            return true;
        }
        let key = (&one.name, &one.version, one.digest);
        listed.iter().any(|listed| (&listed.name, &listed.version, listed.digest) == key)
    });
    Ok(releases)
}

fn refuse(release: &Release) -> Refusal {
    Refusal::new(
        Code::Denied,
        format!(
            "{} {} is released, and a release never changes: publish another version, or yank this one",
            release.name, release.version
        ),
    )
}

/// Refuses to change what a release that `is_meant` holds still.
pub(crate) async fn refuse_change(
    shared: &Shared,
    repository: &Repository,
    is_meant: impl Fn(&Release) -> bool,
) -> Result<(), Refusal> {
    let releases = published(shared, repository).await?;
    releases.iter().find(|release| is_meant(release)).map_or(Ok(()), |one| Err(refuse(one)))
}

/// Refuses to release a version as other bytes than those that it is released as.
pub(crate) async fn refuse_other_bytes(
    shared: &Shared,
    name: &PluginName,
    version: &Version,
    digest: &Digest,
) -> Result<(), Refusal> {
    let releases = published(shared, &Repository::from(name)).await?;
    let other = |one: &&Release| one.version == *version && one.digest != *digest;
    releases.iter().find(other).map_or(Ok(()), |one| Err(refuse(one)))
}

/// Refuses to take away a blob of which a release is made: its component, or another that its
/// OCI manifest names.
pub(crate) async fn refuse_loss(
    shared: &Shared,
    repository: &Repository,
    blob: &Digest,
) -> Result<(), Refusal> {
    for release in published(shared, repository).await? {
        let manifest = shared.store.manifest(repository, &release.manifest).await;
        // A manifest that is damaged names nothing; the component is known without it.
        let parsed = manifest.ok().flatten().and_then(|manifest| {
            crate::oci::Parsed::read(&manifest.bytes, &manifest.media_type).ok()
        });
        let names = parsed.is_some_and(|parsed| parsed.blobs.iter().any(|(one, _)| one == blob));
        if release.digest == *blob || names {
            return Err(refuse(&release));
        }
    }
    Ok(())
}
