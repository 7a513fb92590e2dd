//! In what rules differ from those in force, field by field. Pure.

use crate::api::{AppliedBody, ChangeBody, FieldBody};
use sentinel_model::rule::Rule;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Fields of one rule whose difference is said, at most.
const MAX_FIELDS: usize = 100;

/// What `after` changes of `before`. Version and warnings are left as they are by default.
#[must_use]
pub fn differences(before: &[Rule], after: &[Rule]) -> AppliedBody {
    let old: BTreeMap<&str, &Rule> = before.iter().map(|rule| (rule.name.as_str(), rule)).collect();
    let new: BTreeSet<&str> = after.iter().map(|rule| rule.name.as_str()).collect();
    let mut out = AppliedBody::default();
    for rule in after {
        match old.get(rule.name.as_str()) {
            None => out.added.push(rule.name.clone()),
            Some(same) if *same == rule => out.unchanged += 1,
            Some(other) => {
                out.changed.push(rule.name.clone());
                out.changes.push(change(other, rule));
            }
        }
    }
    out.removed = old.keys().filter(|name| !new.contains(*name)).map(|n| (*n).to_owned()).collect();
    out
}

fn change(before: &Rule, after: &Rule) -> ChangeBody {
    let as_written = |rule: &Rule| serde_json::to_value(rule).unwrap_or_default();
    let mut fields = Vec::new();
    compare("", Some(&as_written(before)), Some(&as_written(after)), &mut fields);
    let more = fields.len().saturating_sub(MAX_FIELDS);
    fields.truncate(MAX_FIELDS);
    ChangeBody { rule: after.name.clone(), fields, more }
}

/// Objects are compared key by key, and lists of equal length item by item; all else is one field.
fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, out: &mut Vec<FieldBody>) {
    match (before, after) {
        (Some(before), Some(after)) if before == after => {}
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for key in keys {
                let step = key.replace('~', "~0").replace('/', "~1");
                compare(&format!("{path}/{step}"), before.get(key), after.get(key), out);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) if before.len() == after.len() => {
            for (i, (before, after)) in before.iter().zip(after).enumerate() {
                compare(&format!("{path}/{i}"), Some(before), Some(after), out);
            }
        }
        _ => out.push(FieldBody {
            path: path.to_owned(),
            before: before.cloned(),
            after: after.cloned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rules(texts: &[Value]) -> Vec<Rule> {
        texts.iter().map(|text| serde_json::from_value(text.clone()).unwrap()).collect()
    }

    #[test]
    fn a_rule_that_differs_says_which_fields_do_and_how() {
        let before = rules(&[
            json!({"name": "a", "for": "5m", "labels": {"team": "db"}, "notify": ["chat"], "condition": {"metric": "x", "above": [1, 2]}}),
            json!({"name": "gone", "condition": {}}),
            json!({"name": "same", "condition": {}}),
        ]);
        let after = rules(&[
            json!({"name": "a", "for": "10m", "labels": {"tier": "1"}, "condition": {"metric": "x", "above": [1, 3]}}),
            json!({"name": "new", "condition": {}}),
            json!({"name": "same", "condition": {}}),
        ]);
        let found = differences(&before, &after);
        assert_eq!(
            (&found.added[..], &found.removed[..]),
            (&["new".to_owned()][..], &["gone".to_owned()][..])
        );
        assert_eq!((found.unchanged, &found.changed[..]), (1, &["a".to_owned()][..]));
        let field = |path: &str, before: Option<Value>, after: Option<Value>| FieldBody {
            path: path.to_owned(),
            before,
            after,
        };
        let expected = vec![
            field("/condition/above/1", Some(json!(2)), Some(json!(3))),
            field("/for", Some(json!("5m")), Some(json!("10m"))),
            field("/labels/team", Some(json!("db")), None),
            field("/labels/tier", None, Some(json!("1"))),
            field("/notify", Some(json!(["chat"])), None),
        ];
        assert_eq!(found.changes, [ChangeBody { rule: "a".into(), fields: expected, more: 0 }]);
    }

    #[test]
    fn a_rule_that_is_quite_another_says_how_many_fields_more_differ() {
        let wide = |value: u32| {
            let condition: BTreeMap<String, u32> =
                (0..150).map(|i| (format!("k{i}"), value)).collect();
            rules(&[json!({"name": "a", "condition": condition})])
        };
        let found = differences(&wide(1), &wide(2));
        assert_eq!((found.changes[0].fields.len(), found.changes[0].more), (100, 50));
    }
}
