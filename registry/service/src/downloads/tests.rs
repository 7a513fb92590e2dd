use super::*;
use object_store::memory::InMemory;
use std::sync::Arc;

/// Later than any object was written.
const LATER: i64 = i64::MAX;

fn store() -> Store {
    Store::new(Arc::new(InMemory::new()))
}

fn probe() -> (Repository, Digest) {
    ("acme/probe".parse().unwrap(), Digest::of(b"probe"))
}

async fn pulls(store: &Store) -> u64 {
    Totals::read(store).await.unwrap().of("acme/probe", &probe().1)
}

/// Counts so often, and writes.
async fn count(downloads: &Downloads, store: &Store, times: u64) {
    let (repository, digest) = probe();
    for _ in 0..times {
        downloads.count(&repository, &digest);
    }
    downloads.flush(store).await.unwrap();
}

async fn objects(store: &Store, below: &str) -> usize {
    store.list(&path(&[below])).await.unwrap().len()
}

#[tokio::test]
async fn instances_that_come_and_go_leave_a_few_objects_and_lose_no_count() {
    let store = store();
    let mut all = 0;
    for start in 1..=40 {
        count(&Downloads::new(), &store, start).await;
        all += start;
        fold(&store, LATER).await.unwrap();
        assert_eq!(pulls(&store).await, all, "after start {start}");
        assert!(objects(&store, COUNTS).await < FOLD_FROM, "after start {start}");
        assert!(objects(&store, SUMS).await <= 2);
    }
}

#[tokio::test]
async fn an_instance_that_wrote_lately_is_left_alone() {
    let store = store();
    for _ in 0..FOLD_FROM {
        count(&Downloads::new(), &store, 1).await;
    }
    assert_eq!(fold(&store, 0).await.unwrap(), 0);
    assert_eq!(objects(&store, COUNTS).await, FOLD_FROM);
}

#[tokio::test]
async fn an_instance_that_is_folded_while_it_lives_goes_on_counting() {
    let store = store();
    let idle = Downloads::new();
    count(&idle, &store, 5).await;
    for _ in 1..FOLD_FROM {
        count(&Downloads::new(), &store, 1).await;
    }
    assert_eq!(fold(&store, LATER).await.unwrap(), FOLD_FROM);
    let before = 5 + FOLD_FROM as u64 - 1;
    assert_eq!(pulls(&store).await, before);
    count(&idle, &store, 2).await;
    assert_eq!(pulls(&store).await, before + 2);
    count(&idle, &store, 3).await;
    assert_eq!(pulls(&store).await, before + 5);
    assert_eq!(objects(&store, COUNTS).await, 1);
}

#[tokio::test]
async fn a_kill_between_the_sum_and_what_it_replaces_counts_nothing_twice() {
    let store = store();
    let mut left = Vec::new();
    for _ in 0..FOLD_FROM {
        let one = Downloads::new();
        count(&one, &store, 3).await;
        left.push(path(&[COUNTS, &one.0.lock().instance]));
    }
    let bytes = store.read(&left[0]).await.unwrap().unwrap();
    fold(&store, LATER).await.unwrap();
    let all = 3 * FOLD_FROM as u64;
    // As if it had not gone yet.
    store.write(&left[0], bytes).await.unwrap();
    assert_eq!(pulls(&store).await, all);
    fold(&store, LATER).await.unwrap();
    assert_eq!((pulls(&store).await, objects(&store, COUNTS).await), (all, 0));
}
