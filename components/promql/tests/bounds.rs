//! What is too large is refused where it is imported, not when the rule is applied.

use plugin_alert_dsl::{AlertDsl, Config};
use sentinel_promql::condition;
use sentinel_sdk::Evaluator;

/// Whether the expression is imported; what is, the evaluator takes.
fn is_imported(expression: &str) -> bool {
    let Ok(condition) = condition(expression) else { return false };
    let mut evaluator = AlertDsl::configure(Config { max_instances: 100 }).unwrap();
    let checked = evaluator.check(&condition.to_string());
    assert!(checked.is_ok(), "{expression}: {checked:?}");
    true
}

fn chain(op: &str, terms: usize) -> String {
    vec!["m"; terms].join(op)
}

fn calls(many: usize) -> String {
    format!("{}m{}", "abs(".repeat(many), ")".repeat(many))
}

/// A balanced sum of 2 to the power of `height` selectors.
fn tree(height: u32) -> String {
    match height {
        0 => "m".to_owned(),
        _ => format!("({} + {})", tree(height - 1), tree(height - 1)),
    }
}

#[test]
fn what_is_nested_as_deep_as_a_condition_may_be_is_imported_and_nothing_deeper() {
    for deep in 0..=40 {
        let is_small = deep <= 16;
        for expression in [chain(" + ", deep + 1), chain(" or ", deep + 1), calls(deep)] {
            assert_eq!(is_imported(&expression), is_small, "{deep}: {expression}");
        }
        let compared = format!("{} > 1", calls(deep));
        assert_eq!(is_imported(&compared), deep < 16, "{compared}");
    }
    let said = condition(&calls(17)).unwrap_err();
    assert!(said[0].message.starts_with("nested deeper than 16"), "{said:?}");
}

#[test]
fn what_reads_series_in_as_many_places_as_a_condition_may_is_imported_and_nothing_more() {
    let hundred = format!("{} + ({} + (m + (m + (m + m))))", tree(6), tree(5));
    assert!(is_imported(&hundred));
    let said = condition(&format!("{hundred} + m")).unwrap_err();
    assert!(said[0].message.starts_with("reads series in more than 100 places"), "{said:?}");
}

#[test]
fn however_long_or_deep_a_text_is_it_is_refused_and_nothing_more() {
    for text in [
        chain(" + ", 100_000),
        chain(" ^ ", 100_000),
        chain(" or ", 100_000),
        calls(100_000),
        "-".repeat(100_000),
        "(".repeat(100_000),
        format!("m[{}", "5m:".repeat(100_000)),
    ] {
        let said = condition(&text).unwrap_err();
        assert!(said.iter().all(|one| text.is_char_boundary(one.at)), "{said:?}");
    }
}
