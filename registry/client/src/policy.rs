//! Reading trust policies from files.

use crate::files::read_bounded;
use sentinel_model::document::{Document, Problems};
use sentinel_trust::TrustPolicy;
use std::path::{Path, PathBuf};

/// Most bytes of a policy's file (1 MiB).
const MAX_POLICY_BYTES: usize = 1 << 20;

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("the trust policy {path} cannot be read: {source}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a policy.
    #[error("the trust policy has {0}")]
    Problems(#[from] Problems),
    /// The policy contradicts itself.
    #[error("the trust policy {path}: {problems}", path = path.display(), problems = problems.join("; "))]
    Contradiction {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problems: Vec<String>,
    },
}

/// Reads one policy (YAML or JSON).
///
/// # Errors
/// A file that cannot be read, is no policy, or contradicts itself.
pub fn load_policy(path: &Path) -> Result<TrustPolicy, PolicyError> {
    let unread = |source| PolicyError::Read { path: path.to_owned(), source };
    let bytes = read_bounded(path, MAX_POLICY_BYTES).map_err(|error| unread(error.into_io()))?;
    let text = String::from_utf8(bytes).map_err(|error| unread(std::io::Error::other(error)))?;
    let policy: TrustPolicy = Document::parse(&path.display().to_string(), &text)?.read()?;
    let problems = policy.problems();
    if problems.is_empty() {
        Ok(policy)
    } else {
        Err(PolicyError::Contradiction { path: path.to_owned(), problems })
    }
}

/// Reads several policies into one: whatever one of them trusts is trusted, whatever one of
/// them revokes is revoked. Files that do not exist are left out.
///
/// # Errors
/// As [`load_policy`].
pub fn load_policies(paths: &[PathBuf]) -> Result<TrustPolicy, PolicyError> {
    let mut all = TrustPolicy::default();
    for path in paths.iter().filter(|path| path.exists()) {
        let one = load_policy(path)?;
        all.revoked_digests.extend(one.revoked_digests);
        for (name, trust) in one.publishers {
            let into = all.publishers.entry(name).or_default();
            into.revoked.extend(trust.revoked);
            for key in trust.keys {
                if !into.keys.contains(&key) {
                    into.keys.push(key);
                }
            }
        }
    }
    Ok(all)
}
