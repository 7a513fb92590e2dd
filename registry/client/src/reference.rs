//! Naming a plugin.

use sentinel_trust::PluginName;

/// Which plugin: `publisher/name`, or `publisher/name@1.2.3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginRef {
    /// Publisher and name.
    pub name: PluginName,
    /// The version; every one where there is none.
    pub version: Option<semver::Version>,
}

/// Why a text names no plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a plugin: {why}; write publisher/name or publisher/name@1.2.3")]
pub struct ReferenceError {
    /// What was given.
    text: String,
    /// What is wrong.
    why: String,
}

impl std::str::FromStr for PluginRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let malformed = |why: String| ReferenceError { text: text.to_owned(), why };
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => {
                let version =
                    version.parse().map_err(|e: semver::Error| malformed(e.to_string()))?;
                (name, Some(version))
            }
            None => (text, None),
        };
        let name = name.parse().map_err(|e: sentinel_trust::NameError| malformed(e.to_string()))?;
        Ok(Self { name, version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_named_with_or_without_a_version() {
        let read = |text: &str| text.parse::<PluginRef>().map(|one| one.version);
        assert_eq!(read("acme/probe"), Ok(None));
        assert_eq!(read("acme/probe@1.2.3"), Ok(Some(semver::Version::new(1, 2, 3))));
        for text in ["", "acme", "acme/probe@", "acme/probe@1", "Acme/probe", "acme/probe@^1"] {
            let why = read(text).unwrap_err().to_string();
            assert!(why.contains("publisher/name@1.2.3"), "{why}");
        }
    }
}
