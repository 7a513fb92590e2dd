use super::{T0, one, samples};
use sentinel_model::duration::Millis;
use sentinel_store::alerting::{AlertingChange, StoredGroup};
use sentinel_store::lease::Fence;
use sentinel_store::tail::{TailBatch, TailPosition};
use sentinel_store::{Store, StoreError};
use std::time::Duration;

const LONG: Millis = Millis(60_000);
const SHORT: Millis = Millis(50);

fn is_fenced(done: Result<(), StoreError>) -> bool {
    matches!(done, Err(StoreError::Fenced { lease }) if lease == "alerting")
}

async fn taken(store: &dyn Store, holder: &str, lasts: Millis) -> Option<Fence> {
    store.take_lease("alerting", holder, lasts).await.unwrap()
}

/// Until the time of whoever has it is over.
async fn taken_in_the_end(store: &dyn Store, holder: &str) -> Fence {
    loop {
        if let Some(fence) = taken(store, holder, LONG).await {
            return fence;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn a_lease_has_one_holder_until_its_time_is_over_or_it_is_released(
    store: &dyn Store,
) {
    let one = taken(store, "one", LONG).await.unwrap();
    assert_eq!(taken(store, "two", LONG).await, None);
    assert_eq!(taken(store, "one", LONG).await, None, "not even by whoever has it");
    assert!(store.take_lease("other", "two", LONG).await.unwrap().is_some());
    store.release_lease(&one).await.unwrap();
    assert!(is_fenced(store.keep_lease(&one, LONG).await));
    assert!(is_fenced(store.release_lease(&one).await));
    let two = taken(store, "two", SHORT).await.unwrap();
    assert!(two.token > one.token);
    // Kept for so long from now, it ends when that is over.
    store.keep_lease(&two, SHORT).await.unwrap();
    let one = taken_in_the_end(store, "one").await;
    assert!(one.token > two.token);
    assert!(is_fenced(store.keep_lease(&two, LONG).await));
    assert!(is_fenced(store.release_lease(&two).await));
    store.keep_lease(&one, LONG).await.unwrap();
    assert_eq!(taken(store, "two", LONG).await, None);
}

pub(crate) async fn who_lost_the_lease_writes_nothing_of_alerts(store: &dyn Store) {
    let change = |key: &str, fence: &Fence| {
        let groups = vec![StoredGroup { key: key.to_owned(), body: "{}".to_owned() }];
        AlertingChange { groups, fence: Some(fence.clone()), ..AlertingChange::default() }
    };
    let one = taken(store, "one", SHORT).await.unwrap();
    store.save_alerting(change("a", &one)).await.unwrap();
    let two = taken_in_the_end(store, "two").await;
    assert!(is_fenced(store.save_alerting(change("b", &one)).await));
    store.save_alerting(change("c", &two)).await.unwrap();
    store.release_lease(&two).await.unwrap();
    assert!(is_fenced(store.save_alerting(change("d", &two)).await));
    let keys = store.alert_groups().await.unwrap().into_iter().map(|group| group.key);
    assert_eq!(keys.collect::<Vec<_>>(), ["a", "c"]);
}

pub(crate) async fn a_lease_whose_time_is_over_is_kept_where_nobody_took_it(store: &dyn Store) {
    let one = taken(store, "one", Millis(0)).await.unwrap();
    store.keep_lease(&one, LONG).await.unwrap();
    assert_eq!(taken(store, "two", LONG).await, None);
}

/// All from a position on, some at a time.
async fn rest(
    store: &dyn Store,
    mut at: TailPosition,
    limit: u32,
) -> (Vec<TailBatch>, TailPosition) {
    let mut found = Vec::new();
    loop {
        let page = store.tail(&at, limit).await.unwrap();
        assert!(page.batches.len() <= limit as usize);
        found.extend(page.batches);
        at = page.next;
        if !page.more {
            return (found, at);
        }
    }
}

pub(crate) async fn the_tail_has_what_was_committed_since_once_and_in_order(store: &dyn Store) {
    one(store, samples("a", 1, &[(0, 0.5, T0)]), T0).await;
    let begin = store.tail_end().await.unwrap();
    assert_eq!(rest(store, begin.clone(), 9).await.0, []);
    for seq in 2..=6 {
        one(store, samples("a", seq, &[(0, seq as f64, T0), (1, 1.0, T0 + seq as i64)]), T0).await;
    }
    let all = [
        samples("a", 7, &[]),
        samples("b", 1, &[(2, 2.0, T0)]),
        samples("b", 3, &[(2, 9.0, T0)]),
        samples("a", 2, &[(0, 2.0, T0)]),
    ];
    store.commit(all.to_vec(), T0).await.unwrap();
    for limit in [1, 2, 3, 100] {
        let (found, end) = rest(store, begin.clone(), limit).await;
        let first: Vec<f64> = found.iter().map(|batch| batch.values[0]).collect();
        assert_eq!(first, [2.0, 3.0, 4.0, 5.0, 6.0, 2.0], "{limit} at a time");
        let last = &found[4];
        assert_eq!((&last.series, &last.times), (&vec![1, 2], &vec![T0, T0 + 6]));
        assert_eq!(rest(store, end, 9).await.0, []);
    }
    let infos = store.known_series(&[3, 99, 1]).await.unwrap();
    let label = |at: usize| infos[at].key.labels.get("i").unwrap().to_owned();
    assert_eq!((infos.len(), infos[0].id, label(0), label(1)), (2, 3, "2".into(), "0".into()));
}

pub(crate) async fn what_was_committed_a_moment_ago_is_not_packed_away_from_the_tail(
    store: &dyn Store,
) {
    const LATE: i64 = T0 + 10 * super::HOUR;
    const MINUTE: i64 = 60_000;
    let left = async || store.sizes().await.unwrap().tail_samples;
    one(store, samples("a", 1, &[(0, 1.0, LATE - super::HOUR)]), LATE - super::HOUR).await;
    let begin = store.tail_end().await.unwrap();
    // The hour of its time is over for long, and it has just come.
    one(store, samples("a", 2, &[(0, 2.0, T0), (1, 3.0, T0)]), LATE + 6 * MINUTE).await;
    store.maintain(LATE + 7 * MINUTE).await.unwrap();
    assert_eq!((left().await, rest(store, begin, 9).await.0.len()), (2, 1));
    store.maintain(LATE + super::HOUR + 6 * MINUTE).await.unwrap();
    assert_eq!(left().await, 0);
}

pub(crate) async fn of_what_is_packed_in_part_the_tail_has_the_rest(store: &dyn Store) {
    one(store, samples("a", 1, &[(0, 0.5, T0)]), T0).await;
    let begin = store.tail_end().await.unwrap();
    let (early, late) = ((0, 1.0, T0 + 1), (1, 2.0, T0 + 5 * super::HOUR));
    let half = T0 + super::HOUR / 2;
    one(store, samples("a", 2, &[early, late]), half).await;
    one(store, samples("a", 3, &[(0, 3.0, late.2)]), half).await;
    let found = async || {
        let batches = rest(store, begin.clone(), 9).await.0;
        batches.into_iter().map(|batch| (batch.times, batch.values)).collect::<Vec<_>>()
    };
    let last = (vec![late.2], vec![3.0]);
    let whole = (vec![early.2, late.2], vec![1.0, 2.0]);
    assert_eq!(found().await, [whole, last.clone()]);
    while store.maintain(half + super::HOUR + 1).await.unwrap().1 {}
    assert_eq!(store.sizes().await.unwrap().tail_samples, 2);
    assert_eq!(found().await, [(vec![late.2], vec![2.0]), last]);
}
