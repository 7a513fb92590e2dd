//! What a host must not forget about its fleet: one small file.
//!
//! JSON: `{"format": 1, "operators": {...}, "good": SEALED or null, "newest": SEALED or
//! null, "trial": {"proven": SEALED or null, "before": [SEALED...]}, "undone": {"number",
//! "why"}}`; the last two are left out where there is none. Sets lie there as they were
//! sealed, so that the signature guards them on disk as it did on the way, and their numbers
//! are the high-water mark. `newest` is written before anything of a set is applied, `good`
//! after all of it was.
//!
//! A file that was there and cannot be read or believed is an error and never taken for none:
//! a host that forgot its number would take an old set again.

use sentinel_files::{PrivateError, read_private};
use sentinel_trust::fleet::{MAX_SEALED_BYTES, Operators, RefusedSet, SealedSet, open};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The format of the file.
const FORMAT: u32 = 1;
/// Most bytes of the file: six sets, quotes escaped, and keys.
const MAX_FILE: usize = 8 * MAX_SEALED_BYTES;
/// Mode of the file.
const MODE: u32 = 0o600;

/// Why nothing is known of the fleet. Nothing of it runs then.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The file cannot be read or written.
    #[error("what this host knows of its fleet, {path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what was written.
    #[error(
        "what this host knows of its fleet, {path}, is damaged ({why}); restore it, or remove it: the host then takes whatever set of its operators it is offered first, an old one too", path = path.display()
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        why: String,
    },
    /// The host belonged to another fleet.
    #[error(
        "{path} is of fleet {found} and this host was enrolled into {pinned}; remove the file if it was meant to move", path = path.display()
    )]
    OtherFleet {
        /// Which.
        path: PathBuf,
        /// In the file.
        found: String,
        /// Enrolled now.
        pinned: String,
    },
}

/// A set as it was sealed, and opened.
#[derive(Debug, Clone)]
pub struct Known {
    text: Arc<str>,
    sealed: Arc<SealedSet>,
}

impl Known {
    /// Opens a set, whatever its number.
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(sealed: &[u8], pins: &Operators) -> Result<Self, sentinel_trust::fleet::Unopened> {
        let opened = open(sealed, pins, 0)?;
        let text = String::from_utf8_lossy(sealed).into_owned();
        Ok(Self { text: text.into(), sealed: Arc::new(opened) })
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.sealed.set().number
    }

    /// The set.
    #[must_use]
    pub fn sealed(&self) -> &SealedSet {
        &self.sealed
    }
}

/// What is durable.
#[derive(Debug, Clone)]
pub struct Memory {
    /// Whose sets count.
    pub operators: Operators,
    /// The set that was applied as a whole last, and not undone.
    pub good: Option<Known>,
    /// The newest set that was ever believed, applied or not.
    pub newest: Option<Known>,
    /// What the good set can be undone to, while it is on trial.
    pub trial: Option<Trial>,
    /// The set that was applied and undone, and why; until another is applied.
    pub undone: Option<RefusedSet>,
}

/// What a set on trial can be undone to.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The last set that stood its trial; none before the first did.
    pub proven: Option<Known>,
    /// Sets that were applied since and did not fail, the oldest first.
    pub before: Vec<Known>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    operators: Operators,
    good: Option<String>,
    newest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trial: Option<TrialFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    undone: Option<RefusedSet>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrialFile {
    proven: Option<String>,
    before: Vec<String>,
}

impl Memory {
    /// Of a host that was just enrolled.
    #[must_use]
    pub const fn new(operators: Operators) -> Self {
        Self { operators, good: None, newest: None, trial: None, undone: None }
    }

    /// The sets that it may come to run: without what they name, it could not go on or go back.
    pub fn sets(&self) -> impl Iterator<Item = &Known> {
        let trial = self.trial.iter();
        let before = trial.flat_map(|trial| trial.proven.iter().chain(&trial.before));
        self.good.iter().chain(&self.newest).chain(before)
    }

    /// Number of the newest set seen; 0 before the first.
    #[must_use]
    pub fn highest(&self) -> u64 {
        let number = |set: &Option<Known>| set.as_ref().map_or(0, Known::number);
        number(&self.good).max(number(&self.newest))
    }

    /// Reads the file of a host with these operators; what is new where there is none. Where
    /// other keys of the same fleet were pinned since, sets that none of them signed are
    /// forgotten, their numbers with them: whoever stole a key cannot block the fleet with a
    /// number beyond all others.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn load(path: &Path, pinned: &Operators) -> Result<Self, MemoryError> {
        let damaged = |why: String| MemoryError::Damaged { path: path.to_owned(), why };
        let bytes = read_private(path, MAX_FILE).map_err(|error| match error {
            PrivateError::Io { path, source } => MemoryError::Io { path, source },
            other => damaged(other.to_string()),
        })?;
        let Some(bytes) = bytes else { return Ok(Self::new(pinned.clone())) };
        let file: File = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if file.format != FORMAT {
            return Err(damaged(format!("its format is {}", file.format)));
        }
        if file.operators.fleet != pinned.fleet {
            let (found, pinned) = (file.operators.fleet.to_string(), pinned.fleet.to_string());
            return Err(MemoryError::OtherFleet { path: path.to_owned(), found, pinned });
        }
        let known = |text: Option<String>| match text {
            None => Ok(None),
            Some(text) => match Known::open(text.as_bytes(), &file.operators) {
                Err(why) => Err(damaged(why.to_string())),
                // Good when it was written; whether it still counts, the pins of today say.
                Ok(_) => Ok(Known::open(text.as_bytes(), pinned)
                    .inspect_err(|why| tracing::warn!(%why, "a desired set no longer counts"))
                    .ok()),
            },
        };
        let (good, newest) = (known(file.good)?, known(file.newest)?);
        let trial = file.trial.map(|trial| {
            let before: Result<Vec<_>, _> =
                trial.before.into_iter().map(|text| known(Some(text))).collect();
            let before = before?.into_iter().flatten().collect();
            Ok::<_, MemoryError>(Trial { proven: known(trial.proven)?, before })
        });
        let trial = trial.transpose()?.filter(|_| good.is_some());
        let undone = file.undone.filter(|_| newest.is_some());
        Ok(Self { operators: pinned.clone(), good, newest, trial, undone })
    }

    /// Writes the file; durable when this returns.
    ///
    /// # Errors
    /// The disk's.
    pub fn save(&self, path: &Path) -> Result<(), MemoryError> {
        let text = |set: &Option<Known>| set.as_ref().map(|known| known.text.to_string());
        let file = File {
            format: FORMAT,
            operators: self.operators.clone(),
            good: text(&self.good),
            newest: text(&self.newest),
            trial: self.trial.as_ref().map(|trial| TrialFile {
                proven: text(&trial.proven),
                before: trial.before.iter().map(|known| known.text.to_string()).collect(),
            }),
            undone: self.undone.clone(),
        };
        let bytes = serde_json::to_vec(&file).expect("texts and numbers serialise");
        sentinel_files::replace(path, &bytes, MODE)
            .map_err(|source| MemoryError::Io { path: path.to_owned(), source })
    }
}
