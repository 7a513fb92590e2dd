//! What is looked at before a manifest is taken.
//!
//! Anybody who may push may push anything: it is pullable and stays `unsigned`. But bytes that
//! say they are a plugin of ours, by an embedded manifest, must be one: whole, of its kind and
//! contract, asking for no more than it says, under its own name and version. A signature that
//! is pushed as a referrer must be by a key of the namespace's publisher.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use sentinel_trust::{
    ComponentError, ComponentShape, Digest, MAX_COMPONENT_BYTES, MAX_SIGNATURE_FILE_BYTES,
    Manifest, PluginName, SignatureFile, TrustPolicy, Unverified,
};
use serde_json::json;

use crate::contract;
use crate::likeness::like;
use crate::names::{Reference, Repository};
use crate::oci::{OCI_MANIFEST, Parsed, store_failed};
use crate::refusal::{Code, Refusal};
use crate::service::Shared;
use crate::store::{Store, StoreError, path};

/// Config of the CNCF Wasm artifact layout.
pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// Layer of the CNCF Wasm artifact layout.
pub const WASM_LAYER: &str = "application/wasm";
/// Artifact type of a signature: its one layer is the `.sig` file.
pub const SIGNATURE: &str = "application/vnd.sentinel.signature.v1+json";

/// A component that says it is a plugin, and is one.
#[derive(Debug)]
pub(crate) struct Plugin {
    pub(crate) manifest: Manifest,
    pub(crate) digest: Digest,
    pub(crate) bytes: Bytes,
}

fn invalid(why: impl Into<String>) -> Refusal {
    Refusal::new(Code::ManifestInvalid, why)
}

/// Reads a blob of the repository whole, and checks its digest.
async fn blob(store: &Store, digest: &Digest, most: usize) -> Result<Bytes, Refusal> {
    let found = store.blob(digest, None).await.map_err(store_failed)?;
    let found = found
        .ok_or_else(|| Refusal::new(Code::ManifestBlobUnknown, format!("no blob {digest}")))?;
    if found.meta.size > most as u64 {
        return Err(invalid(format!("the blob {digest} has more than {most} bytes")));
    }
    let bytes = found.bytes().await.map_err(|error| store_failed(error.into()))?;
    if Digest::of(&bytes) != *digest {
        return Err(store_failed(StoreError::Damaged {
            object: format!("blob {digest}"),
            why: "its bytes are not those of its digest".to_owned(),
        }));
    }
    Ok(bytes)
}

/// What is wrong with bytes that say they are a plugin; nothing where they do not say so.
fn examine(bytes: &[u8]) -> Result<Option<Manifest>, Vec<String>> {
    let shape = match ComponentShape::read(bytes) {
        Ok(shape) => shape,
        // Neither a core module nor anything else says that it is a plugin.
        Err(ComponentError::CoreModule | ComponentError::NotWasm) => return Ok(None),
        Err(error) => return Err(vec![error.to_string()]),
    };
    if !shape.has_manifest() {
        return Ok(None);
    }
    let plugin = Unverified::read(bytes).map_err(|error| vec![error.to_string()])?;
    let mut problems: Vec<String> = plugin.problems().iter().map(ToString::to_string).collect();
    if problems.is_empty() {
        problems.extend(contract::check(bytes, &shape, plugin.manifest().kind).err());
    }
    if problems.is_empty() { Ok(Some(plugin.manifest().clone())) } else { Err(problems) }
}

/// The plugin that an OCI manifest holds; nothing where it holds something else.
pub(crate) async fn plugin(
    shared: &Arc<Shared>,
    parsed: &Parsed,
) -> Result<Option<Plugin>, Refusal> {
    if parsed.media_type != OCI_MANIFEST || parsed.config_type.as_deref() != Some(WASM_CONFIG) {
        return Ok(None);
    }
    let mut layers = parsed.layers.iter().filter(|(_, layer)| layer.media_type == WASM_LAYER);
    let (Some((digest, _)), None) = (layers.next(), layers.next()) else { return Ok(None) };
    // Bounds the memory: a component is held whole.
    let permit = shared.examinations.acquire().await;
    let bytes = blob(&shared.store, digest, MAX_COMPONENT_BYTES).await?;
    let read = bytes.clone();
    let examined = tokio::task::spawn_blocking(move || examine(&read)).await;
    drop(permit);
    let examined = examined
        .map_err(|error| Refusal::internal("the component could not be examined", &error))?;
    match examined {
        Ok(None) => Ok(None),
        Ok(Some(manifest)) => Ok(Some(Plugin { manifest, digest: *digest, bytes })),
        Err(problems) => Err(invalid(format!(
            "every host would refuse this plugin:\n  - {}",
            problems.join("\n  - ")
        ))
        .detail(json!({ "problems": problems }))),
    }
}

/// Decides whether a manifest is taken.
pub(crate) async fn admit(
    shared: &Arc<Shared>,
    repository: &Repository,
    at: &Reference,
    parsed: &Parsed,
) -> Result<(), Refusal> {
    if parsed.artifact_type.as_deref() == Some(SIGNATURE) {
        signature(shared, repository, parsed).await?;
        return Ok(());
    }
    let Some(plugin) = plugin(shared, parsed).await? else { return Ok(()) };
    let manifest = &plugin.manifest;
    if manifest.name.as_str() != repository.as_str() {
        return Err(invalid(format!(
            "the plugin calls itself {}, and this is the repository of {repository}",
            manifest.name
        )));
    }
    if let Reference::Tag(tag) = at
        && tag.version().is_some_and(|version| version != manifest.version)
    {
        return Err(invalid(format!(
            "the plugin calls itself version {}, and the tag is {tag}",
            manifest.version
        )));
    }
    check_name(shared, &manifest.name).await
}

fn allowed_path(name: &PluginName) -> Path {
    path(&["names", "allowed", name.publisher().as_str(), name.plugin()])
}

/// Refuses a new name that is too like an existing one, unless the operator allowed it.
pub(crate) async fn check_name(shared: &Shared, name: &PluginName) -> Result<(), Refusal> {
    let existing = shared.releases.names().await.map_err(store_failed)?;
    let Some(old) = like(name, &existing) else { return Ok(()) };
    if shared.store.head(&allowed_path(name)).await.map_err(store_failed)?.is_some() {
        return Ok(());
    }
    Err(Refusal::new(
        Code::Denied,
        format!(
            "the name {name} is too like {old}, which exists: choose another, or let the operator allow it with `sentinel registry allow-name {name}`"
        ),
    ))
}

impl Store {
    /// Lets a name be, although it is like an existing one.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn allow_name(&self, name: &PluginName) -> Result<(), StoreError> {
        self.write(&allowed_path(name), Bytes::from_static(b"\n")).await
    }
}

/// Reads and checks a signature that comes as a referrer: it must be of the subject's
/// component and by a key that speaks for the namespace's publisher.
async fn signature(
    shared: &Arc<Shared>,
    repository: &Repository,
    parsed: &Parsed,
) -> Result<SignatureFile, Refusal> {
    let [(digest, _)] = parsed.layers.as_slice() else {
        return Err(invalid("a signature has one layer, the `.sig` file"));
    };
    let json = blob(&shared.store, digest, MAX_SIGNATURE_FILE_BYTES).await?;
    let file = SignatureFile::from_json(&json)
        .map_err(|error| invalid(format!("the signature cannot be read: {error}")))?;
    if file.name.as_str() != repository.as_str() {
        return Err(invalid(format!(
            "the signature is of {}, and this is the repository of {repository}",
            file.name
        )));
    }
    let subject = parsed
        .subject
        .ok_or_else(|| invalid("a signature refers to what it signs: it needs a subject"))?;
    let manifest = shared.store.manifest(repository, &subject).await.map_err(store_failed)?;
    let manifest = manifest.ok_or_else(|| {
        invalid(format!("push the plugin {subject} before its signature: it is not there"))
    })?;
    let of = Parsed::read(&manifest.bytes, &manifest.media_type)?;
    let plugin = plugin(shared, &of)
        .await?
        .ok_or_else(|| invalid(format!("{subject} is not a plugin, so nothing here signs it")))?;
    let policy = shared.catalogue.policy((shared.options.clock)()).await?;
    verify(&plugin, &json, policy).await?;
    Ok(file)
}

/// Checks a plugin's signatures against a policy.
pub(crate) async fn verify(
    plugin: &Plugin,
    signatures: &[u8],
    policy: TrustPolicy,
) -> Result<(), Refusal> {
    let (bytes, signatures) = (plugin.bytes.clone(), signatures.to_vec());
    let verified = tokio::task::spawn_blocking(move || {
        sentinel_trust::verify(Arc::from(&*bytes), &signatures, &policy).map(drop)
    });
    verified
        .await
        .map_err(|error| Refusal::internal("the signature could not be checked", &error))?
        .map_err(|error| invalid(error.to_string()))
}
