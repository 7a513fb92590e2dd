//! Series: a name and labels, how they are selected, and how they are written.

mod selector;

use serde::{Deserialize, Serialize};
use std::fmt;

pub use selector::{MatchOp, Matcher, Selector, SelectorError};

/// Labels sorted by key, each key once.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(
    from = "std::collections::BTreeMap<String, String>",
    into = "std::collections::BTreeMap<String, String>"
)]
pub struct Labels(Vec<(String, String)>);

impl From<std::collections::BTreeMap<String, String>> for Labels {
    fn from(map: std::collections::BTreeMap<String, String>) -> Self {
        Self(map.into_iter().collect())
    }
}

impl From<Labels> for std::collections::BTreeMap<String, String> {
    fn from(labels: Labels) -> Self {
        labels.0.into_iter().collect()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Labels {
    /// The last value of a key wins.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let pairs: Vec<(String, String)> =
            pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        // As they mostly come.
        if pairs.is_sorted_by(|a, b| a.0 < b.0) {
            return Self(pairs);
        }
        pairs.into_iter().collect::<std::collections::BTreeMap<_, _>>().into()
    }
}

impl Labels {
    /// The value of a label.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(k, _)| k.as_str().cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// Sets a label.
    pub fn set(&mut self, key: &str, value: &str) {
        match self.0.binary_search_by(|(k, _)| k.as_str().cmp(key)) {
            Ok(at) => value.clone_into(&mut self.0[at].1),
            Err(at) => self.0.insert(at, (key.to_owned(), value.to_owned())),
        }
    }

    /// In order of keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Labels {
    /// `{a="b", c="d"}`, values quoted as JSON does; nothing where there are no labels.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        f.write_str("{")?;
        for (i, (key, value)) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{key}={value:?}")?;
        }
        f.write_str("}")
    }
}

/// A name and labels: what identifies a series.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeriesKey {
    /// The metric name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
}

impl fmt::Display for SeriesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, self.labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_sort_and_show() {
        let labels: Labels = [("b", "2"), ("a", "1"), ("b", "3\"")].into_iter().collect();
        assert_eq!(labels.to_string(), r#"{a="1", b="3\""}"#);
        assert_eq!((labels.get("a"), labels.get("c")), (Some("1"), None));
    }
}
