//! Objects of a text whose keys are taken one by one, and what is wrong with them.

use sentinel_sdk::{Diagnostic, pointer_step};
use serde_json::{Map, Value};

/// Most diagnostics that one text is given.
const MAX_PROBLEMS: usize = 100;
/// Longest part of a wrong value that a message quotes, in bytes.
const QUOTED: usize = 60;

/// Everything to be said about a text.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    pub(crate) errors: Vec<Diagnostic>,
    pub(crate) warnings: Vec<Diagnostic>,
}

impl Problems {
    /// Says what keeps the text from being taken.
    pub(crate) fn error(&mut self, path: impl Into<String>, message: impl Into<String>) {
        if self.errors.len() < MAX_PROBLEMS {
            self.errors.push(Diagnostic::error(path, message));
        }
    }

    /// Says what a person should look at.
    pub(crate) fn warn(&mut self, path: impl Into<String>, message: impl Into<String>) {
        if self.warnings.len() < MAX_PROBLEMS {
            self.warnings.push(Diagnostic::warning(path, message));
        }
    }
}

/// An object and where it stands.
pub(crate) struct Fields<'t> {
    pub(crate) path: String,
    object: &'t Map<String, Value>,
}

impl<'t> Fields<'t> {
    /// The object at `path`; says so and is nothing where there is another value.
    pub(crate) fn of(
        value: &'t Value,
        path: &str,
        expected: &str,
        problems: &mut Problems,
    ) -> Option<Self> {
        match value {
            Value::Object(object) => Some(Self { path: path.to_owned(), object }),
            other => {
                problems.error(path, format!("{} is not {expected}", quoted(other)));
                None
            }
        }
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.object.contains_key(key)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &'t str> + use<'t> {
        self.object.keys().map(String::as_str)
    }

    /// The pointer of a key.
    pub(crate) fn at(&self, key: &str) -> String {
        format!("{}{}", self.path, pointer_step(key))
    }

    /// A value and its pointer.
    pub(crate) fn get(&self, key: &str) -> Option<(&'t Value, String)> {
        self.object.get(key).map(|value| (value, self.at(key)))
    }

    /// A text and its pointer; says so where there is another value.
    pub(crate) fn text(&self, key: &str, problems: &mut Problems) -> Option<(&'t str, String)> {
        let (value, path) = self.get(key)?;
        match value {
            Value::String(text) => Some((text, path)),
            other => {
                problems.error(path, format!("{} is not a text", quoted(other)));
                None
            }
        }
    }

    /// Says which keys are none of `known`.
    pub(crate) fn only(&self, known: &[&str], problems: &mut Problems) {
        for key in self.keys().filter(|key| !known.contains(key)) {
            let near = known
                .iter()
                .map(|known| (distance(key, known), *known))
                .min()
                .filter(|(distance, known)| *distance <= 2 && *distance < known.len())
                .map(|(_, known)| format!("; did you mean `{known}`?"));
            let known = near.unwrap_or_else(|| format!("; known are {}", known.join(", ")));
            problems.error(self.at(key), format!("unknown key {}{known}", quoted_text(key)));
        }
    }
}

/// A value fit for a message.
pub(crate) fn quoted(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::String(text) => quoted_text(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// A text fit for a message.
pub(crate) fn quoted_text(text: &str) -> String {
    let end = text.floor_char_boundary(QUOTED);
    let dots = if end < text.len() { "..." } else { "" };
    format!("{:?}{dots}", &text[..end])
}

/// Edits (insert, remove, replace) from one text to the other; great where one is long.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > QUOTED {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, x) in a.bytes().enumerate() {
        let mut corner = row[0];
        row[0] = at + 1;
        for (other, y) in b.bytes().enumerate() {
            let replaced = corner + usize::from(x != y);
            corner = row[other + 1];
            row[other + 1] = replaced.min(corner + 1).min(row[other] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (a, b, edits) in
            [("window", "window", 0), ("widow", "window", 1), ("abov", "above", 1), ("", "fn", 2)]
        {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }
}
