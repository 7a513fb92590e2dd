//! What people do about alerts, and what is kept of attempts to tell them: silences,
//! acknowledgements with their hand-overs, attempts. What follows from them is the business of
//! `sentinel-alerting`.

use crate::alert::Fingerprint;
use serde::{Deserialize, Serialize};

/// Alerts that nobody is told of for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Its identity: `sil_` and hexadecimal digits.
    pub id: String,
    /// Conditions on an alert's labels, such as `agent="web-1"`; all must hold.
    pub matchers: Vec<String>,
    /// From when, unix milliseconds.
    pub starts_at: i64,
    /// Until when, not included.
    pub ends_at: i64,
    /// Who wants it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// When it was made.
    pub created_at: i64,
    /// Who ended it before its time, if anybody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
}

impl Silence {
    /// Whether it is in force at `now`.
    #[must_use]
    pub fn is_active(&self, now: i64) -> bool {
        self.starts_at <= now && now < self.ends_at
    }
}

/// Somebody has an incident in hand: it is neither repeated nor escalated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Which alert.
    pub fingerprint: Fingerprint,
    /// Which firing of it; a later one is not acknowledged.
    pub incident: u64,
    /// Who has it in hand.
    pub owner: String,
    /// In their words; may be empty.
    pub note: String,
    /// Since when this owner has it, unix milliseconds.
    pub at: i64,
    /// When it lapses though the alert fires; never where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// Who had it before, earliest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<HandOver>,
}

/// An owner gave an incident to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// Who had it.
    pub from: String,
    /// Who has it since.
    pub to: String,
    /// Why.
    pub note: String,
    /// When, unix milliseconds.
    pub at: i64,
}

/// One attempt to deliver a notification, as it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Which, from 1; it begins anew when a dead letter is sent again.
    pub number: u32,
    /// When it began, unix milliseconds.
    pub at: i64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// `delivered`, `retry`, `unknown`, `permanent` or `not-sent`.
    pub outcome: String,
    /// What the receiver or the failure said.
    pub message: String,
    /// Whether the receiver may have had it before.
    pub may_be_repeat: bool,
}
