//! A file system of a few MiB, so that a test can fill a disk.

use crate::{Process, wait};
use anyhow::{Result, ensure};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Mounts it and stays: what reads ends with whoever would write to it, however that ends. The file that fills it is made
/// here, since only users of the namespace can own one.
const HOLD: &str =
    "mount -t tmpfs -o \"size=${2}m,mode=700\" sentinel \"$1\" && : >\"$1/fill\" && exec cat";
/// That file.
const FILL: &str = "fill";

/// A file system in memory at a folder, seen by those alone who are put [`inside`](SmallDisk::inside), and by others
/// at [`SmallDisk::path`]. It lives in a user namespace, so that nobody has to be root for it, and goes when it is dropped
/// and nobody inside lives any more.
#[derive(Debug)]
pub struct SmallDisk {
    holder: Process,
    folder: PathBuf,
}

impl SmallDisk {
    /// An empty one of so many MiB at a folder that exists. What it says goes to `log`.
    ///
    /// # Errors
    /// Where there are no user namespaces.
    pub fn new(folder: &Path, mebibytes: u32, log: &Path) -> Result<Self> {
        Self::held_by(|command| command, folder, mebibytes, log)
    }

    /// The same, of whomever a command is made to be.
    pub(crate) fn held_by(
        owner: impl FnOnce(Command) -> Command,
        folder: &Path,
        mebibytes: u32,
        log: &Path,
    ) -> Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", HOLD, "sh"]);
        command.arg(folder).arg(mebibytes.to_string());
        let holder = Process::fed(&mut owner(command), log, Stdio::piped())?;
        let mut disk = Self { holder, folder: folder.to_owned() };
        let mut ended = false;
        wait("a small disk", || {
            ended = disk.holder.has_ended();
            ended || disk.path().join(FILL).exists()
        })?;
        ensure!(!ended, "no small disk: {}", fs::read_to_string(log).unwrap_or_default());
        Ok(disk)
    }

    /// Where those outside see it, if they are its owner or root.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let folder = self.folder.strip_prefix("/").unwrap_or(&self.folder);
        PathBuf::from(format!("/proc/{}/root", self.holder.pid())).join(folder)
    }

    /// A command that sees it at its folder.
    #[must_use]
    pub fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.args(["--target", &self.holder.pid().to_string(), "--user", "--mount"]);
        inside.args(["--preserve-credentials", "--"]);
        inside.arg(command.get_program()).args(command.get_args());
        inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        inside
    }

    /// Takes all that is left of it, and whatever became free since it did.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::options().append(true).open(self.path().join(FILL))?;
        for block in [vec![0; 64 << 10], vec![0; 512]] {
            while file.write_all(&block).is_ok() {}
        }
        Ok(())
    }

    /// Gives back what [`SmallDisk::fill`] took.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn empty(&self) -> Result<()> {
        Ok(File::options().write(true).open(self.path().join(FILL))?.set_len(0)?)
    }
}
