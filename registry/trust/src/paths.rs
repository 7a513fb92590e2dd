//! Which files a plugin may read: absolute globs and lists of them.

use std::fmt;
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};

use crate::text::{excerpt, is_unprintable, travels_as_string};

/// Longest glob, in bytes.
pub const MAX_GLOB_BYTES: usize = 1024;

/// An absolute path in which `*` and `?` match within one directory level, `**` over levels,
/// `[...]` one of some characters and `{a,b}` alternatives. No `.`/`..` levels, no backslash.
#[derive(Clone)]
pub struct PathGlob {
    text: Box<str>,
    matcher: GlobMatcher,
}

/// Why a text is not a usable glob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a usable path or glob: {why}")]
pub struct PathGlobError {
    text: String,
    why: String,
}

impl PathGlob {
    /// The glob as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it covers `path`, an absolute path without `.` and `..` levels.
    /// A path that is not of that form is never covered.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        is_plain_absolute(path) && self.matcher.is_match(path)
    }

    /// Whether it is a path, without any wildcard.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !self.text.contains(['*', '?', '[', ']', '{', '}'])
    }

    /// Whether the two may have a path in common, judged by their text: what a message says
    /// is missing rests on this, what may be read never does.
    pub(crate) fn seems_to_overlap(&self, other: &Self) -> bool {
        self.text == other.text
            || self.matcher.is_match(&*other.text)
            || other.matcher.is_match(&*self.text)
    }
}

/// Absolute, no empty, `.` or `..` level, no NUL.
fn is_plain_absolute(path: &str) -> bool {
    path.len() > 1
        && !path.contains('\0')
        && path
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(|level| !matches!(level, "" | "." | "..")))
}

impl FromStr for PathGlob {
    type Err = PathGlobError;

    fn from_str(text: &str) -> Result<Self, PathGlobError> {
        let refused = |why: String| PathGlobError { text: excerpt(text), why };
        if text.len() > MAX_GLOB_BYTES {
            return Err(refused(format!("longer than {MAX_GLOB_BYTES} bytes")));
        }
        if text.contains('\\') || text.chars().any(is_unprintable) {
            return Err(refused("backslashes and control characters are not allowed".into()));
        }
        if !is_plain_absolute(text) {
            return Err(refused(
                "write an absolute path without `.`, `..` and empty levels, for example `/var/log/nginx/*.log`"
                    .into(),
            ));
        }
        let glob = GlobBuilder::new(text)
            .literal_separator(true)
            .build()
            .map_err(|error| refused(error.kind().to_string()))?;
        Ok(Self { text: text.into(), matcher: glob.compile_matcher() })
    }
}

impl PartialEq for PathGlob {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for PathGlob {}

impl fmt::Display for PathGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for PathGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

travels_as_string!(
    PathGlob,
    "PathGlob",
    "^/",
    "An absolute path or glob, for example `/var/log/nginx/*.log`"
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn glob(text: &str) -> PathGlob {
        text.parse().unwrap()
    }

    #[test]
    fn a_star_stays_within_a_level_and_two_stars_do_not() {
        for (pattern, path, covered) in [
            ("/var/log/*.log", "/var/log/a.log", true),
            ("/var/log/*.log", "/var/log/nginx/a.log", false),
            ("/var/log/**/*.log", "/var/log/nginx/a.log", true),
            ("/var/log/**", "/var/log/nginx/x/y", true),
            ("/var/log/**", "/var/logs", false),
            ("/etc/{os-release,hostname}", "/etc/hostname", true),
            ("/sys/class/net/eth?", "/sys/class/net/eth0", true),
            ("/proc/stat", "/proc/stat", true),
            ("/proc/stat", "/proc/status", false),
        ] {
            assert_eq!(glob(pattern).matches(path), covered, "{pattern} {path}");
        }
    }

    #[test]
    fn a_path_that_climbs_or_is_relative_is_never_covered() {
        for path in [
            "/var/log/../../etc/shadow",
            "var/log/a",
            "/var//log",
            "/var/./log",
            "/",
            "",
            "/var/log/a\0",
        ] {
            assert!(!glob("/**").matches(path), "{path:?} was covered");
        }
    }

    #[test]
    fn globs_that_are_not_plain_absolute_paths_are_refused() {
        for text in [
            "", "/", "a", "*", "../x", "/a/../b", "/a//b", "/a/", "/a/[", "/a/{b", "/a\\b", "/a\n",
            "~/x",
        ] {
            assert!(text.parse::<PathGlob>().is_err(), "{text:?} was accepted");
        }
        assert!(format!("/{}", "a".repeat(MAX_GLOB_BYTES)).parse::<PathGlob>().is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics_the_parser(text in "/?[a-z*?\\[\\]{},!./^-]{0,24}", path in "/[a-z./]{0,16}") {
            if let Ok(glob) = text.parse::<PathGlob>() {
                let _ = glob.matches(&path);
            }
        }
    }
}
