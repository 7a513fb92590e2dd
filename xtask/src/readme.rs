//! The commands of README.md and of the registry's, run as a reader would: in order, with a
//! fresh home for each document.
//!
//! A fenced block whose info string is `sh test` is run from the root of the checkout with
//! `bash -euo pipefail` and must exit 0. `sh test until="TEXT"` is started in the background;
//! the next block runs once TEXT has been printed, and after the last block each background
//! block gets Ctrl-C and must exit 0. The built programs and the `oras` of tests are on PATH; HOME
//! is a new folder.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::checkout::{Checkout, HostProfile};
use crate::process::{self, Stream};
use crate::services;
use crate::steps::Step;

/// One block may take this long; what builds is built before.
const BLOCK_LIMIT: Duration = Duration::from_secs(300);

/// A background block has this long to end after Ctrl-C.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Lines a background block may be ahead of us.
const LINES_IN_FLIGHT: usize = 1024;

/// Whose blocks are run.
const DOCUMENTS: &[&str] = &["README.md", "registry/README.md"];

/// A block that is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    /// The line of README.md where its commands begin, from 1.
    line: usize,
    script: String,
    /// For a background block, the text that tells that it is up.
    until: Option<String>,
}

/// Runs the marked blocks of every document.
pub(crate) fn check(checkout: &Checkout, step: &Step, profile: HostProfile) -> Result<String> {
    let mut said = Vec::with_capacity(DOCUMENTS.len());
    for document in DOCUMENTS {
        let ran = check_one(checkout, step, profile, document);
        said.push(format!("{document}: {}", ran.with_context(|| format!("in {document}"))?));
    }
    Ok(said.join("; "))
}

fn check_one(
    checkout: &Checkout,
    step: &Step,
    profile: HostProfile,
    document: &str,
) -> Result<String> {
    let path = checkout.root().join(document);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let blocks = blocks(&text)?;
    ensure!(!blocks.is_empty(), "it marks no block as ```sh test: its commands would go unchecked");
    let places = [checkout.host_program(profile, ""), services::folder_of(checkout, "oras")?];
    let home = tempfile::Builder::new().prefix("sentinel-readme-").tempdir()?;
    let mut background = Vec::new();
    for (number, block) in blocks.iter().enumerate() {
        step.note(&format!("block {} of {}", number + 1, blocks.len()));
        let command = shell(checkout, &places, home.path(), &block.script);
        match &block.until {
            None => run(command, block)?,
            Some(until) => background.push(Background::start(command, block, until)?),
        }
    }
    let started = background.len();
    while let Some(block) = background.pop() {
        block.stop()?;
    }
    Ok(format!("{} blocks, {started} of them in the background", blocks.len()))
}

fn run(mut command: Command, block: &Block) -> Result<()> {
    let mut said = String::new();
    let status = process::watch(&mut command, Some(BLOCK_LIMIT), |_, line| {
        said.push_str(line);
        said.push('\n');
    });
    let status = status.with_context(|| format!("README.md:{}\n{said}", block.line))?;
    ensure!(status.success(), "{}", failure(block, status, &said));
    Ok(())
}

fn failure(block: &Block, status: ExitStatus, said: &str) -> String {
    format!(
        "README.md:{}: {status}\n{}\n--- it printed:\n{}",
        block.line,
        block.script.trim_end(),
        said.trim_end()
    )
}

/// A block that runs while the next ones do.
struct Background {
    block: Block,
    child: Child,
    lines: Receiver<(Stream, String)>,
    said: String,
}

impl Background {
    fn start(mut command: Command, block: &Block, until: &str) -> Result<Self> {
        let mut child = command
            // A group of its own: Ctrl-C has to reach what the script started.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start bash")?;
        let (to, lines) = sync_channel(LINES_IN_FLIGHT);
        let out = child.stdout.take().context("stdout is piped")?;
        let err = child.stderr.take().context("stderr is piped")?;
        let also = to.clone();
        thread::spawn(move || process::read_lines(Stream::Out, out, &also));
        thread::spawn(move || process::read_lines(Stream::Err, err, &to));
        let mut started = Background { block: block.clone(), child, lines, said: String::new() };
        started.wait_for(until)?;
        Ok(started)
    }

    fn wait_for(&mut self, until: &str) -> Result<()> {
        let deadline = Instant::now() + BLOCK_LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok((_, line)) => {
                    self.keep(&line);
                    if line.contains(until) {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => bail!(
                    "README.md:{}: `{until}` was not printed within {} s\n--- it printed:\n{}",
                    self.block.line,
                    BLOCK_LIMIT.as_secs(),
                    self.said.trim_end()
                ),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait()?;
                    bail!("{}", failure(&self.block, status, &self.said));
                }
            }
        }
    }

    /// Ctrl-C, then its exit status.
    fn stop(mut self) -> Result<()> {
        process::signal_group(&self.child, Signal::INT);
        let deadline = Instant::now() + STOP_LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok((_, line)) => self.keep(&line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => bail!(
                    "README.md:{}: still running {} s after Ctrl-C\n--- it printed:\n{}",
                    self.block.line,
                    STOP_LIMIT.as_secs(),
                    self.said.trim_end()
                ),
            }
        }
        let status = self.child.wait()?;
        ensure!(status.success(), "{}", failure(&self.block, status, &self.said));
        Ok(())
    }

    fn keep(&mut self, line: &str) {
        self.said.push_str(line);
        self.said.push('\n');
    }
}

impl Drop for Background {
    /// After `stop` there is nothing left to end; after an error there may be.
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            process::kill_group(&mut self.child);
        }
    }
}

fn shell(checkout: &Checkout, places: &[PathBuf], home: &Path, script: &str) -> Command {
    let real_home = env::home_dir().unwrap_or_default();
    let kept = |variable: &str, folder: &str| {
        env::var_os(variable).map_or_else(|| real_home.join(folder), PathBuf::from)
    };
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(places.iter().cloned().chain(env::split_paths(&path)));
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(checkout.root())
        .env("PATH", path.unwrap_or_default())
        // The compiler stays the reader's own; everything else starts from nothing.
        .env("CARGO_HOME", kept("CARGO_HOME", ".cargo"))
        .env("RUSTUP_HOME", kept("RUSTUP_HOME", ".rustup"))
        .env("HOME", home)
        .env("TMPDIR", home);
    for variable in env::vars_os().map(|(name, _)| name) {
        let name = variable.to_string_lossy();
        if name.starts_with("XDG_") || name.starts_with("SENTINEL_") {
            command.env_remove(&variable);
        }
    }
    command
}

/// The marked blocks of a Markdown text.
fn blocks(text: &str) -> Result<Vec<Block>> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```") else {
            continue;
        };
        let mut script = String::new();
        let mut closed = false;
        for (_, line) in lines.by_ref() {
            if line.trim_end() == "```" {
                closed = true;
                break;
            }
            script.push_str(line);
            script.push('\n');
        }
        ensure!(closed, "README.md:{}: this block is not closed", number + 1);
        if let Some(until) = marked(info.trim(), number + 1)? {
            found.push(Block { line: number + 2, script, until });
        }
    }
    Ok(found)
}

/// None for a block that is only to be read.
fn marked(info: &str, line: usize) -> Result<Option<Option<String>>> {
    let Some(rest) = info.strip_prefix("sh test") else {
        return Ok(None);
    };
    let rest = rest.trim();
    if rest.is_empty() {
        return Ok(Some(None));
    }
    let until = rest
        .strip_prefix("until=\"")
        .and_then(|rest| rest.strip_suffix('"'))
        .filter(|until| !until.is_empty());
    match until {
        Some(until) => Ok(Some(Some(until.to_owned()))),
        None => {
            bail!("README.md:{line}: `{info}` is neither `sh test` nor `sh test until=\"TEXT\"`")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell_block(script: &str, until: Option<&str>) -> (Command, Block) {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", script]);
        let block = Block { line: 7, script: script.to_owned(), until: until.map(str::to_owned) };
        (command, block)
    }

    #[test]
    fn only_marked_blocks_are_run_each_with_its_line() {
        let text = "# x\n```sh\nno\n```\n```sh test\na\nb\n```\n```sh test until=\"Try next\"\nc\n```\n```json\n{}\n```\n";
        let expected = [
            Block { line: 6, script: "a\nb\n".to_owned(), until: None },
            Block { line: 10, script: "c\n".to_owned(), until: Some("Try next".to_owned()) },
        ];
        assert_eq!(blocks(text).unwrap(), expected);
    }

    #[test]
    fn a_misspelt_mark_and_an_open_block_are_refused() {
        for text in
            ["```sh test untl=\"x\"\n```\n", "```sh test\na\n", "```sh test until=\"\"\n```\n"]
        {
            assert!(blocks(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_failing_block_is_shown_with_its_line_and_what_it_printed() {
        let (command, block) = shell_block("echo before; false; echo after", None);
        let error = run(command, &block).unwrap_err().to_string();
        assert!(error.starts_with("README.md:7:"), "{error}");
        assert!(error.contains("before") && !error.ends_with("after"), "{error}");
    }

    #[test]
    fn a_background_block_runs_until_ctrl_c_and_its_status_counts() {
        for (script, clean) in [
            ("trap 'echo bye; exit 0' INT; echo up; while :; do sleep 0.05; done", true),
            ("trap 'exit 4' INT; echo up; while :; do sleep 0.05; done", false),
        ] {
            let (command, block) = shell_block(script, Some("up"));
            let running = Background::start(command, &block, "up").unwrap();
            assert_eq!(running.stop().is_ok(), clean, "{script}");
        }
    }

    #[test]
    fn a_background_block_that_ends_before_it_is_up_is_a_failure() {
        let (command, block) = shell_block("echo no; exit 3", Some("up"));
        let Err(error) = Background::start(command, &block, "up") else {
            panic!("it never printed `up`");
        };
        assert!(error.to_string().contains("no"), "{error}");
    }
}
