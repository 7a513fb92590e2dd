//! Plugins in their slots: which run, what could not be loaded, and changing them while
//! everything goes on.
//!
//! A slot whose new version, config or grants cannot be loaded goes on with what it runs. One
//! that never could be loaded is missing: a transform holds up ingest, an evaluator's rules
//! say so, a notifier's notifications wait.

mod fleet;
mod health;
mod stage;

use crate::config::{SlotConfig, WorkerConfig};
use crate::kv::SlotStates;
use crate::stages::{EvaluatorStage, NotifierStage, Stages, TransformStage};
use fleet::FleetSlots;
pub(crate) use health::Watched;
use sentinel_fleet::with_given_up;
use sentinel_model::ids::SlotName;
use sentinel_registry_client::PluginSource;
use sentinel_runtime::{Runtime, Services, Slot, SlotSpec, SlotStatus};
use sentinel_trust::fleet::HostReport;
use sentinel_trust::repository::PluginRange;
use sentinel_trust::{Digest, Grants, Kind};
use stage::{Missing, SlotEvaluator, SlotNotifier, SlotTransform};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What slots are made of.
#[derive(Clone)]
pub struct SlotParts {
    /// Runs plugins.
    pub runtime: Arc<Runtime>,
    /// What the host lends them.
    pub services: Services,
    /// Finds them.
    pub plugins: Arc<dyn PluginSource>,
    /// Their state.
    pub states: Arc<SlotStates>,
    /// Where a person can look, for notifications; may be empty.
    pub link: String,
}

/// What makes a slot's content another.
#[derive(Clone, PartialEq)]
struct Wanted {
    digest: Digest,
    config: serde_json::Value,
    grants: Grants,
}

struct Live {
    slot: Slot,
    kind: Kind,
    wanted: Wanted,
    /// Counts changes of all slots, so that no two contents have the same.
    generation: u64,
}

/// The slots of a worker.
pub struct Slots {
    parts: SlotParts,
    live: BTreeMap<SlotName, Live>,
    fleet: FleetSlots,
    /// The fleet's slots, for whoever cannot wait for changes under way.
    pub(crate) watched: Arc<Watched>,
    problems: BTreeMap<SlotName, String>,
    changes: u64,
    /// Disabled, and still in the stages before.
    disabling: Vec<Slot>,
    /// Out of use, and not stopped yet: whoever still has the stages before may call them.
    retired: Vec<Slot>,
}

impl Slots {
    /// Without any slot yet.
    #[must_use]
    pub fn new(parts: SlotParts) -> Self {
        Self {
            parts,
            live: BTreeMap::new(),
            fleet: FleetSlots::default(),
            watched: Arc::default(),
            disabling: Vec::new(),
            problems: BTreeMap::new(),
            changes: 0,
            retired: Vec::new(),
        }
    }

    /// Makes the slots what the config says, as far as that is possible now; what was not is
    /// in [`Slots::problems`]. Calling it again tries again. Slots that are out of use go on until
    /// [`Slots::stop_retired`], to be called once the new stages are in use.
    pub async fn apply(&mut self, config: &WorkerConfig) -> Stages {
        let mut wanted: Vec<(Kind, SlotConfig)> = Vec::new();
        wanted.extend(config.transforms.iter().map(|slot| (Kind::Transform, slot.clone())));
        wanted.extend(config.evaluators.iter().map(|slot| (Kind::Evaluator, slot.clone())));
        wanted.extend(config.notifiers.iter().map(|slot| (Kind::Notifier, slot.slot_config())));
        let names: BTreeSet<SlotName> = wanted.iter().map(|(_, slot)| slot.slot.clone()).collect();
        self.problems.clear();
        self.fleet_gives_way(&names);
        self.enforce().await;
        for (kind, slot) in wanted {
            let name = slot.slot.clone();
            if let Err(why) = self.put(kind, slot).await {
                tracing::error!(slot = %name, why, "a slot is not as configured");
                self.problems.insert(name, why);
            }
        }
        let gone: Vec<SlotName> =
            self.live.keys().filter(|name| !names.contains(*name)).cloned().collect();
        let stages = self.stages(config);
        let gone = gone.iter().filter_map(|name| self.live.remove(name));
        self.retired.extend(gone.map(|live| live.slot));
        stages
    }

    /// Stops the slots that are out of use: calls under way end, but for those of slots that an
    /// operator disabled, which are stopped.
    pub async fn stop_retired(&mut self) {
        for slot in std::mem::take(&mut self.disabling) {
            if !slot.is_empty() {
                slot.disable(fleet::DISABLED).await;
            }
        }
        for slot in std::mem::take(&mut self.retired) {
            slot.stop().await;
        }
    }

    /// Stops what the trust policy no longer admits.
    async fn enforce(&self) {
        match self.parts.plugins.policy() {
            Ok(policy) => drop(self.parts.runtime.enforce(policy).await),
            Err(error) => {
                tracing::error!(%error, "no plugin is loaded until it is known whom to trust");
            }
        }
    }

    async fn put(&mut self, kind: Kind, config: SlotConfig) -> Result<(), String> {
        let wanted: PluginRange = config.plugin.parse().map_err(|error| format!("{error}"))?;
        let component =
            self.parts.plugins.resolve(&wanted).await.map_err(|error| error.to_string())?;
        let found = component.manifest().kind;
        if found != kind {
            return Err(format!("{} is a {found}, and this slot is for a {kind}", config.plugin));
        }
        let wanted = Wanted {
            digest: component.digest(),
            config: config.config.clone(),
            grants: config.grants.clone(),
        };
        let runs =
            |live: &Live| live.kind == kind && live.wanted == wanted && !live.slot.is_empty();
        if self.live.get(&config.slot).is_some_and(runs) {
            return Ok(());
        }
        self.parts.states.open(&config.slot).await.map_err(|error| error.to_string())?;
        let spec = SlotSpec {
            name: config.slot.clone(),
            component,
            config: config.config,
            grants: config.grants,
        };
        self.changes += 1;
        match self.live.get_mut(&config.slot) {
            Some(live) if live.kind == kind => {
                live.slot.swap(spec).await.map_err(|error| error.to_string())?;
                (live.wanted, live.generation) = (wanted, self.changes);
            }
            Some(_) | None => {
                let services = self.parts.services.clone();
                let slot = Slot::start(&self.parts.runtime, spec, services)
                    .await
                    .map_err(|error| error.to_string())?;
                let live = Live { slot, kind, wanted, generation: self.changes };
                if let Some(other) = self.live.insert(config.slot, live) {
                    self.retired.push(other.slot);
                }
            }
        }
        Ok(())
    }

    /// What runs, in the order of the config and then of the fleet.
    #[must_use]
    pub fn stages(&self, config: &WorkerConfig) -> Stages {
        let mut stages = Stages::default();
        for SlotConfig { slot, .. } in &config.transforms {
            let transform: Arc<dyn crate::stages::Transform> = match self.live.get(slot) {
                Some(live) => Arc::new(SlotTransform(live.slot.clone())),
                None => {
                    let why = self.problems.get(slot).cloned().unwrap_or_default();
                    Arc::new(Missing(why))
                }
            };
            stages.transforms.push(TransformStage { slot: slot.clone(), transform });
        }
        for SlotConfig { slot, .. } in &config.evaluators {
            if let Some(live) = self.live.get(slot) {
                let evaluator = Arc::new(SlotEvaluator(live.slot.clone()));
                let stage = EvaluatorStage { generation: live.generation, evaluator };
                stages.evaluators.insert(slot.clone(), stage);
            }
        }
        for notifier in &config.notifiers {
            if let Some(live) = self.live.get(&notifier.slot) {
                let link = self.parts.link.clone();
                let slot = SlotNotifier { slot: live.slot.clone(), link };
                let stage =
                    NotifierStage { on_unknown: notifier.on_unknown, notifier: Arc::new(slot) };
                stages.notifiers.insert(notifier.slot.clone(), stage);
            }
        }
        self.fleet_stages(&mut stages);
        stages
    }

    /// Slots that are not as configured, and why.
    #[must_use]
    pub fn problems(&self) -> &BTreeMap<SlotName, String> {
        &self.problems
    }

    /// What became of the fleet's set, with slots that went back to what ran before.
    #[must_use]
    pub fn fleet_report(&self, report: HostReport) -> HostReport {
        let given_up = self.fleet.live.values().filter_map(|live| {
            let slot = live.slot.status();
            let it = slot.rolled_back?;
            Some((slot.name.to_string(), format!("{} failed: {}", it.version, it.reason)))
        });
        with_given_up(report, given_up)
    }

    /// What the slots say of themselves.
    #[must_use]
    pub fn status(&self) -> Vec<SlotStatus> {
        self.live.values().chain(self.fleet.live.values()).map(|it| it.slot.status()).collect()
    }

    /// Stops all slots: no further calls, those under way end.
    pub async fn stop(&mut self) {
        self.stop_retired().await;
        let fleet = std::mem::take(&mut self.fleet.live);
        for (_, live) in std::mem::take(&mut self.live).into_iter().chain(fleet) {
            live.slot.stop().await;
        }
    }
}
