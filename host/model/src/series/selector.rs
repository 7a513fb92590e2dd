//! Selectors: which series are meant, as people write it.

use super::SeriesKey;
use crate::columns::{BatchError, check_label_key, check_name};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write as _};

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MatchOp {
    /// The texts are the same.
    Equal,
    /// They differ.
    NotEqual,
    /// The anchored regular expression matches.
    Regex,
    /// It does not.
    NotRegex,
}

impl MatchOp {
    fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// The greatest size a compiled regular expression may have, in bytes.
const MAX_REGEX: usize = 1 << 20;

/// One condition on a label. A label that is absent counts as the empty string.
#[derive(Debug, Clone)]
pub struct Matcher {
    /// Which label.
    pub label: String,
    /// How.
    pub op: MatchOp,
    /// With what.
    pub value: String,
    regex: Option<regex::Regex>,
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.label, self.op, &self.value) == (&other.label, other.op, &other.value)
    }
}

impl Eq for Matcher {}

impl std::hash::Hash for Matcher {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.label, self.op, &self.value).hash(state);
    }
}

/// Why a text or its parts do not select.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// The name or a key is not of the allowed form.
    #[error(transparent)]
    Text(#[from] BatchError),
    /// A regular expression is malformed or too large.
    #[error("the regular expression {0:?} is not valid: {1}")]
    Regex(String, String),
    /// The text does not read as a selector.
    #[error(
        "at {at} of {text:?}: expected {expected}; write name{{label=\"value\", other=~\"regex\"}}"
    )]
    Syntax {
        /// The text, cut.
        text: String,
        /// Byte offset.
        at: usize,
        /// What should stand there.
        expected: &'static str,
    },
}

impl Matcher {
    /// Makes a matcher.
    ///
    /// # Errors
    /// A malformed label key or regular expression.
    pub fn new(label: &str, op: MatchOp, value: &str) -> Result<Self, SelectorError> {
        check_label_key(label)?;
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(
                regex::RegexBuilder::new(&format!("^(?:{value})$"))
                    .size_limit(MAX_REGEX)
                    .build()
                    .map_err(|e| SelectorError::Regex(value.to_owned(), e.to_string()))?,
            ),
        };
        Ok(Self { label: label.to_owned(), op, value: value.to_owned(), regex })
    }

    /// Whether a label's value (empty where absent) satisfies it.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        let regex = || self.regex.as_ref().is_some_and(|r| r.is_match(value));
        match self.op {
            MatchOp::Equal => value == self.value,
            MatchOp::NotEqual => value != self.value,
            MatchOp::Regex => regex(),
            MatchOp::NotRegex => !regex(),
        }
    }
}

impl fmt::Display for Matcher {
    /// `label="value"`, with the escapes that are read, and no others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}\"", self.label, self.op.symbol())?;
        for c in self.value.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

/// Which series: one name, and conditions on labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Selector {
    /// The metric name.
    pub name: String,
    /// All must hold.
    pub matchers: Vec<Matcher>,
}

impl Selector {
    /// Makes a selector.
    ///
    /// # Errors
    /// A malformed name.
    pub fn new(name: &str, matchers: Vec<Matcher>) -> Result<Self, SelectorError> {
        check_name(name)?;
        Ok(Self { name: name.to_owned(), matchers })
    }

    /// Whether it selects a series.
    #[must_use]
    pub fn matches(&self, key: &SeriesKey) -> bool {
        key.name == self.name
            && self.matchers.iter().all(|m| m.matches(key.labels.get(&m.label).unwrap_or("")))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.matchers.is_empty() {
            return Ok(());
        }
        f.write_str("{")?;
        for (i, matcher) in self.matchers.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{matcher}")?;
        }
        f.write_str("}")
    }
}

impl std::str::FromStr for Selector {
    type Err = SelectorError;

    /// Reads `name{label="value", other!="x", third=~"a|b", fourth!~"c.*"}`.
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let mut reader = Reader { text, at: 0 };
        reader.space();
        let name = reader.word();
        let mut matchers = Vec::new();
        reader.space();
        if reader.eat("{") {
            reader.space();
            while !reader.eat("}") {
                matchers.push(reader.matcher()?);
                reader.space();
                if !reader.eat(",") && !reader.text[reader.at..].starts_with('}') {
                    return Err(reader.expected("',' or '}'"));
                }
                reader.space();
            }
            reader.space();
        }
        if reader.at < text.len() {
            return Err(reader.expected("the end"));
        }
        Self::new(name, matchers)
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn expected(&self, expected: &'static str) -> SelectorError {
        let text = self.text.chars().take(80).collect();
        SelectorError::Syntax { text, at: self.at, expected }
    }

    fn space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.text[self.at..].starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn word(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':')))
            .unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn matcher(&mut self) -> Result<Matcher, SelectorError> {
        let label = self.word();
        if label.is_empty() {
            return Err(self.expected("a label"));
        }
        self.space();
        let ops = [MatchOp::Regex, MatchOp::NotRegex, MatchOp::NotEqual, MatchOp::Equal];
        let op = ops.into_iter().find(|op| self.eat(op.symbol()));
        let op = op.ok_or_else(|| self.expected("=, !=, =~ or !~"))?;
        self.space();
        let value = self.quoted()?;
        Matcher::new(label, op, &value)
    }

    fn quoted(&mut self) -> Result<String, SelectorError> {
        let start = self.at;
        if !self.eat("\"") {
            return Err(self.expected("a value in double quotes"));
        }
        let mut out = String::new();
        let mut chars = self.text[self.at..].char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += i + 1;
                    return Ok(out);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => out.push('\n'),
                    Some((_, c @ ('"' | '\\'))) => out.push(c),
                    // A regular expression's own escapes stay as they are.
                    Some((_, c)) => out.extend(['\\', c]),
                    None => break,
                },
                c => out.push(c),
            }
        }
        self.at = start;
        Err(self.expected("a value that ends with a double quote"))
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_read_and_select() {
        let key = SeriesKey {
            name: "http_requests_total".into(),
            labels: [("code", "503"), ("job", "web")].into_iter().collect(),
        };
        for (text, expected) in [
            ("http_requests_total", true),
            ("http_requests_total{}", true),
            (r#"http_requests_total{code="503"}"#, true),
            (r#"http_requests_total{code=~"5..", job!="db", zone=""}"#, true),
            (r#"http_requests_total{code=~"5"}"#, false),
            (r#"http_requests_total{code!~"5.."}"#, false),
            (r#" http_requests_total { job = "db" , } "#, false),
            ("http_requests", false),
        ] {
            let selector: Selector = text.parse().unwrap();
            assert_eq!(selector.matches(&key), expected, "{text}");
            assert_eq!(selector.to_string().parse::<Selector>().unwrap(), selector, "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_as_it_is_whatever_characters_it_holds() {
        for value in ["tab\t", "\"", "\\", "\\n", "\n", "e\u{301}", "\u{200b}", "\u{1b}[1m", "\0"] {
            for op in [MatchOp::Equal, MatchOp::NotEqual] {
                let matcher = Matcher::new("label", op, value).unwrap();
                let selector = Selector::new("name", vec![matcher]).unwrap();
                let shown = selector.to_string();
                assert_eq!(shown.parse::<Selector>().unwrap(), selector, "{shown}");
            }
        }
    }

    #[test]
    fn malformed_selectors_say_where() {
        for text in [
            "",
            "a{",
            "a{b}",
            "a{b=c}",
            "a{b=\"c}",
            "a{b=\"c\" d=\"e\"}",
            "a}",
            "a{b=~\"(\"}",
            "1a",
            "a{__b=\"\"}",
        ] {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
        let error = "a{b=c}".parse::<Selector>().unwrap_err().to_string();
        assert!(error.starts_with("at 4 of"), "{error}");
    }
}
