//! Uploads under way: a session and blocks, each an object named by the offset of its start.
//!
//! A block is created, never replaced, and begins where the one before it ends, so of two
//! writers at one offset one is refused, on whichever instance they are.

use std::collections::HashMap;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::{MAX_LISTED, Store, StoreError, path};
use crate::address::UploadId;
use crate::names::Repository;

/// Most bytes of a block, and thereby of what an upload holds in memory (4 MiB).
pub(crate) const MAX_BLOCK_BYTES: usize = 4 << 20;

/// Most blocks of an upload, so that no number of small ones makes it long to list or to join.
pub(crate) const MAX_BLOCKS: usize = 1024;

const SESSION: &str = "session";

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that came.
    pub bytes: u64,
    /// In how many blocks.
    pub blocks: usize,
}

/// An upload under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Session {
    /// The repository it is for.
    repository: String,
    /// When it began, unix milliseconds.
    started: i64,
}

fn block_path(id: &UploadId, start: u64) -> Path {
    path(&["uploads", id.as_str(), &format!("{start:020}")])
}

fn folder(id: &UploadId) -> Path {
    path(&["uploads", id.as_str()])
}

impl Store {
    /// Begins an upload at `now` (unix milliseconds).
    ///
    /// # Errors
    /// If the store fails.
    pub async fn begin_upload(
        &self,
        id: &UploadId,
        repository: &Repository,
        now: i64,
    ) -> Result<(), StoreError> {
        let session = Session { repository: repository.as_str().to_owned(), started: now };
        let json = serde_json::to_vec(&session).map_err(|error| damaged(id, &error))?;
        self.write(&path(&["uploads", id.as_str(), SESSION]), json.into()).await
    }

    /// How far an upload is; nothing where there is no such upload of the repository.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn upload_offset(
        &self,
        id: &UploadId,
        repository: &Repository,
    ) -> Result<Option<Progress>, StoreError> {
        let Some(json) = self.read(&path(&["uploads", id.as_str(), SESSION])).await? else {
            return Ok(None);
        };
        let session: Session =
            serde_json::from_slice(&json).map_err(|error| damaged(id, &error))?;
        if session.repository != repository.as_str() {
            return Ok(None);
        }
        let blocks = self.blocks(id).await?;
        let bytes = blocks.iter().map(|(_, bytes)| bytes).sum();
        Ok(Some(Progress { bytes, blocks: blocks.len() }))
    }

    /// Offset and size of each block, in order and without a gap.
    async fn blocks(&self, id: &UploadId) -> Result<Vec<(u64, u64)>, StoreError> {
        let mut blocks = Vec::new();
        let mut at = 0;
        for meta in self.list(&folder(id)).await? {
            let name = meta.location.filename().unwrap_or_default();
            if name.parse::<u64>() == Ok(at) && meta.size > 0 {
                blocks.push((at, meta.size));
                at += meta.size;
            }
        }
        Ok(blocks)
    }

    /// Adds a block at an offset; false where another one is there already.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn add_block(
        &self,
        id: &UploadId,
        start: u64,
        bytes: Bytes,
    ) -> Result<bool, StoreError> {
        self.create(&block_path(id, start), bytes).await
    }

    /// Where the blocks of an upload begin, in order.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn block_starts(&self, id: &UploadId) -> Result<Vec<u64>, StoreError> {
        Ok(self.blocks(id).await?.into_iter().map(|(start, _)| start).collect())
    }

    /// The bytes of a block.
    ///
    /// # Errors
    /// If the store fails or has no such block.
    pub async fn read_block(&self, id: &UploadId, start: u64) -> Result<Bytes, StoreError> {
        let block = block_path(id, start);
        self.read(&block).await?.ok_or_else(|| StoreError::Damaged {
            object: block.to_string(),
            why: "it was there and is gone".to_owned(),
        })
    }

    /// Removes an upload and all that it has.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn end_upload(&self, id: &UploadId) -> Result<(), StoreError> {
        // The session goes first: without it nobody sees the blocks.
        self.remove(&path(&["uploads", id.as_str(), SESSION])).await?;
        for meta in self.list(&folder(id)).await? {
            self.remove(&meta.location).await?;
        }
        Ok(())
    }

    /// Removes uploads to which nothing was added since `before` (unix milliseconds). Returns
    /// how many.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn collect_uploads(&self, before: i64) -> Result<usize, StoreError> {
        let mut newest = HashMap::<String, i64>::new();
        let uploads = Path::from("uploads");
        let mut listing = self.objects.list(Some(&uploads));
        while let Some(meta) = listing.try_next().await? {
            let Some(id) = meta.location.parts().nth(1) else { continue };
            let changed = meta.last_modified.timestamp_millis();
            if let Some(upload) = newest.get_mut(id.as_ref()) {
                *upload = changed.max(*upload);
            } else if newest.len() < MAX_LISTED {
                // The others have their turn once these are gone.
                newest.insert(id.as_ref().to_owned(), changed);
            }
        }
        drop(listing);
        let mut removed = 0;
        for (id, _) in newest.into_iter().filter(|(_, newest)| *newest < before) {
            // What is not an upload's id was not put there by this service.
            let Some(id) = UploadId::parse(&id) else { continue };
            self.end_upload(&id).await?;
            removed += 1;
        }
        Ok(removed)
    }
}

fn damaged(id: &UploadId, error: &serde_json::Error) -> StoreError {
    StoreError::Damaged { object: format!("uploads/{}", id.as_str()), why: error.to_string() }
}
