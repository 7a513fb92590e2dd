//! Files of a plugin: where they lie, what they looked like, and reading that is bounded.

use crate::reference::PluginError;
use sentinel_trust::MAX_SIGNATURE_FILE_BYTES;
use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What a file looked like: differs when it was written or another took its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    bytes: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(meta: &Metadata) -> Self {
        Self {
            bytes: meta.len(),
            inode: meta.ino(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> PluginError + '_ {
    move |source| PluginError::Io { path: path.to_owned(), source }
}

/// Reads an ordinary file; a link to one is followed, a pipe or device is not waited for.
pub(crate) fn read_bounded(path: &Path, max: usize) -> Result<Vec<u8>, PluginError> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path);
    let file = file.map_err(io(path))?;
    if !file.metadata().map_err(io(path))?.is_file() {
        return Err(io(path)(io::Error::other("it is not an ordinary file")));
    }
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(io(path))?;
    if bytes.len() > max {
        return Err(PluginError::TooLarge { path: path.to_owned(), max });
    }
    Ok(bytes)
}

/// Where a component's signatures lie.
pub(crate) fn signature_path(component: &Path) -> PathBuf {
    let mut name = component.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

/// A component's signature file; empty where there is none.
pub(crate) fn read_signatures(component: &Path) -> Result<Vec<u8>, PluginError> {
    let path = signature_path(component);
    match read_bounded(&path, MAX_SIGNATURE_FILE_BYTES) {
        Err(PluginError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(Vec::new())
        }
        read => read,
    }
}
