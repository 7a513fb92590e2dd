//! A process that ends with its owner.

use anyhow::{Context, Result};
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A process that ends with its owner.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts it, what it prints appended to a file.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        Self::fed(command, log, Stdio::null())
    }

    /// As [`Process::start`], with something to read.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn fed(command: &mut Command, log: &Path, input: impl Into<Stdio>) -> Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let child = command.stdin(input).stdout(log.try_clone()?).stderr(log).spawn();
        Ok(Self(child.with_context(|| format!("{:?} cannot be started", command.get_program()))?))
    }

    /// Its id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(Some(_)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
