//! Where things are in this checkout, and the locks that keep two runs apart.

use std::env;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The checkout and the folders that `cargo xtask` fills.
///
/// Host builds follow `CARGO_TARGET_DIR`; everything else lies under `target/` of the checkout,
/// where tests look for it.
#[derive(Debug, Clone)]
pub(crate) struct Checkout {
    root: PathBuf,
    host_target: PathBuf,
}

/// How the host is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostProfile {
    /// Quick to build; the crates that decide speed are optimised all the same.
    Dev,
    /// What is shipped and measured.
    Release,
}

impl HostProfile {
    /// The folder cargo names after it.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            HostProfile::Dev => "debug",
            HostProfile::Release => "release",
        }
    }

    /// The arguments that select it.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            HostProfile::Dev => &[],
            HostProfile::Release => &["--release"],
        }
    }
}

impl Checkout {
    /// The checkout this program was started from.
    pub(crate) fn find() -> Result<Self> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map(PathBuf::from)
            .filter(|dir| dir.join("src/checkout.rs").is_file())
            .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        let root = manifest
            .parent()
            .context("xtask lies at the root of a file system; it belongs in a checkout")?
            .to_path_buf();
        let host_target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => env::current_dir()?.join(dir),
            None => root.join("target"),
        };
        Ok(Checkout { root, host_target })
    }

    /// A checkout with its root at `root`, for tests.
    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Checkout { root: root.to_path_buf(), host_target: root.join("target") }
    }

    /// The root of the checkout.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path below `target/` of the checkout.
    pub(crate) fn target(&self, below: &str) -> PathBuf {
        self.root.join("target").join(below)
    }

    /// A host program as cargo leaves it.
    pub(crate) fn host_program(&self, profile: HostProfile, name: &str) -> PathBuf {
        self.host_target.join(profile.folder()).join(name)
    }

    /// `cargo`, the one that started us, at the root of the checkout.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root);
        command
    }

    /// Takes the lock `target/<name>.lock`; `waiting` is called once when another run holds it.
    pub(crate) fn lock(&self, name: &str, waiting: impl FnOnce()) -> Result<Lock> {
        let path = self.target(&format!("{name}.lock"));
        fs::create_dir_all(self.root.join("target"))?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open the lock {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        Ok(Lock { _file: file })
    }
}

/// Held until dropped; the system drops it with the process.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Writes `bytes` to `path` so that a reader sees the old content or the new, never a part.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().context("a file has a folder")?;
    fs::create_dir_all(dir)?;
    let file = tempfile::NamedTempFile::new_in(dir)?;
    fs::write(file.path(), bytes)?;
    // A temporary file is 0600; what is written here is for everybody who reads the checkout.
    let mut permissions = file.as_file().metadata()?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    file.as_file().set_permissions(permissions)?;
    file.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}
