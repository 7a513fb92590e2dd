//! What agents and workers say of themselves, as far as `status` shows it. Other versions may
//! say less or more, so whatever is missing is empty.

use std::collections::BTreeMap;

use serde::Deserialize;

/// An agent's last heartbeat.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AgentReport {
    pub(super) offsets: Vec<Offsets>,
    pub(super) slots: Vec<Slot>,
    pub(super) warnings: Vec<String>,
}

/// The offsets of one epoch of an agent's log, oldest epoch first.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Offsets {
    pub(super) written: u64,
    pub(super) synced: u64,
    pub(super) accepted: u64,
    pub(super) committed: u64,
    pub(super) bytes: u64,
}

/// A slot.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) plugin: String,
    pub(super) version: String,
    pub(super) generation: u64,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) calls: u64,
    pub(super) failures: BTreeMap<String, u64>,
    pub(super) last_error: Option<(i64, String)>,
    pub(super) memory_bytes: u64,
    pub(super) latency_ms: Latency,
    pub(super) rolled_back: Option<RolledBack>,
}

/// How long a slot's calls take.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Latency {
    pub(super) p99: f64,
}

/// A version that was given up.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RolledBack {
    pub(super) version: String,
    pub(super) reason: String,
}

/// A worker's last status.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WorkerReport {
    pub(super) sandbox: Sandbox,
    pub(super) slots: Vec<Slot>,
    pub(super) problems: BTreeMap<String, String>,
    pub(super) ingest: Ingest,
    pub(super) rules: Rules,
    pub(super) notifications: Vec<Lane>,
}

/// How a process is locked in.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Sandbox {
    pub(super) missing: Vec<String>,
}

/// From the bus to the store.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ingest {
    pub(super) waiting: u64,
    pub(super) samples: u64,
    pub(super) store_trouble: Option<String>,
}

/// Rules as a worker evaluates them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rules {
    pub(super) evaluated: usize,
    pub(super) errors: BTreeMap<String, String>,
    pub(super) failing: usize,
    pub(super) missed: u64,
    pub(super) active_alerts: usize,
    pub(super) store_trouble: Option<String>,
}

/// Notifications of one notifier.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Lane {
    pub(super) notifier: String,
    pub(super) open: usize,
    pub(super) last_failure: Option<String>,
}

/// Reads what a role said; nothing where it said something else.
pub(super) fn read<T: Default + serde::de::DeserializeOwned>(said: &serde_json::Value) -> T {
    T::deserialize(said).unwrap_or_default()
}
