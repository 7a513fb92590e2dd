use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn the_checked_in_schema_is_that_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema.json");
    let text = serde_json::to_string_pretty(&crate::json_schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == text, "{path} is stale; run the test with UPDATE_SCHEMA=1");
}

fn validator() -> jsonschema::Validator {
    jsonschema::draft202012::new(&crate::json_schema()).unwrap()
}

#[test]
fn the_schema_refuses_what_check_refuses() {
    let schema = validator();
    for condition in [
        json!(3),
        json!({}),
        json!({"metric": "m"}),
        json!({"metric": "m", "above": 1, "below": 2}),
        json!({"metric": "m", "above": "1"}),
        json!({"metric": "m", "above": null}),
        json!({"metric": "m", "above": 1, "what": 2}),
        json!({"metric": "1m", "above": 1}),
        json!({"metric": "m", "above": 1, "fn": "mean"}),
        json!({"metric": "m", "above": 1, "fn": {"quantile": 2}}),
        json!({"metric": "m", "above": 1, "window": 5}),
        json!({"metric": "m", "above": 1, "window": null}),
        json!({"metric": "m", "above": 1, "by": ["a"]}),
        json!({"metric": "m", "above": 1, "combine": "sum"}),
        json!({"metric": "m", "above": 1, "by": ["a", "a"], "combine": "sum"}),
        json!({"metric": "m", "above": 1, "by": ["__a"], "combine": "sum"}),
        json!({"metric": "m", "above": 1, "divided_by": {"metric": "n"}}),
        json!({"metric": "m", "above": 1, "match": {"a-b": "x"}}),
        json!({"metric": "m", "above": 1, "match": {"a": {"regex": "x", "not": "y"}}}),
        json!({"metric": "m", "above": 1, "match": {"a": 1}}),
        json!({"all": []}),
        json!({"all": [{"metric": "m", "above": 1}], "metric": "m"}),
        json!({"absent": {"metric": "m", "seen_within": "1h"}}),
    ] {
        assert!(check(&condition.to_string()).is_err(), "check takes {condition}");
        assert!(!schema.is_valid(&condition), "the schema takes {condition}");
    }
}

/// Something else in one of the places of a JSON value.
fn changed(value: &mut Value, mut place: usize, by: &Value, rename: bool) -> Option<usize> {
    if place == 0 {
        *value = by.clone();
        return None;
    }
    place -= 1;
    match value {
        Value::Array(items) => {
            for item in items {
                place = changed(item, place, by, rename)?;
            }
        }
        Value::Object(fields) => {
            for key in fields.keys().cloned().collect::<Vec<_>>() {
                if place == 0 && rename {
                    let value = fields.remove(&key).unwrap();
                    fields.insert(by.as_str().unwrap_or("above").to_owned(), value);
                    return None;
                }
                place = changed(fields.get_mut(&key).unwrap(), place, by, rename)?;
            }
        }
        _ => {}
    }
    Some(place)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_written_well_passes_check_and_schema(condition in super::random::condition()) {
        prop_assert!(check(&condition.to_string()).is_ok());
        prop_assert!(validator().is_valid(&condition));
    }

    #[test]
    fn what_the_schema_refuses_check_refuses(
        condition in super::random::condition(),
        place in 0usize..30,
        rename in any::<bool>(),
        by in prop::sample::select(vec![
            json!(1), json!("x"), json!("by"), json!("5m"), json!("sum"), json!(null), json!([]),
            json!({}), json!(["agent"]), json!({"metric": "m", "above": 1}), json!({"regex": "a"}),
            json!("metric"), json!("window"), json!("equals"), json!("all"), json!("absent"),
        ]),
    ) {
        let mut condition = condition;
        changed(&mut condition, place, &by, rename);
        let taken = check(&condition.to_string());
        let valid = validator().is_valid(&condition);
        prop_assert!(valid || taken.is_err(), "check takes {condition}");
        if let Err(found) = taken {
            for problem in found {
                prop_assert!(condition.pointer(&problem.path).is_some(), "{problem} of {condition}");
            }
        }
    }
}
