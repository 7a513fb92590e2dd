//! What a worker says of itself: stored every few seconds for the server to show.

use crate::evaluate::RulesStatus;
use crate::notify::LaneStatus;
use sentinel_alerting::routing::StatedRouting;
use sentinel_model::ids::SlotName;
use sentinel_runtime::SlotStatus;
use sentinel_runtime::confine::Confined;
use sentinel_store::query::MAX_SERIES;
use sentinel_trust::fleet::HostReport;
use serde::Serialize;
use std::collections::BTreeMap;

/// The store keeps a worker's status under this and its name.
pub const STATUS_PREFIX: &str = "worker/";

/// What ingest says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct IngestStatus {
    /// Messages that wait on the bus.
    pub waiting: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// Why it is not known what waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bus_trouble: Option<String>,
    /// Records by what became of them since the start.
    pub records: BTreeMap<&'static str, u64>,
    /// Samples committed since the start.
    pub samples: u64,
    /// What the store says while it does not take samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_trouble: Option<String>,
}

/// What the windows hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct WindowsStatus {
    /// Series that rules read.
    pub series: usize,
    /// Samples of them.
    pub samples: usize,
    /// The most series one question of a rule may read.
    pub max_series: usize,
}

impl WindowsStatus {
    pub(crate) fn new((series, samples): (usize, usize)) -> Self {
        Self { series, samples, max_series: MAX_SERIES }
    }
}

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkerStatus {
    /// Its name.
    pub name: String,
    /// Version of its binary.
    pub version: String,
    /// Unix milliseconds of its start.
    pub started_at: i64,
    /// What it is to its fleet.
    pub labels: BTreeMap<String, String>,
    /// What became of the fleet's desired set; absent where it belongs to no fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fleet: Option<HostReport>,
    /// How its process is locked in.
    pub sandbox: Confined,
    /// Its slots.
    pub slots: Vec<SlotStatus>,
    /// Slots that are not as configured, and why.
    pub problems: BTreeMap<SlotName, String>,
    /// From the bus to the store.
    pub ingest: IngestStatus,
    /// What rules read.
    pub windows: WindowsStatus,
    /// Whether it evaluates rules and notifies; else another worker does.
    pub keeps_alerts: bool,
    /// By which routes it tells of alerts, where it keeps them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routing: Option<StatedRouting>,
    /// Rules and alerts, where it keeps alerts.
    pub rules: RulesStatus,
    /// Notifications by notifier.
    pub notifications: Vec<LaneStatus>,
}
