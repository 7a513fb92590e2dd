//! `cargo xtask up`: from a fresh checkout to a running system, saying what is done.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo;
use crate::checkout::{Checkout, HostProfile};
use crate::components;
use crate::packing;
use crate::steps::Steps;
use crate::toolchain::{self, Source};

/// Builds what is missing, then becomes `sentinel up`. Returns only on an error.
pub(crate) fn up(
    checkout: &Checkout,
    profile: HostProfile,
    source: Source,
    arguments: &[OsString],
) -> Result<()> {
    let steps = Steps::new(4);
    let toolchain = toolchain::ready(checkout, &steps, source)?;
    build_host_and_plugins(checkout, &steps, profile, &toolchain, "component")?;
    let sentinel = checkout.host_program(profile, "sentinel");
    let mut command = Command::new(&sentinel);
    command
        .arg("up")
        .arg("--plugins")
        .arg(checkout.target("plugins"))
        .arg("--publisher-key")
        .arg(checkout.target("dev-keys/sentinel.key"))
        .args(arguments);
    // The system is the same process from here on: it gets the terminal and its signals.
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start {}", sentinel.display()))
}

/// `cargo xtask components`.
pub(crate) fn build_components(
    checkout: &Checkout,
    profile: HostProfile,
    guest_profile: &str,
    source: Source,
) -> Result<()> {
    let steps = Steps::new(4);
    let toolchain = toolchain::ready(checkout, &steps, source)?;
    build_host_and_plugins(checkout, &steps, profile, &toolchain, guest_profile)
}

fn build_host_and_plugins(
    checkout: &Checkout,
    steps: &Steps,
    profile: HostProfile,
    toolchain: &toolchain::Toolchain,
    guest_profile: &str,
) -> Result<()> {
    steps.run("Build sentinel", |step| {
        let mut command = checkout.cargo();
        command.args(["build", "--package", "sentinel-cli"]).args(profile.arguments());
        let built = cargo::build(step, &mut command, &[])?;
        Ok(((), cargo::summary(&built)))
    })?;
    let guests = components::discover(checkout)?;
    if guests.is_empty() {
        bail!("no crate below components/ has a plugin.yaml: there is nothing to run");
    }
    let cores = steps.run("Build the plugins", |step| {
        components::compile(checkout, step, toolchain, guest_profile, &guests)
    })?;
    steps.run("Pack and sign the plugins", |step| {
        let sentinel = checkout.host_program(profile, "sentinel");
        let said = packing::pack(checkout, step, &sentinel, &guests, &cores)?;
        Ok(((), said))
    })
}
