//! The folder under which a role keeps everything, held by one process at a time.

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A data folder, locked.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Makes the folder (0700) if need be, and takes it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| {
            format!("the data folder {shown} cannot be made; choose another with --data")
        })?;
        let path = path.canonicalize().with_context(|| format!("the data folder {shown}"))?;
        let file = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&file)
            .with_context(|| format!("{} cannot be written", file.display()))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            let _ = lock.read_to_string(&mut pid);
            bail!(
                "the data folder {shown} is in use by process {}; stop it, or choose another folder with --data",
                pid.trim()
            );
        }
        lock.set_len(0)?;
        write!(lock, "{}", std::process::id())?;
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
        match fs::read_to_string(&file) {
            Ok(text) => {
                if fs::metadata(&file)?.permissions().mode() & 0o077 != 0 {
                    bail!(
                        "{} can be read by others; remove it (a new one is made) or `chmod 600` it",
                        file.display()
                    );
                }
                if text.trim().len() < 16 {
                    bail!("{} is damaged; remove it, and a new one is made", file.display());
                }
                Ok(text.trim().to_owned())
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let text = fresh();
                let part = self.join(&format!("{name}.part"));
                let mut options = OpenOptions::new();
                let mut out =
                    options.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
                writeln!(out, "{text}")?;
                out.sync_all()?;
                fs::rename(&part, &file)?;
                Ok(text)
            }
            Err(e) => Err(e).with_context(|| format!("{} cannot be read", file.display())),
        }
    }
}

/// Where a user's data lies unless it is said otherwise.
pub(crate) fn default_folder() -> PathBuf {
    directories::ProjectDirs::from("", "", "sentinel")
        .map_or_else(|| PathBuf::from("sentinel-data"), |dirs| dirs.data_dir().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
