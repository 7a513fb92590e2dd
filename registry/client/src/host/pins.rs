//! Which release each range of versions means on this host: decided once, moved by operators.
//!
//! One file, `pins.json`, replaced in one step under a lock, so that two processes of a host
//! lose no pin of each other and a kill leaves the old file or the new one. It is read anew at
//! each question. A file that is damaged is an error, never a new beginning: another release
//! would run than the one that was decided for.

use crate::files::{ReadError, Stamp, read_bounded};
use parking_lot::Mutex;
use sentinel_files::Lock;
use sentinel_trust::Digest;
use sentinel_trust::repository::PluginRange;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The format of the file.
const FORMAT: u32 = 1;
/// Most bytes of the file (1 MiB).
const MAX_BYTES: usize = 1 << 20;
/// Most pins of a host.
const MAX_PINS: usize = 4096;
const MODE: u32 = 0o600;

/// What a range means on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The range, as slots name it.
    pub range: PluginRange,
    /// The version that was chosen.
    pub version: semver::Version,
    /// Its component: what is run, whatever the version says.
    pub digest: Digest,
}

/// Why it is not known what a range means on this host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PinsError {
    /// The disk.
    #[error("which releases this host runs, {path}: {source}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what was written. No plugin is chosen.
    #[error(
        "which releases this host runs, {path}, is damaged ({why}): put it back from a backup, or remove it, whereupon every slot takes the newest release in its range", path = path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// More than are kept.
    #[error(
        "this host has {MAX_PINS} ranges of plugins already, in {path}: remove those that no slot names with `sentinel plugin remove`", path = path.display()
    )]
    TooMany {
        /// Which file.
        path: PathBuf,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    pins: Vec<Pin>,
}

/// The pins by their range's text.
pub(super) type Pinned = BTreeMap<String, Pin>;

#[derive(Debug)]
pub(super) struct Pins {
    path: PathBuf,
    /// How the file looked after this process last read or wrote all of it.
    seen: Mutex<Option<Stamp>>,
}

impl Pins {
    /// The pins of a folder, which is there.
    pub(super) fn open(folder: &Path) -> Result<Self, PinsError> {
        let pins = Self { path: folder.join("pins.json"), seen: Mutex::default() };
        pins.read()?;
        pins.looks_otherwise();
        Ok(pins)
    }

    /// Whether the file was changed since this was last asked, other than by this process.
    pub(super) fn looks_otherwise(&self) -> bool {
        let now = self.stamp();
        let mut seen = self.seen.lock();
        std::mem::replace(&mut *seen, now) != now
    }

    /// How the file looks now; nothing where it is not there.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        fs::metadata(&self.path).ok().as_ref().map(Stamp::of)
    }

    pub(super) fn read(&self) -> Result<Pinned, PinsError> {
        let bytes = match read_bounded(&self.path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Pinned::new());
            }
            Err(ReadError::Io(error)) => return Err(self.io(error)),
            Err(error @ ReadError::TooLarge(_)) => return Err(self.damaged(error.to_string())),
        };
        let file: File =
            serde_json::from_slice(&bytes).map_err(|error| self.damaged(error.to_string()))?;
        if file.format != FORMAT {
            return Err(self.damaged(format!(
                "its format is {}, and this host knows format {FORMAT}",
                file.format
            )));
        }
        let misfit = file.pins.iter().find(|pin| !pin.range.versions.matches(&pin.version));
        if let Some(Pin { range, version, .. }) = misfit {
            return Err(self.damaged(format!("{version} is not within {range}")));
        }
        Ok(file.pins.into_iter().map(|pin| (pin.range.to_string(), pin)).collect())
    }

    /// Changes the pins, all of it or nothing. What `change` returns.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Pinned) -> T) -> Result<T, PinsError> {
        let lock = self.path.with_extension("lock");
        let _one = Lock::wait(&lock).map_err(|source| PinsError::Io { path: lock, source })?;
        let before = self.read()?;
        let mut pins = before.clone();
        let done = change(&mut pins);
        if pins == before {
            return Ok(done);
        }
        if pins.len() > MAX_PINS && pins.len() > before.len() {
            return Err(PinsError::TooMany { path: self.path.clone() });
        }
        // A change by another process that nobody here has noticed yet stays to be noticed.
        let ours_alone = !self.differs();
        let file = File { format: FORMAT, pins: pins.into_values().collect() };
        let mut json =
            serde_json::to_vec_pretty(&file).map_err(|error| self.io(io::Error::other(error)))?;
        json.push(b'\n');
        sentinel_files::replace(&self.path, &json, MODE).map_err(|source| self.io(source))?;
        if ours_alone {
            self.looks_otherwise();
        }
        Ok(done)
    }

    fn differs(&self) -> bool {
        *self.seen.lock() != self.stamp()
    }

    fn io(&self, source: io::Error) -> PinsError {
        PinsError::Io { path: self.path.clone(), source }
    }

    fn damaged(&self, why: String) -> PinsError {
        PinsError::Damaged { path: self.path.clone(), why }
    }
}
