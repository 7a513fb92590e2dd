//! Files for a guest: those of the allow-list, and through no link that leads out of it.
//!
//! A path must be absolute, without empty, `.` or `..` levels. It is opened with `openat2`,
//! `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS`: the kernel never follows a
//! link on our behalf. Where a path holds a link, the link is read, and what it leads to must
//! be in the allow-list itself, at every step; so granting `/var/run/x.pid` where `/var/run`
//! is a link to `/run` takes `/run/x.pid` too, and nothing outside of the list is as much as
//! looked at. Only regular files are opened (those of `/proc` and `/sys` are), found out
//! before anything is opened for reading: no FIFO is woken, no device is touched.
//!
//! Never readable, whatever the grant says: the folders that the gate was told are
//! Sentinel's own (by their inode, so that another mount of the same folder is found out, a
//! mount of something below it is not; hard links are left to the folder's mode), and what
//! `/proc` says of this process: `/proc/self`, `/proc/thread-self`, its pid and its threads.
//! `/proc/net` and `/proc/mounts` are links into `/proc/self`; they are of the machine and
//! stay readable by those names.
//!
//! Everything here blocks: a file on a network mount may block for as long as it pleases.
//! Call it on a blocking thread, with a timeout on the waiting side, and bound how many such
//! threads a slot may leave behind.

#[cfg(target_os = "linux")]
mod linux;
mod reach;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use sentinel_trust::FilesCapability;

use reach::Reach;

/// Most entries of a directory that are listed.
pub const MAX_ENTRIES: usize = 10_000;
/// Most entries of a directory that are looked at to find those that may be listed.
pub const MAX_SCANNED: usize = 200_000;
/// Longest path, in bytes.
pub const MAX_PATH_BYTES: usize = 4_095;

/// Why a file was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Not in the allow-list, by its path or by where a link in it leads.
    #[error("the path is not in the allow-list, or a link in it leads out of it")]
    Denied,
    /// There is none.
    #[error("no such file or directory")]
    NotFound,
    /// The system refused or failed.
    #[error("{0}")]
    Failed(String),
    /// Larger than asked for, or than the grant's cap for a read or for a call; the size
    /// where it is known, or what was seen of it.
    #[error("{0} bytes or more, which passes the cap")]
    TooLarge(u64),
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A FIFO, a socket or a device.
    Other,
}

/// One directory entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name within the directory.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
}

/// A slot's view of the file system. One gate serves one call at a time.
#[derive(Debug)]
pub struct FileGate {
    reach: Reach,
    read_bytes: u64,
    call_bytes: u64,
    left: AtomicU64,
}

impl FileGate {
    /// A gate for what a slot may read; `forbidden` are Sentinel's own files and folders.
    #[must_use]
    pub fn new(capability: &FilesCapability, forbidden: &[PathBuf]) -> Self {
        Self {
            reach: Reach::new(capability, forbidden),
            read_bytes: capability.read_bytes(),
            call_bytes: capability.call_bytes(),
            left: AtomicU64::new(capability.call_bytes()),
        }
    }

    /// A call begins: it may read the grant's bytes of a call again.
    pub fn start_call(&self) {
        self.left.store(self.call_bytes, Ordering::Relaxed);
    }

    /// Reads a whole file of at most `max_bytes`, the grant's cap and what the call has left.
    /// Blocks.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn read(&self, path: &str, max_bytes: u32) -> Result<Vec<u8>, FileError> {
        let cap = self.cap(max_bytes);
        let file = system::open_file(&self.reach, path)?;
        // What the system stores has a size that can be relied on; in /proc and /sys it says
        // nothing.
        if file.stored() && file.size() > cap {
            return Err(FileError::TooLarge(file.size()));
        }
        let bytes = file.read(cap.saturating_add(1))?;
        if bytes.len() as u64 > cap {
            return Err(FileError::TooLarge(file.size().max(bytes.len() as u64)));
        }
        self.spend(bytes)
    }

    /// Reads part of a file from an offset: less than `max_bytes` only at its end. Where the
    /// grant or the call allows less than that and the file goes on, it is too large. Blocks.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn read_at(&self, path: &str, offset: u64, max_bytes: u32) -> Result<Vec<u8>, FileError> {
        let cap = self.cap(max_bytes);
        let file = system::open_file(&self.reach, path)?;
        let whole = cap == u64::from(max_bytes);
        let bytes = file.read_at(offset, if whole { cap } else { cap + 1 })?;
        if bytes.len() as u64 > cap {
            return Err(FileError::TooLarge(file.size().max(bytes.len() as u64)));
        }
        self.spend(bytes)
    }

    /// Lists those entries of a directory that are allowed or may lead to something that is,
    /// sorted by name, at most [`MAX_ENTRIES`]. Names that are not UTF-8 are left out: they
    /// cannot be asked for. Blocks.
    ///
    /// # Errors
    /// [`FileError`]; denied where no entry could be allowed.
    pub fn list_directory(&self, path: &str) -> Result<Vec<Entry>, FileError> {
        let path = path.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(path);
        let mut entries = system::list(&self.reach, path)?;
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        entries.truncate(MAX_ENTRIES);
        Ok(entries)
    }

    fn cap(&self, max_bytes: u32) -> u64 {
        u64::from(max_bytes).min(self.read_bytes).min(self.left.load(Ordering::Relaxed))
    }

    /// Takes what was read off what the call has left.
    fn spend(&self, bytes: Vec<u8>) -> Result<Vec<u8>, FileError> {
        let length = bytes.len() as u64;
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(length))
            .map(|_| bytes)
            .map_err(|_| FileError::TooLarge(length))
    }
}

#[cfg(target_os = "linux")]
use linux as system;

/// Without `openat2` no file is opened.
#[cfg(not(target_os = "linux"))]
mod system {
    use super::reach::Reach;
    use super::{Entry, FileError};

    pub(super) enum OpenFile {}

    impl OpenFile {
        pub(super) fn stored(&self) -> bool {
            match *self {}
        }
        pub(super) fn size(&self) -> u64 {
            match *self {}
        }
        pub(super) fn read(&self, _: u64) -> Result<Vec<u8>, FileError> {
            match *self {}
        }
        pub(super) fn read_at(&self, _: u64, _: u64) -> Result<Vec<u8>, FileError> {
            match *self {}
        }
    }

    fn unsupported<T>(reach: &Reach, path: &str) -> Result<T, FileError> {
        reach.check(path, |path| reach.allows(path) || reach.may_contain(path))?;
        Err(FileError::Failed("files can be read on Linux only".into()))
    }

    pub(super) fn open_file(reach: &Reach, path: &str) -> Result<OpenFile, FileError> {
        unsupported(reach, path)
    }

    pub(super) fn list(reach: &Reach, path: &str) -> Result<Vec<Entry>, FileError> {
        unsupported(reach, path)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
