//! Naming a plugin, and why it is not to be had.

use crate::policy::PolicyError;
use sentinel_trust::{PluginName, TrustError};
use std::path::PathBuf;

/// Which plugin: `publisher/name`, or `publisher/name@1.2.3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginRef {
    /// Publisher and name.
    pub name: PluginName,
    /// The version; the highest where there is none.
    pub version: Option<semver::Version>,
}

impl std::fmt::Display for PluginRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.name)?;
        self.version.iter().try_for_each(|version| write!(f, "@{version}"))
    }
}

impl std::str::FromStr for PluginRef {
    type Err = PluginError;

    fn from_str(text: &str) -> Result<Self, PluginError> {
        let malformed = |why: String| PluginError::Reference { text: text.to_owned(), why };
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

/// Why a plugin is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The reference is malformed.
    #[error("{text:?} is not a plugin: {why}; write publisher/name or publisher/name@1.2.3")]
    Reference {
        /// What was given.
        text: String,
        /// What is wrong.
        why: String,
    },
    /// No folder has it.
    #[error(
        "there is no plugin {wanted} in {folders}; install it with `sentinel plugin install FILE`{others}"
    )]
    NotFound {
        /// What was asked for.
        wanted: String,
        /// Where it was looked for.
        folders: String,
        /// What has the same name, in words.
        others: String,
    },
    /// It is there and must not run.
    #[error("{file}: {source}", file = file.display())]
    Refused {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: TrustError,
    },
    /// It was given to be installed and must not run.
    #[error(transparent)]
    NotInstalled(TrustError),
    /// It is to be removed and lies where nothing is written.
    #[error(
        "{wanted} is not removed: it lies in {files}, and only {folder} is written to; remove the file there",
        files = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", "),
        folder = folder.display()
    )]
    Elsewhere {
        /// What was to be removed.
        wanted: String,
        /// Where it lies.
        files: Vec<PathBuf>,
        /// The folder that is written to.
        folder: PathBuf,
    },
    /// A folder or file cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file or folder passes its bound.
    #[error("{path} is too large: at most {max} are read", path = path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The bound.
        max: usize,
    },
    /// The trust policy is not to be had.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}
