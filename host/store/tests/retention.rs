//! What is gone leaves nothing behind: series, their texts and ids, streams. SQLite's own.

use sentinel_model::batch::BatchBuilder;
use sentinel_model::columns::Kind;
use sentinel_model::ids::{AgentId, Epoch};
use sentinel_store::Store;
use sentinel_store::ingest::{Commit, CommitOutcome, Content};
use sentinel_store::query::TimeRange;
use sentinel_store::sqlite::{SqliteStore, StoreOptions};
use std::sync::Arc;

/// 2025-01-01 00:00 UTC.
const T0: i64 = 1_735_689_600_000;
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
const ALL: TimeRange = TimeRange { start: T0 - DAY, end: T0 + 4_000 * DAY };

fn agent() -> AgentId {
    AgentId::new("a").unwrap()
}

/// A record with a sample of each of some series.
fn record(epoch: u8, seq: u64, name: &str, ids: std::ops::Range<u32>, time: i64) -> Commit {
    let mut builder = BatchBuilder::new();
    for id in ids {
        let label = id.to_string();
        builder.push(name, [("id", label.as_str())], Kind::Gauge, f64::from(id), time);
    }
    let content = Content::Samples(Arc::new(builder.build().unwrap()));
    Commit { agent: agent(), epoch: Epoch([epoch; 16]), seq, hash: [seq as u8; 32], content }
}

async fn commit(store: &SqliteStore, commit: Commit, now: i64) -> CommitOutcome {
    store.commit(vec![commit], now).await.unwrap().remove(0)
}

/// Maintains until nothing is left to do; how often, and what was dropped.
async fn maintain(store: &SqliteStore, now: i64) -> (u32, u64) {
    let (mut calls, mut dropped) = (0, 0);
    loop {
        let (done, more) = store.maintain(now).await.unwrap();
        (calls, dropped) = (calls + 1, dropped + done.dropped);
        if !more {
            return (calls, dropped);
        }
    }
}

/// Ids and values of a selector's series: each must have the value that its label says.
async fn check(store: &SqliteStore, selector: &str) -> Vec<(String, usize)> {
    let found = store.range(&selector.parse().unwrap(), ALL, None).await.unwrap();
    let mut out = Vec::new();
    for one in found {
        let id = one.info.key.labels.get("id").unwrap().to_owned();
        let value: f64 = id.parse().unwrap();
        assert!(one.points.values.iter().all(|v| *v == value), "{selector} {id}: {one:?}");
        out.push((id, one.points.times.len()));
    }
    out.sort();
    out
}

async fn open(dir: &tempfile::TempDir) -> SqliteStore {
    SqliteStore::open(dir.path().join("s.db"), StoreOptions::default()).await.unwrap()
}

#[tokio::test]
async fn a_series_goes_with_its_last_sample_and_comes_back_as_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    commit(&store, record(1, 1, "old", 1..4, T0), T0).await;
    commit(&store, record(1, 2, "both", 0..1, T0), T0).await;
    maintain(&store, T0 + 2 * HOUR).await;
    commit(&store, record(1, 3, "both", 0..1, T0 + 50 * DAY), T0 + 50 * DAY).await;
    maintain(&store, T0 + 51 * DAY).await;
    maintain(&store, T0 + 90 * DAY).await;
    assert_eq!(check(&store, "old").await.len(), 3, "its rollups are still there");
    // A day more than its rollups are kept: days are not split.
    let now = T0 + 91 * DAY + HOUR;
    maintain(&store, now).await;
    assert_eq!(store.metric_names("").await.unwrap(), ["both"]);
    assert_eq!((store.sizes().await.unwrap().series, check(&store, "old").await), (1, vec![]));
    assert_eq!(check(&store, "both").await, [("0".to_owned(), 1)]);
    // The very batch that is remembered with the series that are gone.
    let CommitOutcome::Committed { series } =
        commit(&store, record(1, 4, "old", 1..4, now), now).await
    else {
        panic!("it follows")
    };
    assert!(series.iter().all(|id| *id > 4), "no id is given twice: {series:?}");
    assert_eq!(check(&store, "old").await.len(), 3);
    maintain(&store, now + 2 * HOUR).await;
    store.close().await.unwrap();
    drop(store);
    let store = open(&dir).await;
    assert_eq!(check(&store, "old").await.len(), 3);
    // Now nobody remembers the ids before, and nothing is stored under them.
    commit(&store, record(1, 5, "new", 7..12, now), now).await;
    assert_eq!(check(&store, "new").await.len(), 5);
    let ids: Vec<u32> =
        store.series(&"new".parse().unwrap()).await.unwrap().iter().map(|s| s.id).collect();
    assert_eq!(ids, [1, 2, 3, 8, 9], "free ones first");
    assert_eq!((check(&store, "old").await.len(), check(&store, "both").await.len()), (3, 1));
}

#[tokio::test]
async fn a_sample_in_the_tail_or_of_a_later_day_keeps_its_series() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    commit(&store, record(1, 1, "ahead", 1..2, T0 + 40 * DAY), T0).await;
    commit(&store, record(1, 2, "back", 1..2, T0), T0).await;
    maintain(&store, T0 + 4 * HOUR).await;
    let now = T0 + 100 * DAY;
    // Committed, and not packed yet when the old ones go.
    commit(&store, record(1, 3, "back", 1..2, now), now).await;
    maintain(&store, now).await;
    assert_eq!(store.metric_names("").await.unwrap(), ["ahead", "back"]);
    maintain(&store, now + 2 * HOUR).await;
    store.close().await.unwrap();
    drop(store);
    let store = open(&dir).await;
    maintain(&store, T0 + 132 * DAY).await;
    assert_eq!(store.metric_names("").await.unwrap(), ["back"]);
    assert_eq!(check(&store, "back").await, [("1".to_owned(), 1)]);
}

#[tokio::test]
async fn one_call_removes_a_bounded_number_of_series() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    commit(&store, record(1, 1, "many", 0..9_000, T0), T0).await;
    maintain(&store, T0 + 2 * HOUR).await;
    let now = T0 + 92 * DAY;
    let (mut left, mut calls) = (9_000, 0);
    loop {
        let (_, more) = store.maintain(now).await.unwrap();
        let series = store.sizes().await.unwrap().series;
        assert!(left - series <= 4_000, "{left} to {series} in one call");
        (left, calls) = (series, calls + 1);
        if !more {
            break;
        }
    }
    assert_eq!((left, calls), (0, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn series_that_come_back_while_others_go_lose_no_sample() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    // Groups of series, each of a day of its own, so that something goes at each step.
    for group in 0..20u32 {
        let time = T0 + i64::from(group) * DAY;
        let ids = group * 100..group * 100 + 100;
        commit(&store, record(1, u64::from(group) + 1, "g", ids, time), time).await;
        maintain(&store, time + 2 * HOUR).await;
    }
    let packing = {
        let store = store.clone();
        tokio::spawn(async move {
            for step in 0..20 {
                maintain(&store, T0 + (91 + step) * DAY + HOUR).await;
                tokio::task::yield_now().await;
            }
        })
    };
    let mut expected = Vec::new();
    for round in 0..40u32 {
        // Half of a group that is about to go, the other half never again.
        let group = round % 20;
        let ids = group * 100..group * 100 + 50;
        let time = T0 + 111 * DAY + i64::from(round);
        commit(&store, record(1, u64::from(round) + 21, "g", ids.clone(), time), time).await;
        if round < 20 {
            expected.extend(ids.map(|id| (id.to_string(), 2)));
        }
    }
    packing.await.unwrap();
    maintain(&store, T0 + 112 * DAY).await;
    expected.sort();
    assert_eq!(check(&store, "g").await, expected);
    store.close().await.unwrap();
    drop(store);
    assert_eq!(check(&open(&dir).await, "g").await, expected);
}

#[tokio::test]
async fn a_stream_goes_when_it_is_quiet_for_long_and_its_agent_has_a_newer_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let state = |epoch: u8| {
        let store = store.clone();
        async move { store.stream_state(&agent(), Epoch([epoch; 16])).await.unwrap() }
    };
    commit(&store, record(1, 1, "g", 0..1, T0), T0).await;
    store.request_rewind(&agent(), Epoch([2; 16]), 3).await.unwrap();
    let later = T0 + 10 * DAY;
    commit(&store, record(3, 1, "g", 0..1, later), later).await;
    for now in [T0 + 80 * DAY, T0 + 91 * DAY, T0 + 92 * DAY] {
        assert_eq!((state(3).await.committed, state(2).await.rewind_attempt), (1, 3));
        maintain(&store, now).await;
    }
    assert_eq!((state(1).await.committed, state(3).await.committed), (0, 1));
    assert_eq!(state(2).await.rewind_attempt, 3, "it may have begun after the one before");
    maintain(&store, T0 + 400 * DAY).await;
    assert_eq!(state(3).await.committed, 1, "the newest stays, however old");
    // Whoever sends into one that is gone is asked for all of it, and says what it has not.
    let outcome = commit(&store, record(1, 2, "g", 0..1, T0 + 400 * DAY), T0 + 400 * DAY).await;
    assert_eq!(outcome, CommitOutcome::Gap { committed: 0 });
    let skip = Commit { content: Content::Skipped { to: 1 }, ..record(1, 1, "g", 0..1, T0) };
    let skipped = commit(&store, skip, T0 + 400 * DAY).await;
    assert_eq!(skipped, CommitOutcome::Committed { series: vec![] });
}
