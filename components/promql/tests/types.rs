//! What Prometheus refuses for its types is refused where it is imported, at its place.

use sentinel_promql::condition;

const ROWS: &str = "a number where rows are needed";

#[test]
fn a_number_is_refused_where_prometheus_takes_rows_only() {
    for (expression, at, said) in [
        ("m unless time()", 9, ROWS),
        ("time() and m", 0, ROWS),
        ("m or 1", 5, ROWS),
        ("abs(-1)", 4, ROWS),
        ("sort(time())", 5, ROWS),
        ("sum by (job) (1)", 14, ROWS),
        ("histogram_quantile(0.9, time())", 24, ROWS),
        ("vector(m)", 7, "vector takes a number"),
        ("1 > 2", 0, "two numbers are compared with `bool` only"),
        ("m > on (job) 1", 0, "a number has no labels to match"),
        ("time() * ignoring (job) group_left m", 0, "a number has no labels to match"),
    ] {
        let refused = condition(expression).unwrap_err();
        let found: Vec<_> = refused.iter().map(|one| (one.at, one.message.as_str())).collect();
        assert!(found.len() == 1 && found[0].0 == at, "{expression}: {found:?}");
        assert!(found[0].1.starts_with(said), "{expression}: {found:?}");
    }
}

#[test]
fn a_number_is_taken_where_prometheus_takes_one() {
    for expression in [
        "m unless vector(time())",
        "vector(1) and m",
        "abs(vector(-1))",
        "1 > bool 2",
        "m > 1",
        "time() - m > 3600",
        "vector(time() * 2)",
        "m * on (job) group_left n",
    ] {
        assert!(condition(expression).is_ok(), "{expression}: {:?}", condition(expression));
    }
}
