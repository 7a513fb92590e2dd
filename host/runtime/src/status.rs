//! What a slot says of itself, for `status`, `/metrics` and people.

use std::collections::BTreeMap;

use sentinel_model::ids::SlotName;
use sentinel_trust::{Digest, Kind, PluginName};
use serde::Serialize;

/// Whether a slot takes calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum SlotState {
    /// It does.
    Running,
    /// It failed and waits before it is tried again.
    BackingOff {
        /// Unix milliseconds.
        until: i64,
    },
    /// It failed too often in a row. Only a new version, new grants or a new config, or one
    /// trial at `until`, bring it back.
    Quarantined {
        /// The last failure.
        reason: String,
        /// When one call is tried, unix milliseconds.
        until: i64,
    },
    /// It holds no plugin: what ran there was taken out. Only putting one in brings it back.
    Empty {
        /// Who took it out.
        emptied: Emptied,
        /// Why, in words.
        reason: String,
        /// Unix milliseconds.
        since: i64,
    },
}

/// Why a slot holds no plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Emptied {
    /// It was prepared and not started yet.
    NotStarted,
    /// Its owner disabled it.
    Disabled,
    /// Its plugin may not run any more: [`Admission`](crate::Admission) says so.
    Revoked,
}

impl std::fmt::Display for Emptied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotStarted => "not started",
            Self::Disabled => "disabled",
            Self::Revoked => "revoked",
        })
    }
}

/// A version that a slot can go back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Good {
    /// The plugin.
    pub plugin: PluginName,
    /// Its version.
    pub version: semver::Version,
    /// Its digest.
    pub digest: Digest,
}

/// A generation that was given up for the last good one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RolledBack {
    /// The version that failed.
    pub version: semver::Version,
    /// Its digest.
    pub digest: Digest,
    /// When it was given up, unix milliseconds.
    pub at: i64,
    /// Why.
    pub reason: String,
}

/// Wall-clock times of calls that gave a result, in milliseconds, over the slot's life. Read
/// from a histogram whose steps are 19 percent apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Half of the calls took at most this.
    pub p50: f64,
    /// 90 of 100.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// What a slot says of itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SlotStatus {
    /// The slot's name.
    pub name: SlotName,
    /// The plugin in it; of an empty slot the one that was in it.
    pub plugin: PluginName,
    /// Its version.
    pub version: semver::Version,
    /// Its digest.
    pub digest: Digest,
    /// Its kind.
    pub kind: Kind,
    /// 1 at the start, one more at each swap.
    pub generation: u64,
    /// Whether it takes calls.
    #[serde(flatten)]
    pub state: SlotState,
    /// Calls that were made, whatever came of them.
    pub calls: u64,
    /// Failures by kind ([`FailureKind::as_str`](crate::FailureKind::as_str)).
    pub failures: BTreeMap<&'static str, u64>,
    /// The last failure in words, with the time it happened in unix milliseconds.
    pub last_error: Option<(i64, String)>,
    /// Instances that were made in place of one that failed.
    pub restarts: u64,
    /// Linear memory of the slot's instances, in bytes.
    pub memory_bytes: u64,
    /// Idle instances ready for a call.
    pub instances: usize,
    /// Wall-clock times of calls.
    pub latency_ms: Latency,
    /// Seconds spent running the plugin's own code.
    pub guest_seconds: f64,
    /// Seconds that calls waited in host functions.
    pub host_seconds: f64,
    /// Whether a call of this generation gave a result: it is worth going back to. An owner
    /// that keeps its digest can hand it to [`Slot::remember_good`](crate::Slot::remember_good)
    /// after a restart.
    pub good: bool,
    /// What the slot goes back to if this generation fails again and again.
    pub last_good: Option<Good>,
    /// The generation that was given up for this one, if this one is a step back.
    pub rolled_back: Option<RolledBack>,
}
