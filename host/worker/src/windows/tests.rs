use super::*;
use sentinel_model::batch::BatchBuilder;
use sentinel_model::columns::Kind;
use sentinel_runtime::evaluator::Aggregate;

fn need(selector: &str, window_ms: u64) -> Need {
    Need { selector: Arc::new(selector.parse().unwrap()), window_ms }
}

fn query(selector: &str, window_ms: u64, offset_ms: u64) -> Query {
    let selector = Arc::new(selector.parse().unwrap());
    Query { selector, window_ms, offset_ms, aggregate: Aggregate::Sum }
}

/// Rows of `cpu` on core 0 and 1 and `mem`, whose ids are 1, 2 and 3.
fn push(windows: &mut Windows, time: i64, value: f64) {
    let mut builder = BatchBuilder::new();
    builder
        .push("cpu", [("core", "0")], Kind::Gauge, value, time)
        .push("cpu", [("core", "1")], Kind::Gauge, 10.0 * value, time)
        .push("mem", [], Kind::Gauge, 100.0 * value, time);
    windows.push(&builder.build().unwrap(), &[1, 2, 3]);
}

fn sums(windows: &Windows, at: i64, query: &Query) -> Vec<(u64, f64)> {
    let answer = windows.ask(at, query).unwrap();
    answer.series.into_iter().zip(answer.value).collect()
}

#[test]
fn only_series_that_a_rule_reads_are_kept() {
    let mut windows = Windows::default();
    push(&mut windows, 500, 9.0);
    assert_eq!(windows.set_needs(&[need("cpu{core=\"1\"}", 5_000)]).len(), 1);
    push(&mut windows, 1_000, 1.0);
    push(&mut windows, 2_000, 2.0);
    assert_eq!(windows.size(), (1, 2));
    assert_eq!(sums(&windows, 2_000, &query("cpu{core=\"1\"}", 5_000, 0)), [(2, 30.0)]);
    assert_eq!(windows.labels(2).unwrap().get("core"), Some("1"));
    assert_eq!((windows.labels(1), windows.labels(u64::MAX)), (None, None));
}

#[test]
fn what_no_plan_announced_is_not_answered() {
    let mut windows = Windows::default();
    windows.set_needs(&[need("cpu", 5_000)]);
    assert!(windows.ask(0, &query("cpu", 3_000, 2_000)).is_ok());
    for unplanned in
        [query("cpu", 3_000, 2_001), query("mem", 1, 0), query("cpu{core=\"1\"}", 1, 0)]
    {
        assert_eq!(windows.ask(0, &unplanned), Err(QueryError::Unplanned));
    }
    let quantile = Query { aggregate: Aggregate::Quantile(1.5), ..query("cpu", 1, 0) };
    assert!(matches!(windows.ask(0, &quantile), Err(QueryError::Invalid(_))));
}

#[test]
fn an_offset_moves_the_window_back() {
    let mut windows = Windows::default();
    windows.set_needs(&[need("mem", 10_000)]);
    for second in 1..=9 {
        push(&mut windows, second * 1000, second as f64);
    }
    assert_eq!(sums(&windows, 9_000, &query("mem", 2_000, 3_000)), [(3, 1_100.0)]);
}

#[test]
fn new_needs_load_what_they_lack_and_forget_what_nobody_reads() {
    let mut windows = Windows::default();
    for load in windows.set_needs(&[need("cpu", 5_000), need("mem", 5_000)]) {
        windows.filled(&load);
    }
    push(&mut windows, 1_000, 1.0);
    let loads = windows.set_needs(&[need("cpu", 9_000), need("cpu{core=\"0\"}", 1_000)]);
    let loads: Vec<_> = loads.iter().map(|l| (l.selector.to_string(), l.window_ms)).collect();
    assert_eq!(loads, [("cpu".to_owned(), 9_000), ("cpu{core=\"0\"}".to_owned(), 1_000)]);
    assert_eq!(windows.size(), (2, 2), "mem is gone, cpu keeps what it had");
    assert_eq!(sums(&windows, 1_000, &query("cpu{core=\"0\"}", 1_000, 0)), [(1, 1.0)]);
    assert_eq!(windows.set_needs(&[need("cpu", 9_000)]).len(), 1, "not filled yet");
    assert_eq!(windows.set_needs(&[need("cpu", 4_000)]), [], "less needs no load");
    assert_eq!(
        windows.set_needs(&[need("cpu", 5_000)]).len(),
        1,
        "what was forgotten is read again"
    );
}

#[test]
fn stored_samples_go_under_those_that_came_since() {
    let mut windows = Windows::default();
    windows.set_needs(&[need("mem", 60_000)]);
    push(&mut windows, 2_000, 2.0);
    let key = SeriesKey { name: "mem".into(), labels: Labels::default() };
    windows.adopt(vec![
        SeriesInfo { id: 3, key: key.clone(), kind: 0 },
        SeriesInfo { id: 4, key, kind: 0 },
    ]);
    windows.merge(3, &[1_000, 2_000], &[1.0, 7.0]);
    windows.merge(4, &[1_000, 2_000], &[1.0, 7.0]);
    assert_eq!(sums(&windows, 9_000, &query("mem", 60_000, 0)), [(3, 201.0), (4, 8.0)]);
}

#[test]
fn memory_follows_the_longest_window() {
    let mut windows = Windows::default();
    windows.set_needs(&[need("cpu", 5_000), need("cpu{core=\"1\"}", 20_000)]);
    for second in 0..200 {
        push(&mut windows, second * 1000, 1.0);
    }
    windows.forget(200_000);
    let kept = |span: i64| ((span + MARGIN_MS) / 1000 - 1) as usize;
    assert_eq!(windows.size(), (2, kept(5_000) + kept(20_000)));
}

#[test]
fn series_that_wait_for_what_is_being_read_are_not_forgotten() {
    let mut windows = Windows::default();
    let loads = windows.set_needs(&[need("pod", 5_000), need("cpu", 5_000)]);
    windows.refuse(&"cpu".parse().unwrap(), 100_001);
    let key = |id: u32| SeriesKey {
        name: "pod".into(),
        labels: [("id".to_owned(), id.to_string())].into_iter().collect(),
    };
    windows.adopt((1..500).map(|id| SeriesInfo { id, key: key(id), kind: 0 }).collect());
    windows.forget(3_000);
    windows.merge(7, &[2_000], &[1.0]);
    loads.iter().for_each(|load| windows.filled(load));
    assert_eq!(sums(&windows, 3_000, &query("pod", 5_000, 0)), [(7, 1.0)]);
    windows.forget(3_000);
    assert_eq!(windows.size(), (1, 1), "the rest has none, and nothing is being read");
}

#[test]
fn more_series_than_may_be_answered_are_refused_not_cut() {
    let mut windows = Windows::default();
    windows.set_needs(&[need("cpu", 5_000)]);
    windows.refuse(&"cpu".parse().unwrap(), 100_001);
    assert_eq!(windows.ask(0, &query("cpu", 5_000, 0)), Err(QueryError::TooMany(100_001)));
}

#[test]
fn series_that_have_no_samples_left_are_forgotten_and_come_back_as_they_were() {
    let mut windows = Windows::default();
    let loads = windows.set_needs(&[need("pod", 5_000), need("cpu", 5_000)]);
    loads.iter().for_each(|load| windows.filled(load));
    for id in 10..500 {
        let mut builder = BatchBuilder::new();
        builder.push("pod", [("id", id.to_string().as_str())], Kind::Gauge, 1.0, 1_000);
        windows.push(&builder.build().unwrap(), &[id]);
    }
    push(&mut windows, 100_000, 1.0);
    assert_eq!(windows.size().0, 492);
    windows.forget(100_000);
    assert_eq!(windows.size(), (2, 2));
    assert_eq!(sums(&windows, 100_000, &query("cpu", 5_000, 0)), [(1, 1.0), (2, 10.0)]);
    assert_eq!((windows.labels(10), windows.labels(2).unwrap().get("core")), (None, Some("1")));
    // Its id means another series now.
    let mut builder = BatchBuilder::new();
    builder.push("pod", [("id", "new")], Kind::Gauge, 3.0, 101_000);
    windows.push(&builder.build().unwrap(), &[10]);
    assert_eq!(sums(&windows, 101_000, &query("pod", 5_000, 0)), [(10, 3.0)]);
    assert_eq!(windows.labels(10).unwrap().get("id"), Some("new"));
}
