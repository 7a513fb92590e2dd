//! How often plugins are pulled: about.
//!
//! Counted in memory where a blob is sent from its start, and written now and then, so what
//! an instance counted since is lost when it is killed, and a client that begins twice counts
//! twice. Each instance writes one object of its own, under a name made at its start, so
//! instances never overwrite each other. What instances left that have not written for long is
//! folded into one sum:
//!
//! ```text
//! downloads/<instance>   what an instance counted since its start
//! totals/<20 digits>     a sum, and the instances in it: their objects count no more
//! ```
//!
//! A sum is created under the next number or not at all, and objects go only after that, so
//! that a kill in between counts nothing twice. An instance that lives and finds its own object
//! folded goes on under another name, with what it counted since.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use parking_lot::Mutex;
use sentinel_trust::Digest;
use serde::{Deserialize, Serialize};

use crate::names::Repository;
use crate::store::{Store, StoreError, path};

/// Most plugins that are counted between two writes, and kept of an instance or in a sum.
const MAX_COUNTED: usize = 50_000;
/// Objects of instances from which on they are folded.
const FOLD_FROM: usize = 8;
const COUNTS: &str = "downloads";
const SUMS: &str = "totals";

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counts {
    /// By repository and digest, `acme/probe@sha256:…`.
    pulls: BTreeMap<String, u64>,
}

/// What instances counted, together.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sum {
    pulls: BTreeMap<String, u64>,
    /// Instances in it, as far as their objects may still be there.
    folded: BTreeSet<String>,
}

/// Pulls of one plugin by this instance.
#[derive(Debug, Clone, Copy, Default)]
struct Pulls {
    counted: u64,
    written: u64,
}

#[derive(Debug, Default)]
struct Counting {
    instance: String,
    pulls: BTreeMap<String, Pulls>,
    changed: bool,
    /// Whether the instance's object was ever written.
    written: bool,
}

/// Counts pulls.
#[derive(Debug)]
pub(crate) struct Downloads(Mutex<Counting>);

fn key(repository: &str, digest: &Digest) -> String {
    format!("{repository}@{digest}")
}

fn damaged(object: &str, error: &serde_json::Error) -> StoreError {
    StoreError::Damaged { object: object.to_owned(), why: error.to_string() }
}

fn name() -> String {
    let mut random = [0; 16];
    // Without randomness a name is used twice, which costs counts and nothing else.
    let _ = getrandom::fill(&mut random);
    hex::encode(random)
}

impl Downloads {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Counting { instance: name(), ..Counting::default() }))
    }

    /// Counts one pull.
    pub(crate) fn count(&self, repository: &Repository, digest: &Digest) {
        if repository.plugin().is_none() {
            return;
        }
        let mut counting = self.0.lock();
        let key = key(repository.as_str(), digest);
        if let Some(pulls) = counting.pulls.get_mut(&key) {
            pulls.counted += 1;
        } else if counting.pulls.len() < MAX_COUNTED {
            counting.pulls.insert(key, Pulls { counted: 1, written: 0 });
        }
        counting.changed = true;
    }

    /// Writes what was counted since the start, if there is anything new.
    pub(crate) async fn flush(&self, store: &Store) -> Result<(), StoreError> {
        let (instance, written) = {
            let counting = self.0.lock();
            if !counting.changed {
                return Ok(());
            }
            (counting.instance.clone(), counting.written)
        };
        let mut object = path(&[COUNTS, &instance]);
        if written {
            let (_, sum) = newest(store).await?;
            if sum.folded.contains(&instance) || store.head(&object).await?.is_none() {
                object = path(&[COUNTS, &self.0.lock().begin_anew()]);
            }
        }
        let (counts, pulls) = {
            let mut counting = self.0.lock();
            counting.changed = false;
            let counted = counting.pulls.iter().filter(|(_, pulls)| pulls.counted > 0);
            let counts = Counts { pulls: counted.map(|(k, p)| (k.clone(), p.counted)).collect() };
            (serde_json::to_vec(&counts), counts)
        };
        let counts = counts.map_err(|error| damaged(object.as_ref(), &error))?;
        let result = store.write(&object, counts.into()).await;
        let mut counting = self.0.lock();
        if result.is_err() {
            counting.changed = true;
        } else {
            counting.written = true;
            for (key, counted) in pulls.pulls {
                counting.pulls.entry(key).or_default().written = counted;
            }
        }
        result
    }
}

impl Counting {
    /// What was written is in a sum: another name, and what came since.
    fn begin_anew(&mut self) -> String {
        self.instance = name();
        self.written = false;
        for pulls in self.pulls.values_mut() {
            *pulls = Pulls { counted: pulls.counted - pulls.written, written: 0 };
        }
        self.instance.clone()
    }
}

/// The newest sum and its number; 0 and nothing before the first.
async fn newest(store: &Store) -> Result<(u64, Sum), StoreError> {
    for meta in store.list(&path(&[SUMS])).await?.into_iter().rev() {
        let number = meta.location.filename().and_then(|name| name.parse().ok());
        let Some(number) = number else { continue };
        // Gone meanwhile: there is a newer one.
        let Some(json) = store.read(&meta.location).await? else { continue };
        let object = meta.location.to_string();
        let sum = serde_json::from_slice(&json).map_err(|error| damaged(&object, &error))?;
        return Ok((number, sum));
    }
    Ok((0, Sum::default()))
}

/// Folds what instances left that have not written since `before`, unix milliseconds. How many.
pub(crate) async fn fold(store: &Store, before: i64) -> Result<usize, StoreError> {
    let (number, mut sum) = newest(store).await?;
    let (mut old, mut there) = (Vec::new(), BTreeSet::new());
    for meta in store.list(&path(&[COUNTS])).await? {
        let instance = meta.location.filename().unwrap_or_default().to_owned();
        if sum.folded.contains(&instance) {
            // Whoever folded it was killed before it went.
            store.remove(&meta.location).await?;
            there.insert(instance);
        } else if meta.last_modified.timestamp_millis() < before {
            old.push((instance, meta.location));
        }
    }
    if old.len() < FOLD_FROM {
        return Ok(0);
    }
    sum.folded = there;
    for (instance, location) in &old {
        let Some(json) = store.read(location).await? else { continue };
        match serde_json::from_slice::<Counts>(&json) {
            Ok(counts) => counts.pulls.into_iter().for_each(|(key, pulls)| {
                if sum.pulls.contains_key(&key) || sum.pulls.len() < MAX_COUNTED {
                    let all = sum.pulls.entry(key).or_default();
                    *all = all.saturating_add(pulls);
                }
            }),
            Err(error) => tracing::warn!(object = %location, %error, "not counted"),
        }
        sum.folded.insert(instance.clone());
    }
    let object = path(&[SUMS, &format!("{:020}", number + 1)]);
    let json = serde_json::to_vec(&sum).map_err(|error| damaged(object.as_ref(), &error))?;
    if !store.create(&object, json.into()).await? {
        // Another instance was first.
        return Ok(0);
    }
    for (_, location) in &old {
        store.remove(location).await?;
    }
    for meta in store.list(&path(&[SUMS])).await? {
        let is = meta.location.filename().and_then(|name| name.parse::<u64>().ok());
        // Whoever is reading the one before finds it.
        if is.is_some_and(|is| is < number) {
            store.remove(&meta.location).await?;
        }
    }
    Ok(old.len())
}

/// Pulls of everything, by all instances, as far as they have been written.
#[derive(Debug, Default)]
pub(crate) struct Totals(HashMap<String, u64>);

impl Totals {
    /// Adds up the newest sum and what every instance wrote that is not in it. An object that
    /// cannot be read is left out: these are about-numbers.
    pub(crate) async fn read(store: &Store) -> Result<Self, StoreError> {
        let (_, sum) = newest(store).await.or_else(|error| match error {
            StoreError::Damaged { object, why } => {
                tracing::warn!(object, why, "not counted");
                Ok((0, Sum::default()))
            }
            other => Err(other),
        })?;
        let mut totals: HashMap<String, u64> = sum.pulls.into_iter().collect();
        for meta in store.list(&path(&[COUNTS])).await? {
            if meta.location.filename().is_some_and(|instance| sum.folded.contains(instance)) {
                continue;
            }
            let Some(json) = store.read(&meta.location).await? else { continue };
            match serde_json::from_slice::<Counts>(&json) {
                Ok(counts) => {
                    for (key, pulls) in counts.pulls {
                        let all = totals.entry(key).or_insert(0);
                        *all = all.saturating_add(pulls);
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

#[cfg(test)]
mod tests;
