//! What guides show, to be run as it stands there: each command of their blocks of `sh`, and their
//! files.

use crate::sentinel::{Home, Said};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Output;

/// A text of the checkout.
#[derive(Debug)]
pub struct Guide {
    path: PathBuf,
    text: String,
}

impl Guide {
    /// Reads it by its path in the checkout.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn read(path: &str) -> Result<Self> {
        let path = checkout().join(path);
        let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        Ok(Self { path, text })
    }

    /// The same of the comment at the head of a file of Rust.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn of_source(path: &str) -> Result<Self> {
        let Self { path, text } = Self::read(path)?;
        let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
        let line = |line: &str| format!("{}\n", line.strip_prefix(' ').unwrap_or(line));
        Ok(Self { path, text: lines.map(line).collect() })
    }

    /// Every command of `sentinel` that it names: lines of their own, and words in the text.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        let text = self.text.replace("\\\n", " ");
        let lines = text.lines().map(|line| line.strip_prefix("    ").unwrap_or(line));
        let lines = lines.filter(|line| line.starts_with("sentinel "));
        let lines = lines.map(|line| line.split(" #").next().unwrap_or_default().to_owned());
        // A fence is three of them, and so keeps what is odd and what is even apart.
        let spans = text.split('`').skip(1).step_by(2);
        let spans =
            spans.filter(|span| span.starts_with("sentinel ")).map(|s| s.replace('\n', " "));
        lines.chain(spans).collect()
    }

    /// Its blocks of a language, in order.
    ///
    /// # Errors
    /// Where there are not so many.
    pub fn blocks<const N: usize>(&self, language: &str) -> Result<[&str; N]> {
        let fence = format!("```{language}\n");
        let parts = self.text.split(fence.as_str()).skip(1);
        let found: Vec<&str> =
            parts.filter_map(|part| part.split_once("```\n")).map(|(block, _)| block).collect();
        let number = found.len();
        found.try_into().ok().with_context(|| {
            let path = self.path.display();
            format!("{path} has {number} blocks of {language}; a test is to run each of them")
        })
    }
}

/// The root of the checkout.
#[must_use]
pub fn checkout() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Runs each command of a block, a line each, in a folder; `fit` says what stands there instead of
/// what is only an example.
///
/// # Errors
/// A command that fails.
pub fn run(
    home: &Home,
    folder: &Path,
    block: &str,
    fit: impl Fn(&str) -> Result<String>,
) -> Result<()> {
    for line in block.lines().filter(|line| !line.trim().is_empty()) {
        let fitting = fit(line)?;
        let said = shell(home, folder, &fitting)?;
        ensure!(said.code == 0, "`{line}`, as `{fitting}`, ended with {said:?}");
    }
    Ok(())
}

/// A line of a shell that has `sentinel` on its path, and a user.
///
/// # Errors
/// Where there is no shell.
pub fn shell(home: &Home, folder: &Path, line: &str) -> Result<Said> {
    let sentinel = home.command();
    let program = Path::new(sentinel.get_program());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = program.parent().map(Path::to_owned).into_iter();
    let path = std::env::join_paths(places.chain(std::env::split_paths(&path)))?;
    let mut command = std::process::Command::new("bash");
    command.args(["-euo", "pipefail", "-c", line]).current_dir(folder).env_clear();
    command.envs(sentinel.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", path).env("USER", "ann").stdin(std::process::Stdio::null());
    let Output { status, stdout, stderr } = command.output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Said { code: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) })
}
