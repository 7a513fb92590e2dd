//! A thousand tests of rules, each with series, a timer, two looks and a notification, on the
//! signed evaluator and a signed notifier: as long as `sentinel rules test` takes for them, but
//! for the start of the program. Loading the plugins, out of the cache of compiled code, counts.

use crate::COMPILE_CHILD;
use crate::built::Built;
use crate::row::{Better, Row};
use anyhow::{Result, ensure};
use prometheus::Registry;
use sentinel_rule_tests::{Rig, run_file};
use sentinel_runtime::{CompilerCommand, Runtime, RuntimeOptions};
use serde_json::json;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Tests, and how many stand in one file.
const TESTS: usize = 1_000;
const A_FILE: usize = 50;

/// Writes the files: ten rules in each, of which a test takes one.
fn write(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut rules = "version: 1\nrules:\n".to_owned();
    for n in 0..10 {
        writeln!(
            rules,
            "  - {{ name: busy-{n}, for: 2m, labels: {{ severity: page }}, annotations: {{ summary: '{{{{ labels.agent }}}} is busy' }}, condition: {{ metric: busy, fn: rate, window: 5m, by: [agent], combine: avg, above: {} }} }}",
            f64::from(n) / 100.0 + 0.5
        )?;
    }
    std::fs::write(dir.join("rules.yaml"), rules)?;
    let mut files = Vec::new();
    for file in 0..TESTS / A_FILE {
        let mut text = r#"version: 1
rules: [rules.yaml]
worker:
  notifiers:
    - slot: chat
      plugin: sentinel/webhook
      config: { url: "https://chat.example/hook" }
      grants: { http: { origins: ["https://chat.example"], methods: [POST] }, mac: { keys: [chat] } }
tests:
"#
        .to_owned();
        for n in 0..A_FILE {
            let rule = n % 10;
            write!(
                text,
                r#"  - name: test {n}
    only: [busy-{rule}]
    series:
      - {{ series: 'busy{{agent="a-{n}",cpu="0"}}', values: 0+60x10 }}
      - {{ series: 'busy{{agent="a-{n}",cpu="1"}}', values: 0+60x10 }}
      - {{ series: 'busy{{agent="b-{n}",cpu="0"}}', values: 0+6x10 }}
    expect:
      - {{ at: 2m, alerts: [{{ rule: busy-{rule}, state: pending, labels: {{ agent: a-{n}, severity: page }} }}] }}
      - {{ at: 10m, alerts: [{{ rule: busy-{rule}, state: firing, labels: {{ agent: a-{n}, severity: page }}, value: 1 }}] }}
    notifications:
      - at: 3m
        to: chat
        status: firing
        alerts: [{{ rule: busy-{rule} }}]
        sends: [{{ method: POST, url: "https://chat.example/hook" }}]
"#
            )?;
        }
        let path = dir.join(format!("{file}.test.yaml"));
        std::fs::write(&path, text)?;
        files.push(path);
    }
    Ok(files)
}

pub(crate) fn measure() -> Result<Vec<Row>> {
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let files = write(dir.path())?;
    let compiler = CompilerCommand::this_program([COMPILE_CHILD])?;
    let runtime = Runtime::start(RuntimeOptions::new(dir.path(), compiler, Registry::new()))?;
    let plugins = Arc::new(Built::open()?);
    // What is compiled once on a machine is not compiled again.
    let rig = || Rig::new(Arc::clone(&runtime), Arc::clone(&plugins) as Arc<_>);
    run_file(&mut rig(), &files[0]).await?;
    let lanes = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let began = Instant::now();
    let mut running = Vec::new();
    for lane in 0..lanes {
        let (mut rig, files) = (rig(), files.clone());
        running.push(tokio::spawn(async move {
            let (mut tests, mut evaluations) = (0, 0);
            for file in files.iter().skip(lane).step_by(lanes) {
                let report = run_file(&mut rig, file).await?;
                for test in report.tests {
                    ensure!(test.problems.is_empty(), "{}: {:?}", test.name, test.problems);
                    tests += 1;
                    evaluations += test.evaluations;
                }
            }
            Ok((tests, evaluations))
        }));
    }
    let (mut tests, mut evaluations) = (0, 0);
    for lane in running {
        let (of_tests, of_evaluations) = lane.await??;
        tests += of_tests;
        evaluations += of_evaluations;
    }
    let took = began.elapsed().as_secs_f64();
    ensure!(tests == TESTS, "{tests} of {TESTS} tests were run");
    let detail = json!({ "tests": tests, "evaluations": evaluations, "lanes": lanes });
    Ok(vec![Row::new("rule-tests-s", took, (Better::Lower, 2.0), "s", detail)])
}
