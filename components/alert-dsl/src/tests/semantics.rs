use serde_json::json;

use super::*;

#[track_caller]
fn holds(condition: Value, expect: &[&str]) {
    let outcome = evaluate(&condition).unwrap_or_else(|error| panic!("{condition}: {error:?}"));
    assert_eq!(told(&outcome), expect, "{condition}");
}

#[test]
fn without_by_every_series_is_an_instance_with_all_its_labels() {
    let _host = disks();
    holds(
        json!({"metric": "used", "above": 95}),
        &[r#"{agent="b",disk="/srv",state="used"} 99"#, r#"{agent="c",disk="/",state="used"} 97"#],
    );
}

#[test]
fn groups_are_combined_in_every_way() {
    let _host = disks();
    let by = |combine: &str| json!({"metric": "used", "by": ["agent"], "combine": combine, "at_least": 0});
    holds(by("sum"), &[r#"{agent="a"} 105"#, r#"{agent="b"} 149"#, r#"{agent="c"} 97"#]);
    holds(by("avg"), &[r#"{agent="a"} 52.5"#, r#"{agent="b"} 74.5"#, r#"{agent="c"} 97"#]);
    holds(by("min"), &[r#"{agent="a"} 10"#, r#"{agent="b"} 50"#, r#"{agent="c"} 97"#]);
    holds(by("max"), &[r#"{agent="a"} 95"#, r#"{agent="b"} 99"#, r#"{agent="c"} 97"#]);
    holds(by("count"), &[r#"{agent="a"} 2"#, r#"{agent="b"} 2"#, r#"{agent="c"} 1"#]);
    holds(json!({"metric": "used", "by": [], "combine": "count", "equals": 5}), &["{} 5"]);
}

#[test]
fn every_comparison_is_what_its_word_says() {
    let _host = Host::new()
        .at(10)
        .series("m", &[("v", "1")], &[(5, 1.0)])
        .series("m", &[("v", "2")], &[(5, 2.0)])
        .series("m", &[("v", "3")], &[(5, 3.0)])
        .series("m", &[("v", "NaN")], &[(5, f64::NAN)])
        .install();
    for (word, is, is_not) in [
        ("above", &["3"][..], &["1", "2"][..]),
        ("at_least", &["2", "3"], &["1"]),
        ("below", &["1"], &["2", "3"]),
        ("at_most", &["1", "2"], &["3"]),
        ("equals", &["2"], &["1", "3"]),
        ("not_equals", &["1", "3"], &["2"]),
    ] {
        let condition = json!({"metric": "m", word: 2});
        let line = |value: &&str| format!("{{v=\"{value}\"}} {value}");
        let found = told(&evaluate(&condition).unwrap());
        assert_eq!(found, is.iter().map(line).collect::<Vec<_>>(), "{word}");
        let found = told(&evaluate(&json!({"not": condition})).unwrap());
        assert_eq!(found, is_not.iter().map(line).collect::<Vec<_>>(), "not {word}");
    }
}

#[test]
fn ratios_are_made_group_by_group() {
    let _host = disks();
    holds(
        json!({"metric": "used", "by": ["agent", "disk"], "combine": "max",
               "divided_by": {"metric": "size"}, "above": 0.96}),
        &[r#"{agent="b",disk="/srv"} 0.99"#, r#"{agent="c",disk="/"} 0.97"#],
    );
    // Agent c has no load: unknown, on either side.
    for ratio in [("used", "load"), ("load", "used")] {
        let condition = json!({"metric": ratio.0, "by": ["agent"], "combine": "max",
                               "divided_by": {"metric": ratio.1}, "at_least": 0});
        assert_eq!(evaluate(&condition).unwrap().active.len(), 2, "{condition}");
    }
    holds(
        json!({"metric": "used", "by": ["agent"], "combine": "sum",
               "divided_by": {"metric": "used", "combine": "count"}, "above": 70}),
        &[r#"{agent="b"} 74.5"#, r#"{agent="c"} 97"#],
    );
}

#[test]
fn a_ratio_by_zero_is_infinite_and_zero_by_zero_is_unknown() {
    let _host = Host::new()
        .series("x", &[("k", "a")], &[(0, 1.0)])
        .series("x", &[("k", "b")], &[(0, 0.0)])
        .series("y", &[("k", "a")], &[(0, 0.0)])
        .series("y", &[("k", "b")], &[(0, 0.0)])
        .install();
    let ratio = json!({"metric": "x", "by": ["k"], "combine": "sum",
                       "divided_by": {"metric": "y"}, "above": 5});
    holds(ratio.clone(), &[r#"{k="a"} inf"#]);
    holds(json!({"not": ratio}), &[]);
}

#[test]
fn members_of_all_are_joined_on_the_labels_they_share() {
    let _host = disks();
    let full = json!({"metric": "used", "by": ["agent", "disk"], "combine": "max", "above": 90});
    let loaded = json!({"metric": "load", "by": ["agent"], "combine": "max", "above": 5});
    let switch = json!({"metric": "load", "by": [], "combine": "max", "above": 5});
    holds(json!({"all": [full, loaded]}), &[r#"{agent="a",disk="/"} 95"#]);
    holds(json!({"all": [loaded, full]}), &[r#"{agent="a",disk="/"} 9"#]);
    holds(
        json!({"all": [switch, full]}),
        &[r#"{agent="a",disk="/"} 9"#, r#"{agent="b",disk="/srv"} 9"#, r#"{agent="c",disk="/"} 9"#],
    );
}

#[test]
fn not_holds_where_there_is_data_and_the_member_does_not() {
    let _host = disks();
    let loaded = json!({"metric": "load", "by": ["agent"], "combine": "max", "above": 5});
    let full = json!({"metric": "used", "by": ["agent"], "combine": "max", "above": 96});
    // By itself: one instance for each agent with a load that is not high. Agent c has none.
    holds(json!({"not": loaded}), &[r#"{agent="b"} 1"#]);
    holds(json!({"not": {"not": loaded}}), &[r#"{agent="a"} 9"#]);
    holds(json!({"all": [full, {"not": loaded}]}), &[r#"{agent="b"} 99"#]);
    // Of `any`: both are known not to hold; of `all`: one is.
    holds(json!({"not": {"any": [loaded, full]}}), &[]);
    holds(json!({"not": {"all": [full, loaded]}}), &[r#"{agent="a"} 95"#, r#"{agent="b"} 1"#]);
}

#[test]
fn any_has_the_instances_of_all_members_and_of_equal_ones_the_first() {
    let _host = disks();
    let loaded = json!({"metric": "load", "by": ["agent"], "combine": "max", "above": 5});
    let full = json!({"metric": "used", "by": ["agent"], "combine": "max", "above": 94});
    holds(
        json!({"any": [loaded, full]}),
        &[r#"{agent="a"} 9"#, r#"{agent="b"} 99"#, r#"{agent="c"} 97"#],
    );
}

#[test]
fn a_selection_is_absent_with_the_labels_of_its_plain_matchers() {
    let _host = disks();
    let absent = |agent: &str, window: &str| {
        json!({"absent": {"metric": "load", "window": window,
                          "match": {"agent": agent, "disk": {"not": "x"}}}})
    };
    holds(absent("c", "5m"), &[r#"{agent="c"} 0"#]);
    holds(absent("a", "5m"), &[]);
    holds(absent("a", "10s"), &[r#"{agent="a"} 0"#]);
    holds(json!({"not": absent("a", "5m")}), &[r#"{agent="a"} 1"#]);
    holds(json!({"not": absent("c", "5m")}), &[]);
}

#[test]
fn a_group_is_absent_that_was_there_not_long_ago() {
    let _host = Host::new()
        .at(7_200_000)
        .series("up", &[("agent", "now"), ("k", "1")], &[(7_195_000, 1.0)])
        .series("up", &[("agent", "now"), ("k", "2")], &[(7_000_000, 1.0)])
        .series("up", &[("agent", "silent")], &[(7_000_000, 1.0)])
        .series("up", &[("agent", "gone")], &[(1_000, 1.0)])
        .install();
    let absent = |within: &str| json!({"absent": {"metric": "up", "window": "1m", "by": ["agent"], "seen_within": within}});
    holds(absent("1h"), &[r#"{agent="silent"} 0"#]);
    holds(absent("1d"), &[r#"{agent="gone"} 0"#, r#"{agent="silent"} 0"#]);
    holds(json!({"not": absent("1h")}), &[r#"{agent="now"} 1"#]);
}

#[test]
fn an_empty_label_that_is_grouped_by_is_left_out_but_joins_as_it_is() {
    let _host = Host::new()
        .series("x", &[("k", "a"), ("zone", "z")], &[(0, 1.0)])
        .series("x", &[("k", "a")], &[(0, 2.0)])
        .series("y", &[("k", "a"), ("zone", "z")], &[(0, 1.0)])
        .install();
    let of =
        |metric: &str| json!({"metric": metric, "by": ["k", "zone"], "combine": "sum", "above": 0});
    holds(of("x"), &[r#"{k="a"} 2"#, r#"{k="a",zone="z"} 1"#]);
    holds(json!({"all": [of("x"), of("y")]}), &[r#"{k="a",zone="z"} 1"#]);
}

#[test]
fn summaries_are_plain_words() {
    let _host = disks();
    for (condition, expect) in [
        (
            json!({"metric": "used", "match": {"disk": "/srv"}, "fn": "avg", "above": 90}),
            r#"avg of used{disk="/srv"} over 5m is 96.5, above 90"#,
        ),
        (
            json!({"metric": "load", "by": [], "combine": "max", "not_equals": 1}),
            "max of load is 9, other than 1",
        ),
        (
            json!({"not": {"metric": "used", "fn": {"quantile": 0.9}, "window": "1h30m",
                           "match": {"agent": {"regex": "c|d"}}, "at_most": 96}}),
            r#"0.9 quantile of used{agent=~"c|d"} over 1h30m is 96.5, not at most 96"#,
        ),
        (
            json!({"metric": "used", "match": {"agent": "c"}, "by": ["agent"], "combine": "sum",
                   "divided_by": {"metric": "size"}, "above": 0.9}),
            r#"sum of used{agent="c"} divided by sum of size is 0.97, above 0.9"#,
        ),
        (
            json!({"all": [{"metric": "load", "above": 5},
                           {"absent": {"metric": "nothing", "window": "2m"}}]}),
            "load is 9, above 5, and there are no samples of nothing in 2m",
        ),
    ] {
        let outcome = evaluate(&condition).unwrap();
        assert_eq!(outcome.active[0].summary, expect);
    }
}

#[test]
fn the_series_that_were_read_are_counted_once() {
    let _host = disks();
    for (condition, expect) in [
        (json!({"metric": "used", "above": 1e9}), 5),
        (json!({"metric": "nothing", "above": 0}), 0),
        (
            json!({"any": [{"metric": "used", "above": 0}, {"metric": "used", "fn": "avg", "above": 0},
                        {"metric": "load", "above": 0}]}),
            7,
        ),
    ] {
        assert_eq!(evaluate(&condition).unwrap().series_read, expect, "{condition}");
    }
}

#[test]
fn one_rules_failure_is_its_own() {
    let _host = disks();
    // Sound syntax, but the host knows no such class.
    let broken =
        json!({"metric": "used", "match": {"agent": {"regex": r"\p{Nonsense}"}}, "above": 0});
    let sound = json!({"metric": "load", "above": 5});
    let mut plugin = loaded(&[broken, sound.clone(), sound]);
    let outcomes = plugin.evaluate(&[2, 0, 1, 7], 0);
    assert_eq!(outcomes[0].as_ref().unwrap().active.len(), 1);
    assert!(matches!(&outcomes[1], Err(Failure::Rejected(why)) if why.contains("cannot read")));
    assert_eq!(outcomes[2], outcomes[0]);
    assert!(matches!(&outcomes[3], Err(Failure::Rejected(why)) if why.contains("index 7")));
}

#[test]
fn a_rule_that_holds_for_too_many_fails_and_says_so() {
    let _host = disks();
    let mut plugin = AlertDsl::configure(Config { max_instances: 2 }).unwrap();
    let text = |above: u32| Text {
        rule: above.to_string(),
        text: json!({"metric": "used", "above": above}).to_string(),
    };
    plugin.load(vec![text(0), text(95)]).unwrap();
    let outcomes = plugin.evaluate(&[0, 1], 0);
    assert!(
        matches!(&outcomes[0], Err(Failure::Unavailable(why)) if why.contains("5 sets of labels"))
    );
    assert_eq!(outcomes[1].as_ref().unwrap().active.len(), 2);
    assert!(AlertDsl::configure(Config { max_instances: 0 }).is_err());
}

#[test]
fn many_rules_are_all_answered_in_order() {
    let _host = disks();
    let rules: Vec<Value> = (0..9_000)
        .map(|at| json!({"metric": "used", "window": format!("{}s", at + 11), "at_least": 99}))
        .collect();
    let mut plugin = loaded(&rules);
    let indexes: Vec<u32> = (0..9_000).rev().collect();
    let outcomes = plugin.evaluate(&indexes, 0);
    assert_eq!(outcomes.len(), 9_000);
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().unwrap().active.len() == 1));
}
