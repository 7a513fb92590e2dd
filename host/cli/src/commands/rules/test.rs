//! `sentinel rules test`: files of tests, run without a server.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use parking_lot::Mutex;
use sentinel_model::document::Problems;
use sentinel_model::rule::RuleFile;
use sentinel_rule_tests::{FileReport, run_file};
use serde::Serialize;
use tokio::runtime::Builder;

use super::lab::{Lab, Plugins};
use crate::failure::Failure;
use crate::output::{Printer, human};

/// Files that are run at once, at most.
const LANES: usize = 4;

/// Options of `sentinel rules test`.
#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Files of tests.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    plugins: Plugins,
}

/// Options of `sentinel rules schema`.
#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// Of which files.
    #[arg(value_enum, default_value = "rules")]
    of: Of,
}

/// What files there are.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Of {
    /// Files of rules.
    Rules,
    /// Files of tests.
    Tests,
}

pub(super) fn schema(command: &Schema, printer: &Printer) -> Result<(), Failure> {
    let schema = match command.of {
        Of::Rules => schemars::schema_for!(RuleFile).to_value(),
        Of::Tests => sentinel_rule_tests::schema(),
    };
    printer.data(&schema, |_| serde_json::to_string_pretty(&schema).unwrap_or_default())
}

/// What came of all files.
#[derive(Debug, Serialize)]
struct Report {
    passed: usize,
    failed: usize,
    files: Vec<FileReport>,
    /// Files that are of no use, and why.
    broken: Vec<String>,
}

type Outcome = (usize, Result<FileReport, Problems>);

pub(super) fn run(command: &Test, printer: &Printer) -> Result<(), Failure> {
    let began = Instant::now();
    let lanes = std::thread::available_parallelism().map_or(1, usize::from).min(LANES);
    let outcomes =
        Builder::new_multi_thread().worker_threads(lanes).enable_all().build()?.block_on(
            async { run_all(&command.plugins.open(printer)?, &command.files, lanes).await },
        )?;
    let (mut files, mut broken) = (Vec::new(), Vec::new());
    for (_, outcome) in outcomes {
        match outcome {
            Ok(report) => files.push(report),
            Err(problems) => broken.push(problems.to_string()),
        }
    }
    let tests = || files.iter().flat_map(|file| &file.tests);
    let failed = tests().filter(|test| !test.problems.is_empty()).count();
    let report = Report { passed: tests().count() - failed, failed, files, broken };
    printer.data(&report, |_| text(&report))?;
    tell(&report, began.elapsed(), printer)
}

async fn run_all(lab: &Lab, files: &[PathBuf], lanes: usize) -> Result<Vec<Outcome>, Failure> {
    let queue: VecDeque<(usize, PathBuf)> = files.iter().cloned().enumerate().collect();
    let queue = Arc::new(Mutex::new(queue));
    let mut running = Vec::new();
    for _ in 0..lanes.min(files.len()) {
        let (queue, mut rig) = (Arc::clone(&queue), lab.rig());
        running.push(tokio::spawn(async move {
            let mut outcomes = Vec::new();
            loop {
                let next = queue.lock().pop_front();
                let Some((at, file)) = next else { return outcomes };
                outcomes.push((at, run_file(&mut rig, &file).await));
            }
        }));
    }
    let mut outcomes = Vec::new();
    for lane in running {
        outcomes.extend(lane.await?);
    }
    outcomes.sort_by_key(|(at, _)| *at);
    Ok(outcomes)
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for file in &report.files {
        for test in file.tests.iter().filter(|test| !test.problems.is_empty()) {
            text.push_str(&format!("FAIL  {}:{}: {}\n", file.file, test.line, test.name));
            for problem in &test.problems {
                text.push_str(&format!("  {}\n", problem.replace('\n', "\n  ")));
            }
        }
    }
    text
}

fn tell(report: &Report, took: Duration, printer: &Printer) -> Result<(), Failure> {
    if !report.broken.is_empty() {
        return Err(Failure::new(report.broken.join("\n")).misused());
    }
    let took = human::millis(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    let all = human::plural((report.passed + report.failed) as u64, "test");
    if report.failed > 0 {
        return Err(Failure::new(format!("{} of {all} failed", report.failed)));
    }
    printer.say(&format!("{all} passed, in {took}"));
    Ok(())
}
