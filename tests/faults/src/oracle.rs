//! The oracle's verdict, from the program of its own.

use crate::{SOON, given, until};
use anyhow::{Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

/// How long the oracle looks at a time.
const LOOKS: Duration = Duration::from_secs(3);

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

/// Unix milliseconds.
fn now() -> Result<u128> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis())
}

/// Waits until an alert fired and one was over later than now, and judges all that is stored of
/// alerts; `meanwhile` is done between looks.
///
/// # Errors
/// The oracle's report, where they differ from the reference or do not go on.
pub fn alerts_go_on(store: &str, meanwhile: impl FnMut() -> Result<()>) -> Result<String> {
    let after = now()?.to_string();
    of_alerts(store, &["--after", &after], meanwhile)
}

/// Waits until something was evaluated later than now, as `last` says when that was in unix
/// milliseconds, and judges all that is stored of alerts, whether or not anything new came of it.
///
/// # Errors
/// The oracle's report, where they differ from the reference; where nothing is evaluated.
pub fn alerts_agree(store: &str, mut last: impl FnMut() -> Result<u128>) -> Result<String> {
    let after = now()?;
    until("rules are evaluated", || Ok((last()? > after).then_some(())))?;
    of_alerts(store, &[], || Ok(()))
}

/// Asks the oracle of alerts until it can tell, and what it is to wait for is there.
fn of_alerts(
    store: &str,
    waits: &[&str],
    mut meanwhile: impl FnMut() -> Result<()>,
) -> Result<String> {
    let start = Instant::now();
    loop {
        meanwhile()?;
        let mut command = Command::new(given("SENTINEL_ORACLE", "debug/sentinel-oracle"));
        command.args(["--alerts", "--store", store]).args(waits);
        let output = command.args(["--within", &LOOKS.as_secs().to_string()]).output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = text(&output.stdout) + &text(&output.stderr);
        match output.status.code() {
            Some(0) => return Ok(said),
            Some(1) => bail!("{said}"),
            _ if start.elapsed() > SOON => {
                bail!("no alert fired and was over, or none can be read, in {SOON:?}: {said}")
            }
            // Not yet, or the database does not answer yet.
            _ => {}
        }
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
