//! The folder under which a role keeps everything, held by one process at a time.

use anyhow::{Context, Result, bail};
use sentinel_files::{Lock, private_or_made, sweep};
use std::fs;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Bounds of a secret text in a file, in bytes.
const MIN_SECRET_TEXT: usize = 16;
const MAX_SECRET_TEXT: usize = 4096;

/// A data folder, locked.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: Lock,
}

impl DataFolder {
    /// Makes the folder (0700) if need be, and takes it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let path = make_folder(path)?;
        let file = path.join("lock");
        let lock = Lock::attempt(&file)
            .with_context(|| format!("{} cannot be written", file.display()))?;
        let Some(lock) = lock else {
            let pid = fs::read_to_string(&file).unwrap_or_default();
            bail!(
                "the data folder {shown} is in use by process {}; stop it, or choose another folder with --data",
                pid.trim()
            );
        };
        lock.file().set_len(0)?;
        write!(lock.file(), "{}", std::process::id())?;
        sweep(&path).with_context(|| format!("the data folder {shown}"))?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A secret text in a file of its own (0600): read, or made by `fresh` the first time.
    pub(crate) fn secret_text(&self, name: &str, fresh: impl FnOnce() -> String) -> Result<String> {
        let file = self.join(name);
        let bytes = private_or_made(&file, MAX_SECRET_TEXT, || {
            Zeroizing::new(format!("{}\n", fresh()).into_bytes())
        })?;
        let text = std::str::from_utf8(&bytes).map_or("", str::trim);
        if text.len() < MIN_SECRET_TEXT {
            bail!("{} is damaged; remove it, and a new one is made", file.display());
        }
        Ok(text.to_owned())
    }
}

/// Makes a data folder (0700) if need be; its path without links.
pub(super) fn make_folder(path: &Path) -> Result<PathBuf> {
    let shown = path.display();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| {
        format!("the data folder {shown} cannot be made; choose another with --data")
    })?;
    path.canonicalize().with_context(|| format!("the data folder {shown}"))
}

/// Where a user's data lies unless it is said otherwise.
pub(crate) fn default_folder() -> PathBuf {
    directories::ProjectDirs::from("", "", "sentinel")
        .map_or_else(|| PathBuf::from("sentinel-data"), |dirs| dirs.data_dir().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_is_held_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let first = DataFolder::open(&path).unwrap();
        let error = DataFolder::open(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        assert!(DataFolder::open(&path).is_ok());
    }

    #[test]
    fn a_secret_is_made_once_and_must_stay_private() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataFolder::open(dir.path()).unwrap();
        let made = data.secret_text("t", || "a".repeat(20)).unwrap();
        assert_eq!(data.secret_text("t", || "b".repeat(20)).unwrap(), made);
        fs::set_permissions(data.join("t"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(data.secret_text("t", String::new).is_err());
    }
}
