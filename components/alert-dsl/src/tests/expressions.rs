//! Expressions: random ones against the reference, and examples.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::expression_reference::{Ambiguous, ESTIMATES, Rows, find};
use super::random::{AT, absent, by, installed, measure, text, world};
use super::reference::Labels;
use super::*;

fn leaf() -> impl Strategy<Value = Value> + Clone {
    let estimated = (
        measure(),
        prop::option::of(prop_oneof![
            10 => select(ESTIMATES.to_vec()).prop_map(|word| json!(word)),
            1 => text(&["0s", "90s"]).prop_map(|ahead| json!({ "predict": ahead })),
        ]),
        prop::option::of(any::<bool>()),
        prop::option::of((by(), text(&["sum", "avg", "min", "max", "count"]))),
    );
    let estimated = estimated.prop_map(|(mut measure, function, closed, groups)| {
        measure.extend(function.map(|function| ("fn".to_owned(), function)));
        measure.extend(closed.map(|closed| ("closed".to_owned(), json!(closed))));
        if let Some((by, combine)) = groups {
            measure.insert("by".to_owned(), by);
            measure.insert("combine".to_owned(), combine);
        }
        Value::Object(measure)
    });
    let number = prop_oneof![Just(json!(2)), Just(json!(0.5)), Just(json!("now"))];
    prop_oneof![6 => estimated, 1 => number.prop_map(|n| json!({ "vector": n })), 1 => absent()]
        .boxed()
}

fn with(mut whole: Value, more: impl IntoIterator<Item = (&'static str, Option<Value>)>) -> Value {
    for (key, value) in more {
        if let Some(value) = value {
            whole[key] = value;
        }
    }
    whole
}

/// Rows, some of whose operands are numbers.
pub(super) fn rows() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 10, 2, |inner| {
        let keys = || prop::option::of((any::<bool>(), by()));
        let split = |keys: Option<(bool, Value)>| match keys {
            Some((true, keys)) => (Some(keys), None),
            Some((false, keys)) => (None, Some(keys)),
            None => (None, None),
        };
        let matching = (keys(), prop::option::weighted(0.3, (text(&["left", "right"]), by())));
        let op = prop_oneof![
            3 => select(vec!["add", "sub", "mul", "div", "mod", "pow"]).prop_map(|op| (op, None)),
            3 => (
                select(vec!["above", "at_least", "below", "at_most", "equals", "not_equals"]),
                prop::option::weighted(0.3, any::<bool>()),
            )
                .prop_map(|(op, number)| (op, Some(number))),
        ];
        let operation =
            move |op: (&'static str, Option<Option<bool>>), left: Value, right: Value| match op {
                (word, None) => json!({ word: [left, right] }),
                (word, Some(number)) => {
                    with(json!({ "value": left, word: right }), [("bool", number.map(Value::from))])
                }
            };
        let number = prop_oneof![(0i32..4).prop_map(|n| json!(n)), Just(json!("now"))];
        prop_oneof![
            3 => (op.clone(), inner.clone(), inner.clone(), matching).prop_map(
                move |(op, left, right, (keys, many))| {
                    let (on, ignoring) = split(keys);
                    let (many, include) = many.unzip();
                    with(
                        operation(op, left, right),
                        [("on", on), ("ignoring", ignoring), ("many", many), ("include", include)],
                    )
                }
            ),
            2 => (op, inner.clone(), number, any::<bool>()).prop_map(
                move |(op, rows, number, first)| {
                    if first { operation(op, number, rows) } else { operation(op, rows, number) }
                }
            ),
            2 => (
                text(&["and", "or", "unless"]),
                prop::collection::vec(inner.clone(), 2..4),
                keys()
            )
                .prop_map(move |(word, members, keys)| {
                    let (on, ignoring) = split(keys);
                    let whole = json!({ word.as_str().unwrap(): members });
                    with(whole, [("on", on), ("ignoring", ignoring)])
                }),
            2 => (inner.clone(), keys(), text(&["sum", "avg", "min", "max", "count"])).prop_map(
                move |(of, keys, combine)| {
                    let (by, without) = split(keys);
                    let whole = json!({ "of": of, "combine": combine });
                    with(whole, [("by", by), ("without", without)])
                }
            ),
            1 => (
                inner,
                text(&["abs", "ceil", "floor", "round", "sqrt", "exp", "ln", "log2", "log10", "sign", "negate"])
            )
                .prop_map(|(of, apply)| json!({ "of": of, "apply": apply })),
        ]
    })
}

fn found(outcome: Result<Outcome, Failure>) -> Result<BTreeMap<Labels, f64>, String> {
    let outcome = outcome.map_err(|failure| format!("{failure:?}"))?;
    let row = |one: sentinel_sdk::Instance| (one.labels.into_iter().collect(), one.value);
    Ok(outcome.active.into_iter().map(row).collect())
}

fn same(a: &BTreeMap<Labels, f64>, b: &BTreeMap<Labels, f64>) -> bool {
    let close = |a: f64, b: f64| {
        a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
    };
    a.len() == b.len() && a.iter().zip(b).all(|((la, va), (lb, vb))| la == lb && close(*va, *vb))
}

/// Rows of the same labels count once, the first of them.
fn once(rows: Rows) -> BTreeMap<Labels, f64> {
    let mut map = BTreeMap::new();
    for (labels, value) in rows {
        map.entry(labels).or_insert(value);
    }
    map
}

/// Few in each run of the tests, 10,000 where `PROPTEST_CASES` says so.
fn cases() -> ProptestConfig {
    let said = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig::with_cases(said.unwrap_or(300))
}

static SCHEMA: LazyLock<jsonschema::Validator> =
    LazyLock::new(|| jsonschema::draft202012::new(&crate::json_schema()).unwrap());

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn expressions_hold_as_the_reference_says(world in world(), rows in rows()) {
        let _host = installed(&world);
        let outcome = found(loaded(&[json!({ "holds": rows })]).evaluate(&[0], AT).remove(0));
        match (outcome, find(&world, &rows, AT)) {
            (Ok(outcome), Ok(expected)) => {
                let expected = once(expected.rows());
                prop_assert!(same(&outcome, &expected), "{:?}, not {:?}", outcome, expected);
            }
            (outcome, Ok(_)) => prop_assert!(false, "{outcome:?}"),
            (outcome, Err(Ambiguous)) => prop_assert!(outcome.is_err(), "{outcome:?}"),
        }
    }

    #[test]
    fn a_rule_that_lives_on_says_at_every_step_what_a_new_one_says(
        world in world(), rows in rows(), condition in super::random::condition(),
        steps in prop::collection::vec(1i64..40_000, 1..6),
    ) {
        let host = installed(&world);
        let conditions = [json!({ "holds": rows }), condition];
        let mut living = loaded(&conditions);
        let mut at = AT / 4;
        for step in steps {
            at += step;
            host.set_time(at);
            let fresh = loaded(&conditions).evaluate(&[0, 1], at);
            // NaN is not the same as itself, hence the text.
            prop_assert_eq!(format!("{:?}", living.evaluate(&[0, 1], at)), format!("{fresh:?}"));
        }
    }

    #[test]
    fn what_is_written_well_passes_check_and_schema(rows in rows()) {
        let condition = json!({ "holds": rows });
        prop_assert!(check(&condition.to_string()).is_ok(), "{:?}", check(&condition.to_string()));
        prop_assert!(SCHEMA.is_valid(&condition), "{}", condition);
    }
}

fn told_of(condition: &Value) -> Vec<String> {
    told(&evaluate(condition).unwrap())
}

#[test]
fn a_disk_is_held_against_its_own_yesterday() {
    let day = 86_400_000;
    let disk = |name: &str, before: f64, now: f64| {
        (name.to_owned(), [(day - 1_000, before), (2 * day - 1_000, now)])
    };
    let mut host = Host::new().at(2 * day);
    for (name, samples) in [disk("/", 10.0, 30.0), disk("/srv", 50.0, 51.0)] {
        host = host.series("used", &[("disk", &name)], &samples);
    }
    let _host = host.install();
    let grown = json!({"metric": "used", "above": {
        "mul": [{"metric": "used", "offset": "1d"}, 2]
    }});
    assert_eq!(told_of(&grown), [r#"{disk="/"} 30"#]);
    let outcome = evaluate(&grown).unwrap();
    assert_eq!(outcome.active[0].summary, "used is 30, above used 1d ago * 2");
    assert_eq!(told_of(&json!({ "not": grown })), [r#"{disk="/srv"} 51"#]);
}

#[test]
fn quantiles_of_histograms_are_made_of_their_buckets() {
    let mut host = Host::new().at(60_000);
    for (le, count) in [("0.1", 50.0), ("0.5", 90.0), ("+Inf", 100.0)] {
        let labels = [("job", "api"), ("le", le)];
        host = host.series("latency_bucket", &labels, &[(0, 0.0), (60_000, count)]);
    }
    let _host = host.install();
    let buckets = json!({"metric": "latency_bucket", "fn": "increase", "window": "2m",
        "by": ["job", "le"], "combine": "sum"});
    let slow = json!({"value": {"histogram_quantile": 0.9, "of": buckets}, "at_least": 0.5});
    assert_eq!(told_of(&slow), [r#"{job="api"} 0.5"#]);
}

#[test]
fn a_line_through_the_samples_says_what_is_to_come() {
    let falling: Vec<(i64, f64)> =
        (0..=60i32).map(|m| (i64::from(m) * 60_000, f64::from(1_000 - m))).collect();
    let _host = Host::new().at(3_600_000).series("free", &[], &falling).install();
    let predicted = |ahead: &str| {
        let measure = json!({"metric": "free", "fn": {"predict": ahead}, "window": "1h"});
        told_of(&json!({"holds": {"of": measure, "apply": "round"}}))
    };
    assert_eq!(predicted("0s"), ["{} 940"]);
    assert_eq!(predicted("4h"), ["{} 700"]);
}

#[test]
fn rows_that_cannot_be_told_apart_fail_the_rule_and_say_which() {
    let _host = disks();
    let one = json!({"value": {"div": [{"metric": "used"}, {"metric": "load"}], "on": ["agent"]},
        "above": 0});
    let failed = evaluate(&one).unwrap_err();
    let Failure::Unavailable(why) = failed else { panic!("{failed:?}") };
    assert!(why.starts_with("several rows match one") && why.contains(r#"agent="a""#), "{why}");
    let many = json!({"value": {"div": [{"metric": "used"}, {"metric": "load"}], "on": ["agent"],
        "many": "left"}, "above": 50});
    assert_eq!(told_of(&many), [r#"{agent="b",disk="/srv",state="used"} 99"#]);
}

#[test]
fn what_an_expression_lacks_is_told_with_its_place() {
    for (text, path, said) in [
        (json!({"holds": 1}), "/holds", "one number"),
        (json!({"value": 1, "above": 2}), "", "compares two numbers"),
        (json!({"value": {"metric": "m"}}), "", "no comparison"),
        (json!({"value": {"div": [{"metric": "m"}]}, "above": 1}), "/value/div", "write two"),
        (json!({"value": {"metric": "m"}, "above": 1, "on": ["a"]}), "/on", "nothing to match"),
        (json!({"holds": {"of": {"metric": "m"}}}), "/holds", "needs `combine`"),
        (json!({"holds": {"and": [{"metric": "m"}, 3]}}), "/holds/and/1", "one number"),
        (json!({"holds": {"vector": {"metric": "m"}}}), "/holds/vector", "row for each series"),
        (json!({"not": {"holds": {"metric": "m"}}}), "/not", "only a comparison"),
        (json!({"holds": {"of": {"metric": "m"}, "apply": "sin"}}), "/holds/apply", "not one of"),
        (
            json!({"metric": "m", "above": {"metric": "n", "fn": {"predict": "x"}}}),
            "/above/fn/predict",
            "no duration",
        ),
        (
            json!({"holds": {"of": {"metric": "m"}, "by": ["a"], "without": ["b"], "combine": "sum"}}),
            "/holds/without",
            "exclude each other",
        ),
    ] {
        let found = check(&text.to_string()).unwrap_err();
        let hit = |one: &&Diagnostic| one.path == path && one.message.contains(said);
        assert!(found.iter().find(hit).is_some(), "{text}: {found:?}");
    }
}
