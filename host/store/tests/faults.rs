//! A process killed in the middle of commits and packing, a full disk, two owners, damage.

use sentinel_model::batch::BatchBuilder;
use sentinel_model::columns::Kind;
use sentinel_model::ids::{AgentId, Epoch};
use sentinel_store::ingest::{Commit, CommitOutcome, Content};
use sentinel_store::query::TimeRange;
use sentinel_store::sqlite::{SqliteStore, StoreOptions};
use sentinel_store::{Store, StoreError};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const T0: i64 = 1_735_689_600_000;
const SERIES: i64 = 50;
/// Each record is a minute later than the one before.
const MINUTE: i64 = 60_000;
const ALL: TimeRange = TimeRange { start: 0, end: i64::MAX };
const CHILD: &str = "SENTINEL_STORE_CHILD";

fn agent() -> AgentId {
    AgentId::new("a").unwrap()
}

/// Record `seq`: every series at minute `seq`, its value a function of both.
fn record(seq: u64) -> Commit {
    let mut builder = BatchBuilder::new();
    for i in 0..SERIES {
        let series = i.to_string();
        let value = value(i, seq);
        let time = T0 + seq as i64 * MINUTE;
        builder.push("m", [("i", series.as_str())], Kind::Gauge, value, time);
    }
    Commit {
        agent: agent(),
        epoch: Epoch([1; 16]),
        seq,
        hash: [seq as u8; 32],
        content: Content::Samples(Arc::new(builder.build().unwrap())),
    }
}

fn value(series: i64, seq: u64) -> f64 {
    (series as f64 + 1.0) * (seq as f64) / 3.0
}

async fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, StoreOptions::default()).await.unwrap()
}

async fn committed(store: &SqliteStore) -> u64 {
    store.stream_state(&agent(), Epoch([1; 16])).await.unwrap().committed
}

/// Every record up to the committed one is there, once, and nothing else is.
async fn check(store: &SqliteStore) -> u64 {
    let committed = committed(store).await;
    let found = store.range(&"m".parse().unwrap(), ALL, None).await.unwrap();
    assert_eq!(found.len() as i64, if committed == 0 { 0 } else { SERIES });
    for series in found {
        let i: i64 = series.info.key.labels.get("i").unwrap().parse().unwrap();
        let times: Vec<i64> = (1..=committed).map(|seq| T0 + seq as i64 * MINUTE).collect();
        let values: Vec<f64> = (1..=committed).map(|seq| value(i, seq)).collect();
        assert_eq!(series.points.times, times);
        assert_eq!(series.points.values, values);
    }
    committed
}

/// The life of a child: commits and packs until it is killed. As a test it does nothing.
#[tokio::test]
async fn child() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let store = open(path.as_ref()).await;
    let mut seq = committed(&store).await;
    loop {
        seq += 1;
        let now = T0 + seq as i64 * MINUTE;
        let outcome = store.commit(vec![record(seq)], now).await.unwrap().remove(0);
        assert!(matches!(outcome, CommitOutcome::Committed { .. }));
        if seq.is_multiple_of(20) {
            store.maintain(now).await.unwrap();
        }
        // The parent counts lines: an acknowledged commit must be there afterwards.
        println!("committed {seq}");
    }
}

/// Reads the child's acknowledgements, kills it after some, and gives the last.
fn run_child(path: &Path, acknowledgements: u64) -> u64 {
    use std::io::{BufRead, BufReader};
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut last, mut count) = (0, 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some((_, seq)) = line.split_once("committed ") else { continue };
        // The kill may cut the last line, which then reads as a smaller number.
        last = last.max(seq.parse::<u64>().unwrap_or(0));
        count += 1;
        if count == acknowledgements {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    last
}

#[test]
fn a_killed_process_leaves_what_it_acknowledged_once() {
    let rounds: u64 =
        std::env::var("SENTINEL_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(5);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for round in 0..rounds {
        // Different places in the rhythm of commits and packing.
        let acknowledged = run_child(&path, 11 + round * 17 % 53);
        runtime.block_on(async {
            let store = open(&path).await;
            let committed = check(&store).await;
            assert!(committed >= acknowledged, "round {round}: {committed} < {acknowledged}");
            let now = T0 + committed as i64 * MINUTE;
            while store.maintain(now).await.unwrap().1 {}
            check(&store).await;
            let sizes = store.sizes().await.unwrap();
            let all = sizes.tail_samples + sizes.packed_samples;
            assert_eq!(all, committed * SERIES as u64);
            store.close().await.unwrap();
        });
    }
}

#[tokio::test]
async fn a_full_disk_is_said_survived_and_work_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let small = StoreOptions { max_pages: 60, ..StoreOptions::default() };
    let store = SqliteStore::open(&path, small).await.unwrap();
    let mut seq = 0;
    let error = loop {
        match store.commit(vec![record(seq + 1)], T0).await {
            Ok(_) => seq += 1,
            Err(error) => break error,
        }
        assert!(seq < 10_000, "the bound of the file was never met");
    };
    assert!(matches!(error, StoreError::Full(_)), "{error}");
    assert!(error.to_string().contains("free some space"));
    for _ in 0..3 {
        let again = store.commit(vec![record(seq + 1)], T0).await;
        assert!(matches!(again, Err(StoreError::Full(_))), "{again:?}");
    }
    assert_eq!(check(&store).await, seq);
    store.close().await.unwrap();
    let store = open(&path).await;
    assert_eq!(check(&store).await, seq);
    store.commit(vec![record(seq + 1)], T0).await.unwrap();
    assert_eq!(check(&store).await, seq + 1);
}

#[tokio::test]
async fn new_series_of_a_refused_commit_leave_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let small = StoreOptions { max_pages: 60, ..StoreOptions::default() };
    let store = SqliteStore::open(dir.path().join("s.db"), small).await.unwrap();
    let wide = |rows: usize| {
        let mut builder = BatchBuilder::new();
        for i in 0..rows {
            let label = format!("{i}-{}", "x".repeat(500));
            builder.push("wide", [("i", label.as_str())], Kind::Gauge, 1.0, T0);
        }
        let content = Content::Samples(Arc::new(builder.build().unwrap()));
        Commit { content, ..record(1) }
    };
    let refused = store.commit(vec![wide(1_000)], T0).await;
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    assert!(store.series(&"wide".parse().unwrap()).await.unwrap().is_empty());
    let outcome = store.commit(vec![record(1)], T0).await.unwrap().remove(0);
    let expected = CommitOutcome::Committed { series: (1..=SERIES as u32).collect() };
    assert_eq!(outcome, expected);
    assert_eq!(check(&store).await, 1);
}

#[tokio::test]
async fn a_second_owner_is_refused_and_the_file_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let store = open(&path).await;
    let error = SqliteStore::open(&path, StoreOptions::default()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    store.commit(vec![record(1)], T0).await.unwrap();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.path());
    }
    store.close().await.unwrap();
    let late = store.commit(vec![record(2)], T0).await;
    assert!(matches!(late, Err(StoreError::Unavailable(_))), "{late:?}");
    assert!(store.series(&"m".parse().unwrap()).await.is_err());
    assert_eq!(check(&open(&path).await).await, 1);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_said_to_be_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    std::fs::write(&path, vec![0x55; 8192]).unwrap();
    let error = SqliteStore::open(&path, StoreOptions::default()).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_file_that_a_newer_version_migrated_is_refused_and_left_as_it_is() {
    use sqlx::{ConnectOptions as _, Connection as _};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let store = open(&path).await;
    store.commit(vec![record(1)], T0).await.unwrap();
    store.close().await.unwrap();
    let newer = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut newer = newer.connect().await.unwrap();
    let migrated = "INSERT INTO _sqlx_migrations \
                    (version, description, success, checksum, execution_time) \
                    VALUES (9999, 'of a newer version', TRUE, x'', 0)";
    sqlx::query(migrated).execute(&mut newer).await.unwrap();
    newer.close().await.unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = SqliteStore::open(&path, StoreOptions::default()).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict(_)), "{error}");
    let said = error.to_string();
    assert!(said.contains("written by a newer version of Sentinel"), "{said}");
    assert!(std::fs::read(&path).unwrap() == before, "the file has changed");
}

#[tokio::test]
async fn ledger_rows_are_bounded_and_repeats_count_as_duplicates_beyond() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { ledger_rows: 100, ..StoreOptions::default() };
    let store = SqliteStore::open(dir.path().join("s.db"), options).await.unwrap();
    for from in (1..=1_000).step_by(100) {
        let commits: Vec<Commit> = (from..from + 100).map(record).collect();
        store.commit(commits, T0).await.unwrap();
    }
    store.maintain(T0).await.unwrap();
    let other = |seq| Commit { hash: [0xee; 32], ..record(seq) };
    let outcomes = store.commit(vec![other(950), other(5), record(5)], T0).await.unwrap();
    let expected =
        [CommitOutcome::Contradiction, CommitOutcome::Duplicate, CommitOutcome::Duplicate];
    assert_eq!(outcomes, expected);
}

/// The transaction itself asks which record was the last: what is in memory is not enough.
#[tokio::test]
async fn a_commit_that_does_not_follow_the_stored_offset_writes_nothing() {
    use sqlx::ConnectOptions as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let store = open(&path).await;
    for seq in 1..=3 {
        store.commit(vec![record(seq)], T0).await.unwrap();
    }
    // As if another writer had come in between.
    let other = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut other = other.connect().await.unwrap();
    sqlx::query("UPDATE streams SET committed = 2").execute(&mut other).await.unwrap();
    let count = "SELECT count(*) FROM ledger";
    let before: i64 = sqlx::query_scalar(count).fetch_one(&mut other).await.unwrap();
    store.commit(vec![record(4)], T0).await.unwrap_err();
    let after: i64 = sqlx::query_scalar(count).fetch_one(&mut other).await.unwrap();
    assert_eq!((before, after), (3, 3));
    // From then on what is stored counts.
    assert_eq!(committed(&store).await, 2);
}
