//! Publishing: blob, manifest, signature, and the publisher's next index.
//!
//! The index comes last: until the registry takes it, nothing is published, whatever was
//! pushed before. What is pushed and not listed harms nobody, and publishing again goes on
//! from there.

use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{RequestBuilder, Response, StatusCode};
use sentinel_trust::repository::{
    IndexError, IndexedRelease, Interest, PublisherIndex, SignedIndex,
};
use sentinel_trust::{
    Digest, PluginName, PublisherKey, Release, SignatureFile, TrustError, Unverified,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use url::Url;
use zeroize::Zeroizing;

use super::RegistryClient;
use super::error::ClientError;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
const WASM_LAYER: &str = "application/wasm";
const SIGNATURE: &str = "application/vnd.sentinel.signature.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// How long one upload may take.
const UPLOAD: Duration = Duration::from_secs(600);

/// Publishes for one publisher.
pub struct Publisher<'a> {
    /// The registry, as this machine knows it.
    pub client: &'a RegistryClient,
    /// The publisher's key: signs plugins and the index.
    pub key: &'a PublisherKey,
    /// The token that the registry gave the publisher.
    pub token: Zeroizing<String>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// What is listed now.
    pub release: IndexedRelease,
    /// The number of the index that lists it.
    pub number: u64,
    /// Whether it was listed already, and nothing was to be done.
    pub was_there: bool,
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Every host would refuse it.
    #[error("every host would refuse this plugin: {0}")]
    Plugin(#[from] Box<TrustError>),
    /// It cannot be signed.
    #[error(transparent)]
    Sign(#[from] sentinel_trust::SignError),
    /// The version is published with other bytes.
    #[error(
        "{release} is published already, as {digest}, and a release never changes: raise the version"
    )]
    OtherBytes {
        /// Name and version.
        release: Box<Release>,
        /// What is published.
        digest: Digest,
    },
    /// There is no such release.
    #[error("{name} {version} is not published, so it cannot be yanked")]
    NotPublished {
        /// The plugin.
        name: PluginName,
        /// The version.
        version: semver::Version,
    },
    /// The registry has not approved the publisher, or not this key.
    #[error(
        "the registry does not know the key {key} of `{publisher}`: ask its owner to run `sentinel registry approve {publisher} {public}`"
    )]
    NotApproved {
        /// Who.
        publisher: sentinel_trust::PublisherName,
        /// The key's id.
        key: sentinel_trust::KeyId,
        /// The key.
        public: Box<sentinel_trust::PublicKey>,
    },
    /// Its index is not to be had, so the next cannot be made.
    #[error("the index of `{publisher}` at the registry cannot be followed: {problem}")]
    Index {
        /// Whose.
        publisher: sentinel_trust::PublisherName,
        /// Why.
        problem: IndexError,
    },
    /// Somebody else published for the same publisher meanwhile.
    #[error("somebody published for `{0}` at the same time: publish again")]
    Overtaken(sentinel_trust::PublisherName),
    /// A token would go over the network for all to read.
    #[error(
        "the registry's address is not https, so the token was not sent: use https, or a loopback address"
    )]
    NotPrivate,
    /// The registry.
    #[error(transparent)]
    Registry(#[from] ClientError),
}

impl Publisher<'_> {
    /// Signs a plugin, pushes it, and lists it, at `now` (unix milliseconds). A plugin that is
    /// listed already with the same bytes is left as it is.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; then nothing is published.
    pub async fn publish(&self, component: &[u8], now: i64) -> Result<Published, PublishError> {
        let unverified = Unverified::read(component).map_err(|error| Box::new(error.into()))?;
        if let Some(problem) = unverified.problems().into_iter().next() {
            return Err(Box::new(problem).into());
        }
        let file = sentinel_trust::sign(component, self.key, None)?;
        let release =
            IndexedRelease::of(&unverified, component.len() as u64, file.signatures.clone(), now);
        let index = self.index(now).await?;
        let same = |one: &&IndexedRelease| one.release() == release.release();
        if let Some(there) = index.releases.iter().find(same) {
            if there.digest != release.digest {
                let (release, digest) = (Box::new(release.release()), there.digest);
                return Err(PublishError::OtherBytes { release, digest });
            }
            let signed = there.signatures.iter().any(|one| one.key_id == self.key.id());
            if signed && !there.yanked {
                let (release, number) = (there.clone(), index.number);
                return Ok(Published { release, number, was_there: true });
            }
        }
        self.push(component, &unverified, &file, now).await?;
        self.list(&index, release).await
    }

    /// Asks that nobody installs a release anew. What runs goes on: that is what revoking is
    /// for.
    ///
    /// # Errors
    ///
    /// [`PublishError`].
    pub async fn yank(
        &self,
        name: &PluginName,
        version: &semver::Version,
        now: i64,
    ) -> Result<Published, PublishError> {
        let index = self.index(now).await?;
        let found = index.releases.iter().find(|one| one.name == *name && one.version == *version);
        let Some(found) = found else {
            let (name, version) = (name.clone(), version.clone());
            return Err(PublishError::NotPublished { name, version });
        };
        if found.yanked {
            let (release, number) = (found.clone(), index.number);
            return Ok(Published { release, number, was_there: true });
        }
        self.list(&index, IndexedRelease { yanked: true, ..found.clone() }).await
    }

    /// The publisher's index so far, verified.
    async fn index(&self, now: i64) -> Result<PublisherIndex, PublishError> {
        let publisher = self.key.publisher().clone();
        let interest = Interest::Only(BTreeSet::from([publisher.clone()]));
        let view = self.client.refresh(interest, now).await?;
        let trust = view.policy().publishers.get(&publisher);
        if !trust.is_some_and(|trust| trust.keys.contains(&self.key.public())) {
            let (key, public) = (self.key.id(), Box::new(self.key.public()));
            return Err(PublishError::NotApproved { publisher, key, public });
        }
        let state = view.publishers().get(&publisher).cloned().unwrap_or_default();
        match (state.index, state.problem) {
            // Signed by a key that was revoked: the publisher begins anew, above its number.
            (_, Some(IndexError::Unsigned { .. })) => {
                let number = state.offered.unwrap_or_default();
                Ok(PublisherIndex { number, ..PublisherIndex::empty(publisher) })
            }
            (_, Some(problem)) => Err(PublishError::Index { publisher, problem }),
            (Some(index), None) => Ok(index),
            (None, None) => Ok(PublisherIndex::empty(publisher)),
        }
    }

    async fn push(
        &self,
        component: &[u8],
        unverified: &Unverified,
        file: &SignatureFile,
        now: i64,
    ) -> Result<(), PublishError> {
        let name = &unverified.manifest().name;
        let config = config(unverified, now).to_string();
        let layers = json!([descriptor(WASM_LAYER, component)]);
        let version = unverified.manifest().version.to_string();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(WASM_CONFIG, config.as_bytes()),
            "layers": layers,
            "annotations": {
                "org.opencontainers.image.title": name.to_string(),
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.description": unverified.manifest().description,
            },
        })
        .to_string();
        let signature = file.to_json();
        let referrer = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": SIGNATURE,
            "config": descriptor(EMPTY, b"{}"),
            "layers": [descriptor(SIGNATURE, signature.as_bytes())],
            "subject": descriptor(MANIFEST, manifest.as_bytes()),
        })
        .to_string();
        for blob in [component, config.as_bytes(), signature.as_bytes(), b"{}"] {
            self.blob(name, blob).await?;
        }
        // A tag has no `+`; what runs is decided by the index, never by a tag.
        self.manifest(name, &version.replace('+', "_"), manifest).await?;
        let digest = Digest::of(referrer.as_bytes()).to_string();
        self.manifest(name, &digest, referrer).await
    }

    async fn blob(&self, name: &PluginName, bytes: &[u8]) -> Result<(), PublishError> {
        let fetcher = &self.client.0.fetcher;
        let digest = Digest::of(bytes);
        let url = fetcher.url(&format!("v2/{name}/blobs/{digest}"))?;
        let there = self.send(fetcher.http().head(url.clone()), &url).await?;
        if there.status() == StatusCode::OK {
            return Ok(());
        }
        let url = fetcher.url(&format!("v2/{name}/blobs/uploads/"))?;
        let begun = self.send(fetcher.http().post(url.clone()), &url).await?;
        let begun = fetcher.good(begun, &url).await?;
        let location = begun.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let location = location.and_then(|location| url.join(location).ok());
        let same_place = |one: &Url| one.origin() == url.origin();
        let mut location = location.filter(same_place).ok_or_else(|| ClientError::Answer {
            url: url.to_string(),
            status: begun.status().as_u16(),
            message: "no place to upload to on the same registry".to_owned(),
        })?;
        location.query_pairs_mut().append_pair("digest", &digest.to_string());
        let put = fetcher.http().put(location.clone()).body(bytes.to_vec());
        let put = put.header(CONTENT_TYPE, "application/octet-stream");
        let done = self.send(put, &url).await?;
        fetcher.good(done, &url).await?;
        Ok(())
    }

    async fn manifest(
        &self,
        name: &PluginName,
        reference: &str,
        manifest: String,
    ) -> Result<(), PublishError> {
        let fetcher = &self.client.0.fetcher;
        let url = fetcher.url(&format!("v2/{name}/manifests/{reference}"))?;
        let put = fetcher.http().put(url.clone()).header(CONTENT_TYPE, MANIFEST).body(manifest);
        let done = self.send(put, &url).await?;
        fetcher.good(done, &url).await?;
        Ok(())
    }

    async fn list(
        &self,
        index: &PublisherIndex,
        release: IndexedRelease,
    ) -> Result<Published, PublishError> {
        let publisher = self.key.publisher();
        let next: SignedIndex = index
            .with(release.clone())
            .sign(self.key)
            .map_err(|problem| PublishError::Index { publisher: publisher.clone(), problem })?;
        let fetcher = &self.client.0.fetcher;
        let url = fetcher.url(&format!("api/v1/indexes/{publisher}"))?;
        let put = fetcher.http().put(url.clone()).body(next.bytes().to_vec());
        let done = self.send(put.header(CONTENT_TYPE, "application/json"), &url).await?;
        if done.status() == StatusCode::CONFLICT {
            return Err(PublishError::Overtaken(publisher.clone()));
        }
        fetcher.good(done, &url).await?;
        Ok(Published { release, number: next.index().number, was_there: false })
    }

    /// Sends with the token, which goes to the registry alone and over no open network.
    async fn send(&self, request: RequestBuilder, url: &Url) -> Result<Response, PublishError> {
        let fetcher = &self.client.0.fetcher;
        if !fetcher.is_private() {
            return Err(PublishError::NotPrivate);
        }
        let bearer = Zeroizing::new(format!("Bearer {}", *self.token));
        let mut value = HeaderValue::from_str(&bearer).map_err(|_| {
            ClientError::Address("the token has characters that no token has".to_owned())
        })?;
        value.set_sensitive(true);
        let request = request.header(AUTHORIZATION, value).timeout(UPLOAD);
        Ok(fetcher.send_within(request, url, UPLOAD).await?)
    }
}

impl std::fmt::Debug for Publisher<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("key", &self.key).finish_non_exhaustive()
    }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({
        "mediaType": media_type,
        "digest": Digest::of(bytes).to_string(),
        "size": bytes.len(),
    })
}

/// The config of the CNCF Wasm artifact layout.
fn config(unverified: &Unverified, now: i64) -> Value {
    let names = |list: &[sentinel_trust::Extern]| -> Vec<String> {
        list.iter().map(|one| one.name.clone()).collect()
    };
    let created = Timestamp::from_millisecond(now).unwrap_or(Timestamp::UNIX_EPOCH);
    json!({
        "created": format!("{created:.0}"),
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [unverified.digest().to_string()],
        "component": {
            "exports": names(unverified.shape().exports()),
            "imports": names(unverified.shape().imports()),
            "target": null,
        },
    })
}
