//! What is measured. Each row is a ratio within one run, or stands beside its yardstick: on a
//! noisy machine an absolute time alone proves nothing.
//!
//! Prints a line of JSON a row on stdout; `cargo xtask bench` collects them.

mod agent;
mod agents;
mod alerts;
mod built;
mod cpu;
mod deployed;
mod e2e;
mod ingest;
mod notify;
mod postgres;
mod registry;
mod restart;
mod row;
mod rule_tests;
mod rules;
mod scrape;
mod storm;
mod swap;
mod transform;
mod verify;
mod victoria;
mod wal;
mod wire;
mod worker;

use anyhow::{Result, bail, ensure};
use row::Row;
use std::process::ExitCode;

/// The hidden argument under which this binary compiles a plugin in a child of itself.
const COMPILE_CHILD: &str = "internal-compile";

type Measure = fn() -> Result<Vec<Row>>;

/// What measures which rows.
const MEASURES: &[(&[&str], Measure)] = &[
    (&["transform-vs-native-rows", "transform-vs-native-columns"], transform::measure),
    (&["wal-vs-fdatasync"], wal::measure),
    (&["worker-samples-per-cpu-s", "store-bytes-per-sample", "commit-p99-ms"], worker::measure),
    (&["agent-rss-mib", "agent-cpu-vs-node-exporter-vmagent", "agent-start-ms"], agent::measure),
    (&["swap-lost-calls", "swap-longest-pause-ms", "warm-load-ms"], swap::measure),
    (&["verify-offline-ms"], verify::measure),
    (
        &[
            "worker-postgres-vs-copy",
            "store-bytes-per-sample-postgres",
            "postgres-bytes-vs-copy",
            "postgres-read-1-series-ms",
            "postgres-read-100-series-ms",
            "postgres-select-100-series-ms",
        ],
        postgres::measure,
    ),
    (&["server-ingest-batches-per-cpu-s"], ingest::measure),
    (&["e2e-p99-ms"], e2e::measure),
    (&["wire-bytes-per-sample-scrape", "wire-bytes-per-sample-backlog"], wire::measure),
    (&["worker-restart-s"], restart::measure),
    (&["rules-round-cpu-s", "rules-cpu-vs-prometheus"], rules::measure),
    (&["install-200-agents-s", "registry-pull-vs-nginx"], registry::measure),
    (&["notify-p99-ms"], notify::measure),
    (&["storm-rss-mib"], storm::measure),
    (&["rule-tests-s"], rule_tests::measure),
];

/// Measures what is wanted; what cannot be measured is said, and keeps nothing else from it.
fn run(wanted: Option<&str>) -> Result<()> {
    let (mut found, mut failed) = (false, Vec::<&str>::new());
    for (names, measure) in MEASURES {
        if wanted.is_some_and(|name| !names.contains(&name)) {
            continue;
        }
        found = true;
        match measure() {
            Ok(rows) => {
                for row in rows {
                    println!("{}", serde_json::to_string(&row)?);
                }
            }
            Err(error) => {
                eprintln!("error: {}: {error:#}", names.join(", "));
                failed.extend(*names);
            }
        }
    }
    if !found {
        let names: Vec<&str> = MEASURES.iter().flat_map(|m| m.0.iter().copied()).collect();
        bail!("there is no row {:?}; there are {}", wanted.unwrap_or_default(), names.join(", "));
    }
    ensure!(failed.is_empty(), "not measured: {}", failed.join(", "));
    Ok(())
}

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1);
    if wanted.as_deref() == Some(COMPILE_CHILD) {
        return sentinel_runtime::compile_child_main();
    }
    let result = match wanted.as_deref() {
        Some(storm::STORM_CHILD) => storm::child(),
        Some(restart::RESTART_CHILD) => {
            restart::child(&std::env::args().nth(2).unwrap_or_default())
        }
        Some(agents::AGENTS_CHILD) => agents::child(&std::env::args().nth(2).unwrap_or_default()),
        wanted => run(wanted),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
