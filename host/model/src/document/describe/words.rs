//! How what a schema wants is put in words.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use serde_json::Value;

/// The most characters of a message that comes from a value or a schema.
pub(super) const MAX_TEXT: usize = 300;
/// The most characters of a value that is shown.
const MAX_VALUE: usize = 60;
/// Keys that differ by more letters are not taken for each other.
const MAX_SLIPS: usize = 2;

/// What a schema wants of one value.
pub(super) struct Wanted {
    noun: String,
    examples: Vec<Value>,
    /// What its author says of it.
    about: Option<String>,
    has_title: bool,
    /// A text that any letters make.
    is_plain_text: bool,
}

impl Wanted {
    /// By the schema of the value: its title, or else the types that an error names.
    pub(super) fn of(error: &ValidationError<'_>, node: Option<&Value>) -> Self {
        let types: Vec<&str> = match error.kind() {
            ValidationErrorKind::Type { kind: TypeKind::Single(one) } => vec![one.as_str()],
            ValidationErrorKind::Type { kind: TypeKind::Multiple(all) } => {
                all.iter().map(|one| one.as_str()).collect()
            }
            _ => vec!["string"],
        };
        // Nothing is the absence of a value: said only where it is all that may stand there.
        let some: Vec<&str> = types.iter().copied().filter(|name| *name != "null").collect();
        let said = |name: &&str| match *name {
            "null" => "null".to_owned(),
            "object" => "keys with values".to_owned(),
            "array" => "a list".to_owned(),
            "boolean" => "true or false".to_owned(),
            "integer" => "a whole number".to_owned(),
            name => with_article(name),
        };
        let nouns: Vec<String> =
            if some.is_empty() { &types } else { &some }.iter().map(said).collect();
        // Of objects the title is the name of a type of ours.
        let title = node.and_then(|n| n.get("title")?.as_str()).filter(|_| some != ["object"]);
        Self {
            noun: title.map_or_else(|| nouns.join(" or "), with_article),
            examples: node.and_then(|n| n.get("examples")?.as_array().cloned()).unwrap_or_default(),
            about: node.and_then(sentence),
            has_title: title.is_some(),
            is_plain_text: title.is_none()
                && some == ["string"]
                && node.is_none_or(|n| n.get("pattern").is_none()),
        }
    }

    /// A text that must match a pattern.
    pub(super) fn matching(mut self, pattern: &str) -> Self {
        if !self.has_title && self.examples.is_empty() {
            self.noun = shorten(&format!("{} that matches {pattern}", self.noun), MAX_TEXT);
        }
        self
    }

    /// Whether it is only that there may be nothing.
    pub(super) fn is_nothing(&self) -> bool {
        self.noun == "null"
    }

    pub(super) fn noun(&self) -> &str {
        &self.noun
    }

    /// With all that is known, to somebody who wrote `found`.
    pub(super) fn said(&self, found: &Value) -> String {
        let mut said = self.noun.clone();
        if !self.examples.is_empty() {
            said = format!("{said} such as {}", one_of(&self.examples, &[]));
        } else if self.is_plain_text && (found.is_number() || found.is_boolean()) {
            said = format!("{said}, in quotes: \"{found}\"");
        }
        match &self.about {
            Some(about) if self.examples.is_empty() => format!("{said} ({about})"),
            _ => said,
        }
    }
}

fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

/// The first sentence of a schema's description, without its full stop.
pub(super) fn sentence(node: &Value) -> Option<String> {
    let text = node.get("description")?.as_str()?.split_whitespace().collect::<Vec<_>>().join(" ");
    let first = text.split(". ").next().unwrap_or_default().trim_end_matches('.');
    (!first.is_empty()).then(|| shorten(first, MAX_TEXT))
}

/// "a", "b" or a string.
pub(super) fn one_of(values: &[Value], nouns: &[&str]) -> String {
    let mut words: Vec<String> = Vec::new();
    for value in values.iter().filter(|value| !value.is_null()) {
        let word = value.to_string();
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.extend(nouns.iter().map(|noun| (*noun).to_owned()));
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => {
            shorten(&format!("{} or {last}", rest.join(", ")), MAX_TEXT)
        }
        Some((last, _)) => last.clone(),
        None => "something else".to_owned(),
    }
}

/// The key that was meant by one that is not known.
pub(super) fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    // So few letters fit anything.
    let most = MAX_SLIPS.min(key.chars().count() / 2);
    let slips = |other: &&&str| slips(key, other);
    known.iter().min_by_key(slips).filter(|other| slips(other) <= most).copied()
}

/// Letters to change, add, leave out or swap with their neighbour, to come from one to the other.
fn slips(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    // Too far apart for any table: keys are untrusted, and may be long.
    if from.len().abs_diff(to.len()) > MAX_SLIPS {
        return usize::MAX;
    }
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let change = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut least = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

pub(super) fn excerpt(value: &Value) -> String {
    shorten(&value.to_string(), MAX_VALUE)
}

pub(super) fn shorten(message: &str, max: usize) -> String {
    let count = message.chars().count();
    if count <= max {
        return message.to_owned();
    }
    let head: String = message.chars().take(max / 2).collect();
    let tail: String = message.chars().skip(count - max / 2).collect();
    format!("{head} … {tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted_as_people_make_them() {
        for (from, to, count) in [
            ("from", "from", 0),
            ("fro", "from", 1),
            ("form", "from", 1),
            ("urls", "url", 1),
            ("", "ab", 2),
        ] {
            assert_eq!((slips(from, to), slips(to, from)), (count, count), "{from} {to}");
        }
        assert_eq!(nearest("intervall", &["config", "interval"]), Some("interval"));
        assert_eq!(nearest("x", &["y", "z"]), None);
        assert_eq!(nearest("colour", &["timeout"]), None);
    }
}
