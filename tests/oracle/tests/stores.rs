//! The program finds what is planted in real databases, and nothing in good ones.

use anyhow::{Context, Result, ensure};
use sentinel_model::batch::BatchBuilder;
use sentinel_model::columns::Kind;
use sentinel_model::ids::{AgentId, Epoch};
use sentinel_oracle::Report;
use sentinel_store::Store;
use sentinel_store::ingest::{Commit, CommitOutcome, Content};
use sentinel_store::postgres::{PostgresOptions, PostgresStore, PostgresUrl};
use sentinel_store::sqlite::{SqliteStore, StoreOptions};
use sentinel_test_services::{Postgres, Services};
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const T0: i64 = 1_735_689_600_000;
const HOUR: i64 = 3_600_000;
/// What the agent's log says is synced.
const KEPT: u64 = 30;

/// Record `seq`, which holds these values, at times that no other record has.
fn record(seq: u64, values: RangeInclusive<u64>) -> Result<Commit> {
    let mut builder = BatchBuilder::new();
    for value in values {
        let series = (value % 3).to_string();
        let labels = [("slot", "counter"), ("series", series.as_str()), ("agent", "host")];
        let time = T0 + (seq * 1000 + value) as i64;
        builder.push("sentinel_test_counter", labels, Kind::Counter, value as f64, time);
        builder.push("another", labels, Kind::Gauge, 0.5, time);
    }
    Ok(Commit {
        agent: AgentId::new("host")?,
        epoch: Epoch([1; 16]),
        seq,
        hash: [seq as u8; 32],
        content: Content::Samples(Arc::new(builder.build()?)),
    })
}

/// What the program says of a database, and its exit code.
fn ask(store: &str, log: &Path) -> Result<(i32, Report)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sentinel-oracle"));
    command.args(["--json", "--store", store, "--log"]).arg(format!("host={}", log.display()));
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code().context("a signal")?;
    Ok((code, serde_json::from_slice(&output.stdout).context(said)?))
}

/// Numbers of records, and the values that each holds.
type Records = Vec<(u64, RangeInclusive<u64>)>;

/// Plants records in a database and asks; before and after they are packed.
async fn check(
    store: Arc<dyn Store>,
    place: &str,
    records: &[(u64, RangeInclusive<u64>)],
    code: i32,
    words: &str,
) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    std::fs::write(&log, format!("INFO counted: slot counter has kept {KEPT} x=1\n"))?;
    for (seq, values) in records {
        let outcome = store.commit(vec![record(*seq, values.clone())?], T0 + *seq as i64).await?;
        ensure!(matches!(outcome[0], CommitOutcome::Committed { .. }), "{outcome:?}");
    }
    let look = |when: &str| -> Result<()> {
        let (found, report) = ask(place, &log)?;
        let said = report.to_string();
        ensure!(found == code && said.contains(words), "{when}: {found}: {said}");
        Ok(())
    };
    look("as committed")?;
    store.maintain(T0 + 3 * HOUR).await?;
    look("packed")
}

/// Records, the exit code, and what is said.
fn cases() -> Vec<(Records, i32, &'static str)> {
    vec![
        (vec![(1, 1..=10), (2, 11..=35)], 0, "each value is there once"),
        (vec![(1, 1..=10), (2, 12..=35)], 1, "missing 1: 11"),
        (vec![(1, 1..=25)], 1, "missing 5: 26–30"),
        (vec![(1, 1..=10), (2, 10..=35)], 1, "doubled 1: 10 (2 times)"),
        (vec![(1, 1..=35), (2, 34..=35)], 1, "doubled 2: 34 (2 times), 35 (2 times)"),
    ]
}

#[tokio::test]
async fn gaps_and_doubles_that_are_planted_in_sqlite_are_found() -> Result<()> {
    for (records, code, words) in cases() {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("sentinel.db");
        let store = Arc::new(SqliteStore::open(&path, StoreOptions::default()).await?);
        let place = path.to_str().context("a path")?;
        check(store, place, &records, code, words).await.context(format!("{records:?}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn gaps_and_doubles_that_are_planted_in_postgresql_are_found() -> Result<()> {
    let server = Postgres::start(&Services::here()?, &[])?;
    for (records, code, words) in cases() {
        let place = server.database()?;
        let url = PostgresUrl::new(&place)?;
        let store = Arc::new(PostgresStore::open(url, PostgresOptions::default()).await?);
        check(store, &place, &records, code, words).await.context(format!("{records:?}"))?;
    }
    Ok(())
}

#[test]
fn a_database_that_cannot_be_read_is_no_verdict() -> Result<()> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sentinel-oracle"));
    let output = command.args(["--store", "/nonexistent", "--log", "a=/dev/null"]).output()?;
    ensure!(output.status.code() == Some(2), "{output:?}");
    Ok(())
}
