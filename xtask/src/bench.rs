//! `cargo xtask bench` and `cargo xtask soak`: what is measured, as committed JSON.

mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::cargo;
use crate::checkout::{Checkout, HostProfile, replace};
use crate::components;
use crate::packing;
use crate::process::{self, Stream};
use crate::services;
use crate::steps::Steps;
use crate::testing::{self, Report, Selection, TestTime};
use crate::toolchain::{self, Source};

/// The rows of the table, in its order; a row that is not named here follows after them.
const ORDER: &[&str] = &[
    "transform-vs-native-rows",
    "transform-vs-native-columns",
    "wal-vs-fdatasync",
    "worker-samples-per-cpu-s",
    "store-bytes-per-sample",
    "commit-p99-ms",
    "agent-rss-mib",
    "agent-cpu-vs-node-exporter-vmagent",
    "agent-start-ms",
    "swap-lost-calls",
    "swap-longest-pause-ms",
    "verify-offline-ms",
    "warm-load-ms",
    "install-200-agents-s",
    "registry-pull-vs-nginx",
    "worker-postgres-vs-copy",
    "server-ingest-batches-per-cpu-s",
    "e2e-p99-ms",
    "wire-bytes-per-sample-scrape",
    "wire-bytes-per-sample-backlog",
    "store-bytes-per-sample-postgres",
    "worker-restart-s",
    "postgres-bytes-vs-copy",
    "postgres-read-1-series-ms",
    "postgres-read-100-series-ms",
    "postgres-select-100-series-ms",
    "rules-round-cpu-s",
    "rules-cpu-vs-prometheus",
    "notify-p99-ms",
    "storm-rss-mib",
    "rule-tests-s",
];

/// What a soak sets, and so how long the same tests become.
const SOAK: &[(&str, &str)] = &[
    ("SENTINEL_SEEDS", "2000"),
    ("SENTINEL_KILLS", "50"),
    ("SENTINEL_FAULT_SECONDS", "60"),
    ("PROPTEST_CASES", "5000"),
    ("PROMQL_CASES", "1000"),
];

/// `bench/results.json`.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Results {
    rows: Vec<Row>,
}

/// One measurement, as the bench program prints it: a line of JSON on its stdout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    value: f64,
    limit: f64,
    unit: String,
    better: Better,
    holds: bool,
    /// The commit that was measured, and where; the bench program does not know.
    #[serde(default)]
    commit: String,
    #[serde(default)]
    machine: String,
    #[serde(default)]
    detail: serde_json::Value,
}

/// On which side of its limit a value belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Better {
    Higher,
    Lower,
}

/// `bench/soak.json`.
#[derive(Debug, Serialize)]
struct Soak {
    commit: String,
    machine: String,
    settings: BTreeMap<&'static str, String>,
    closing: Vec<String>,
    tests: Vec<SoakTest>,
}

#[derive(Debug, Serialize)]
struct SoakTest {
    name: String,
    passed: bool,
    seconds: f64,
}

/// Measures everything, or the rows that `name` selects. A missed limit is marked, not an error.
pub(crate) fn bench(checkout: &Checkout, name: Option<&str>, source: Source) -> Result<()> {
    let steps = Steps::new(6);
    let toolchain = toolchain::ready(checkout, &steps, source)?;
    steps.run("Services to compare with", |step| services::ensure(checkout, step))?;
    steps.run("Build host and benches (release)", |step| {
        let mut command = checkout.cargo();
        command.args(["build", "--release"]);
        command.args(["--package", "sentinel-cli", "--package", "sentinel-bench"]);
        let built = cargo::build(step, &mut command, &[])?;
        Ok(((), cargo::summary(&built)))
    })?;
    let sentinel = checkout.host_program(HostProfile::Release, "sentinel");
    let guests = components::discover(checkout)?;
    let cores = steps.run("Build the plugins", |step| {
        components::compile(checkout, step, &toolchain, "component", &guests)
    })?;
    steps.run("Pack and sign the plugins", |step| {
        let said = packing::pack(checkout, step, &sentinel, &guests, &cores)?;
        Ok(((), said))
    })?;
    let (mut rows, wrong) = steps.run("Measure", |step| {
        let mut command =
            Command::new(checkout.host_program(HostProfile::Release, "sentinel-bench"));
        command
            .args(name)
            .current_dir(checkout.root())
            .env("SENTINEL_BIN", &sentinel)
            .env("SENTINEL_PLUGINS", checkout.target("plugins"))
            .env("SENTINEL_PUBLISHER_KEY", checkout.target("dev-keys/sentinel.key"))
            .env("SENTINEL_SERVICES", services::list_path(checkout));
        let measured = measure(&mut command, |line| step.note(line), |line| step.say(line))?;
        let said = format!("{} rows", measured.0.len());
        Ok((measured, said))
    })?;
    let path = checkout.root().join("bench/results.json");
    let mut results = read_results(&path)?;
    let (commit, machine) = (commit(checkout)?, machine());
    for row in &mut rows {
        (row.commit, row.machine) = (commit.clone(), machine.clone());
    }
    merge(&mut results.rows, rows);
    write_json(&path, &results)?;
    println!("{}", table::table(&results.rows));
    eprintln!("written to bench/results.json: commit it with the change it measures");
    wrong.map_or(Ok(()), |wrong| bail!("{wrong}"))
}

/// The rows that were measured, and why others were not.
fn measure(
    command: &mut Command,
    note: impl Fn(&str),
    say: impl Fn(&str),
) -> Result<(Vec<Row>, Option<String>)> {
    let mut rows = Vec::new();
    let mut wrong = None;
    let mut said = String::new();
    let status = process::watch(command, None, |stream, line| match stream {
        Stream::Out if line.trim_start().starts_with('{') => {
            match serde_json::from_str::<Row>(line) {
                Ok(row) => {
                    say(&format!("{} {} {}", row.name, table::number(row.value), row.unit));
                    rows.push(row);
                }
                Err(error) => wrong = Some(format!("{error}: {line}")),
            }
        }
        _ => {
            note(line.trim());
            said.push_str(line);
            said.push('\n');
        }
    })?;
    if let Some(wrong) = wrong {
        bail!("the benches printed a row that cannot be read: {wrong}");
    }
    let failed = (!status.success())
        .then(|| format!("{}\n`{}` failed ({status})", said.trim_end(), process::show(command)));
    Ok((rows, failed))
}

fn read_results(path: &Path) -> Result<Results> {
    if !path.exists() {
        return Ok(Results::default());
    }
    serde_json::from_slice(&fs::read(path)?)
        .with_context(|| format!("{} cannot be read; remove it to start anew", path.display()))
}

/// New rows take the place of old ones; all stand in the table's order.
fn merge(rows: &mut Vec<Row>, new: Vec<Row>) {
    for row in new {
        match rows.iter_mut().find(|old| old.name == row.name) {
            Some(old) => *old = row,
            None => rows.push(row),
        }
    }
    let place = |row: &Row| ORDER.iter().position(|name| *name == row.name).unwrap_or(ORDER.len());
    rows.sort_by_key(place);
}

/// Runs the tests with long counts and writes what came of each.
pub(crate) fn soak(checkout: &Checkout, filters: &[String], source: Source) -> Result<()> {
    let steps = Steps::new(testing::PREPARE_STEPS + 2 + testing::RUN_STEPS);
    let settings: BTreeMap<&'static str, String> = SOAK
        .iter()
        .map(|&(name, count)| {
            let set = std::env::var(name).unwrap_or_else(|_| count.to_owned());
            (name, set)
        })
        .collect();
    // What is tested is what stands here now, whatever changes in the hours until the end.
    let commit = commit(checkout)?;
    testing::prepare(checkout, &steps, source)?;
    let mut variables = settings.clone();
    variables.extend(services::for_soak(checkout, &steps)?);
    let selection = Selection { filters, variables, long: true };
    let mut report = Report::default();
    let outcome = testing::run(checkout, &steps, &selection, &mut report);
    let soak = Soak {
        commit,
        machine: machine(),
        settings,
        closing: report.closing,
        tests: report.tests.into_iter().map(SoakTest::from).collect(),
    };
    write_json(&checkout.root().join("bench/soak.json"), &soak)?;
    eprintln!("written to bench/soak.json: commit it with the change it tests");
    outcome
}

impl From<TestTime> for SoakTest {
    fn from(test: TestTime) -> Self {
        SoakTest { name: test.name, passed: test.passed, seconds: test.seconds }
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    replace(path, text.as_bytes())
}

/// The commit that is checked out, with `-dirty` when files differ from it.
fn commit(checkout: &Checkout) -> Result<String> {
    let git = |arguments: &[&str]| {
        process::read(Command::new("git").args(arguments).current_dir(checkout.root()))
    };
    let head = git(&["rev-parse", "HEAD"])?.trim().to_owned();
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    // The results themselves are written before the commit that will hold them.
    let ours = ["bench/results.json", "bench/soak.json"];
    let dirty = changed.lines().any(|line| !ours.iter().any(|name| line.ends_with(name)));
    Ok(if dirty { format!("{head}-dirty") } else { head })
}

/// Processor, cores, memory and kernel: what a figure depends on.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|value| value.trim_start_matches([':', '\t', ' ']).trim().to_owned())
    };
    let processor = field(&read("/proc/cpuinfo"), "model name");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field(&read("/proc/meminfo"), "MemTotal")
        .and_then(|value| value.split(' ').next()?.parse::<u64>().ok())
        .unwrap_or_default()
        / (1 << 20);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{}, {cores} cores, {memory} GiB, Linux {}",
        processor.as_deref().unwrap_or(std::env::consts::ARCH),
        kernel.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn row(name: &str, value: f64) -> Row {
        Row {
            name: name.to_owned(),
            value,
            limit: 1.0,
            unit: "ratio".to_owned(),
            better: Better::Lower,
            holds: value <= 1.0,
            commit: String::new(),
            machine: String::new(),
            detail: serde_json::Value::Null,
        }
    }

    #[test]
    fn new_rows_replace_old_ones_and_stand_in_the_tables_order() {
        let mut rows = vec![row("later", 1.0), row("agent-rss-mib", 14.0)];
        merge(&mut rows, vec![row("agent-rss-mib", 12.0), row("wal-vs-fdatasync", 0.95)]);
        let seen: Vec<_> = rows.iter().map(|row| (row.name.as_str(), row.value)).collect();
        assert_eq!(seen, [("wal-vs-fdatasync", 0.95), ("agent-rss-mib", 12.0), ("later", 1.0)]);
    }

    #[test]
    fn rows_are_read_from_stdout_and_everything_else_is_talk() {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            r#"echo warming; echo '{"name":"a","value":1,"limit":2,"unit":"x","better":"lower","holds":true,"detail":"d"}'"#,
        ]);
        let (rows, wrong) = measure(&mut command, |_| {}, |_| {}).unwrap();
        assert_eq!((rows.len(), wrong), (1, None));
        assert_eq!((rows[0].name.as_str(), rows[0].holds), ("a", true));
        let mut half = Command::new("sh");
        half.args([
            "-c",
            r#"echo '{"name":"a","value":1,"limit":2,"unit":"x","better":"lower","holds":true}'; echo 'error: b: no disk' >&2; exit 1"#,
        ]);
        let (rows, wrong) = measure(&mut half, |_| {}, |_| {}).unwrap();
        assert_eq!(rows.len(), 1, "what was measured counts");
        assert!(wrong.unwrap().contains("b: no disk"));
        let mut broken = Command::new("sh");
        broken.args(["-c", r#"echo '{"name":"a"}'"#]);
        assert!(measure(&mut broken, |_| {}, |_| {}).is_err());
    }
}
