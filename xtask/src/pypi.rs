//! Programs of PyPI, each in a virtual environment of its own below `target/services`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::checkout::Checkout;
use crate::process;
use crate::steps::Step;

/// How long making an environment, and installing into it, may take.
const LIMIT: Duration = Duration::from_secs(600);

/// Installs packages (`name==version`, the one that is wanted first) into an environment, if it
/// does not have just these. Returns its folder.
pub(crate) fn ensure(
    checkout: &Checkout,
    step: &Step,
    name: &str,
    packages: &[&str],
) -> Result<PathBuf> {
    let folder = checkout.target(&format!("services/{name}"));
    let whole = folder.join("whole");
    let wanted = packages.join("\n");
    if fs::read_to_string(&whole).is_ok_and(|there| there == wanted)
        && process::is_program(&folder.join("bin/python"))
    {
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    step.note(&format!("installing {name}"));
    process::quietly(Command::new("python3").args(["-m", "venv"]).arg(&folder), Some(LIMIT))?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages);
    process::quietly(&mut pip, Some(LIMIT))?;
    fs::write(whole, wanted)?;
    Ok(folder)
}
