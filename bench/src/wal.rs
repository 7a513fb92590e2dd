//! The log's group commit against a bare loop of write and fdatasync of the same bytes into a file reserved with
//! fallocate. The log is in use: what is synced is committed as it goes, so that its segments lie in files of committed
//! ones. The detail also has a log opened anew, and the bare loop in a file written with zeros.

use crate::row::{Better, Row};
use anyhow::{Context, Result, ensure};
use std::process::{Command, Output};

fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("{:?}", command.get_program()))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(output)
}

pub(crate) fn measure() -> Result<Vec<Row>> {
    // Together with what `cargo xtask bench` builds, so that no dependency is built twice.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let packages = ["sentinel-cli", "sentinel-bench", "sentinel-wal"];
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--quiet", "--example", "group_commit"]);
    run(build.args(packages.iter().flat_map(|package| ["--package", package])))?;
    let program = std::env::current_exe()?;
    let folder = program.parent().context("the folder of this program")?;
    let mut example = Command::new(folder.join("examples/group_commit"));
    let output = run(example.args(["--rounds", "32", "--records", "12800"]))?;
    let detail: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let ratio = detail["ratio"].as_f64().context("group_commit prints a `ratio`")?;
    Ok(vec![Row::new("wal-vs-fdatasync", ratio, (Better::Higher, 0.9), "×", detail)])
}
