//! Patterns with `*` (any text) and `?` (any one character), as in configurations.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// A pattern that a whole text must match: `*` stands for any text, `?` for any one character,
/// everything else for itself.
#[derive(Clone, Debug, PartialEq, Eq, schemars::JsonSchema)]
#[schemars(with = "String")]
pub struct Glob {
    text: String,
}

impl Glob {
    /// The pattern of a text; every text is one.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the whole of `text` matches. Takes time in the product of the lengths at worst.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.text.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        // Where to go on after the last `*` if what follows it does not match: one byte further.
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p + 1, t));
                    p += 1;
                }
                Some(b'?') => {
                    p += 1;
                    t += character(text, t);
                }
                Some(byte) if *byte == text[t] => {
                    p += 1;
                    t += 1;
                }
                _ => {
                    let Some((after, from)) = star else {
                        return false;
                    };
                    let from = from + character(text, from);
                    star = Some((after, from));
                    p = after;
                    t = from;
                }
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
    }
}

/// Bytes of the character that starts at `at`.
fn character(text: &[u8], at: usize) -> usize {
    match text[at] {
        0x00..=0xBF => 1,
        0xC0..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xFF => 4,
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Glob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;
    use proptest::prelude::*;

    #[test]
    fn globs_match_whole_texts() {
        for (pattern, text, expect) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "abc", true),
            ("a*", "abc", true),
            ("a*", "ba", false),
            ("*_bytes", "x_bytes_bytes", true),
            ("*_bytes", "x_bytes_total", false),
            ("a*b*c", "a_b_b_c", true),
            ("a*b*c", "a_c", false),
            ("?", "ä", true),
            ("?", "", false),
            ("a?c", "a日c", true),
            ("*ä", "aää", true),
            ("loop*", "loop0", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), expect, "{pattern:?} on {text:?}");
        }
    }

    proptest! {
        #[test]
        fn globs_match_what_the_regex_matches(pattern in "[ab*?ä]{0,8}", text in "[abä]{0,8}") {
            let regex = pattern.replace('*', ".*").replace('?', ".");
            let expect = regex::Regex::new(&format!("^(?s:{regex})$")).unwrap().is_match(&text);
            prop_assert_eq!(Glob::new(pattern).matches(&text), expect);
        }
    }
}
