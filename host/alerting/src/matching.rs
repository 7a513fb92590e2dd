//! Conditions on alerts, as people write them: `severity="page"`, `agent=~"web-.*"`.
//!
//! Beside its labels an alert has the label `rule`, its rule's name, unless it has one of its own.
//! A label that is absent counts as the empty text.

use sentinel_model::alert::Alert;
use sentinel_model::series::{MatchOp, Matcher, Selector, SelectorError};
use std::fmt;

/// The most bytes of one text with conditions.
pub const MAX_TEXT: usize = 4096;
/// The most conditions that stand together.
pub const MAX_CONDITIONS: usize = 64;
/// The label of an alert that is its rule's name.
pub const RULE: &str = "rule";

/// The value of an alert's label; empty where it has none.
#[must_use]
pub fn label<'a>(alert: &'a Alert, name: &str) -> &'a str {
    let own = alert.labels.get(name);
    own.unwrap_or(if name == RULE { &alert.rule } else { "" })
}

/// Conditions that must all hold. Without any, every alert matches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Matchers(Vec<Matcher>);

impl Matchers {
    /// Reads texts, each with one condition or several between commas. A value needs no quotes
    /// where the text has only one condition.
    ///
    /// # Errors
    /// For each text that is wrong its index and why.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, Vec<(usize, String)>> {
        let (mut all, mut wrong) = (Vec::new(), Vec::new());
        for (i, text) in texts.iter().enumerate() {
            match conditions(text.as_ref()) {
                Ok(found) => all.extend(found),
                Err(why) => wrong.push((i, why)),
            }
        }
        if all.len() > MAX_CONDITIONS {
            let many = all.len();
            wrong
                .push((0, format!("{many} conditions are more than the {MAX_CONDITIONS} allowed")));
        }
        if wrong.is_empty() { Ok(Self(all)) } else { Err(wrong) }
    }

    /// Whether all hold for an alert.
    #[must_use]
    pub fn matches(&self, alert: &Alert) -> bool {
        self.0.iter().all(|one| one.matches(label(alert, &one.label)))
    }

    /// Whether there is no condition.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Matchers {
    /// The same for the same conditions in the same order; it reads as them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, one) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{one}")?;
        }
        Ok(())
    }
}

/// Those of two characters first: they begin with one of the others.
const OPERATORS: [(&str, MatchOp); 4] = [
    ("!=", MatchOp::NotEqual),
    ("=~", MatchOp::Regex),
    ("!~", MatchOp::NotRegex),
    ("=", MatchOp::Equal),
];

fn conditions(text: &str) -> Result<Vec<Matcher>, String> {
    let text = text.trim();
    if text.len() > MAX_TEXT {
        return Err(format!("{} bytes are more than the {MAX_TEXT} allowed", text.len()));
    }
    if text.is_empty() {
        return Err("an empty text is no condition; write label=\"value\"".to_owned());
    }
    if !text.contains('"') {
        return bare(text).map(|one| vec![one]);
    }
    match format!("alert{{{text}}}").parse::<Selector>() {
        Ok(selector) => Ok(selector.matchers),
        Err(SelectorError::Syntax { expected, .. }) => Err(refusal(text, expected)),
        Err(error) => Err(error.to_string()),
    }
}

/// One condition whose value stands without quotes.
fn bare(text: &str) -> Result<Matcher, String> {
    let at = text.find(['=', '!']).ok_or_else(|| refusal(text, "an operator"))?;
    let (name, rest) = (&text[..at], &text[at..]);
    let found = OPERATORS.iter().find_map(|(s, op)| Some((op, rest.strip_prefix(s)?)));
    let (op, value) = found.ok_or_else(|| refusal(text, "an operator"))?;
    Matcher::new(name.trim(), *op, value.trim()).map_err(|error| error.to_string())
}

fn refusal(text: &str, expected: &str) -> String {
    let text: String = text.chars().take(80).collect();
    format!(
        "{text:?} is no condition on labels, {expected} is missing; write label=\"value\", with one of =, !=, =~ (a regular expression) and !~"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::alert;
    use proptest::prelude::*;

    #[test]
    fn conditions_read_as_people_write_them() {
        let page = alert("cpu", &[("severity", "page"), ("agent", "web-1")]);
        for (text, expected) in [
            (r#"severity="page""#, Some(true)),
            ("severity=page", Some(true)),
            (" severity = page ", Some(true)),
            (r#"severity="page", agent=~"web-.*""#, Some(true)),
            (r#"severity="page", agent=~"web""#, Some(false)),
            ("agent=~web-[0-9]", Some(true)),
            ("agent!~web-[0-9]", Some(false)),
            ("severity!=page", Some(false)),
            ("team=", Some(true)),
            ("team!=", Some(false)),
            ("rule=cpu", Some(true)),
            ("severity", None),
            ("", None),
            ("a b=c", None),
            ("agent=~web-[", None),
            (r#"severity="page"} x{a="b""#, None),
            (r#"severity="page" agent="a""#, None),
        ] {
            let matchers = Matchers::parse(&[text]);
            assert_eq!(matchers.as_ref().ok().map(|m| m.matches(&page)), expected, "{text}");
        }
    }

    #[test]
    fn every_wrong_text_is_named() {
        let long = format!("a={}", "x".repeat(MAX_TEXT));
        let wrong = Matchers::parse(&["a=b", "nothing", "c=d", &long]).unwrap_err();
        assert_eq!(wrong.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [1, 3]);
        assert!(wrong[0].1.contains("label=\"value\""), "{wrong:?}");
        let many = vec!["a=b"; MAX_CONDITIONS + 1];
        assert!(Matchers::parse(&many).is_err());
    }

    #[test]
    fn a_rule_s_own_label_of_that_name_wins() {
        let own = alert("cpu", &[("rule", "other")]);
        assert_eq!((label(&own, "rule"), label(&own, "team")), ("other", ""));
        assert!(Matchers::default().matches(&own));
    }

    #[test]
    fn what_is_shown_reads_as_the_same() {
        let matchers = Matchers::parse(&["a=b", r#"c!="d", e=~"f|g""#, "h!~i"]).unwrap();
        let shown = matchers.to_string();
        assert_eq!(shown, r#"a="b", c!="d", e=~"f|g", h!~"i""#);
        assert_eq!(Matchers::parse(&[shown]).unwrap(), matchers);
    }
    /// Signs, letters and texts of which conditions are made.
    fn text() -> impl Strategy<Value = String> {
        let parts = [
            "a",
            "rule",
            "severity",
            "=",
            "!=",
            "=~",
            "!~",
            "\"",
            "\\",
            "\\n",
            ",",
            " ",
            "{",
            "}",
            "(",
            ")",
            "[",
            "|",
            ".*",
            "é",
            "\n",
            "\u{0}",
            "page",
            "\"page\"",
            "a=b",
            "a=~\"b|c\"",
        ];
        let made = prop::collection::vec(prop::sample::select(parts.to_vec()), 0..9);
        prop_oneof![4 => made.prop_map(|parts| parts.concat()), 1 => ".{0,40}"]
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_is_shown_as_it_reads(
            texts in prop::collection::vec(text(), 0..4),
        ) {
            match Matchers::parse(&texts) {
                Ok(matchers) => {
                    let _ = matchers.matches(&alert("cpu", &[("a", "b"), ("severity", "page")]));
                    let shown = matchers.to_string();
                    let again = if matchers.is_empty() { vec![] } else { vec![shown] };
                    prop_assert_eq!(Matchers::parse(&again), Ok(matchers));
                }
                Err(wrong) => {
                    prop_assert!(wrong.iter().all(|(at, why)| *at < texts.len() && !why.is_empty()));
                }
            }
        }
    }
}
