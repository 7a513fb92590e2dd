//! Cargo with its talk kept back: progress as one line, everything else only when it fails.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};
use serde::Deserialize;

use crate::process::{self, Stream};
use crate::steps::Step;

/// One thing cargo has built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Artifact {
    /// The package's `Cargo.toml`.
    pub(crate) manifest: PathBuf,
    /// What was written for it.
    pub(crate) files: Vec<PathBuf>,
    /// False when cargo had to compile it in this run.
    pub(crate) fresh: bool,
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    #[serde(default)]
    fresh: bool,
}

/// Runs a building command of cargo. `command` is complete but for the message format, which
/// belongs before any `--`: the caller adds trailing arguments through `trailing`.
pub(crate) fn build(
    step: &Step,
    command: &mut Command,
    trailing: &[&str],
) -> Result<Vec<Artifact>> {
    command
        .arg("--message-format=json-render-diagnostics")
        .args(trailing)
        // Cargo counts its units only where it draws its bar.
        .env("CARGO_TERM_PROGRESS_WHEN", "always")
        .env("CARGO_TERM_PROGRESS_WIDTH", "100")
        .env("CARGO_TERM_COLOR", "never");
    let mut artifacts = Vec::new();
    let mut kept = String::new();
    let status = process::watch(command, None, |stream, line| match stream {
        Stream::Out => artifacts.extend(artifact(line)),
        Stream::Err => match heard(line) {
            Heard::Progress(note) => step.note(&note),
            Heard::Routine => {}
            Heard::Kept => {
                kept.push_str(line);
                kept.push('\n');
            }
        },
    })?;
    if !status.success() {
        let shown = process::show(command);
        bail!("{}\n`{shown}` failed ({status})", kept.trim_end());
    }
    Ok(artifacts)
}

/// How many of `artifacts` were compiled, for the line that ends a step.
pub(crate) fn summary(artifacts: &[Artifact]) -> String {
    match artifacts.iter().filter(|artifact| !artifact.fresh).count() {
        0 => "nothing had changed".to_owned(),
        1 => "1 crate target compiled".to_owned(),
        compiled => format!("{compiled} crate targets compiled"),
    }
}

fn artifact(line: &str) -> Option<Artifact> {
    // Build scripts may print on the same stream; what is not a message is not ours.
    let message: Message = serde_json::from_str(line).ok()?;
    (message.reason == "compiler-artifact").then_some(Artifact {
        manifest: message.manifest_path,
        files: message.filenames,
        fresh: message.fresh,
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// How far cargo is.
    Progress(String),
    /// Said on every run; of no use to a reader.
    Routine,
    /// Worth showing when the command fails.
    Kept,
}

fn heard(line: &str) -> Heard {
    let words = line.trim_start();
    if let Some(rest) = words.strip_prefix("Building [") {
        let note = rest.split_once(']').map_or(rest, |(_, note)| note);
        return Heard::Progress(note.trim().to_owned());
    }
    let first = words.split(' ').next().unwrap_or_default();
    match first {
        "Blocking" => Heard::Progress("waiting for another cargo to finish".to_owned()),
        "Updating" | "Downloading" | "Downloaded" | "Locking" => {
            Heard::Progress(words.trim_end().to_owned())
        }
        "Compiling" | "Checking" | "Fresh" | "Finished" | "Documenting" | "Dirty" | "Adding"
        | "Executable" | "Generated" | "Running" | "Doc-tests" => Heard::Routine,
        "" => Heard::Routine,
        _ => Heard::Kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_becomes_a_count_and_diagnostics_are_kept() {
        for (line, expected) in [
            (
                "    Building [=====>      ] 12/457: tokio, serde",
                Heard::Progress("12/457: tokio, serde".to_owned()),
            ),
            (
                "    Blocking waiting for file lock on build directory",
                Heard::Progress("waiting for another cargo to finish".to_owned()),
            ),
            ("   Compiling tokio v1.54.0", Heard::Routine),
            ("", Heard::Routine),
            ("error[E0308]: mismatched types", Heard::Kept),
            ("  --> host/cli/src/main.rs:1:1", Heard::Kept),
        ] {
            assert_eq!(heard(line), expected, "{line}");
        }
    }

    #[test]
    fn only_artifact_messages_count_and_noise_is_passed_over() {
        let line = r#"{"reason":"compiler-artifact","package_id":"x","manifest_path":"/w/a/Cargo.toml","filenames":["/t/a.wasm"],"fresh":true}"#;
        assert_eq!(
            artifact(line),
            Some(Artifact {
                manifest: "/w/a/Cargo.toml".into(),
                files: vec!["/t/a.wasm".into()],
                fresh: true,
            })
        );
        assert_eq!(artifact(r#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(artifact("a build script talks"), None);
    }
}
