//! What a worker is started with, and why it may not start.

use crate::clock::Clock;
use crate::config::WorkerConfig;
use crate::fleet::FleetOptions;
use crate::ingest::AgentKeys;
use crate::notify::MAX_QUEUED;
use sentinel_bus::Bus;
use sentinel_fleet::MemoryError;
use sentinel_registry_client::PluginSource;
use sentinel_runtime::{Runtime, SecretSource};
use sentinel_store::Store;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What an operator says of a worker.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// Its name, under which its status is stored.
    pub name: String,
    /// Version of the binary, for the status.
    pub version: String,
    /// Its slots.
    pub config: WorkerConfig,
    /// Where a person can look, put into notifications; may be empty.
    pub link: String,
    /// Folders that no plugin may read: our own data.
    pub forbidden_paths: Vec<PathBuf>,
    /// How long after the start samples may still be on their way: until then no alert ends
    /// and none begins for want of data. As the config says, unless it is set here.
    pub settle: Duration,
    /// The wait after the first failure of a transform.
    pub transform_wait: Duration,
    /// Its fleet, where it belongs to one.
    pub fleet: Option<FleetOptions>,
    /// Whether this worker packs the store and drops what retention no longer keeps.
    pub maintain: bool,
    /// Whether other workers may work with the same bus and store: then one of them keeps alerts.
    pub shares: bool,
    /// The most notifications of one notifier that are held in memory; the others wait in the
    /// store.
    pub queued: usize,
}

impl WorkerOptions {
    /// The usual, with a name and slots.
    #[must_use]
    pub fn new(name: &str, config: WorkerConfig) -> Self {
        Self {
            name: name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            settle: config.settle.std(),
            config,
            link: String::new(),
            forbidden_paths: Vec::new(),
            transform_wait: Duration::from_millis(500),
            fleet: None,
            maintain: true,
            shares: false,
            queued: MAX_QUEUED,
        }
    }
}

/// What a worker works with.
#[derive(Clone)]
pub struct WorkerParts {
    /// The database.
    pub store: Arc<dyn Store>,
    /// The queue.
    pub bus: Arc<dyn Bus>,
    /// Runs plugins.
    pub runtime: Arc<Runtime>,
    /// Where plugins come from.
    pub plugins: Arc<dyn PluginSource>,
    /// Who may have signed records.
    pub keys: Arc<dyn AgentKeys>,
    /// Secrets for notifiers.
    pub secrets: Arc<dyn SecretSource>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where metrics are registered.
    pub metrics: prometheus::Registry,
}

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Its config cannot work.
    #[error("the worker's config cannot work:{}", lines(.0))]
    Config(Vec<(String, String)>),
    /// What it knows of its fleet cannot be believed.
    #[error(transparent)]
    Fleet(#[from] MemoryError),
    /// Its metrics are registered already.
    #[error("the worker's metrics could not be registered: {0}; start one worker a registry")]
    Metrics(#[from] prometheus::Error),
}

fn lines(problems: &[(String, String)]) -> String {
    problems.iter().map(|(path, message)| format!("\n  - {path}: {message}")).collect()
}
