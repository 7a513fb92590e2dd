//! Which plugin somebody wants: `publisher/name@^1`.

use std::fmt;
use std::str::FromStr;

use semver::{Version, VersionReq};

use crate::manifest::MAX_VERSION_CHARS;
use crate::name::{NameError, PluginName};
use crate::text::{excerpt, travels_as_string};

/// A plugin and the versions that will do. `acme/nginx@1.2.3` means exactly that version;
/// `acme/nginx@^1.2`, `@~1.2`, `@>=1, <3` are ranges as Cargo knows them; without `@`, any
/// version. A pre-release is taken only where the range names one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginRange {
    /// The plugin's name.
    pub name: PluginName,
    /// Which versions will do.
    pub versions: VersionReq,
}

/// Why a text is not a plugin range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Not a plugin's name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Not a range of versions.
    #[error("`{text}` is no range of versions ({why}): write 1.2.3, ^1.2, ~1.2 or >=1, <3")]
    Versions {
        /// What stands after the `@`.
        text: String,
        /// What the parser found.
        why: String,
    },
}

impl PluginRange {
    /// Exactly one version.
    #[must_use]
    pub fn exactly(name: PluginName, version: &Version) -> Self {
        let comparator = semver::Comparator {
            op: semver::Op::Exact,
            major: version.major,
            minor: Some(version.minor),
            patch: Some(version.patch),
            pre: version.pre.clone(),
        };
        Self { name, versions: VersionReq { comparators: vec![comparator] } }
    }
}

impl FromStr for PluginRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let Some((name, versions)) = text.split_once('@') else {
            return Ok(Self { name: text.parse()?, versions: VersionReq::STAR });
        };
        let name = name.parse()?;
        let refused =
            |why: String| RangeError::Versions { text: excerpt(versions), why: excerpt(&why) };
        if versions.chars().count() > MAX_VERSION_CHARS {
            return Err(refused(format!("more than {MAX_VERSION_CHARS} characters")));
        }
        if let Ok(version) = versions.parse::<Version>() {
            return Ok(Self::exactly(name, &version));
        }
        let versions =
            versions.parse().map_err(|error: semver::Error| refused(error.to_string()))?;
        Ok(Self { name, versions })
    }
}

impl fmt::Display for PluginRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.versions == VersionReq::STAR {
            return write!(f, "{}", self.name);
        }
        let versions = self.versions.to_string();
        // One exact version reads back without the sign too, and so do people write it.
        let bare = versions.strip_prefix('=').filter(|bare| bare.parse::<Version>().is_ok());
        write!(f, "{}@{}", self.name, bare.unwrap_or(&versions))
    }
}

travels_as_string!(
    PluginRange,
    "PluginRange",
    "^[a-z][a-z0-9]*(-[a-z0-9]+)*/[a-z][a-z0-9]*(-[a-z0-9]+)*(@.+)?$",
    "A plugin and the versions that will do, for example `sentinel/nginx@^1`"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_says_which_versions_will_do() {
        for (text, yes, no) in [
            ("a/b", &["1.0.0", "0.1.0", "9.9.9"][..], &["1.0.0-rc.1"][..]),
            ("a/b@1.2.3", &["1.2.3"], &["1.2.4", "1.3.0"]),
            ("a/b@^1.2", &["1.2.0", "1.9.0"], &["1.1.9", "2.0.0"]),
            ("a/b@~1.2", &["1.2.9"], &["1.3.0"]),
            ("a/b@>=1, <3", &["1.0.0", "2.9.9"], &["3.0.0"]),
            ("a/b@=1.2, <3", &["1.2.9"], &["1.3.0"]),
            ("a/b@1.0.0-rc.1", &["1.0.0-rc.1"], &["1.0.0", "1.0.0-rc.2"]),
        ] {
            let range: PluginRange = text.parse().unwrap();
            let matches = |version: &&&str| range.versions.matches(&version.parse().unwrap());
            assert!(yes.iter().all(|v| matches(&v)), "{text}");
            assert!(!no.iter().any(|v| matches(&v)), "{text}");
            assert_eq!(range.to_string().parse::<PluginRange>().unwrap(), range, "{text}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in
            ["", "a", "a/b@", "a/b@x.y.z", "../a@1", "a/b@1@2", &format!("a/b@{}", "1".repeat(80))]
        {
            assert!(text.parse::<PluginRange>().is_err(), "{text:?} was accepted");
        }
    }
}
