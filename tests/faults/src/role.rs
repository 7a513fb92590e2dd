//! One `sentinel` process that can be killed, stopped and started again.
//!
//! The thread that starts it must live as long as it shall.

use crate::given;
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A process and what is needed to start it again. Killed when it is dropped.
#[derive(Debug)]
pub struct Role {
    /// The program and its arguments; a wrapper's before them.
    words: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    log: PathBuf,
    child: Option<Child>,
    /// How often it ended without being asked to.
    ended: u32,
}

impl Role {
    /// What a command starts, what it prints appended to a file. It does not run yet.
    #[must_use]
    pub fn new(command: &Command, log: &Path) -> Self {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let environment = command.get_envs().filter_map(|(k, v)| Some((k.into(), v?.into())));
        Self {
            words: words.map(Into::into).collect(),
            environment: environment.collect(),
            log: log.to_owned(),
            child: None,
            ended: 0,
        }
    }

    /// Gives it a wall clock that is wrong by so many milliseconds from its next start on.
    pub fn set_clock(&mut self, wrong_by: i64) {
        let library = given("SENTINEL_WRONG_CLOCK", "debug/libsentinel_wrong_clock.so");
        let ours = ["LD_PRELOAD", "WRONG_CLOCK_MS"];
        self.environment.retain(|(name, _)| !ours.iter().any(|our| name == our));
        self.environment.push((ours[0].into(), library.into()));
        self.environment.push((ours[1].into(), wrong_by.to_string().into()));
    }

    /// Starts it.
    ///
    /// # Errors
    /// Where it runs already, or cannot be started.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "{:?} runs already", self.words);
        let log = File::options().create(true).append(true).open(&self.log)?;
        // It dies with whoever started it, also where that is killed before it can clean up.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(&self.words).env_clear();
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        self.child = Some(child.with_context(|| format!("{:?} cannot be started", self.words))?);
        Ok(())
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops it where it stands (SIGSTOP), until [`Role::resume`].
    ///
    /// # Errors
    /// Where it does not run.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("it does not run")?;
        Ok(kill_process(Pid::from_child(child), signal)?)
    }

    /// Starts it again where it has ended by itself, as a service manager would: a process gives
    /// up where what it needs is not there when it begins.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn keep_alive(&mut self) -> Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        if child.try_wait()?.is_some() {
            self.child = None;
            self.ended += 1;
            self.start()?;
        }
        Ok(())
    }

    /// How often it ended without being asked to.
    #[must_use]
    pub fn ended(&self) -> u32 {
        self.ended
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The file of what it prints.
    #[must_use]
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// What it printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        self.kill();
    }
}
