//! Plugins, keys and metadata that the tests start from.

use super::{OCI_MANIFEST, Running};
use sentinel_registry_service::{SIGNATURE, WASM_CONFIG, WASM_LAYER};
use sentinel_trust::repository::{IndexedRelease, PublisherIndex};
use sentinel_trust::{Kind, Manifest, PublisherKey, Unverified, embed, sign};
use serde_json::{Value, json};

/// A component of a kind's world that imports those interfaces of it that are named.
pub(crate) fn component(kind: Kind, imported: &[&str]) -> Vec<u8> {
    let named = |interface: &str| {
        imported.iter().any(|name| interface.starts_with(&format!("sentinel:plugin/{name}@")))
    };
    sentinel_test_components::world(kind.as_str()).component(named)
}

/// A collector that asks for nothing.
pub(crate) fn plugin(name: &str, version: &str) -> Vec<u8> {
    with_manifest(&component(Kind::Collector, &["log"]), name, version, json!({}))
}

/// A component with a manifest.
pub(crate) fn with_manifest(
    component: &[u8],
    name: &str,
    version: &str,
    requests: Value,
) -> Vec<u8> {
    let manifest = json!({
        "format": 1, "name": name, "version": version, "kind": "collector", "contract": "0.1.0",
        "description": "Looks at a thing.", "license": "Apache-2.0", "requests": requests,
    });
    embed(component, &Manifest::from_json(manifest.to_string().as_bytes()).unwrap()).unwrap()
}

pub(crate) fn key(publisher: &str, seed: u8) -> PublisherKey {
    PublisherKey::from_secret(publisher.parse().unwrap(), &[seed; 32])
}

/// What a publisher lists of a plugin.
pub(crate) fn listed(plugin: &[u8], key: &PublisherKey) -> IndexedRelease {
    let signatures = sign(plugin, key, None).unwrap().signatures;
    IndexedRelease::of(&Unverified::read(plugin).unwrap(), plugin.len() as u64, signatures, 1)
}

/// An index with these releases after `before`.
pub(crate) fn index(
    before: Option<&PublisherIndex>,
    key: &PublisherKey,
    releases: &[IndexedRelease],
) -> (PublisherIndex, Vec<u8>) {
    let empty = PublisherIndex::empty(key.publisher().clone());
    let mut next = before.unwrap_or(&empty).clone();
    let number = next.number + 1;
    for release in releases {
        next = next.with(release.clone());
    }
    next.number = number;
    let bytes = next.sign(key).unwrap().bytes().to_vec();
    (next, bytes)
}

impl Running {
    /// Pushes a component as the CNCF layout has it; the answer to its manifest.
    pub(crate) async fn push_plugin(
        &self,
        repository: &str,
        tag: &str,
        component: &[u8],
    ) -> reqwest::Response {
        let config = self.push_blob(repository, b"{}").await;
        let layer = self.push_blob(repository, component).await;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": { "mediaType": WASM_CONFIG, "digest": config, "size": 2 },
            "layers": [{ "mediaType": WASM_LAYER, "digest": layer, "size": component.len() }],
        });
        self.put_manifest(repository, tag, &manifest).await
    }

    /// Pushes a `.sig` file as a referrer of what a tag means.
    pub(crate) async fn push_signature(
        &self,
        repository: &str,
        subject: &str,
        signature: &[u8],
    ) -> reqwest::Response {
        let config = self.push_blob(repository, b"{}").await;
        let layer = self.push_blob(repository, signature).await;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": SIGNATURE,
            "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2 },
            "layers": [{ "mediaType": "application/octet-stream", "digest": layer, "size": signature.len() }],
            "subject": { "mediaType": OCI_MANIFEST, "digest": subject, "size": 1 },
        });
        let digest = super::digest(manifest.to_string().as_bytes());
        self.put_manifest(repository, &digest, &manifest).await
    }

    /// Brings an index of `acme`.
    pub(crate) async fn publish(&self, index: &[u8]) -> reqwest::Response {
        self.ask(reqwest::Method::PUT, "/api/v1/indexes/acme")
            .body(index.to_vec())
            .send()
            .await
            .unwrap()
    }
}
