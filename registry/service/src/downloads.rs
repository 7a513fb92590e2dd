//! How often plugins are pulled: about.
//!
//! Counted in memory where a blob is sent from its start, and written now and then, so what
//! an instance counted since is lost when it is killed, and a client that begins twice counts
//! twice. Each instance writes one object of its own, under a name made at its start, so
//! instances never overwrite each other.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use sentinel_trust::Digest;
use serde::{Deserialize, Serialize};

use crate::names::Repository;
use crate::store::{Store, StoreError, path};

/// Most plugins that are counted between two writes, and kept of an instance.
const MAX_COUNTED: usize = 50_000;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counts {
    /// By repository and digest, `acme/probe@sha256:…`.
    pulls: BTreeMap<String, u64>,
}

/// Counts pulls.
#[derive(Debug)]
pub(crate) struct Downloads {
    instance: String,
    counted: Mutex<(Counts, bool)>,
}

fn key(repository: &str, digest: &Digest) -> String {
    format!("{repository}@{digest}")
}

impl Downloads {
    pub(crate) fn new(instance: String) -> Self {
        Self { instance, counted: Mutex::default() }
    }

    /// Counts one pull.
    pub(crate) fn count(&self, repository: &Repository, digest: &Digest) {
        if repository.plugin().is_none() {
            return;
        }
        let mut counted = self.counted.lock();
        let (counts, changed) = &mut *counted;
        let key = key(repository.as_str(), digest);
        if let Some(pulls) = counts.pulls.get_mut(&key) {
            *pulls += 1;
        } else if counts.pulls.len() < MAX_COUNTED {
            counts.pulls.insert(key, 1);
        }
        *changed = true;
    }

    /// Writes what was counted since the start, if there is anything new.
    pub(crate) async fn flush(&self, store: &Store) -> Result<(), StoreError> {
        let json = {
            let mut counted = self.counted.lock();
            let (counts, changed) = &mut *counted;
            if !std::mem::take(changed) {
                return Ok(());
            }
            serde_json::to_vec(counts)
        };
        let object = path(&["downloads", &self.instance]);
        let json = json.map_err(|error| StoreError::Damaged {
            object: object.to_string(),
            why: error.to_string(),
        })?;
        let written = store.write(&object, json.into()).await;
        if written.is_err() {
            self.counted.lock().1 = true;
        }
        written
    }
}

/// Pulls of everything, by all instances, as far as they have been written.
#[derive(Debug, Default)]
pub(crate) struct Totals(HashMap<String, u64>);

impl Totals {
    /// Adds up what every instance wrote. An object that cannot be read is left out: these
    /// are about-numbers.
    pub(crate) async fn read(store: &Store) -> Result<Self, StoreError> {
        let mut totals = HashMap::new();
        for meta in store.list(&path(&["downloads"])).await? {
            let Some(json) = store.read(&meta.location).await? else { continue };
            match serde_json::from_slice::<Counts>(&json) {
                Ok(counts) => {
                    for (key, pulls) in counts.pulls {
                        *totals.entry(key).or_insert(0) += pulls;
                    }
                }
                Err(error) => tracing::warn!(object = %meta.location, %error, "not counted"),
            }
        }
        Ok(Self(totals))
    }

    /// Pulls of one component of a plugin.
    pub(crate) fn of(&self, repository: &str, digest: &Digest) -> u64 {
        self.0.get(&key(repository, digest)).copied().unwrap_or(0)
    }
}
