//! Which plugins a host needs, and removing the bytes of those that it needs no more.
//!
//! `needed.json` holds what is needed now, and what was before that: both stay, so that going
//! back one step needs no network. Only what was needed once and is in neither is removed: what
//! a bundle brought, or what is fetched and not pinned yet, was never needed and stays.

use std::collections::BTreeSet;
use std::path::PathBuf;

use sentinel_trust::Digest;
use serde::{Deserialize, Serialize};

use super::HostPlugins;
use crate::files::{Stamp, read_bounded};
use crate::source::SourceError;

const FILE: &str = "needed.json";
/// Most bytes of the file (1 MiB): some ten thousand digests.
const MAX_BYTES: usize = 1 << 20;
const MODE: u32 = 0o600;

/// What is in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Needed {
    now: BTreeSet<Digest>,
    before: BTreeSet<Digest>,
}

/// What was said to be needed last, and what the host went by then.
#[derive(Debug)]
pub(super) struct Known {
    needed: Needed,
    sets: BTreeSet<Digest>,
    pins: Option<Stamp>,
}

impl HostPlugins {
    /// Says what runs here, or may come to run, beside what is pinned: what of a fleet's sets a
    /// host may go on with or back to. Whatever was needed once, and is neither needed now nor
    /// was before that, is removed from the disk; how many plugins. Costs little where nothing
    /// changed. For the one process that runs the plugins.
    ///
    /// # Errors
    /// Pins that cannot be read, a disk that fails; then more is kept than is needed.
    pub async fn needs(&self, sets: &BTreeSet<Digest>) -> Result<usize, SourceError> {
        let mut known = self.needed.lock().await;
        // Asked every few seconds for as long as the host runs: a look at the file is all it costs
        // then, and an idle agent does not keep in memory what reads and checks pins.
        let pins = self.pins.stamp();
        if known.as_ref().is_some_and(|last| last.pins == pins && last.sets == *sets) {
            return Ok(0);
        }
        let mut now = sets.clone();
        now.extend(self.pins()?.into_iter().map(|pin| pin.digest));
        let last = match known.take() {
            Some(last) => last.needed,
            None => self.read_needed(),
        };
        if last.now == now {
            *known = Some(Known { needed: last, sets: sets.clone(), pins });
            return Ok(0);
        }
        let is_old = |digest: &&Digest| !now.contains(digest) && !last.now.contains(digest);
        let gone = last.before.iter().filter(is_old).copied().collect();
        // First, so that a kill in between leaves them to be removed, not forgotten.
        let removed = self.client.forget(gone).await?;
        let next = Needed { now, before: last.now };
        let json = serde_json::to_vec(&next).expect("digests serialise");
        let path = self.needed_file();
        sentinel_files::replace(&path, &json, MODE)
            .map_err(|source| super::PinsError::Io { path, source })?;
        *known = Some(Known { needed: next, sets: sets.clone(), pins });
        Ok(removed)
    }

    fn needed_file(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// Damaged, it is taken for none: nothing is removed then that it named.
    fn read_needed(&self) -> Needed {
        let read = read_bounded(&self.needed_file(), MAX_BYTES);
        let read = read.ok().map(|bytes| serde_json::from_slice(&bytes));
        match read {
            None => Needed::default(),
            Some(Ok(needed)) => needed,
            Some(Err(error)) => {
                tracing::warn!(%error, file = FILE, "what was needed before is not known; its plugins stay on the disk");
                Needed::default()
            }
        }
    }
}
