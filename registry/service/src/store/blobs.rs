//! Blobs: bytes named by their digest, and which repository has which.

use std::collections::HashMap;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt, WriteMultipart};
use sentinel_trust::Digest;
use sha2::{Digest as _, Sha256};

use super::{Store, StoreError, digest_of_name, path};
use crate::names::Repository;

/// Bytes of one part that is written; S3 takes none smaller but the last.
const PART_BYTES: usize = 5 << 20;
/// Parts on their way at once, which bounds the memory of an upload.
const PARTS_AT_ONCE: usize = 2;
/// Most old blobs that one search for unlinked ones looks at.
const MAX_COLLECTED: usize = 1_000_000;

/// A blob that is being written; nobody sees it before [`BlobWriter::commit`].
pub struct BlobWriter {
    to: Path,
    expected: Digest,
    hash: Sha256,
    bytes: u64,
    upload: WriteMultipart,
}

/// How writing a blob ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is there.
    Whole,
    /// The bytes are not those of the digest, and nothing was stored.
    OtherDigest(Digest),
}

impl BlobWriter {
    /// Takes more of the blob.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.hash.update(&bytes);
        self.bytes += bytes.len() as u64;
        self.upload.wait_for_capacity(PARTS_AT_ONCE).await?;
        self.upload.put(bytes);
        Ok(())
    }

    /// How much was written, in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the blob visible if its bytes are what the digest says.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn commit(self) -> Result<Stored, StoreError> {
        let found = Digest::from_bytes(self.hash.finalize().into());
        if found != self.expected {
            self.upload.abort().await?;
            return Ok(Stored::OtherDigest(found));
        }
        tracing::debug!(blob = %self.to, bytes = self.bytes, "stored");
        self.upload.finish().await?;
        Ok(Stored::Whole)
    }

    /// Gives it up.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn abort(self) -> Result<(), StoreError> {
        Ok(self.upload.abort().await?)
    }
}

fn blob_path(digest: &Digest) -> Path {
    let hex = digest.to_hex();
    path(&["blobs", "sha256", &hex[..2], &hex])
}

impl Store {
    /// Begins a blob, over one that is there: that one may be damaged.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn write_blob(&self, digest: &Digest) -> Result<BlobWriter, StoreError> {
        let to = blob_path(digest);
        let upload = self.objects.put_multipart(&to).await?;
        let upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        Ok(BlobWriter { to, expected: *digest, hash: Sha256::new(), bytes: 0, upload })
    }

    /// The size of a blob; nothing where it is not there, whatever the repository says.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        Ok(self.head(&blob_path(digest)).await?.map(|meta| meta.size))
    }

    /// The bytes of a blob, or of a range of it; nothing where there is none. They are what
    /// the store has: whoever gives them out checks the digest.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn blob(
        &self,
        digest: &Digest,
        range: Option<std::ops::Range<u64>>,
    ) -> Result<Option<GetResult>, StoreError> {
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        match self.objects.get_opts(&blob_path(digest), options).await {
            Ok(found) => Ok(Some(found)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the repository has the blob.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn is_linked(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let link = self.repository(repository, "_blobs", &digest.to_hex());
        Ok(self.head(&link).await?.is_some())
    }

    /// Gives the repository the blob.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn link(&self, repository: &Repository, digest: &Digest) -> Result<(), StoreError> {
        let link = self.repository(repository, "_blobs", &digest.to_hex());
        self.write(&link, Bytes::from_static(b"\n")).await
    }

    /// Takes the blob from the repository; false where it did not have it. The bytes stay
    /// until [`Store::collect_blobs`], since another repository may have them.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn unlink(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        self.remove(&self.repository(repository, "_blobs", &digest.to_hex())).await
    }

    /// Removes blobs that no repository has and that are older than `before` (unix
    /// milliseconds). Returns how many. A blob that is uploaded anew is young again, and a
    /// blob is linked right after it was written, so a bound of a day passes over both.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn collect_blobs(&self, before: i64) -> Result<usize, StoreError> {
        let old = |meta: &object_store::ObjectMeta| meta.last_modified.timestamp_millis() < before;
        let mut unlinked = HashMap::<Digest, Path>::new();
        let blobs = Path::from("blobs");
        let mut listing = self.objects.list(Some(&blobs));
        while let Some(meta) = listing.try_next().await? {
            // Those for which there is no room here have their turn once these are gone, as
            // long as fewer than this many are linked.
            if old(&meta)
                && unlinked.len() < MAX_COLLECTED
                && let Some(digest) = digest_of_name(&meta.location)
            {
                unlinked.insert(digest, meta.location);
            }
        }
        drop(listing);
        // Links are read after blobs: a link made in between is seen.
        let repositories = Path::from("repos");
        let mut listing = self.objects.list(Some(&repositories));
        while let Some(meta) = listing.try_next().await? {
            let link = meta.location.parts().rev().nth(1).is_some_and(|p| p.as_ref() == "_blobs");
            if link && let Some(digest) = digest_of_name(&meta.location) {
                unlinked.remove(&digest);
            }
        }
        drop(listing);
        let mut removed = 0;
        for blob in unlinked.values() {
            // Pushed anew meanwhile, it is young again.
            if self.head(blob).await?.is_some_and(|meta| old(&meta)) {
                removed += usize::from(self.remove(blob).await?);
            }
        }
        Ok(removed)
    }
}
