use sentinel_sdk::{BatchBuilder, Kind, config as json};

use super::*;

type Written<'t> = (Kind, &'t str, &'t [(&'t str, &'t str)], f64);

fn batch(rows: &[Written<'_>]) -> Batch {
    let mut builder = BatchBuilder::at(7);
    for (kind, name, labels, value) in rows {
        builder.push(*kind, name, labels, *value);
    }
    builder.finish().parts().next().unwrap().clone()
}

fn plugin(rules: &str) -> Rows {
    let text = format!(r#"{{"rules": [{rules}]}}"#);
    json::parse(&text).and_then(Rows::configure).unwrap_or_else(|found| panic!("{found:?}"))
}

fn run(rules: &str, rows: &[Written<'_>]) -> Vec<String> {
    let output = plugin(rules).reshape(batch(rows)).unwrap();
    output.samples().map(|sample| sample.to_string()).collect()
}

const GAUGES: &[Written<'_>] = &[
    (Kind::Gauge, "node_load1", &[("instance", "a:9100"), ("job", "node")], 1.0),
    (Kind::Gauge, "node_time_ms", &[("instance", "b:9100"), ("job", "node")], 2_500.0),
    (Kind::Counter, "go_gc_total", &[("instance", "a:9100"), ("job", "go")], 3.0),
];

fn check(rules: &str, expect: &[&str]) {
    assert_eq!(run(rules, GAUGES), expect, "{rules}");
}

#[test]
fn no_rules_change_nothing() {
    assert_eq!(plugin("").reshape(batch(GAUGES)).unwrap(), batch(GAUGES));
}

#[test]
fn rows_are_dropped_and_kept_by_name_and_labels() {
    let load = r#"node_load1{instance="a:9100",job="node"} 1"#;
    let time = r#"node_time_ms{instance="b:9100",job="node"} 2500"#;
    let gc = r#"go_gc_total{instance="a:9100",job="go"} 3"#;
    for (rule, expect) in [
        (r#"{"drop": {"select": {"name": "go_*"}}}"#, &[load, time][..]),
        (r#"{"drop": {"select": {}}}"#, &[]),
        (r#"{"keep": {"select": {"name_regex": "node_.*|go"}}}"#, &[load, time]),
        (r#"{"keep": {"select": {"labels": [{"label": "job", "value": "go"}]}}}"#, &[gc]),
        (
            r#"{"keep": {"select": {"name": "node_*", "labels": [
                {"label": "instance", "op": "regex", "value": "a.*"}]}}}"#,
            &[load],
        ),
        (
            r#"{"drop": {"select": {"labels": [
                {"label": "instance", "op": "not_regex", "value": "a:.*"}]}}}"#,
            &[load, gc],
        ),
        (
            r#"{"drop": {"select": {"labels": [
                {"label": "absent", "op": "not_equal", "value": "x"},
                {"label": "job", "op": "not_equal", "value": "go"}]}}}"#,
            &[gc],
        ),
        (r#"{"drop": {"select": {"labels": [{"label": "absent", "value": ""}]}}}"#, &[]),
    ] {
        check(rule, expect);
    }
}

#[test]
fn names_are_rewritten_and_later_rules_see_the_new_name() {
    check(
        r#"{"rename": {"pattern": "node_(.*)_ms", "to": "host_${1}_seconds"}},
           {"scale": {"select": {"name": "host_*_seconds"}, "factor": 0.001}},
           {"drop": {"select": {"name": "node_time_ms"}}},
           {"drop": {"select": {"name": "go_*"}}}"#,
        &[
            r#"node_load1{instance="a:9100",job="node"} 1"#,
            r#"host_time_seconds{instance="b:9100",job="node"} 2.5"#,
        ],
    );
}

#[test]
fn a_rename_under_a_condition_on_labels_takes_only_the_rows_that_fulfil_it() {
    check(
        r#"{"rename": {"select": {"labels": [{"label": "job", "value": "go"}]}, "to": "x"}},
           {"scale": {"select": {"name": "x"}, "factor": 10, "offset": 1}},
           {"drop_label": {"label": "job"}}"#,
        &[
            r#"node_load1{instance="a:9100"} 1"#,
            r#"node_time_ms{instance="b:9100"} 2500"#,
            r#"x{instance="a:9100"} 31"#,
        ],
    );
}

#[test]
fn a_name_that_would_be_malformed_is_not_given() {
    check(
        r#"{"drop": {"select": {"name": "go_*"}}},
           {"rename": {"pattern": "node_(.*)", "to": "9${1}"}},
           {"relabel": {"source_labels": ["instance"], "target_label": "__name__",
                        "replacement": "$1-x"}}"#,
        &[
            r#"node_load1{instance="a:9100",job="node"} 1"#,
            r#"node_time_ms{instance="b:9100",job="node"} 2500"#,
        ],
    );
}

#[test]
fn labels_are_made_of_others() {
    check(
        r#"{"relabel": {"source_labels": ["instance"], "regex": "(.*):\\d+", "target_label": "host"}},
           {"relabel": {"source_labels": ["job", "__name__"], "separator": "/",
                        "regex": "(?<job>.*)/(.)[^_]*_(.*)", "target_label": "path",
                        "replacement": "$job-${2}-$3"}},
           {"relabel": {"source_labels": ["job"], "regex": "go", "target_label": "job",
                        "replacement": ""}},
           {"drop_label": {"label": "instance"}}"#,
        &[
            r#"node_load1{host="a",job="node",path="node-n-load1"} 1"#,
            r#"node_time_ms{host="b",job="node",path="node-n-time_ms"} 2500"#,
            r#"go_gc_total{host="a",path="go-g-gc_total"} 3"#,
        ],
    );
}

#[test]
fn the_name_is_a_label_to_relabelling() {
    check(
        r#"{"relabel": {"source_labels": ["job", "__name__"], "separator": ":",
                        "regex": "node:node_(.*)", "target_label": "__name__"}},
           {"keep": {"select": {"name": "load1"}}}"#,
        &[r#"load1{instance="a:9100",job="node"} 1"#],
    );
}

#[test]
fn labels_are_set_renamed_and_dropped() {
    check(
        r#"{"keep": {"select": {"name": "*_load1"}}},
           {"set_label": {"label": "env", "value": "prod"}},
           {"set_label": {"label": "job", "value": "x", "select": {"name": "other"}}},
           {"rename_label": {"from": "instance", "to": "host"}},
           {"drop_label": {"label": "job"}}"#,
        &[r#"node_load1{env="prod",host="a:9100"} 1"#],
    );
}

fn histogram(labels: &'static [(&'static str, &'static str)]) -> Vec<Written<'static>> {
    vec![
        (Kind::HistogramBucket, "req_bucket", labels, 0.0),
        (Kind::HistogramSum, "req_sum", &[("code", "200")], 20.0),
        (Kind::HistogramCount, "req_count", &[("code", "200")], 10.0),
    ]
}

#[test]
fn a_complete_histogram_becomes_quantiles_and_an_average() {
    let mut rows = vec![
        (Kind::HistogramBucket, "req_bucket", &[("le", "1"), ("code", "200")][..], 5.0),
        (Kind::HistogramBucket, "req_bucket", &[("code", "200"), ("le", "+Inf")], 10.0),
        (Kind::HistogramBucket, "req_bucket", &[("code", "200"), ("le", "3")], 9.0),
    ];
    rows.extend(histogram(&[("code", "500"), ("le", "1")]));
    assert_eq!(
        run(r#"{"flatten_histogram": {"quantiles": [0.9, 0.5]}}"#, &rows),
        [
            // Without its last bucket in the batch.
            r#"req_bucket{code="500",le="1"} 0"#,
            r#"req_sum{code="200"} 20"#,
            r#"req_count{code="200"} 10"#,
            r#"req{code="200",quantile="0.5"} 1"#,
            r#"req{code="200",quantile="0.9"} 3"#,
            r#"req_avg{code="200"} 2"#,
        ]
    );
    let rest = run(
        r#"{"flatten_histogram": {"quantiles": [], "keep_sum_and_count": false}},
           {"scale": {"select": {"name": "*_avg"}, "factor": 1000}}"#,
        &rows,
    );
    assert_eq!(rest, [r#"req_bucket{code="500",le="1"} 0"#, r#"req_avg{code="200"} 2000"#]);
    let other = r#"{"flatten_histogram": {"select": {"name": "other_bucket"}}}"#;
    assert_eq!(run(other, &rows).len(), rows.len());
}

#[test]
fn a_histogram_without_observations_yields_nothing() {
    assert_eq!(
        run(r#"{"flatten_histogram": {}}"#, &histogram(&[("code", "200"), ("le", "+Inf")])),
        [r#"req_sum{code="200"} 20"#, r#"req_count{code="200"} 10"#]
    );
}

#[test]
fn a_histogram_that_cannot_be_flattened_stays_as_it_is() {
    let rows = [
        (Kind::HistogramBucket, "_bucket", &[("le", "+Inf")][..], 1.0),
        (Kind::HistogramBucket, "a_bucket", &[("le", "+Inf"), ("quantile", "x")], 2.0),
        (Kind::HistogramBucket, "b_bucket", &[("le", "much")], 3.0),
        (Kind::HistogramBucket, "c_bucket", &[], 4.0),
        (Kind::Gauge, "d_bucket", &[("le", "+Inf")], 5.0),
    ];
    let output = plugin(r#"{"flatten_histogram": {}}"#).reshape(batch(&rows)).unwrap();
    assert_eq!(output, batch(&rows));
}

#[test]
fn wrong_rules_are_all_named_with_their_places() {
    let config = r#"{"rules": [
        {"drop": {"select": {"name_regex": "("}}},
        {"set_label": {"label": "__x", "value": "v"}},
        {"rename": {"pattern": "a_(.*)", "to": "b_$1_total"}},
        {"rename": {"to": "no-name"}},
        {"relabel": {"source_labels": [], "target_label": "a b", "regex": "[", "replacement": "$$1"}},
        {"flatten_histogram": {"quantiles": [1.5]}},
        {"keep": {"select": {"labels": [{"label": "ok", "op": "regex", "value": "*"}]}}}
    ]}"#;
    let found = json::parse(config).and_then(Rows::configure).unwrap_err();
    insta::assert_snapshot!(found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
}

#[test]
fn a_rule_of_the_wrong_shape_is_named_with_its_place() {
    for (config, place) in [
        (r#"{"rules": [{"drop": {}}]}"#, "/rules/0/drop"),
        (r#"{"rules": [{"scale": {"factor": "x"}}]}"#, "/rules/0/scale/factor"),
        (r#"{"rules": [{"dorp": {"select": {}}}]}"#, "/rules/0"),
    ] {
        let found = json::parse(config).and_then(Rows::configure).unwrap_err();
        assert!(found[0].path.starts_with(place), "{found:?}");
    }
}

#[test]
fn the_schema_tells_every_rule() {
    let schema = json::schema::<Config>();
    for verb in ["drop", "keep", "rename", "relabel", "set_label", "scale", "flatten_histogram"] {
        assert!(schema.contains(&format!("{{\"{verb}\":")), "{verb} is not in {schema}");
    }
}
