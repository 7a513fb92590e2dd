//! `cargo xtask ci`: every check, each with its time, the runner's closing line last.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use crate::cargo;
use crate::checkout::{Checkout, HostProfile};
use crate::directions;
use crate::process;
use crate::readme;
use crate::steps::{Step, Steps, seconds};
use crate::testing::{self, Report, Selection};
use crate::toolchain::Source;

/// Steps besides those of `testing`.
const OWN_STEPS: usize = 6;

/// Crates that would bring a second TLS provider or a system OpenSSL.
const BANNED: &[&str] = &["ring", "openssl-sys", "native-tls"];

/// Properties are tried with the same values in each run, so that a change is judged by what it
/// changed; `cargo xtask test` and `cargo xtask soak` draw others each time.
const SAME_VALUES: (&str, &str) = ("PROPTEST_RNG_SEED", "1");

/// Runs every check; one that fails does not keep the others from running.
pub(crate) fn run(checkout: &Checkout, source: Source) -> Result<()> {
    let steps = Steps::new(OWN_STEPS + testing::PREPARE_STEPS + testing::RUN_STEPS);
    let mut failed: Vec<String> = Vec::new();
    let mut report = Report::default();
    let mut check = |outcome: Result<()>| {
        if let Err(error) = outcome {
            eprintln!("{error:#}");
            failed.push(error.to_string());
        }
    };
    check(steps.run("Formatting", |_| {
        let mut command = checkout.cargo();
        command.args(["fmt", "--all", "--check", "--", "--color", "never"]);
        process::quietly(&mut command, None)?;
        Ok(((), String::new()))
    }));
    check(steps.run("Dependency directions", |_| Ok(((), directions::check(checkout)?))));
    check(steps.run("One TLS provider", |_| Ok(((), no_banned_crates(checkout)?))));
    check(steps.run("Clippy", |step| clippy(checkout, step)));
    check(steps.run("Documentation", |step| document(checkout, step)));
    let prepared = testing::prepare(checkout, &steps, source);
    let ready = prepared.is_ok();
    check(prepared);
    if ready {
        check(steps.run("README commands", |step| {
            Ok(((), readme::check(checkout, step, HostProfile::Dev)?))
        }));
        let (name, value) = SAME_VALUES;
        let variables = BTreeMap::from([(name, value.to_owned())]);
        let selection = Selection { variables, ..Selection::default() };
        check(testing::run(checkout, &steps, &selection, &mut report));
    }
    conclude(&steps, &failed, &report.closing)
}

fn conclude(steps: &Steps, failed: &[String], closing: &[String]) -> Result<()> {
    eprintln!();
    for time in steps.times() {
        let verdict = if time.ok { "ok    " } else { "FAILED" };
        let (took, title) = (seconds(time.took), time.title);
        eprintln!("{verdict} {took:>12}  {title}: {}", time.detail);
    }
    eprintln!("total  {:>12}", seconds(steps.elapsed()));
    for line in closing {
        eprintln!("{line}");
    }
    if !failed.is_empty() {
        bail!("{} checks failed", failed.len());
    }
    Ok(())
}

fn clippy(checkout: &Checkout, step: &Step) -> Result<((), String)> {
    let mut command = checkout.cargo();
    command.args(["clippy", "--workspace", "--all-targets"]);
    let checked = cargo::build(step, &mut command, &["--", "-D", "warnings"])?;
    Ok(((), cargo::summary(&checked)))
}

fn document(checkout: &Checkout, step: &Step) -> Result<((), String)> {
    let mut command = checkout.cargo();
    command.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
    let documented = cargo::build(step, &mut command, &[])?;
    Ok(((), cargo::summary(&documented)))
}

/// `cargo tree -i NAME` finds no such package, or none that is built here.
fn no_banned_crates(checkout: &Checkout) -> Result<String> {
    for name in BANNED {
        let mut command = checkout.cargo();
        command.args(["tree", "--workspace", "--edges", "all", "--invert", name]);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let absent = said.contains("did not match any packages");
        if output.status.success() && !output.stdout.is_empty() {
            bail!(
                "`{name}` is in the tree; turn off the feature that brings it:\n{}",
                String::from_utf8_lossy(&output.stdout).trim_end()
            );
        }
        if !output.status.success() && !absent {
            bail!("`{}` failed:\n{}", process::show(&command), said.trim_end());
        }
    }
    Ok(format!("no {}", BANNED.join(", no ")))
}
