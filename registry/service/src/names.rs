//! Names in addresses: repositories, tags, references. They become paths of the store, so
//! nothing is decoded and nothing but the specification's alphabet passes.

use std::fmt;
use std::str::FromStr;

use semver::Version;
use sentinel_trust::{Digest, PluginName};

/// Most characters of a repository's name.
pub(crate) const MAX_REPOSITORY_CHARS: usize = 200;
/// Most parts of a repository's name.
pub(crate) const MAX_REPOSITORY_PARTS: usize = 8;
/// Most characters of a tag.
pub(crate) const MAX_TAG_CHARS: usize = 128;

/// A repository's name: parts of lower-case letters and digits, joined by `/`, with single
/// dots, one or two underscores or any number of dashes between them. No part starts with
/// an underscore or a dot, which the store's own folders use.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository(Box<str>);

/// A tag: a letter, digit or underscore, then also dots and dashes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Box<str>);

/// How a manifest is named.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// By tag.
    Tag(Tag),
    /// By digest.
    Digest(Digest),
}

/// A text that is not the name it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a repository's name.
    #[error(
        "`{0}` is not a repository's name: write lower-case letters and digits, such as `acme/probe`, at most {MAX_REPOSITORY_CHARS} characters"
    )]
    Repository(String),
    /// Not a tag.
    #[error(
        "`{0}` is not a tag: write letters, digits, dots and dashes, such as `1.2.3`, at most {MAX_TAG_CHARS} characters"
    )]
    Tag(String),
    /// Neither a tag nor a digest.
    #[error("`{0}` is not a digest: write `sha256:` and 64 lower-case hex digits")]
    Digest(String),
}

/// The start of a text from outside, safe to repeat.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

fn is_part(part: &str) -> bool {
    let bytes = part.as_bytes();
    let plain = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
    if !bytes.first().is_some_and(plain) || !bytes.last().is_some_and(plain) {
        return false;
    }
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| !plain(b)) {
        let run = rest[at..].iter().take_while(|b| !plain(b)).count();
        let separator = &rest[at..at + run];
        if !(matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')) {
            return false;
        }
        rest = &rest[at + run..];
    }
    true
}

impl FromStr for Repository {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let good = text.len() <= MAX_REPOSITORY_CHARS
            && text.split('/').count() <= MAX_REPOSITORY_PARTS
            && text.split('/').all(is_part);
        if good { Ok(Self(text.into())) } else { Err(NameError::Repository(excerpt(text))) }
    }
}

impl Repository {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first part: whose the repository is.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// The plugin whose repository this is, where the name is a plugin's.
    #[must_use]
    pub fn plugin(&self) -> Option<PluginName> {
        self.0.parse().ok()
    }
}

impl From<&PluginName> for Repository {
    /// Every plugin's name is a repository's: its alphabet is smaller.
    fn from(name: &PluginName) -> Self {
        Self(name.as_str().into())
    }
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let good = text.len() <= MAX_TAG_CHARS
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
        if good { Ok(Self(text.into())) } else { Err(NameError::Tag(excerpt(text))) }
    }
}

impl Tag {
    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag under which a version is pushed. A tag has no `+`, a version no `_`.
    ///
    /// # Errors
    /// A version that is too long.
    pub(crate) fn of(version: &Version) -> Result<Self, NameError> {
        version.to_string().replace('+', "_").parse()
    }

    /// The version whose tag this is, where it is one's.
    pub(crate) fn version(&self) -> Option<Version> {
        Version::parse(&self.0.replace('_', "+")).ok()
    }
}

/// A digest in an address or a query.
///
/// # Errors
/// A text that is none of SHA-256.
pub(crate) fn digest(text: &str) -> Result<Digest, NameError> {
    text.parse().map_err(|_| NameError::Digest(excerpt(text)))
}

impl FromStr for Reference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains(':') {
            Ok(Self::Digest(digest(text)?))
        } else {
            Ok(Self::Tag(text.parse()?))
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn repositories_have_the_alphabet_of_the_specification() {
        for good in ["a", "acme/probe", "a.b/c_d/e__f/g---h", "0/1", "a/b/c/d/e/f/g/h"] {
            assert!(good.parse::<Repository>().is_ok(), "{good:?} was refused");
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a/..",
            "../a",
            "a/./b",
            ".a",
            "_a",
            "a_",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a.-b",
            "a b",
            "a%2fb",
            "a%2e%2e",
            "a\\b",
            "a\0",
            "ä",
            "a\n",
            "a#1",
            "a/b/c/d/e/f/g/h/i",
        ] {
            assert!(bad.parse::<Repository>().is_err(), "{bad:?} was accepted");
        }
        assert!("a".repeat(MAX_REPOSITORY_CHARS).parse::<Repository>().is_ok());
        assert!("a".repeat(MAX_REPOSITORY_CHARS + 1).parse::<Repository>().is_err());
    }

    #[test]
    fn tags_have_the_alphabet_of_the_specification() {
        for good in ["1.2.3", "latest", "_x", "A", "v1-rc.2", &"a".repeat(MAX_TAG_CHARS)] {
            assert!(good.parse::<Tag>().is_ok(), "{good:?} was refused");
        }
        for bad in ["", ".", "..", "-a", ".a", "a/b", "a%2f", "a b", "ü", &"a".repeat(129)] {
            assert!(bad.parse::<Tag>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn every_version_has_a_tag_and_every_such_tag_its_version() {
        for (version, tag) in [
            ("1.2.3", "1.2.3"),
            ("1.2.3-rc.1", "1.2.3-rc.1"),
            ("0.1.0+dev.17", "0.1.0_dev.17"),
            ("1.0.0-a-b+c.d", "1.0.0-a-b_c.d"),
        ] {
            let version: Version = version.parse().unwrap();
            let made = Tag::of(&version).unwrap();
            assert_eq!((made.as_str(), made.version()), (tag, Some(version)));
        }
        for tag in ["latest", "v1.0.0", "1.0", "1.0.0_a_b", "1.0.0__a"] {
            assert_eq!(tag.parse::<Tag>().unwrap().version(), None, "{tag}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_a_repository_matches_the_specifications_expression(
            text in "[a-z0-9._/-]{0,14}|\\PC{0,10}"
        ) {
            let part = "[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*";
            let pattern = proptest::string::string_regex(part);
            prop_assert!(pattern.is_ok());
            let matches = text.split('/').all(reference_part);
            let parts = text.split('/').count() <= MAX_REPOSITORY_PARTS;
            prop_assert_eq!(text.parse::<Repository>().is_ok(), matches && parts);
        }

        #[test]
        fn what_the_expression_makes_is_a_repository(
            text in "[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,3}){0,3}(/[a-z0-9]{1,4}){0,3}"
        ) {
            prop_assert!(text.parse::<Repository>().is_ok());
        }
    }

    /// The expression of the specification, slowly: strip a separator and letters from the end.
    fn reference_part(part: &str) -> bool {
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let stem = part.trim_end_matches(letters);
        if stem.len() == part.len() {
            return false;
        }
        if stem.is_empty() {
            return true;
        }
        let dashes = stem.trim_end_matches('-');
        let mut heads =
            vec![stem.strip_suffix('.'), stem.strip_suffix("__"), stem.strip_suffix('_')];
        heads.push((dashes.len() < stem.len()).then_some(dashes));
        heads.into_iter().flatten().any(reference_part)
    }
}
