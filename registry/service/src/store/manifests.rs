//! Manifests, tags and referrers.

use bytes::Bytes;
use object_store::path::Path;
use sentinel_trust::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::{Store, StoreError, digest_of_name, path};
use crate::names::{Repository, Tag};

/// A manifest as it is kept.
#[derive(Debug, Clone)]
pub struct StoredManifest {
    /// The media type under which it was pushed.
    pub media_type: String,
    /// Its bytes, which are what its digest says.
    pub bytes: Bytes,
}

/// A content descriptor of the OCI image specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Media type of the content.
    #[serde(rename = "mediaType")]
    pub media_type: String,
    /// Digest of the content.
    pub digest: String,
    /// Size of the content in bytes.
    pub size: u64,
    /// What kind of artifact it is.
    #[serde(rename = "artifactType", default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Store {
    /// Keeps a manifest.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn write_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
        manifest: &StoredManifest,
    ) -> Result<(), StoreError> {
        let mut bytes = Vec::with_capacity(manifest.media_type.len() + 1 + manifest.bytes.len());
        bytes.extend_from_slice(manifest.media_type.as_bytes());
        bytes.push(b'\n');
        bytes.extend_from_slice(&manifest.bytes);
        self.write(&self.repository(repository, "_manifests", &digest.to_hex()), bytes.into()).await
    }

    /// A manifest; nothing where the repository has none. Bytes that are not what the digest
    /// says are an error, never given out.
    ///
    /// # Errors
    /// If the store fails or the manifest is damaged.
    pub async fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<StoredManifest>, StoreError> {
        let object = self.repository(repository, "_manifests", &digest.to_hex());
        let Some(whole) = self.read(&object).await? else { return Ok(None) };
        let damaged =
            |why: &str| StoreError::Damaged { object: object.to_string(), why: why.to_owned() };
        let line = whole
            .iter()
            .position(|b| *b == b'\n')
            .ok_or_else(|| damaged("it has no media type"))?;
        let media_type = std::str::from_utf8(&whole[..line])
            .map_err(|_| damaged("its media type is not text"))?
            .to_owned();
        let bytes = whole.slice(line + 1..);
        if Digest::of(&bytes) != *digest {
            return Err(damaged("its bytes are not those of its digest"));
        }
        Ok(Some(StoredManifest { media_type, bytes }))
    }

    /// Whether the repository has a manifest.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn has_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let object = self.repository(repository, "_manifests", &digest.to_hex());
        Ok(self.head(&object).await?.is_some())
    }

    /// Removes a manifest, and first all tags that mean it. False where there was none.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn remove_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        for tag in self.tags(repository).await? {
            if self.tag(repository, &tag).await? == Some(*digest) {
                self.remove_tag(repository, &tag).await?;
            }
        }
        self.remove(&self.repository(repository, "_manifests", &digest.to_hex())).await
    }

    /// What a tag means; nothing where there is none.
    ///
    /// # Errors
    /// If the store fails or the tag is damaged.
    pub async fn tag(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<Option<Digest>, StoreError> {
        let object = self.repository(repository, "_tags", tag.as_str());
        let Some(bytes) = self.read(&object).await? else { return Ok(None) };
        let digest = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
        digest.map(Some).ok_or_else(|| StoreError::Damaged {
            object: object.to_string(),
            why: "it holds no digest".to_owned(),
        })
    }

    /// Lets a tag mean a manifest.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn set_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let object = self.repository(repository, "_tags", tag.as_str());
        self.write(&object, digest.to_string().into()).await
    }

    /// Removes a tag; false where there was none.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn remove_tag(&self, repository: &Repository, tag: &Tag) -> Result<bool, StoreError> {
        self.remove(&self.repository(repository, "_tags", tag.as_str())).await
    }

    /// The tags of a repository in ASCII order.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, StoreError> {
        let listed = self.list(&path(&["repos", repository.as_str(), "_tags"])).await?;
        let mut tags: Vec<Tag> = listed
            .iter()
            .filter_map(|meta| meta.location.filename().and_then(|name| name.parse().ok()))
            .collect();
        tags.sort();
        Ok(tags)
    }

    fn referrers_folder(&self, repository: &Repository, subject: &Digest) -> Path {
        self.repository(repository, "_referrers", &subject.to_hex())
    }

    /// Notes that a manifest refers to a subject.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn add_referrer(
        &self,
        repository: &Repository,
        subject: &Digest,
        digest: &Digest,
        descriptor: &Descriptor,
    ) -> Result<(), StoreError> {
        let object = self.referrers_folder(repository, subject).join(digest.to_hex());
        let json = serde_json::to_vec(descriptor).map_err(|error| StoreError::Damaged {
            object: object.to_string(),
            why: error.to_string(),
        })?;
        self.write(&object, json.into()).await
    }

    /// Forgets that a manifest refers to a subject.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn remove_referrer(
        &self,
        repository: &Repository,
        subject: &Digest,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        self.remove(&self.referrers_folder(repository, subject).join(digest.to_hex())).await?;
        Ok(())
    }

    /// The digests of a subject's referrers, in order.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Digest>, StoreError> {
        let listed = self.list(&self.referrers_folder(repository, subject)).await?;
        Ok(listed.iter().filter_map(|meta| digest_of_name(&meta.location)).collect())
    }

    /// The descriptor of one referrer; nothing where it is gone.
    ///
    /// # Errors
    /// If the store fails or the object is damaged.
    pub async fn referrer(
        &self,
        repository: &Repository,
        subject: &Digest,
        digest: &Digest,
    ) -> Result<Option<Descriptor>, StoreError> {
        let object = self.referrers_folder(repository, subject).join(digest.to_hex());
        let Some(json) = self.read(&object).await? else { return Ok(None) };
        serde_json::from_slice(&json).map(Some).map_err(|error| StoreError::Damaged {
            object: object.to_string(),
            why: error.to_string(),
        })
    }
}
