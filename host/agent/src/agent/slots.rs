//! The slots of an agent: made what the configuration says, as far as that is possible now. One
//! that cannot be loaded is tried again, and keeps nothing else from running.

use super::AgentStatus;
use super::fleet::FleetSlots;
use crate::collect::{self, Plan, Shared, ended};
use crate::config::{AgentConfig, CollectorConfig};
use crate::export::ExportStatus;
use parking_lot::Mutex;
use sentinel_model::ids::SlotName;
use sentinel_registry_client::{PluginSource, SourceError};
use sentinel_runtime::confine::confined;
use sentinel_runtime::{LoadError, Runtime, Services, Slot, SlotSpec};
use sentinel_trust::fleet::HostReport;
use sentinel_trust::repository::{PluginRange, RangeError};
use sentinel_wal::LogState;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often a slot that could not be loaded is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(30);

struct Running {
    slot: Slot,
    digest: sentinel_trust::Digest,
    config: CollectorConfig,
    plan: watch::Sender<Plan>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

#[derive(Default)]
pub(super) struct Slots {
    running: BTreeMap<SlotName, Running>,
    failed: BTreeMap<SlotName, String>,
}

/// What an agent is while it runs.
pub(super) struct Inner {
    pub(super) runtime: Arc<Runtime>,
    pub(super) plugins: Arc<dyn PluginSource>,
    pub(super) services: Services,
    pub(super) shared: Arc<Shared>,
    pub(super) config: watch::Sender<AgentConfig>,
    /// Set once, when no slot may be started any more.
    pub(super) closing: AtomicBool,
    /// Held over a whole reconfiguration; `slots` only for moments.
    pub(super) changing: tokio::sync::Mutex<()>,
    pub(super) slots: Mutex<Slots>,
    /// Held for moments only, as `slots`, and after it.
    pub(super) fleet: Mutex<FleetSlots>,
    pub(super) fleet_report: OnceLock<watch::Receiver<HostReport>>,
    pub(super) export: Arc<Mutex<ExportStatus>>,
}

impl Inner {
    /// What it says of itself.
    pub(super) fn status(&self) -> AgentStatus {
        let export = self.export.lock().clone();
        let log_error = match self.shared.log.state() {
            LogState::Working | LogState::Closed => None,
            trouble => Some(format!("samples are not kept: the agent's log {trouble}")),
        };
        self.shared.metrics.log_healthy.set(i64::from(log_error.is_none()));
        let slots = self.slots.lock();
        let fleet = self.fleet.lock();
        let own = slots.running.values().map(|one| one.slot.status());
        AgentStatus {
            connected: export.connected,
            last_error: export.last_error,
            skew_ms: export.skew_ms,
            log_error,
            sandbox: confined().clone(),
            slots: own.chain(fleet.status()).collect(),
            failed: slots.failed.clone(),
            fleet: self.fleet_report.get().map(|report| fleet.report(report.borrow().clone())),
        }
    }

    /// Makes the slots what the newest configuration says.
    pub(super) async fn configure(&self) {
        let _changing = self.changing.lock().await;
        if self.closing.load(Ordering::SeqCst) {
            return;
        }
        self.enforce().await;
        let config = &self.config.borrow().clone();
        self.stop_those_gone(config).await;
        self.fleet_gives_way().await;
        for wished in &config.collectors {
            let plan = Plan {
                interval: wished.interval.unwrap_or(config.interval).std(),
                labels: wished.labels.clone(),
            };
            let result = self.bring_up(wished, plan).await;
            let mut slots = self.slots.lock();
            match result {
                Ok(()) => drop(slots.failed.remove(&wished.slot)),
                Err(error) => {
                    let text = format!("{error:#}");
                    if slots.failed.get(&wished.slot) != Some(&text) {
                        tracing::error!(slot = %wished.slot, error = %text, "slot not loaded");
                    }
                    slots.failed.insert(wished.slot.clone(), text);
                }
            }
        }
        let failed = self.slots.lock().failed.len();
        self.shared.metrics.slots_failed.set(i64::try_from(failed).unwrap_or(i64::MAX));
    }

    /// Stops what the trust policy no longer admits. A policy that is not to be had lets nothing
    /// new in; what runs goes on under the last that was.
    pub(super) async fn enforce(&self) {
        match self.plugins.policy() {
            Ok(policy) => drop(self.runtime.enforce(policy).await),
            Err(error) => {
                tracing::error!(%error, "no plugin is loaded until it is known whom to trust");
            }
        }
    }

    /// Stops all slots; none is started any more.
    pub(super) async fn stop(&self) {
        self.closing.store(true, Ordering::SeqCst);
        let running = {
            // Whoever is bringing slots up is done with it before they are taken down.
            let _changing = self.changing.lock().await;
            std::mem::take(&mut self.slots.lock().running)
        };
        for one in running.values() {
            one.stop.send_replace(true);
        }
        self.stop_fleet().await;
        for (_, one) in running {
            let _ = one.task.await;
            one.slot.stop().await;
        }
    }

    async fn stop_those_gone(&self, config: &AgentConfig) {
        let wished = |slot: &SlotName| config.collectors.iter().any(|c| c.slot == *slot);
        let gone: Vec<Running> = {
            let mut slots = self.slots.lock();
            slots.failed.retain(|slot, _| wished(slot));
            let names: Vec<SlotName> =
                slots.running.keys().filter(|s| !wished(s)).cloned().collect();
            names.iter().filter_map(|name| slots.running.remove(name)).collect()
        };
        for one in gone {
            tracing::info!(slot = %one.config.slot, "slot removed");
            one.stop.send_replace(true);
            let _ = one.task.await;
            one.slot.stop().await;
        }
    }

    /// Starts, swaps or leaves alone one slot.
    async fn bring_up(&self, wished: &CollectorConfig, plan: Plan) -> Result<(), SlotError> {
        let wanted: PluginRange = wished.plugin.parse()?;
        let component = self.plugins.resolve(&wanted).await?;
        let digest = component.digest();
        let spec = SlotSpec {
            name: wished.slot.clone(),
            component,
            config: wished.config.clone(),
            grants: wished.grants.clone(),
        };
        let known = self.slots.lock().running.get(&wished.slot).map(|one| {
            let same = !one.slot.is_empty()
                && one.digest == digest
                && one.config.config == wished.config
                && one.config.grants == wished.grants;
            one.plan.send_if_modified(|now| {
                let differs = *now != plan;
                *now = plan.clone();
                differs
            });
            (one.slot.clone(), same)
        });
        match known {
            Some((_, true)) => {}
            Some((slot, false)) => {
                let generation = slot.swap(spec).await?;
                tracing::info!(slot = %wished.slot, plugin = %wished.plugin, generation, "slot swapped");
                if let Some(one) = self.slots.lock().running.get_mut(&wished.slot) {
                    one.digest = digest;
                }
            }
            None => {
                let slot = Slot::start(&self.runtime, spec, self.services.clone()).await?;
                self.launch(slot, digest, wished, plan);
            }
        }
        if let Some(one) = self.slots.lock().running.get_mut(&wished.slot) {
            one.config = wished.clone();
        }
        Ok(())
    }

    fn launch(
        &self,
        slot: Slot,
        digest: sentinel_trust::Digest,
        config: &CollectorConfig,
        plan: Plan,
    ) {
        let (plan, planned) = watch::channel(plan);
        let (stop, stopped) = watch::channel(false);
        let task = collect::run(slot.clone(), Arc::clone(&self.shared), planned, stopped);
        let task = tokio::spawn(task);
        let running = Running { slot, digest, config: config.clone(), plan, stop, task };
        self.slots.lock().running.insert(config.slot.clone(), running);
    }
}

/// Why one slot does not run.
#[derive(Debug, thiserror::Error)]
enum SlotError {
    #[error(transparent)]
    Range(#[from] RangeError),
    #[error(transparent)]
    Plugin(#[from] SourceError),
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Configures the slots anew when plugins have changed, and tries those again and again that
/// could not be loaded.
pub(super) async fn watch_plugins(inner: Arc<Inner>, mut stop: watch::Receiver<bool>) {
    let mut changes = inner.plugins.changes();
    loop {
        tokio::select! {
            () = ended(&mut stop) => return,
            Ok(()) = changes.changed() => {}
            () = tokio::time::sleep(TRY_AGAIN) => {
                if inner.slots.lock().failed.is_empty() {
                    continue;
                }
            }
        }
        inner.configure().await;
    }
}
