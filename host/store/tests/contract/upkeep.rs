use super::{DAY, HOUR, T0, one, samples};
use sentinel_store::Store;
use sentinel_store::query::TimeRange;

const MINUTE: i64 = 60_000;

async fn values(store: &dyn Store, series: u32, start: i64, end: i64) -> Vec<f64> {
    store.samples(&[series], TimeRange { start, end }).await.unwrap().remove(0).values
}

/// Three series every minute for some minutes.
async fn fill(store: &dyn Store, seq: &mut u64, from: i64, minutes: i64) {
    for minute in 0..minutes {
        let time = from + minute * MINUTE;
        let value = (time - T0) as f64 / 1000.0;
        *seq += 1;
        let rows = [(0, 1.0, time), (1, value, time), (2, value.sin(), time)];
        one(store, samples("a", *seq, &rows), time).await;
    }
}

pub(crate) async fn packing_changes_no_answer(store: &dyn Store) {
    let mut seq = 0;
    fill(store, &mut seq, T0, 150).await;
    let all = TimeRange { start: T0 - 1, end: T0 + DAY };
    let before = store.samples(&[1, 2, 3], all).await.unwrap();
    let now = T0 + 150 * MINUTE;
    let (done, more) = store.maintain(now).await.unwrap();
    assert_eq!((done.batches_packed, done.samples_packed, more), (120, 360, false));
    assert_eq!(store.samples(&[1, 2, 3], all).await.unwrap(), before);
    let sizes = store.sizes().await.unwrap();
    assert_eq!((sizes.tail_samples, sizes.packed_samples, sizes.series), (90, 360, 3));
    let (again, _) = store.maintain(now).await.unwrap();
    assert_eq!((again.batches_packed, again.dropped), (0, 0));
}

pub(crate) async fn late_samples_join_the_packed_hour(store: &dyn Store) {
    let mut seq = 0;
    fill(store, &mut seq, T0, 60).await;
    store.maintain(T0 + HOUR + 10 * MINUTE).await.unwrap();
    let late = [(0, 5.0, T0 + 30_000), (0, 6.0, T0), (7, 8.0, T0 + 1), (0, 9.0, T0 + HOUR)];
    one(store, samples("a", seq + 1, &late), T0 + HOUR + 20 * MINUTE).await;
    for _ in 0..2 {
        let found = values(store, 1, T0 - 1, T0 + MINUTE).await;
        assert_eq!(found, [6.0, 5.0, 1.0]);
        assert_eq!(values(store, 1, T0 - 1, T0 + DAY).await.len(), 62);
        assert_eq!(values(store, 4, T0 - 1, T0 + DAY).await, [8.0]);
        store.maintain(T0 + 2 * HOUR + 10 * MINUTE).await.unwrap();
    }
    let sizes = store.sizes().await.unwrap();
    assert_eq!((sizes.tail_samples, sizes.packed_samples), (0, 183));
}

pub(crate) async fn an_hour_is_packed_once_it_is_over(store: &dyn Store) {
    // A batch at the border, with rows of both hours, is packed in part.
    let rows = [(0, 1.0, T0 + HOUR - 1), (1, 2.0, T0 + HOUR)];
    one(store, samples("a", 1, &[(0, 0.0, T0)]), T0).await;
    one(store, samples("a", 2, &rows), T0 + HOUR - 1).await;
    let tail = |store| async move { Store::sizes(store).await.unwrap().tail_samples };
    store.maintain(T0 + HOUR + 4 * MINUTE).await.unwrap();
    assert_eq!(tail(store).await, 3);
    store.maintain(T0 + HOUR + 6 * MINUTE).await.unwrap();
    assert_eq!(tail(store).await, 1);
    assert_eq!(values(store, 1, T0 - 1, T0 + DAY).await, [0.0, 1.0]);
    assert_eq!(values(store, 2, T0 - 1, T0 + DAY).await, [2.0]);
    // Times far ahead do not stay in the tail for ever.
    one(store, samples("a", 3, &[(1, 3.0, T0 + 1000 * DAY)]), T0 + HOUR).await;
    store.maintain(T0 + 4 * HOUR).await.unwrap();
    assert_eq!(tail(store).await, 0);
    assert_eq!(values(store, 2, T0 - 1, T0 + 2000 * DAY).await, [2.0, 3.0]);
}

pub(crate) async fn old_samples_live_on_as_rollups_and_then_go(store: &dyn Store) {
    let mut seq = 0;
    fill(store, &mut seq, T0, 180).await;
    store.maintain(T0 + 4 * HOUR).await.unwrap();
    let selector = r#"g{i="1"}"#.parse().unwrap();
    let range = TimeRange { start: T0 - 1, end: T0 + DAY };
    let count = |store| async move {
        let found = Store::range(store, &selector, range, None).await.unwrap();
        found[0].points.times.clone()
    };
    assert_eq!(count.clone()(store).await.len(), 180);
    // An hour of raw samples is gone, its last sample stays.
    let (done, _) = store.maintain(T0 + 7 * DAY + HOUR).await.unwrap();
    assert_eq!(done.dropped, 3);
    let times = count.clone()(store).await;
    assert_eq!(times.len(), 121);
    assert_eq!(times[..2], [T0 + 59 * MINUTE, T0 + 60 * MINUTE]);
    assert_eq!(values(store, 2, T0 - 1, T0 + DAY).await.len(), 120);
    assert_eq!(store.sizes().await.unwrap().packed_samples, 360);
    store.maintain(T0 + 30 * DAY).await.unwrap();
    assert_eq!(count.clone()(store).await.len(), 3);
    store.maintain(T0 + 90 * DAY + HOUR).await.unwrap();
    assert_eq!(count(store).await.len(), 2);
    assert_eq!(store.sizes().await.unwrap().packed_samples, 0);
}

pub(crate) async fn odd_values_live_on_in_rollups_bit_by_bit(store: &dyn Store) {
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let odd = [f64::NAN, stale, -0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY, 5e-324, -1.5];
    let rows: Vec<_> = (0..).zip(odd).map(|(i, value)| (i, value, T0)).collect();
    one(store, samples("a", 1, &rows), T0).await;
    store.maintain(T0 + 2 * HOUR).await.unwrap();
    store.maintain(T0 + 7 * DAY + HOUR).await.unwrap();
    assert_eq!(store.sizes().await.unwrap().packed_samples, 0, "they are rollups now");
    let range = TimeRange { start: T0 - 1, end: T0 };
    for (i, value) in (0..).zip(odd) {
        let selector = format!("g{{i=\"{i}\"}}").parse().unwrap();
        let found = store.range(&selector, range, None).await.unwrap();
        assert_eq!(found[0].points.values[0].to_bits(), value.to_bits(), "{value}");
    }
}
