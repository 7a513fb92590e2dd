//! Alerts and notifications as values: what is stored, shown and handed to notifiers.
//! How they change is the business of `sentinel-alerting`.

use crate::ids::SlotName;
use crate::series::Labels;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Identity of an alert: the same for the same rule and identifying labels, forever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// FNV-1a (64 bit) over the rule's name and the labels in order of keys, each text ended
    /// by a byte that UTF-8 never has.
    #[must_use]
    pub fn of(rule: &str, labels: &Labels) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let mut eat = |text: &str| {
            for byte in text.bytes().chain([0xff]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        eat(rule);
        for (key, value) in labels.iter() {
            eat(key);
            eat(value);
        }
        Self(hash)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl From<Fingerprint> for String {
    fn from(value: Fingerprint) -> String {
        value.to_string()
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = std::num::ParseIntError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        u64::from_str_radix(&text, 16).map(Self)
    }
}

/// Where an alert is in its life. An alert that is `ok` is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// The condition holds, not yet for long enough.
    Pending,
    /// It held for long enough.
    Firing,
    /// It fired and is over.
    Resolved,
}

impl AlertState {
    /// The state in lower case, as it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// One alert with all that its life cycle needs to go on after a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Its identity.
    pub fingerprint: Fingerprint,
    /// The rule's name.
    pub rule: String,
    /// Where it is in its life.
    pub state: AlertState,
    /// Identifying labels and the rule's own.
    pub labels: Labels,
    /// The rule's words.
    pub annotations: Labels,
    /// What the evaluator says of it in words; may be empty.
    pub summary: String,
    /// The last value.
    #[serde(with = "crate::number")]
    pub value: f64,
    /// When the condition began to hold, unix milliseconds.
    pub active_since: i64,
    /// When it began to fire.
    pub fired_at: Option<i64>,
    /// When the condition was last seen to hold.
    pub last_active: i64,
    /// When it was over.
    pub resolved_at: Option<i64>,
    /// Counts firings of this fingerprint, so that each has notifications of its own.
    pub incident: u64,
}

/// What happened to an alert, for its history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// Which alert.
    pub fingerprint: Fingerprint,
    /// The rule's name.
    pub rule: String,
    /// Which firing.
    pub incident: u64,
    /// The state before; `None` is ok.
    pub from: Option<AlertState>,
    /// The state after; `None` is ok.
    pub to: Option<AlertState>,
    /// Unix milliseconds of the evaluation.
    pub at: i64,
    /// The value it saw.
    #[serde(with = "crate::number")]
    pub value: f64,
    /// The version of the rule set that was evaluated.
    pub rules_version: u64,
}

/// Whether a notification says that something is wrong or over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotificationStatus {
    /// At least one of its alerts fires.
    Firing,
    /// All are over.
    Resolved,
}

/// A group of alerts to be told together to one notifier: decided once, stored before it is
/// sent, the same at every attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// Idempotency key: a function of notifier, alerts, incidents and status, hence the same
    /// however often a crash makes the decision be taken again.
    pub id: String,
    /// Which notifier slot.
    pub notifier: SlotName,
    /// When it was decided, unix milliseconds.
    pub time: i64,
    /// Firing or resolved.
    pub status: NotificationStatus,
    /// Labels by which its alerts were grouped.
    pub group: Labels,
    /// The alerts as they were.
    pub alerts: Vec<Alert>,
}

/// What became of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// To be sent at `next_attempt`.
    Pending,
    /// An attempt was begun; after a crash it may or may not have reached the receiver.
    Sending,
    /// The receiver took it.
    Delivered,
    /// Given up: the dead letters.
    Dead,
    /// A dead letter that somebody put away: it is never sent.
    Dropped,
}

/// A notification with its delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// What is delivered.
    pub notification: Notification,
    /// What became of it.
    pub state: DeliveryState,
    /// Attempts begun.
    pub attempts: u32,
    /// Whether an attempt may have reached the receiver without our knowing.
    pub may_be_repeat: bool,
    /// When to try next, unix milliseconds.
    pub next_attempt: i64,
    /// Since when its budget runs, unix milliseconds: the decision, or the last time that somebody
    /// had it sent again.
    #[serde(default)]
    pub opened_at: i64,
    /// What the receiver or the last failure said.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_never_changes() {
        let labels: Labels = [("agent", "a"), ("cpu", "0")].into_iter().collect();
        assert_eq!(Fingerprint::of("high-cpu", &labels).to_string(), "62a5f29023c876e3");
        let moved: Labels = [("agent", "ac"), ("pu", "0")].into_iter().collect();
        assert_ne!(Fingerprint::of("high-cpu", &labels), Fingerprint::of("high-cpu", &moved));
    }
}
