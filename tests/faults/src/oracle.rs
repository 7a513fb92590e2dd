//! The oracle's verdict, from the program of its own.

use crate::given;
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A question to the oracle: what was synced when it was made.
#[derive(Debug)]
pub struct Asked {
    store: String,
    logs: Vec<String>,
}

impl Asked {
    /// Of a database, by copies of agents' logs as they are at this moment.
    ///
    /// # Errors
    /// A log that cannot be read.
    pub fn of(store: &str, logs: &[(String, PathBuf)], folder: &Path) -> Result<Self> {
        let mut words = Vec::new();
        for (agent, log) in logs {
            let copy = folder.join(format!("{agent}.judged"));
            std::fs::copy(log, &copy)?;
            words.push(format!("{agent}={}", copy.display()));
        }
        Ok(Self { store: store.to_owned(), logs: words })
    }

    /// Its report; what is missing may come within a while.
    ///
    /// # Errors
    /// Its report, where something is lost or doubled, or cannot be told.
    pub fn judge(&self, within: Duration) -> Result<String> {
        let mut command = Command::new(given("SENTINEL_ORACLE", "debug/sentinel-oracle"));
        command.args(["--store", &self.store, "--within", &within.as_secs().to_string()]);
        for log in &self.logs {
            command.args(["--log", log]);
        }
        let output = command.output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        Ok(text(&output.stdout))
    }
}

/// The last number that an agent's log says is kept; 0 where it says none.
#[must_use]
pub fn kept(log: &str) -> u64 {
    let last = log.lines().rev().filter(|line| line.contains("counted: slot "));
    let number = |line: &str| {
        line.split_once(" has kept ")?.1.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    last.filter_map(number).next().unwrap_or(0)
}
