//! The object `match`: conditions on labels.

use regex_syntax::ast::parse::ParserBuilder;
use sentinel_sdk::is_label_key;
use sentinel_sdk::series::{MatchOp, Matcher};
use serde_json::Value;

use crate::fields::{Fields, Problems, quoted, quoted_text};

/// Most conditions in one `match`.
const MAX_MATCHERS: usize = 32;
/// Longest text or expression to compare with, in bytes.
const MAX_VALUE_BYTES: usize = 1_024;
/// Deepest nesting of a regular expression.
const MAX_REGEX_DEPTH: u32 = 50;

const OPS: [(&str, MatchOp); 3] =
    [("regex", MatchOp::Regex), ("not", MatchOp::NotEqual), ("not_regex", MatchOp::NotRegex)];

/// Reads the conditions, in order of labels: the same `match` is the same question however it
/// is written.
pub(crate) fn read(value: &Value, path: &str, problems: &mut Problems) -> Option<Vec<Matcher>> {
    let expected = "an object of labels, for example {\"state\": \"used\"}";
    let fields = Fields::of(value, path, expected, problems)?;
    let errors = problems.errors.len();
    if fields.keys().count() > MAX_MATCHERS {
        let said = format!("{} labels; at most {MAX_MATCHERS} are allowed", fields.keys().count());
        problems.error(path, said);
    }
    let mut matchers: Vec<Matcher> = fields
        .keys()
        .filter_map(|label| {
            let (value, path) = fields.get(label)?;
            if !is_label_key(label) {
                let said = format!(
                    "{} is no label; use letters, digits and `_`, no digit and no `__` first",
                    quoted_text(label)
                );
                problems.error(path, said);
                return None;
            }
            matcher(label, value, &path, problems)
        })
        .collect();
    matchers.sort_by(|a, b| a.label.cmp(&b.label));
    (problems.errors.len() == errors).then_some(matchers)
}

fn matcher(label: &str, value: &Value, path: &str, problems: &mut Problems) -> Option<Matcher> {
    let made = |op, value: &str| Matcher { label: label.to_owned(), op, value: value.to_owned() };
    match value {
        Value::String(text) => bounded(text, path, problems).then(|| made(MatchOp::Equal, text)),
        Value::Object(_) => {
            let fields = Fields::of(value, path, "a matcher", problems)?;
            fields.only(&OPS.map(|(name, _)| name), problems);
            let mut written = OPS.iter().filter(|(name, _)| fields.has(name));
            let Some((name, op)) = written.next() else {
                let said = "no matcher; write a text, or one of {\"regex\": ...}, {\"not\": ...}, \
                            {\"not_regex\": ...}";
                problems.error(path, said);
                return None;
            };
            if let Some((other, _)) = written.next() {
                let said = format!(
                    "a second matcher beside `{name}`; a label has one, so write one expression"
                );
                problems.error(fields.at(other), said);
                return None;
            }
            let (text, path) = fields.text(name, problems)?;
            let sound = bounded(text, &path, problems)
                && (*op == MatchOp::NotEqual || is_regex(text, &path, problems));
            sound.then(|| made(*op, text))
        }
        Value::Number(_) | Value::Bool(_) => {
            let said = format!("labels are texts; write \"{value}\" in quotation marks");
            problems.error(path, said);
            None
        }
        other => {
            let said =
                format!("{} is no matcher; write a text or {{\"regex\": ...}}", quoted(other));
            problems.error(path, said);
            None
        }
    }
}

fn bounded(text: &str, path: &str, problems: &mut Problems) -> bool {
    if text.len() > MAX_VALUE_BYTES {
        let said = format!("has {} bytes; at most {MAX_VALUE_BYTES} are allowed", text.len());
        problems.error(path, said);
    }
    text.len() <= MAX_VALUE_BYTES
}

/// Whether the syntax is sound. What only the host can know (names of Unicode classes, the size
/// of the compiled expression) it says when it plans the rule.
fn is_regex(text: &str, path: &str, problems: &mut Problems) -> bool {
    let parsed = ParserBuilder::new().nest_limit(MAX_REGEX_DEPTH).build().parse(text);
    if let Err(error) = &parsed {
        let said = format!(
            "{} is no regular expression: {} at character {}",
            quoted_text(text),
            error.kind(),
            text[..error.span().start.offset].chars().count() + 1
        );
        problems.error(path, said);
    }
    parsed.is_ok()
}
