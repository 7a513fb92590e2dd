//! What a role takes from itself before it starts a thread: see [`sentinel_runtime::confine`]. Here it
//! is known what each role needs.
//!
//! | reached | who | why |
//! |---|---|---|
//! | to write: the data folder; of `up` its run file's | all | everything that is kept |
//! | to read: the folder of the configuration and of files that are read again when they change | all | editors and tools replace a file, and a new one is another to the kernel |
//! | to read: keys, tokens, certificates of the command line | who is given them | at the start |
//! | to read: the folders that grants of files name, and the ceiling's; those of the fleet's sets that lie here | agent, worker, server, up | plugins |
//! | to read: `/etc`, `/usr`, `/lib`, `/proc`, `/sys`, what resolves names | all | libraries, certificates, readings of the machine |
//! | to start: this program, with its libraries | all | the child that compiles |
//! | to listen on: the ports of the command line | all | |

mod paths;

use super::config::ConfigFile;
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use parking_lot::Mutex;
use sentinel_runtime::confine::{Confined, Confinement, Wall, confine, confined};
use std::path::{Path, PathBuf};

pub(crate) use paths::Reach;

/// How a role confines itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// As far as this system can; what is missing is said.
    BestEffort,
    /// It does not start where files or calls of the kernel could not be kept from it.
    Required,
    /// Not at all.
    Off,
}

/// The option of every role that runs plugins.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct SandboxArgs {
    /// Whether the process locks itself in before it starts, so that a plugin that breaks out of
    /// WebAssembly reaches its data folder and little else
    #[arg(
        long,
        value_enum,
        env = "SENTINEL_SANDBOX",
        hide_env_values = true,
        default_value_t = Mode::BestEffort,
        value_name = "MODE"
    )]
    sandbox: Mode,
}

/// What a role locked itself into.
#[derive(Debug)]
pub(crate) struct Sandbox {
    reaches: Option<Confinement>,
    /// Granted folders that it does not reach, by the configuration in force.
    beyond: Mutex<Vec<PathBuf>>,
}

impl SandboxArgs {
    /// Locks this process in. There must be no other thread yet.
    ///
    /// # Errors
    /// Where a sandbox is required and this system has none; where the role's own folder cannot be
    /// made.
    pub(crate) fn enter(self, reach: impl FnOnce() -> Result<Reach>) -> Result<Sandbox> {
        let beyond = Mutex::default();
        if self.sandbox == Mode::Off {
            tracing::info!("sandbox: off, as asked for");
            return Ok(Sandbox { reaches: None, beyond });
        }
        let reach = reach()?;
        for path in reach.missing() {
            tracing::warn!(path = %path.display(), "a grant names files below a folder that is not there: they are reached after a restart, once it is");
        }
        let reaches = reach.into_confinement();
        let held = confine(&reaches);
        check(self.sandbox, held)?;
        if held.missing.is_empty() {
            tracing::info!("sandbox: {held}");
        } else {
            tracing::warn!("sandbox: {held}");
        }
        let holds_files = matches!(held.landlock, Wall::Full | Wall::Partial);
        Ok(Sandbox { reaches: holds_files.then_some(reaches), beyond })
    }
}

/// Whether a role may start with what holds.
fn check(mode: Mode, held: &Confined) -> Result<()> {
    if mode == Mode::Required && !held.stands() {
        bail!(
            "this system cannot hold the sandbox that --sandbox required asks for: {held}; take a kernel with landlock and seccomp (Linux 5.13 or newer), or start with --sandbox best-effort"
        );
    }
    Ok(())
}

impl Sandbox {
    /// Looks at a configuration that counts from now on: what it grants and the sandbox does not
    /// reach is said, in the log and in [`warnings`](Self::warnings). A sandbox cannot be widened.
    pub(crate) fn follow(&self, config: &ConfigFile) {
        let Some(reaches) = &self.reaches else { return };
        let beyond = paths::beyond(reaches, config);
        let mut known = self.beyond.lock();
        for path in beyond.iter().filter(|path| !known.contains(path)) {
            tracing::warn!("{}", not_reached(path));
        }
        *known = beyond;
    }

    /// What somebody should look at.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let missing = confined().missing.iter().map(|why| format!("sandbox: {why}"));
        missing.chain(self.beyond.lock().iter().map(|path| not_reached(path))).collect()
    }
}

fn not_reached(path: &Path) -> String {
    format!(
        "a grant names files below {}, which the sandbox does not reach: it was closed when this process started; restart it",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_that_is_required_and_not_there_keeps_a_role_from_starting() {
        let held = |landlock, seccomp| Confined { landlock, seccomp, missing: Vec::new() };
        for (mode, held, starts) in [
            (Mode::Required, held(Wall::Full, Wall::Full), true),
            (Mode::Required, held(Wall::Partial, Wall::Full), true),
            (Mode::Required, held(Wall::None, Wall::Full), false),
            (Mode::Required, held(Wall::Full, Wall::None), false),
            (Mode::BestEffort, held(Wall::None, Wall::None), true),
        ] {
            assert_eq!(check(mode, &held).is_ok(), starts, "{mode:?} {held}");
        }
        let said = check(Mode::Required, &held(Wall::None, Wall::Full)).unwrap_err().to_string();
        assert!(said.contains("landlock none") && said.contains("best-effort"), "{said}");
    }

    #[test]
    fn without_a_sandbox_nothing_is_beyond_it() {
        let sandbox = Sandbox { reaches: None, beyond: Mutex::default() };
        sandbox.follow(&serde_json::from_str(r#"{"version": 1}"#).unwrap());
        assert_eq!(sandbox.warnings(), Vec::<String>::new());
    }
}
