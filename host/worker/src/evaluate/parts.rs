//! What evaluation works with, and what it says of itself.

use crate::clock::Clock;
use crate::config::SelfWatchConfig;
use crate::metrics::Metrics;
use crate::notify::Notifications;
use crate::stages::Stages;
use crate::term::Term;
use crate::windows::Windows;
use arc_swap::ArcSwap;
use parking_lot::RwLock;
use sentinel_alerting::routing::Routing;
use sentinel_store::Store;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// What evaluation works with.
#[derive(Clone)]
pub struct EvaluateParts {
    /// Rules, alerts and their history.
    pub store: Arc<dyn Store>,
    /// Evaluators and notifiers.
    pub stages: Arc<ArcSwap<Stages>>,
    /// What rules read.
    pub windows: Arc<RwLock<Windows>>,
    /// Who delivers what is decided.
    pub notifications: Notifications,
    /// The routes of notifications; looked at when it is said that something changed.
    pub routing: Arc<ArcSwap<Routing>>,
    /// Which of the worker's own troubles are alerts.
    pub watch: SelfWatchConfig,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Metrics,
    /// How long after the start samples may still be on their way.
    pub settle: Duration,
    /// Set once all that waited on the bus has been taken.
    pub caught_up: Arc<AtomicBool>,
    /// How long this goes on: every write says that it is of this term.
    pub term: Term,
}

/// What evaluation says of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RulesStatus {
    /// When this was said, unix milliseconds.
    pub as_of: i64,
    /// Version of the rules in force.
    pub version: u64,
    /// How many rules there are.
    pub rules: usize,
    /// How many of them are evaluated.
    pub evaluated: usize,
    /// Rules with an error, and which; at most 100.
    pub errors: BTreeMap<String, String>,
    /// How many rules have an error.
    pub failing: usize,
    /// Evaluations that were not made in time since the start.
    pub missed: u64,
    /// Alerts that are pending or firing.
    pub active_alerts: usize,
    /// Groups in which alerts are told.
    pub groups: usize,
    /// What the store says while it refuses to take alerts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_trouble: Option<String>,
}

/// Where the status is read.
pub type SharedRulesStatus = Arc<RwLock<RulesStatus>>;
