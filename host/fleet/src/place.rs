//! Where a host stands in its fleet: which wishes of a set are its own, and which of them its
//! owner allows.

use sentinel_trust::fleet::{DesiredSet, Wish, within_ceiling};
use sentinel_trust::{Grants, Kind};
use std::collections::{BTreeMap, BTreeSet};

/// Most slots of a set on one host: they are switched at one moment, and until then old and
/// new are in memory together.
pub const MAX_HOST_SLOTS: usize = 64;

/// Labels that say what is so, and which no configuration gives.
pub const FACTS: [&str; 5] = ["agent", "arch", "hostname", "os", "worker"];
/// The most labels that a host is configured with, and the most bytes of a key and a value.
pub const MAX_OWN_LABELS: usize = 32;
const MAX_LABEL: usize = 128;

/// What this machine is, in labels.
#[must_use]
pub fn facts() -> BTreeMap<String, String> {
    let system = rustix::system::uname();
    let hostname = system.nodename().to_string_lossy();
    [("arch", std::env::consts::ARCH), ("os", std::env::consts::OS), ("hostname", &*hostname)]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// What is wrong with labels of a configuration; each with the label's key, if it is one's.
#[must_use]
pub fn label_problems(labels: &BTreeMap<String, String>) -> Vec<(Option<String>, String)> {
    let mut problems = Vec::new();
    if labels.len() > MAX_OWN_LABELS {
        problems.push((None, format!("more than {MAX_OWN_LABELS} labels")));
    }
    let fits =
        |text: &str| (1..=MAX_LABEL).contains(&text.len()) && !text.chars().any(char::is_control);
    for (key, value) in labels {
        if FACTS.contains(&key.as_str()) {
            problems.push((Some(key.clone()), format!("`{key}` is known without; remove it")));
        } else if !fits(key) || !fits(value) {
            let why =
                format!("key and value are 1 to {MAX_LABEL} bytes without control characters");
            problems.push((Some(key.clone()), why));
        }
    }
    problems
}

/// What a host is to its fleet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Place {
    /// Its labels, by which groups pick it.
    pub labels: BTreeMap<String, String>,
    /// The kinds of plugins that it runs.
    pub kinds: Vec<Kind>,
    /// The most that any set may grant here; without it, what a set grants counts.
    pub ceiling: Option<Grants>,
    /// Slots of the host's own configuration: their names are taken.
    pub local: BTreeSet<String>,
}

/// What of a set can be on a host, and what cannot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Share {
    /// Wishes that the host's owner allows, in the set's order, disabled ones included.
    pub wishes: Vec<Wish>,
    /// Slots that are left out, and why.
    pub left_out: BTreeMap<String, String>,
}

impl Place {
    /// The whole of a set's share of this host.
    ///
    /// # Errors
    /// Everything that keeps it from being applied here, in words.
    pub fn whole(&self, set: &DesiredSet) -> Result<Vec<Wish>, String> {
        let share = self.share(set)?;
        if share.left_out.is_empty() {
            return Ok(share.wishes);
        }
        let why: Vec<String> = share.left_out.into_values().collect();
        Err(why.join("; "))
    }

    /// What of a set can be on this host: for one that was applied as a whole once, and is to
    /// run on whatever its owner configured since.
    ///
    /// # Errors
    /// A set of which it cannot be said what this host is to run.
    pub fn share(&self, set: &DesiredSet) -> Result<Share, String> {
        let wishes = set.for_host(&self.labels, &self.kinds).map_err(|error| error.to_string())?;
        if wishes.len() > MAX_HOST_SLOTS {
            let found = wishes.len();
            return Err(format!(
                "{found} slots are for this host and at most {MAX_HOST_SLOTS} are taken; give them to different hosts by labels"
            ));
        }
        let mut share = Share::default();
        for wish in wishes {
            match self.allowed(wish) {
                Ok(wish) => share.wishes.push(wish),
                Err(why) => drop(share.left_out.insert(wish.slot.clone(), why)),
            }
        }
        Ok(share)
    }

    /// A wish as far as this host's owner allows it.
    fn allowed(&self, wish: &Wish) -> Result<Wish, String> {
        let slot = &wish.slot;
        if self.local.contains(slot) {
            return Err(format!(
                "slot `{slot}`: this host's own configuration has a slot of that name; rename one of them"
            ));
        }
        let mut wish = wish.clone();
        let Some(ceiling) = self.ceiling.as_ref().filter(|_| !wish.disabled) else {
            return Ok(wish);
        };
        wish.grants = within_ceiling(&wish.grants, ceiling).map_err(|beyond| {
            format!(
                "slot `{slot}`: beyond what this host allows to any plugin of the fleet (`ceiling` in its configuration): {}",
                beyond.join(", ")
            )
        })?;
        Ok(wish)
    }
}
