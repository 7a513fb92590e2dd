use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, json};

use super::reference::{self, Series};
use super::*;

pub(super) const AT: i64 = 200_000;

pub(super) fn text(words: &'static [&'static str]) -> impl Strategy<Value = Value> + Clone {
    select(words).prop_map(Value::from)
}

fn matchers() -> impl Strategy<Value = Value> {
    let matcher = prop_oneof![
        text(&["a", "b", "x", ""]),
        text(&["a|b", "x?", ".*", "[bc]"]).prop_map(|regex| json!({ "regex": regex })),
        text(&["a|x", "", "c"]).prop_map(|regex| json!({ "not_regex": regex })),
        text(&["a", "y", ""]).prop_map(|not| json!({ "not": not })),
    ];
    prop::collection::btree_map(select(vec!["agent", "disk", "none"]), matcher, 0..3)
        .prop_map(|map| json!(map))
}

fn function() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => text(&["last", "avg", "min", "max", "sum", "count", "increase", "rate"]),
        1 => select(vec![0.0, 0.25, 0.5, 0.9, 1.0]).prop_map(|q| json!({ "quantile": q })),
    ]
}

/// Some of the optional keys, each with a value.
pub(super) fn measure() -> impl Strategy<Value = Map<String, Value>> {
    // Seldom, so that conditions often hold: nothing is learnt of a join of nothing.
    let maybe = |value: BoxedStrategy<Value>| prop::option::weighted(0.25, value);
    (
        text(&["m", "n"]),
        maybe(matchers().boxed()),
        prop::option::of(function()),
        maybe(text(&["1s", "50s", "100s", "300s"]).boxed()),
        maybe(text(&["0s", "60s", "100s"]).boxed()),
    )
        .prop_map(|(metric, matchers, function, window, offset)| {
            let mut measure = Map::from_iter([("metric".to_owned(), metric)]);
            let optional =
                [("match", matchers), ("fn", function), ("window", window), ("offset", offset)];
            for (key, value) in optional {
                measure.extend(value.map(|value| (key.to_owned(), value)));
            }
            measure
        })
}

pub(super) fn by() -> impl Strategy<Value = Value> {
    subsequence(vec!["agent", "disk", "none"], 0..=3).prop_map(|by| json!(by))
}

fn threshold() -> impl Strategy<Value = Value> {
    let combine = || text(&["sum", "avg", "min", "max", "count"]);
    let divisor = (measure(), prop::option::of(combine())).prop_map(|(mut divisor, combine)| {
        divisor.extend(combine.map(|combine| ("combine".to_owned(), combine)));
        Value::Object(divisor)
    });
    let comparison = select(vec!["above", "at_least", "below", "at_most", "equals", "not_equals"]);
    let limit = select(vec![json!(0), json!(1), json!(2.5), json!(3), json!(-1), json!(1e6)]);
    let grouping = prop::option::of((by(), combine(), prop::option::of(divisor)));
    (measure(), grouping, comparison, limit).prop_map(|(mut measure, grouping, word, limit)| {
        if let Some((by, combine, divisor)) = grouping {
            measure.insert("by".to_owned(), by);
            measure.insert("combine".to_owned(), combine);
            measure.extend(divisor.map(|divisor| ("divided_by".to_owned(), divisor)));
        }
        measure.insert(word.to_owned(), limit);
        Value::Object(measure)
    })
}

pub(super) fn absent() -> impl Strategy<Value = Value> {
    let groups = prop::option::of((by(), text(&["110s", "200s"])));
    let window = text(&["20s", "100s"]);
    (text(&["m", "n", "o"]), matchers(), window, groups).prop_map(
        |(metric, matchers, window, groups)| {
            let mut absent = json!({"metric": metric, "match": matchers, "window": window});
            if let Some((by, within)) = groups {
                absent["by"] = by;
                absent["seen_within"] = within;
            }
            json!({ "absent": absent })
        },
    )
}

pub(super) fn condition() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![4 => threshold(), 1 => absent()];
    leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(|all| json!({ "all": all })),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|any| json!({ "any": any })),
            inner.prop_map(|not| json!({ "not": not })),
        ]
    })
}

pub(super) fn world() -> impl Strategy<Value = Vec<Series>> {
    let value = prop_oneof![
        8 => (0i32..6).prop_map(f64::from),
        1 => select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.5]),
    ];
    let labels = (select(vec!["a", "b", "c"]), prop::option::of(select(vec!["x", "y"])));
    let samples = prop::collection::btree_map(0i64..=20, value, 0..8);
    let key = (select(vec!["m", "n"]), labels);
    prop::collection::btree_map(key, samples, 0..18).prop_map(|world| {
        let series = |((name, (agent, disk)), samples): ((&'static str, _), BTreeMap<i64, f64>)| {
            let mut labels = BTreeMap::from([("agent".to_owned(), str::to_owned(agent))]);
            labels.extend(Option::map(disk, |disk: &str| ("disk".to_owned(), disk.to_owned())));
            let samples = samples.into_iter().map(|(time, value)| (time * 10_000, value)).collect();
            Series { name, labels, samples }
        };
        world.into_iter().map(series).collect()
    })
}

pub(super) fn installed(world: &[Series]) -> Installed {
    let host = world.iter().fold(Host::new().at(AT), |host, series| {
        let labels: Vec<_> =
            series.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        host.series(series.name, &labels, &series.samples)
    });
    host.install()
}

fn rows(outcome: &Outcome) -> Vec<(BTreeMap<String, String>, f64)> {
    let instances = outcome.active.iter();
    instances.map(|one| (one.labels.iter().cloned().collect(), one.value)).collect()
}

fn label_sets(condition: &Value) -> Vec<Vec<sentinel_sdk::Label>> {
    let outcome = evaluate(condition).unwrap();
    outcome.active.into_iter().map(|instance| instance.labels).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn conditions_hold_as_the_reference_says(world in world(), condition in condition()) {
        let _host = installed(&world);
        let outcome = evaluate(&condition).unwrap();
        prop_assert_eq!(rows(&outcome), reference::evaluate(&world, &condition, AT));
    }

    #[test]
    fn rules_evaluated_together_and_again_are_as_each_alone(
        world in world(), conditions in prop::collection::vec(condition(), 1..6), later in 0i64..100_000,
    ) {
        let host = installed(&world);
        let mut plugin = loaded(&conditions);
        let indexes: Vec<u32> = (0..conditions.len() as u32).rev().collect();
        for at in [AT, AT + later] {
            host.set_time(at);
            let outcomes = plugin.evaluate(&indexes, at);
            for (condition, outcome) in conditions.iter().rev().zip(outcomes) {
                prop_assert_eq!(outcome.unwrap(), evaluate(condition).unwrap());
            }
        }
    }

    #[test]
    fn the_order_of_members_decides_about_values_alone(
        world in world(), a in condition(), b in condition(), c in condition(),
    ) {
        let _host = installed(&world);
        for word in ["all", "any"] {
            let plain = label_sets(&json!({ word: [a, b, c] }));
            prop_assert_eq!(&plain, &label_sets(&json!({ word: [c, a, b] })));
            prop_assert_eq!(&plain, &label_sets(&json!({ word: [{ word: [a, b] }, c] })));
        }
    }

    #[test]
    fn a_threshold_and_its_negation_never_hold_for_the_same_group(
        world in world(), threshold in threshold(),
    ) {
        let _host = installed(&world);
        let not = json!({ "not": threshold });
        let twice = json!({ "not": not });
        prop_assert_eq!(label_sets(&twice), label_sets(&threshold));
        // Groups have the labels of `by`; single series of unlike labels may join.
        if threshold.get("by").is_some() {
            let both = json!({ "all": [threshold, not] });
            prop_assert!(label_sets(&both).is_empty());
        }
    }
}
