//! What is remembered of a group of alerts: which message tells it, and what fires of it.
//!
//! One key of `kv` a group, from its first alert until its last is over. What is written becomes
//! durable with a delivery that succeeded, and is forgotten with one that did not: a further
//! attempt begins from the same memory.

use std::collections::BTreeSet;

use sentinel_sdk::notify::group_digest;
use sentinel_sdk::{Label, Notification, Status, kv, log};
use serde::{Deserialize, Serialize};

/// Before each group's key.
const PREFIX: &str = "group/";
/// Most alerts of a group that are remembered; a group with more begins a new message.
const MAX_FIRING: usize = 1_000;
/// Most groups that are remembered; the oldest go.
const MAX_GROUPS: usize = 500;

/// The message that tells a group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Thread {
    /// The channel's id, as Slack says it: `chat.update` takes no name.
    pub(crate) channel: String,
    /// The message's id in the channel.
    pub(crate) ts: String,
    /// Fingerprints of what fires.
    firing: BTreeSet<String>,
    /// When it was last told, unix milliseconds.
    at: i64,
}

impl Thread {
    /// A thread that a message began.
    pub(crate) fn new(channel: String, ts: String) -> Self {
        Self { channel, ts, firing: BTreeSet::new(), at: 0 }
    }

    /// What is remembered of a group.
    pub(crate) fn of(group: &[Label]) -> Option<Self> {
        serde_json::from_slice(&kv::get(&key(group))?).ok()
    }

    /// Takes in what a notification tells.
    pub(crate) fn take_in(&mut self, notification: &Notification) {
        for alert in &notification.alerts {
            match alert.status {
                Status::Firing => self.firing.insert(alert.fingerprint.clone()),
                Status::Resolved => self.firing.remove(&alert.fingerprint),
            };
        }
        self.at = notification.time;
    }

    /// How many alerts of the group fire.
    pub(crate) fn firing(&self) -> usize {
        self.firing.len()
    }

    /// Remembers it while something fires; what is over is forgotten.
    pub(crate) fn keep(&self, group: &[Label]) {
        let key = key(group);
        if self.firing.is_empty() || self.firing.len() > MAX_FIRING {
            return kv::delete(&key);
        }
        let value = serde_json::to_vec(self).expect("texts and numbers are always JSON");
        if kv::get(&key).is_none() && kv::keys(PREFIX).len() >= MAX_GROUPS {
            forget_oldest();
        }
        if kv::set(&key, &value).is_err() {
            forget_oldest();
            if let Err(error) = kv::set(&key, &value) {
                kv::delete(&key);
                log::warn(format_args!(
                    "a thread cannot be remembered ({error:?}): its group's next notification \
                     will be a message of its own; grant more `kv.max_bytes`"
                ));
            }
        }
    }
}

/// Forgets a quarter of the groups, those that were told longest ago.
fn forget_oldest() {
    let at = |key: &String| {
        let thread = kv::get(key).and_then(|value| serde_json::from_slice::<Thread>(&value).ok());
        thread.map_or(i64::MIN, |thread| thread.at)
    };
    let mut keys: Vec<(i64, String)> =
        kv::keys(PREFIX).into_iter().map(|key| (at(&key), key)).collect();
    keys.sort_unstable();
    for (_, key) in keys.iter().take(keys.len().div_ceil(4)) {
        kv::delete(key);
    }
}

/// The key of a group.
fn key(group: &[Label]) -> String {
    format!("{PREFIX}{}", group_digest(group))
}
