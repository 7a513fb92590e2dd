//! Everything that is kept, as objects of one store.
//!
//! ```text
//! blobs/sha256/<2 hex>/<64 hex>             bytes, named by their digest
//! repos/<repository>/_blobs/<64 hex>        the repository has the blob
//! repos/<repository>/_manifests/<64 hex>    media type, a line break, the manifest's bytes
//! repos/<repository>/_tags/<tag>            the digest that the tag means
//! repos/<repository>/_referrers/<64 hex of the subject>/<64 hex>   a descriptor
//! uploads/<id>/session                      repository and start of an upload
//! uploads/<id>/<start, 20 digits>           bytes of it from this offset on
//! auth/tokens/<id>                          a token: what it may, and its hash
//! plugins/<publisher>/<plugin>/<version>.<64 hex>   what is kept of a release
//! downloads/<instance>                      what an instance counted
//! totals/<20 digits>                        what instances counted that are gone
//! names/allowed/<publisher>/<plugin>        a name that may be like another
//! metadata/…                                repository metadata: see the module `catalogue`
//! ```
//!
//! Every object is written whole or not at all, so a kill between two writes leaves objects
//! that nothing refers to, never a reference to nothing: bytes come first, then the link, the
//! manifest, the tag. What must be decided once is written by [`PutMode::Create`], which both
//! a local folder and S3 have; nothing else is conditional.

mod blobs;
mod manifests;
mod open;
mod parts;
mod uploads;

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use sentinel_trust::Digest;

pub(crate) use blobs::{BlobWriter, Stored};
pub(crate) use manifests::{Descriptor, StoredManifest};
pub use open::{OpenError, Place};
pub use uploads::Progress;
pub(crate) use uploads::{MAX_BLOCK_BYTES, MAX_BLOCKS};

use crate::names::Repository;

/// Most bytes of an object that is read whole: manifests, records, tokens.
pub(crate) const MAX_RECORD_BYTES: u64 = 32 << 20;
/// Most objects that one listing gives.
pub(crate) const MAX_LISTED: usize = 100_000;

/// Why something could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store below failed.
    #[error("{0}")]
    Below(#[from] object_store::Error),
    /// An object does not hold what it should.
    #[error("the object `{object}` is damaged: {why}")]
    Damaged {
        /// Its path.
        object: String,
        /// What is wrong.
        why: String,
    },
    /// Larger or more than is ever read.
    #[error("`{object}` holds more than the {max} that are read")]
    TooMuch {
        /// The path.
        object: String,
        /// The bound.
        max: u64,
    },
}

/// The store. Cheap to clone; two services over one store are one registry.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    /// Where a store of files has them; nothing for any other.
    folder: Option<Arc<std::path::Path>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.objects)
    }
}

/// A path made of names that were checked: no separator, no dots, no escape is in them.
pub(crate) fn path(parts: &[&str]) -> Path {
    let text = parts.join("/");
    debug_assert!(Path::parse(&text).is_ok(), "{text}");
    Path::from(text)
}

impl Store {
    /// Over objects that somebody else opened.
    #[must_use]
    pub fn new(objects: Arc<dyn ObjectStore>) -> Self {
        Self { objects, folder: None }
    }

    fn repository(&self, repository: &Repository, kind: &str, name: &str) -> Path {
        path(&["repos", repository.as_str(), kind, name])
    }

    /// What is known of an object; nothing where there is none.
    pub(crate) async fn head(&self, path: &Path) -> Result<Option<ObjectMeta>, StoreError> {
        match self.objects.head(path).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// An object's bytes; nothing where there is none.
    pub(crate) async fn read(&self, path: &Path) -> Result<Option<Bytes>, StoreError> {
        match self.objects.get(path).await {
            Ok(found) if found.meta.size > MAX_RECORD_BYTES => {
                Err(StoreError::TooMuch { object: path.to_string(), max: MAX_RECORD_BYTES })
            }
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes an object, over one that is there.
    pub(crate) async fn write(&self, path: &Path, bytes: Bytes) -> Result<(), StoreError> {
        self.objects.put(path, bytes.into()).await?;
        Ok(())
    }

    /// Writes an object where there is none; false where there is one, which stays.
    pub(crate) async fn create(&self, path: &Path, bytes: Bytes) -> Result<bool, StoreError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.objects.put_opts(path, bytes.into(), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes an object; false where there was none.
    pub(crate) async fn remove(&self, path: &Path) -> Result<bool, StoreError> {
        // S3 says nothing of whether there was one.
        if self.head(path).await?.is_none() {
            return Ok(false);
        }
        match self.objects.delete(path).await {
            Ok(()) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Every object below a folder, at any depth, by name.
    pub(crate) async fn list(&self, below: &Path) -> Result<Vec<ObjectMeta>, StoreError> {
        let mut found = Vec::new();
        let mut listing = self.objects.list(Some(below));
        while let Some(meta) = listing.try_next().await? {
            if found.len() == MAX_LISTED {
                return Err(StoreError::TooMuch {
                    object: below.to_string(),
                    max: MAX_LISTED as u64,
                });
            }
            found.push(meta);
        }
        found.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(found)
    }

    /// Whether there is anything below a folder.
    async fn any(&self, below: &Path) -> Result<bool, StoreError> {
        Ok(self.objects.list(Some(below)).try_next().await?.is_some())
    }

    /// Whether the repository holds anything.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn has_repository(&self, repository: &Repository) -> Result<bool, StoreError> {
        for kind in ["_manifests", "_blobs"] {
            if self.any(&path(&["repos", repository.as_str(), kind])).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The digest that an object is named after.
fn digest_of_name(location: &Path) -> Option<Digest> {
    format!("sha256:{}", location.filename()?).parse().ok()
}
