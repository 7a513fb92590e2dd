//! `files`: read on threads that may block, since a file system can hang.

use std::sync::Arc;
use std::time::Duration;

use super::small::not_granted;
use crate::bindings::sentinel::plugin::files as contract;
use crate::capabilities::files::{Entry, EntryKind, FileError, FileGate};
use crate::host::Host;

/// Longest time of one read or listing.
const LIMIT: Duration = Duration::from_secs(5);

impl Host {
    async fn file<T: Send + 'static>(
        &mut self,
        what: &'static str,
        work: impl FnOnce(&FileGate) -> Result<T, FileError> + Send + 'static,
    ) -> wasmtime::Result<Result<T, contract::FileError>> {
        let gate = Arc::clone(self.gates.files.as_ref().ok_or_else(|| not_granted("files"))?);
        let answer = self.blocking(what, LIMIT, move || work(&gate)).await?;
        let stuck = || Err(FileError::Failed("the file system does not answer".into()));
        Ok(answer.unwrap_or_else(stuck).map_err(Into::into))
    }
}

impl contract::Host for Host {
    async fn read(
        &mut self,
        path: String,
        max_bytes: u32,
    ) -> wasmtime::Result<Result<Vec<u8>, contract::FileError>> {
        self.file("waiting in files.read", move |gate| gate.read(&path, max_bytes)).await
    }

    async fn read_at(
        &mut self,
        path: String,
        offset: u64,
        max_bytes: u32,
    ) -> wasmtime::Result<Result<Vec<u8>, contract::FileError>> {
        let work = move |gate: &FileGate| gate.read_at(&path, offset, max_bytes);
        self.file("waiting in files.read-at", work).await
    }

    async fn list_directory(
        &mut self,
        path: String,
    ) -> wasmtime::Result<Result<Vec<contract::Entry>, contract::FileError>> {
        let work = move |gate: &FileGate| gate.list_directory(&path);
        let listed = self.file("waiting in files.list-directory", work).await?;
        Ok(listed.map(|entries| entries.into_iter().map(Into::into).collect()))
    }
}

impl From<Entry> for contract::Entry {
    fn from(entry: Entry) -> Self {
        let kind = match entry.kind {
            EntryKind::File => contract::EntryKind::File,
            EntryKind::Directory => contract::EntryKind::Directory,
            EntryKind::Link => contract::EntryKind::Link,
            EntryKind::Other => contract::EntryKind::Other,
        };
        Self { name: entry.name, kind }
    }
}

impl From<FileError> for contract::FileError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Denied => Self::Denied,
            FileError::NotFound => Self::NotFound,
            FileError::Failed(why) => Self::Failed(why),
            FileError::TooLarge(bytes) => Self::TooLarge(bytes),
        }
    }
}
