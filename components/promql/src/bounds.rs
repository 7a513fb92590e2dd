//! How large a condition may be: what is larger would be imported and then refused.

use serde_json::Value;

/// Deepest nesting of the language's expressions.
const MAX_NESTING: usize = 16;
/// Most series selections of one condition.
const MAX_LEAVES: usize = 100;
/// What beside an expression stands in one and is none.
const NO_EXPRESSIONS: [&str; 9] =
    ["by", "without", "combine", "apply", "on", "ignoring", "many", "include", "bool"];

/// Which bound rows exceed.
pub(crate) fn exceeded(rows: &Value) -> Option<String> {
    let (nesting, leaves) = size(rows);
    if nesting > MAX_NESTING {
        return Some(format!(
            "nested deeper than {MAX_NESTING}, as a condition may be; record a part of it as a metric"
        ));
    }
    (leaves > MAX_LEAVES)
        .then(|| format!("reads series in more than {MAX_LEAVES} places; write several rules"))
}

/// How deep expressions are nested below this one, and how many of all select series.
fn size(expression: &Value) -> (usize, usize) {
    let Value::Object(fields) = expression else { return (0, 0) };
    if fields.contains_key("metric") || fields.contains_key("absent") {
        return (0, 1);
    }
    let below = fields.iter().filter(|(key, _)| !NO_EXPRESSIONS.contains(&key.as_str()));
    let members = below.flat_map(|(_, value)| match value {
        Value::Array(members) => members.as_slice(),
        other => std::slice::from_ref(other),
    });
    members
        .map(size)
        .fold((0, 0), |(nesting, leaves), (deep, more)| (nesting.max(deep + 1), leaves + more))
}
