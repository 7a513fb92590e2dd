//! Reading files. Capability `files`: an allow-list of absolute paths and globs.

use super::host_call;
#[cfg(target_arch = "wasm32")]
use crate::bindings::host::sentinel::plugin::files as import;

pub use crate::bindings::host::sentinel::plugin::files::{Entry, EntryKind, FileError};

/// Reads a whole file, at most `max_bytes` and the grant's cap (1 MiB by default).
///
/// # Errors
///
/// [`FileError`]: not in the allow-list, not there, larger than asked for, or unreadable.
pub fn read(path: &str, max_bytes: u32) -> Result<Vec<u8>, FileError> {
    host_call!(
        import::read(path, max_bytes),
        crate::testing::with_host(|host| host.read_file(path, max_bytes))
    )
}

/// Reads a whole file as text; bytes that are not UTF-8 become replacement characters.
///
/// # Errors
///
/// As [`read`].
pub fn read_text(path: &str, max_bytes: u32) -> Result<String, FileError> {
    read(path, max_bytes).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads part of a file from an offset: less than `max_bytes` only at its end.
///
/// # Errors
///
/// As [`read`], except that a large file is no error.
pub fn read_at(path: &str, offset: u64, max_bytes: u32) -> Result<Vec<u8>, FileError> {
    host_call!(
        import::read_at(path, offset, max_bytes),
        crate::testing::with_host(|host| host.read_file_at(path, offset, max_bytes))
    )
}

/// Lists a directory of which at least one entry may be allowed, at most 10,000 entries.
///
/// # Errors
///
/// [`FileError`]: not in the allow-list, not there, or unreadable.
pub fn list_directory(path: &str) -> Result<Vec<Entry>, FileError> {
    host_call!(
        import::list_directory(path),
        crate::testing::with_host(|host| host.list_directory(path))
    )
}
