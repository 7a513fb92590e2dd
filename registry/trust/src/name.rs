//! Names of publishers and plugins: what a signature speaks about and what becomes part of
//! file names and metric labels, so nothing but a small, boring alphabet is allowed.

use std::fmt;
use std::str::FromStr;

use semver::Version;

use crate::text::{excerpt, travels_as_string};

/// Most characters in a publisher's name.
pub const MAX_PUBLISHER_CHARS: usize = 39;
/// Most characters in a plugin's own name, without its publisher.
pub const MAX_PLUGIN_CHARS: usize = 63;

/// Who publishes: `sentinel`, `example-corp`. Lower-case ASCII letters, digits and single
/// dashes between them, starting with a letter, at most [`MAX_PUBLISHER_CHARS`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublisherName(Box<str>);

/// A plugin's full name, `publisher/name`, each half of the same alphabet; the second at most
/// [`MAX_PLUGIN_CHARS`]. Never a path: no dots, no backslashes, exactly one `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PluginName {
    text: Box<str>,
    slash: usize,
}

/// One version of one plugin.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    /// The plugin's name.
    pub name: PluginName,
    /// Its version.
    pub version: Version,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not `publisher/name`.
    #[error("`{0}` is not a plugin name: write `publisher/name`, with exactly one slash")]
    NotTwoParts(String),
    /// Empty or too long.
    #[error("`{part}` has {chars} characters; a name needs 1 to {max}")]
    Length {
        /// The half that was refused.
        part: String,
        /// Its length in characters.
        chars: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// A character outside the alphabet, or a dash in the wrong place.
    #[error(
        "`{0}` is not a name: lower-case letters a-z, digits and single dashes between them are allowed, and the first must be a letter"
    )]
    Alphabet(String),
}

fn check(part: &str, max: usize) -> Result<(), NameError> {
    let chars = part.chars().count();
    if chars == 0 || chars > max {
        return Err(NameError::Length { part: excerpt(part), chars, max });
    }
    let alphabet = part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    let starts_with_letter = part.as_bytes()[0].is_ascii_lowercase();
    if !alphabet || !starts_with_letter || part.ends_with('-') || part.contains("--") {
        return Err(NameError::Alphabet(excerpt(part)));
    }
    Ok(())
}

impl PublisherName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PluginName {
    /// A plugin of another publisher with the name that `plugin` has at its own.
    pub(crate) fn of(publisher: &PublisherName, plugin: &str) -> Self {
        debug_assert!(check(plugin, MAX_PLUGIN_CHARS).is_ok(), "{plugin} is no name");
        Self { slash: publisher.0.len(), text: format!("{publisher}/{plugin}").into() }
    }

    /// The whole name, `publisher/name`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The half before the slash.
    #[must_use]
    pub fn publisher(&self) -> PublisherName {
        PublisherName(self.text[..self.slash].into())
    }

    /// The half after the slash.
    #[must_use]
    pub fn plugin(&self) -> &str {
        &self.text[self.slash + 1..]
    }
}

impl FromStr for PublisherName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check(text, MAX_PUBLISHER_CHARS)?;
        Ok(Self(text.into()))
    }
}

impl FromStr for PluginName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (publisher, plugin) = text
            .split_once('/')
            .filter(|(_, plugin)| !plugin.contains('/'))
            .ok_or_else(|| NameError::NotTwoParts(excerpt(text)))?;
        check(publisher, MAX_PUBLISHER_CHARS)?;
        check(plugin, MAX_PLUGIN_CHARS)?;
        Ok(Self { slash: publisher.len(), text: text.into() })
    }
}

impl fmt::Display for PublisherName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PublisherName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PluginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for PluginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

travels_as_string!(
    PublisherName,
    "PublisherName",
    "^[a-z][a-z0-9]*(-[a-z0-9]+)*$",
    "Who publishes a plugin, for example `sentinel`"
);
travels_as_string!(
    PluginName,
    "PluginName",
    "^[a-z][a-z0-9]*(-[a-z0-9]+)*/[a-z][a-z0-9]*(-[a-z0-9]+)*$",
    "A plugin's full name, `publisher/name`"
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_plugin_name_has_a_publisher_and_a_name() {
        let name: PluginName = "example-corp/disk-2".parse().unwrap();
        assert_eq!(name.publisher().as_str(), "example-corp");
        assert_eq!(name.plugin(), "disk-2");
        assert_eq!(name.to_string(), "example-corp/disk-2");
    }

    #[test]
    fn names_that_could_be_a_path_or_be_mistaken_are_refused() {
        for text in [
            "",
            "/",
            "a",
            "a/",
            "/a",
            "a/b/c",
            "../a",
            "a/..",
            "a/b.wasm",
            "A/b",
            "a/B",
            "a b/c",
            "a/b\\c",
            "a\0/b",
            "a/-b",
            "a/b-",
            "a/b--c",
            "1a/b",
            "ä/b",
            "a/b\n",
            "con/../a",
            &format!("{}/b", "a".repeat(MAX_PUBLISHER_CHARS + 1)),
            &format!("a/{}", "b".repeat(MAX_PLUGIN_CHARS + 1)),
        ] {
            assert!(text.parse::<PluginName>().is_err(), "{text:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn whatever_parses_prints_the_same_and_is_no_path(text in "[a-z0-9./\\\\-]{0,12}|\\PC{0,12}") {
            if let Ok(name) = text.parse::<PluginName>() {
                prop_assert_eq!(name.as_str(), &text);
                prop_assert_eq!(format!("{}/{}", name.publisher(), name.plugin()), text.clone());
                prop_assert!(!text.contains('.') && !text.contains('\\'));
            }
        }
    }
}
