//! Files of keys, made and read.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sentinel_trust::repository::{KeyPurpose, OnlineKeys, RoleKey};

use crate::commands::reach::role_key;
use crate::failure::Failure;
use crate::files;

/// Makes a folder for keys that only its owner may look into.
pub(crate) fn folder(path: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        Failure::new(format!("the folder {} cannot be made: {error}", path.display()))
    })
}

/// Where a folder has the key for something.
pub(crate) fn path(folder: &Path, purpose: KeyPurpose) -> PathBuf {
    folder.join(format!("{purpose}.key"))
}

/// Makes a key and its file, which must not be there yet.
pub(crate) fn make(folder: &Path, purpose: KeyPurpose) -> Result<RoleKey, Failure> {
    let key = RoleKey::generate(purpose)?;
    files::create(&path(folder, purpose), key.to_file_text().as_bytes(), 0o600)?;
    Ok(key)
}

/// Makes the three keys of the service.
pub(crate) fn make_online(folder: &Path) -> Result<OnlineKeys, Failure> {
    self::folder(folder)?;
    Ok(OnlineKeys {
        index: make(folder, KeyPurpose::Index)?,
        snapshot: make(folder, KeyPurpose::Snapshot)?,
        timestamp: make(folder, KeyPurpose::Timestamp)?,
    })
}

/// Reads them.
pub(crate) fn read_online(folder: &Path) -> Result<OnlineKeys, Failure> {
    let read = |purpose| role_key(&path(folder, purpose), purpose);
    Ok(OnlineKeys {
        index: read(KeyPurpose::Index)?,
        snapshot: read(KeyPurpose::Snapshot)?,
        timestamp: read(KeyPurpose::Timestamp)?,
    })
}
