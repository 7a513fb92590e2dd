//! A worker as a host of its fleet: its place in it, and where it hears of sets.

use crate::config::WorkerConfig;
use crate::worker::Shared;
use async_trait::async_trait;
use sentinel_fleet::{
    ApplyError, Carrier, CarrierError, Follower, FollowerParts, Handle, Keeping, Place, SlotHealth,
    SlotKeeper, Wanted, facts,
};
use sentinel_registry_client::PluginSource;
use sentinel_store::Store;
use sentinel_trust::Kind;
use sentinel_trust::fleet::Operators;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// How often the store is asked for a newer set.
const LOOK: Duration = Duration::from_secs(1);

/// A worker's membership in a fleet.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// Who decides.
    pub operators: Operators,
    /// The file of what the worker knows of its fleet.
    pub file: PathBuf,
}

pub(crate) fn labels(config: &WorkerConfig, name: &str) -> BTreeMap<String, String> {
    let mut labels = config.labels.clone();
    labels.extend(facts());
    labels.insert("worker".to_owned(), name.to_owned());
    labels
}

pub(crate) fn place(config: &WorkerConfig, name: &str) -> Place {
    Place {
        labels: labels(config, name),
        kinds: vec![Kind::Transform, Kind::Evaluator, Kind::Notifier],
        ceiling: config.ceiling.clone(),
        local: config.slot_names().iter().map(ToString::to_string).collect(),
    }
}

/// Brings the sets that servers put into the store.
pub(crate) struct FromStore(pub(crate) Arc<dyn Store>);

#[async_trait]
impl Carrier for FromStore {
    async fn next(&mut self, have: u64) -> Result<Vec<u8>, CarrierError> {
        loop {
            let newest = self.0.fleet_sets(1).await;
            let newest = newest.map_err(|error| CarrierError(error.to_string()))?.pop();
            if let Some(set) = newest.filter(|set| set.number > have) {
                return Ok(set.sealed.into_bytes());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn reset(&mut self) {}
}

/// Puts what the fleet asks for into a worker's slots.
pub(crate) struct Keeper {
    slots: Weak<Shared>,
    changes: watch::Receiver<u64>,
}

#[async_trait]
impl SlotKeeper for Keeper {
    async fn apply(&self, set: Vec<Wanted>) -> Result<(), ApplyError> {
        let shared = self.slots.upgrade();
        let shared = shared.ok_or_else(|| ApplyError("the worker is stopping".to_owned()))?;
        shared.apply_fleet(set).await.map_err(ApplyError)
    }

    async fn keep(&self, set: Vec<Keeping>) -> BTreeMap<String, String> {
        match self.slots.upgrade() {
            Some(shared) => shared.keep_fleet(set).await,
            None => BTreeMap::new(),
        }
    }

    async fn stop(&self, slots: &BTreeSet<String>) {
        if let Some(shared) = self.slots.upgrade() {
            shared.watched.stop(slots).await;
        }
    }

    fn health(&self) -> SlotHealth {
        self.slots.upgrade().map(|shared| shared.watched.health()).unwrap_or_default()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}

/// Begins with the last good set of the fleet: returns when it runs, so that no batch passes
/// without the transforms of the set.
pub(crate) async fn follow(
    follower: Follower,
    shared: &Arc<Shared>,
    plugins: Arc<dyn PluginSource>,
    changes: watch::Receiver<u64>,
) -> Handle {
    let parts = FollowerParts {
        carrier: Box::new(FromStore(Arc::clone(&shared.store))),
        plugins,
        keeper: Arc::new(Keeper { slots: Arc::downgrade(shared), changes }),
    };
    let place = place(&shared.config.lock(), &shared.options.name);
    let handle = follower.start(parts, place);
    let _ = shared.fleet_report.set(handle.reports());
    handle.begun().await;
    handle
}

impl Shared {
    /// Makes the fleet's slots exactly these, or changes nothing.
    async fn apply_fleet(&self, set: Vec<Wanted>) -> Result<(), String> {
        let mut slots = self.slots.lock().await;
        let config = self.config.lock().clone();
        slots.apply_fleet(set, &config).await?;
        let stages = slots.stages(&config);
        self.goes_over(&mut slots, stages).await;
        Ok(())
    }

    /// Makes the fleet's slots these as far as they can be; says which are not.
    async fn keep_fleet(&self, set: Vec<Keeping>) -> BTreeMap<String, String> {
        let mut slots = self.slots.lock().await;
        let config = self.config.lock().clone();
        let missing = slots.keep_fleet(set, &config).await;
        let stages = slots.stages(&config);
        self.goes_over(&mut slots, stages).await;
        missing
    }
}
