use super::{HOUR, T0, one, record, samples};
use sentinel_model::batch::BatchBuilder;
use sentinel_model::columns::Kind;
use sentinel_model::duration::Millis;
use sentinel_store::Store;
use sentinel_store::ingest::Content;
use sentinel_store::query::TimeRange;
use std::sync::Arc;

pub(crate) async fn selectors_find_series(store: &dyn Store) {
    let mut builder = BatchBuilder::new();
    for (name, code, job) in
        [("http", "200", "web"), ("http", "503", "web"), ("http", "503", "db"), ("up", "1", "web")]
    {
        builder.push(name, [("code", code), ("job", job)], Kind::Counter, 1.0, T0);
    }
    builder.push("http", [], Kind::Counter, 1.0, T0);
    one(store, record("a", 1, Content::Samples(Arc::new(builder.build().unwrap()))), T0).await;
    for (selector, expected) in [
        ("http", vec![1, 2, 3, 5]),
        (r#"http{code="503"}"#, vec![2, 3]),
        (r#"http{code=~"5..", job!="db"}"#, vec![2]),
        (r#"http{job=""}"#, vec![5]),
        (r#"http{absent=""}"#, vec![1, 2, 3, 5]),
        (r#"http{absent="x"}"#, vec![]),
        (r#"http{code!~"2.."}"#, vec![2, 3, 5]),
        ("none", vec![]),
    ] {
        let found = store.series(&selector.parse().unwrap()).await.unwrap();
        assert_eq!(found.iter().map(|s| s.id).collect::<Vec<_>>(), expected, "{selector}");
        let selector: sentinel_model::series::Selector = selector.parse().unwrap();
        assert!(found.iter().all(|s| selector.matches(&s.key)));
        assert_eq!(store.series_ids(&selector).await.unwrap(), expected, "{selector}");
    }
}

pub(crate) async fn names_are_found_by_prefix(store: &dyn Store) {
    let mut builder = BatchBuilder::new();
    for name in ["system_cpu", "system_load", "nginx_up", "system_"] {
        builder.push(name, [], Kind::Gauge, 1.0, T0);
    }
    one(store, record("a", 1, Content::Samples(Arc::new(builder.build().unwrap()))), T0).await;
    let names = |prefix: &'static str| async move { store.metric_names(prefix).await.unwrap() };
    assert_eq!(names("system_").await, ["system_", "system_cpu", "system_load"]);
    assert_eq!(names("").await.len(), 4);
    assert!(names("z").await.is_empty());
}

pub(crate) async fn of_samples_at_one_time_the_last_committed_counts(store: &dyn Store) {
    one(store, samples("a", 1, &[(0, 1.0, T0), (0, 2.0, T0), (0, 0.5, T0 - 1)]), T0).await;
    let range = TimeRange { start: T0 - HOUR, end: T0 + HOUR };
    let all = |store| async move {
        let points = Store::samples(store, &[1], range).await.unwrap().remove(0);
        points.times.into_iter().zip(points.values).collect::<Vec<_>>()
    };
    assert_eq!(all(store).await, [(T0 - 1, 0.5), (T0, 2.0)]);
    one(store, samples("a", 2, &[(0, 3.0, T0), (0, 4.0, T0 + 1)]), T0).await;
    one(store, samples("a", 3, &[(1, 9.0, T0), (0, 5.0, T0 + 1)]), T0).await;
    assert_eq!(all(store).await, [(T0 - 1, 0.5), (T0, 3.0), (T0 + 1, 5.0)]);
}

pub(crate) async fn ranges_exclude_their_start_and_include_their_end(store: &dyn Store) {
    one(store, samples("a", 1, &[(0, 1.0, T0), (0, 2.0, T0 + 1), (0, 3.0, T0 + 2)]), T0).await;
    for round in 0..2 {
        for (start, end, expected) in [
            (T0 - 1, T0 + 2, vec![1.0, 2.0, 3.0]),
            (T0, T0 + 1, vec![2.0]),
            (T0, T0, vec![]),
            (T0 + 2, T0, vec![]),
            (i64::MIN, i64::MAX, vec![1.0, 2.0, 3.0]),
        ] {
            let range = TimeRange { start, end };
            let points = store.samples(&[1], range).await.unwrap().remove(0);
            assert_eq!(points.values, expected, "{start} {end}, round {round}");
        }
        store.maintain(T0 + 2 * HOUR).await.unwrap();
    }
}

pub(crate) async fn a_step_keeps_the_last_sample_in_it(store: &dyn Store) {
    let rows: Vec<(u32, f64, i64)> =
        (1..=10).map(|i| (0, f64::from(i), T0 + i64::from(i) * 10)).collect();
    one(store, samples("a", 1, &rows), T0).await;
    let selector = "g".parse().unwrap();
    let range = TimeRange { start: T0, end: T0 + 95 };
    for _ in 0..2 {
        let found = store.range(&selector, range, Some(Millis(30))).await.unwrap();
        assert_eq!(found[0].points.values, [3.0, 6.0, 9.0]);
        assert_eq!(found[0].points.times, [T0 + 30, T0 + 60, T0 + 90]);
        assert_eq!(store.range(&selector, range, None).await.unwrap()[0].points.times.len(), 9);
        store.maintain(T0 + 2 * HOUR).await.unwrap();
    }
}

pub(crate) async fn odd_values_and_times_come_back_bit_by_bit(store: &dyn Store) {
    let values = [f64::NAN, -0.0, f64::INFINITY, f64::MIN_POSITIVE, 0.1 + 0.2, -1e300, 1e17];
    let mut rows: Vec<(u32, f64, i64)> =
        (0..).zip(values).map(|(i, value)| (0, value, T0 + i)).collect();
    let times = [i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX];
    rows.extend(times.iter().map(|&time| (0, 7.25, time)));
    one(store, samples("a", 1, &rows), T0).await;
    rows.sort_by_key(|r| r.2);
    // The far past is dropped where packing meets it, so it is asked for before only.
    for (round, from) in [(0, i64::MIN), (1, T0 - 1)] {
        let range = TimeRange { start: from, end: i64::MAX };
        let points = store.samples(&[1], range).await.unwrap().remove(0);
        let found: Vec<_> =
            points.times.iter().zip(&points.values).map(|(&t, v)| (t, v.to_bits())).collect();
        let expected: Vec<_> =
            rows.iter().filter(|r| r.2 > from).map(|r| (r.2, r.1.to_bits())).collect();
        assert_eq!(found, expected, "round {round}");
        store.maintain(T0 + 5 * HOUR).await.unwrap();
    }
}
