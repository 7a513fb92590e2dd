//! The built binary in a folder of its own, and what it said.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod fleet;
pub(crate) mod module;
pub(crate) mod registry;
pub(crate) mod server;

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A user with nothing but a temporary folder.
pub(crate) struct User {
    dir: tempfile::TempDir,
}

/// What a command left behind.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) data: String,
    pub(crate) talk: String,
}

impl Said {
    /// Exit code and both streams, for a snapshot.
    pub(crate) fn whole(&self) -> String {
        format!("exit: {}\n--- stdout\n{}--- stderr\n{}", self.code, self.data, self.talk)
    }
}

impl User {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Runs a command in the user's folder, with variables and standard input.
    pub(crate) fn run_with(
        &self,
        arguments: &[&str],
        environment: &[(&str, &str)],
        input: &str,
    ) -> Said {
        let mut child = self
            .command(arguments, environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads nothing closes it first.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            data: self.shown(&output.stdout),
            talk: self.shown(&output.stderr),
        }
    }

    /// A command in the user's folder, with variables.
    pub(crate) fn command(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sentinel"));
        command.args(arguments).current_dir(self.dir.path()).env_clear();
        command.env("HOME", self.dir.path()).envs(environment.iter().copied());
        command
    }

    fn shown(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        text.replace(&*self.dir.path().to_string_lossy(), "~")
    }
}

/// Whoever gives commands, with whatever they need to know.
pub(crate) trait Commands {
    fn run(&self, arguments: &[&str]) -> Said;

    /// A command that must do what it is asked.
    fn done(&self, arguments: &[&str]) -> Said {
        let said = self.run(arguments);
        assert_eq!(said.code, 0, "{arguments:?}: {}", said.talk);
        said
    }

    /// The same, with its data as JSON.
    fn json(&self, arguments: &[&str]) -> Value {
        let all: Vec<_> = arguments.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.done(&all).data).unwrap()
    }

    /// A command that fails, and what it says.
    fn refused(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.code, 1, "{arguments:?}: {}", said.talk);
        said.talk
    }
}

impl Commands for User {
    fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(arguments, &[], "")
    }
}

/// The folder of the contract.
pub(crate) fn contract() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/sentinel-plugin-0.1.0")
}
