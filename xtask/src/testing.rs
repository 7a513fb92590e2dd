//! `cargo xtask test`: everything is built once, then run by nextest where it is, else by cargo.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Command;

use anyhow::{Result, bail};

use crate::cargo;
use crate::checkout::{Checkout, HostProfile};
use crate::components;
use crate::packing;
use crate::process::{self, Stream};
use crate::services::{self, timescale};
use crate::steps::{Step, Steps};
use crate::toolchain::{self, Source};

/// The tests that need TimescaleDB's Community edition, which no registry of packages has.
const COMMUNITY_TESTS: &str = "package(sentinel-store) & test(/^soak_.*community/)";

/// How nextest is told how many tests run at a time.
const LANES: &str = "NEXTEST_TEST_THREADS";

/// How many steps `prepare` takes.
pub(crate) const PREPARE_STEPS: usize = 5;

/// How many steps `run` takes.
pub(crate) const RUN_STEPS: usize = 2;

/// What the runner said at its end.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Its closing lines, word for word.
    pub(crate) closing: Vec<String>,
    /// Every test it names, with whether it passed and its seconds.
    pub(crate) tests: Vec<TestTime>,
}

/// One test of a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TestTime {
    /// `crate::binary test::path`.
    pub(crate) name: String,
    /// Whether it passed.
    pub(crate) passed: bool,
    /// Wall clock.
    pub(crate) seconds: f64,
}

/// Fetches and builds all that tests use.
pub(crate) fn prepare(checkout: &Checkout, steps: &Steps, source: Source) -> Result<()> {
    let toolchain = toolchain::ready(checkout, steps, source)?;
    steps.run("Services for tests", |step| services::ensure_for_tests(checkout, step))?;
    steps
        .run("Build the host and its tests", |step| Ok(((), build_everything(checkout, step)?)))?;
    let guests = components::discover(checkout)?;
    let cores = steps.run("Build the plugins", |step| {
        components::compile(checkout, step, &toolchain, "component", &guests)
    })?;
    steps.run("Pack and sign the plugins", |step| {
        let sentinel = checkout.host_program(HostProfile::Dev, "sentinel");
        let said = packing::pack(checkout, step, &sentinel, &guests, &cores)?;
        Ok(((), said))
    })
}

/// One selection of packages and targets, so that one set of features is built and no other.
fn build_everything(checkout: &Checkout, step: &Step) -> Result<String> {
    let mut command = checkout.cargo();
    command.args(["build", "--workspace", "--all-targets"]);
    Ok(cargo::summary(&cargo::build(step, &mut command, &[])?))
}

/// Which tests are run and how.
#[derive(Debug, Default)]
pub(crate) struct Selection<'a> {
    /// Parts of test names; none means all, and documentation tests with them.
    pub(crate) filters: &'a [String],
    /// Set for the tests.
    pub(crate) variables: BTreeMap<&'static str, String>,
    /// A test may take hours.
    pub(crate) long: bool,
}

/// Runs the selected tests. `report` is filled whether they pass or not.
pub(crate) fn run(
    checkout: &Checkout,
    steps: &Steps,
    selection: &Selection<'_>,
    report: &mut Report,
) -> Result<()> {
    let documented = steps.run("Documentation tests", |step| {
        if !selection.filters.is_empty() {
            return Ok(((), "left out: a filter is given".to_owned()));
        }
        let mut command = checkout.cargo();
        command.args(["test", "--workspace", "--doc", "--quiet"]);
        let mut report = Report::default();
        environment(checkout, &mut command, selection);
        stream(step, &mut command, false, &mut report)?;
        Ok(((), format!("{} crates", report.closing.len())))
    });
    steps.run("Tests", |step| {
        let mut command = checkout.cargo();
        if has_nextest(checkout) {
            command.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
            if selection.long {
                command.args(["--profile", "soak"]);
                if std::env::var_os(timescale::VARIABLE).is_none() {
                    step.say(&format!(
                        "left out: TimescaleDB's Community edition, since {} is not set",
                        timescale::VARIABLE
                    ));
                    command.args(["-E", &format!("not ({COMMUNITY_TESTS})")]);
                }
            } else {
                command.args(["-E", "not test(/(^|::)soak_/)"]);
                if std::env::var_os(LANES).is_none() {
                    command.env(LANES, lanes().to_string());
                }
            }
            command.args(selection.filters);
        } else {
            command.args(["test", "--workspace", "--no-fail-fast"]);
            command.args(["--lib", "--bins", "--tests", "--"]);
            if !selection.long {
                command.args(["--skip", "soak_"]);
            }
            command.args(selection.filters);
        }
        step.make_room();
        environment(checkout, &mut command, selection);
        stream(step, &mut command, true, report)?;
        let said = report.closing.last().map_or("", |line| line.trim());
        Ok(((), said.to_owned()))
    })?;
    documented
}

fn has_nextest(checkout: &Checkout) -> bool {
    process::read(checkout.cargo().args(["nextest", "--version"])).is_ok()
}

/// Half as many again as there are cores: the longest tests wait for processes more than they compute.
fn lanes() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    cores + cores.div_ceil(2)
}

/// Where tests find what `prepare` made.
fn environment(checkout: &Checkout, command: &mut Command, selection: &Selection<'_>) {
    command
        // A test that fails says why in words; a trace of the runner's frames would bury them.
        .env("RUST_LIB_BACKTRACE", "0")
        .env("SENTINEL_BIN", checkout.host_program(HostProfile::Dev, "sentinel"))
        .env("SENTINEL_ORACLE", checkout.host_program(HostProfile::Dev, "sentinel-oracle"))
        .env(
            "SENTINEL_WRONG_CLOCK",
            checkout.host_program(HostProfile::Dev, "libsentinel_wrong_clock.so"),
        )
        .env("SENTINEL_PLUGINS", checkout.target("plugins"))
        .env("SENTINEL_PUBLISHER_KEY", checkout.target("dev-keys/sentinel.key"))
        .env("SENTINEL_SERVICES", services::list_path(checkout))
        .env(timescale::VARIABLE, timescale::list_path(checkout))
        .env("SENTINEL_RECEIVERS", services::receivers_path(checkout))
        .env("SENTINEL_CHECKS", services::checks_path(checkout))
        .envs(&selection.variables);
}

/// Passes a runner's output on as it comes (or keeps it for a failure) and picks out its lines.
fn stream(step: &Step, command: &mut Command, loud: bool, report: &mut Report) -> Result<()> {
    let mut kept = String::new();
    let status = process::watch(command, None, |stream, line| {
        if loud {
            echo(stream, line);
        } else {
            kept.push_str(line);
            kept.push('\n');
            step.note(line.trim());
        }
        if is_closing(line) {
            report.closing.push(line.to_owned());
        }
        report.tests.extend(test_line(line));
    })?;
    if !status.success() {
        let kept = kept.trim_end();
        bail!("{kept}\n`{}` failed ({status})", process::show(command));
    }
    Ok(())
}

fn echo(stream: Stream, line: &str) {
    match stream {
        Stream::Out => {
            // A reader that has gone away is no reason to stop testing.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
        Stream::Err => eprintln!("{line}"),
    }
}

/// nextest's `Summary [...]` or libtest's `test result: ...`.
fn is_closing(line: &str) -> bool {
    let words = line.trim_start();
    words.starts_with("Summary [") || words.starts_with("test result: ")
}

/// nextest: `PASS [   0.004s] (1/9) crate::binary module::name`.
fn test_line(line: &str) -> Option<TestTime> {
    let (verdict, rest) = line.trim_start().split_once(" [")?;
    let passed = match verdict.trim() {
        "PASS" | "SLOW" | "LEAK" => true,
        "FAIL" | "TIMEOUT" | "LEAK-FAIL" => false,
        signal if signal.starts_with("SIG") => false,
        _ => return None,
    };
    let (seconds, rest) = rest.split_once("s]")?;
    // `SLOW [> 60.000s]` tells that a test still runs; its end comes later.
    let seconds: f64 = seconds.trim().parse().ok()?;
    let name = rest.trim_start();
    let name = match name.strip_prefix('(') {
        Some(counted) => counted.split_once(')')?.1,
        None => name,
    };
    Some(TestTime { name: name.split_whitespace().collect::<Vec<_>>().join(" "), passed, seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_known_by_their_first_words() {
        for (line, closing) in [
            ("     Summary [   0.012s] 3 tests run: 3 passed, 0 skipped", true),
            ("test result: ok. 3 passed; 0 failed; 0 ignored", true),
            ("        PASS [   0.004s] (1/3) xtask::bin/xtask steps::x", false),
            ("running 3 tests", false),
        ] {
            assert_eq!(is_closing(line), closing, "{line}");
        }
    }

    #[test]
    fn a_test_is_read_from_nextests_line() {
        let test =
            |name: &str, passed, seconds| Some(TestTime { name: name.to_owned(), passed, seconds });
        for (line, expected) in [
            (
                "        PASS [   0.004s] (1/9) sentinel-wal model::holds",
                test("sentinel-wal model::holds", true, 0.004),
            ),
            (
                "        FAIL [  12.500s] ( 2/19) sentinel-e2e::faults kill",
                test("sentinel-e2e::faults kill", false, 12.5),
            ),
            ("        PASS [   1.000s] sentinel-wal a", test("sentinel-wal a", true, 1.0)),
            (
                "      SIGINT [ 697.411s] (569/670) sentinel-wal::faults a",
                test("sentinel-wal::faults a", false, 697.411),
            ),
            ("        SLOW [> 60.000s] sentinel-wal a", None),
            ("     Summary [   0.012s] 3 tests run", None),
            ("info [x", None),
        ] {
            assert_eq!(test_line(line), expected, "{line}");
        }
    }
}
