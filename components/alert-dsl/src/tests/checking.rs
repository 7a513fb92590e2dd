use sentinel_sdk::Severity;
use sentinel_sdk::series::MatchOp;

use super::*;

#[test]
fn everything_that_is_wrong_is_told_at_once_with_its_place() {
    let conditions = [
        "nothing",
        "[]",
        "{}",
        r#"{"metric": "m"}"#,
        r#"{"above": 1}"#,
        r#"{"metirc": "m", "above": 1, "what": 2}"#,
        r#"{"metric": "1m", "above": "2", "fn": "mean", "window": 5, "offset": "soon", "by": "a"}"#,
        r#"{"metric": 7, "above": null, "below": 2, "fn": {"quantile": 1.5}, "window": "8d"}"#,
        r#"{"metric": "m{a=\"b\"}", "above": 1, "fn": {}, "window": "0s", "offset": "8d"}"#,
        r#"{"metric": "m", "match": {"a-b": "x", "a": 1, "b": {"regex": "("}, "c": {}, "d": null,
            "e": {"not": "x", "regex": "y"}, "f": {"nto": "x"}, "__g": "x", "h": {"regex": 3}},
            "above": 1}"#,
        r#"{"metric": "m", "above": 1, "by": ["a", "a", "b-c", 3], "combine": "median"}"#,
        r#"{"metric": "m", "above": 1, "by": ["a"]}"#,
        r#"{"metric": "m", "above": 1, "combine": "sum"}"#,
        r#"{"metric": "m", "above": 1, "divided_by": {"metric": "n", "above": 1, "by": []}}"#,
        r#"{"metric": "m", "above": 1, "by": [], "combine": "sum", "divided_by": 2}"#,
        r#"{"all": [], "metric": "m"}"#,
        r#"{"any": {"metric": "m"}}"#,
        r#"{"any": [{"metric": "m", "above": 1}, {"not": {"metric": "m"}}, 3], "all": []}"#,
        r#"{"absent": {"metric": "m", "seen_within": "1h", "fn": "last"}}"#,
        r#"{"absent": {"metric": "m", "by": ["a"], "window": "2h", "seen_within": "1h"}}"#,
        r#"{"absent": {"metric": "m", "by": ["a"], "window": "2d"}}"#,
        r#"{"not": {"not": {"not": {"not": {"not": {"not": {"not": {"not": {"not": 1}}}}}}}}}"#,
    ];
    let mut said = String::new();
    for condition in conditions {
        said.push_str(&format!("{}\n", condition.split_whitespace().collect::<Vec<_>>().join(" ")));
        for problem in check(condition).expect_err(condition) {
            assert_eq!(problem.severity, Severity::Error, "{problem}");
            said.push_str(&format!("  {problem}\n"));
        }
    }
    insta::assert_snapshot!(said);
}

#[test]
fn what_a_person_should_look_at_is_told_with_the_plan() {
    let mut said = String::new();
    for condition in [
        r#"{"metric": "m_total", "fn": "rate", "window": "20s", "above": 1}"#,
        r#"{"metric": "m", "fn": "increase", "above": 1}"#,
        r#"{"metric": "m_total", "above": 1}"#,
        r#"{"all": [{"metric": "m", "above": 1}, {"not": {"metric": "n", "above": 1}}]}"#,
        r#"{"metric": "m_total", "fn": "rate", "above": 1}"#,
    ] {
        said.push_str(&format!("{condition}\n"));
        for warning in check(condition).unwrap().warnings {
            assert_eq!(warning.severity, Severity::Warning, "{warning}");
            said.push_str(&format!("  {warning}\n"));
        }
    }
    insta::assert_snapshot!(said);
}

#[test]
fn the_plan_names_each_selector_once_with_its_longest_reach() {
    let plan = check(
        r#"{"all": [
            {"metric": "m", "match": {"b": "1", "a": {"not_regex": "x.*"}}, "window": "1m", "above": 1},
            {"metric": "m", "match": {"a": {"not_regex": "x.*"}, "b": "1"}, "window": "30s",
             "offset": "1h", "by": ["k"], "combine": "sum", "below": 2, "divided_by": {"metric": "n"}},
            {"absent": {"metric": "o", "window": "2m", "by": ["k"]}}]}"#,
    )
    .unwrap();
    let needs: Vec<_> =
        plan.needs.iter().map(|need| (need.selector.name.as_str(), need.window_ms)).collect();
    assert_eq!(needs, [("m", 3_630_000), ("n", 300_000), ("o", 86_400_000)]);
    let matchers = &plan.needs[0].selector.matchers;
    assert_eq!((matchers[0].label.as_str(), matchers[0].op), ("a", MatchOp::NotRegex));
    assert_eq!(matchers[1].value, "1");
}

#[test]
fn a_set_with_an_unsound_condition_is_not_loaded() {
    let _host = disks();
    let mut plugin = loaded(&[serde_json::json!({"metric": "load", "above": 5})]);
    let bad = Text { rule: "bad".to_owned(), text: "{}".to_owned() };
    let found = plugin.load(vec![bad]).unwrap_err();
    assert!(found[0].message.starts_with("rule bad: "), "{found:?}");
    assert_eq!(plugin.evaluate(&[0], 0)[0].as_ref().unwrap().active.len(), 1);
}

#[test]
fn problems_and_leaves_are_bounded() {
    let many = format!("{{\"any\": [{}]}}", vec![r#"{"metric": "m", "above": 1}"#; 101].join(","));
    let found = check(&many).unwrap_err();
    assert!(found[0].message.starts_with("101 thresholds"), "{found:?}");
    let wrong = format!("{{\"any\": [{}]}}", vec!["{}"; 5_000].join(","));
    assert_eq!(check(&wrong).unwrap_err().len(), 100);
    let deep = "[".repeat(200);
    assert!(check(&deep).unwrap_err()[0].message.starts_with("not JSON"));
}
