//! The slots of an agent that belong to its fleet: they lie beside those of its configuration,
//! run in the same runtime and write to the same log.
//!
//! A name that the configuration has is the host's: what the fleet runs under it gives way.

use super::slots::Inner;
use crate::collect::{self, Plan};
use async_trait::async_trait;
use sentinel_fleet::{
    ApplyError, Keeping, MAX_HOST_SLOTS, SlotHealth, SlotKeeper, Wanted, with_given_up,
};
use sentinel_model::columns::{MAX_SYMBOL, check_label_key};
use sentinel_model::ids::SlotName;
use sentinel_runtime::{Change, Committed, MAX_SET, Slot, SlotSpec, SlotState, SlotStatus};
use sentinel_trust::fleet::{Collect, HostReport, Wish};
use sentinel_trust::{Digest, Grants, PluginName, VerifiedComponent};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

const _: () = assert!(MAX_HOST_SLOTS <= MAX_SET, "a set is changed in one piece");

/// Why a slot of the fleet is empty although nothing failed.
const DISABLED: &str = "an operator of the fleet disabled it";

/// What makes a slot's content another.
#[derive(Clone, PartialEq)]
struct Asked {
    digest: Digest,
    config: serde_json::Value,
    grants: Grants,
}

impl Asked {
    fn of(wish: &Wish) -> Self {
        let (config, grants) = (wish.config.clone(), wish.grants.clone());
        Self { digest: wish.digest, config, grants }
    }
}

struct Held {
    slot: Slot,
    plugin: PluginName,
    asked: Asked,
    collect: Collect,
    plan: watch::Sender<Plan>,
    stop: watch::Sender<bool>,
    /// None while the slot is disabled.
    task: Option<JoinHandle<()>>,
    /// Failures that were counted when its content was put in.
    restarts: u64,
}

impl Held {
    /// Whether what was asked for failed too often: why.
    fn given_up(status: &SlotStatus) -> Option<&str> {
        let back = status.rolled_back.as_ref().map(|it| &*it.reason);
        match &status.state {
            SlotState::Quarantined { reason, .. } => Some(reason),
            SlotState::Running | SlotState::BackingOff { .. } | SlotState::Empty { .. } => back,
        }
    }

    /// Whether what was asked for needs not be put in anew.
    fn is_as_asked(&self, again: bool) -> bool {
        let failed = again && Self::given_up(&self.slot.status()).is_some();
        !self.slot.is_empty() && !failed
    }

    fn judge(&self, health: &mut SlotHealth) {
        let status = self.slot.status();
        let version = status.rolled_back.as_ref().map_or(&status.version, |it| &it.version);
        let plugin = format!("{} {version}", self.plugin);
        let backs_off = matches!(status.state, SlotState::BackingOff { .. });
        let failing = backs_off || (!status.good && status.restarts > self.restarts);
        health.add(status.name.as_str(), &plugin, Self::given_up(&status), failing);
    }
}

/// Slots of the fleet.
#[derive(Default)]
pub(super) struct FleetSlots {
    held: BTreeMap<SlotName, Held>,
    /// Slots that are gone and finish a call: none of the same name starts before they are done.
    ending: BTreeMap<SlotName, JoinHandle<()>>,
}

impl FleetSlots {
    pub(super) fn status(&self) -> impl Iterator<Item = SlotStatus> {
        self.held.values().map(|held| held.slot.status())
    }

    /// What became of the set, with slots that went back to what ran before.
    pub(super) fn report(&self, report: HostReport) -> HostReport {
        let given_up = self.status().filter_map(|slot| {
            let it = slot.rolled_back?;
            Some((slot.name.to_string(), format!("{} failed: {}", it.version, it.reason)))
        });
        with_given_up(report, given_up)
    }

    /// Lets go of a slot: its collector finishes what is under way.
    fn let_go(&mut self, name: &SlotName) {
        let Some(held) = self.held.remove(name) else { return };
        tracing::info!(slot = %name, "slot of the fleet removed");
        held.stop.send_replace(true);
        let before = self.ending.remove(name);
        let ending = tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            if let Some(task) = held.task {
                let _ = task.await;
            }
            held.slot.stop().await;
        });
        self.ending.retain(|_, task| !task.is_finished());
        self.ending.insert(name.clone(), ending);
    }
}

/// A wish that this agent understands.
struct Ready {
    name: SlotName,
    wish: Wish,
    component: Option<Arc<VerifiedComponent>>,
}

impl Inner {
    /// How a slot of the fleet is called, under the newest configuration.
    fn plan(&self, collect: &Collect) -> Plan {
        let interval = collect.interval_ms.map(Duration::from_millis);
        Plan {
            interval: interval.unwrap_or_else(|| self.config.borrow().interval.std()),
            labels: collect.labels.clone(),
        }
    }

    /// The configuration is another: slots of the fleet whose names it has now are gone when
    /// this returns, and those that follow the agent's interval follow the new one.
    pub(super) async fn fleet_gives_way(&self) {
        let taken: BTreeSet<SlotName> = self.taken();
        let ending: Vec<JoinHandle<()>> = {
            let mut fleet = self.fleet.lock();
            for held in fleet.held.values() {
                replan(held, self.plan(&held.collect));
            }
            for name in &taken {
                fleet.let_go(name);
            }
            taken.iter().filter_map(|name| fleet.ending.remove(name)).collect()
        };
        for task in ending {
            let _ = task.await;
        }
    }

    /// Stops all slots of the fleet.
    pub(super) async fn stop_fleet(&self) {
        let ending = {
            let mut fleet = self.fleet.lock();
            let names: Vec<SlotName> = fleet.held.keys().cloned().collect();
            names.iter().for_each(|name| fleet.let_go(name));
            std::mem::take(&mut fleet.ending)
        };
        for (_, task) in ending {
            let _ = task.await;
        }
    }

    fn taken(&self) -> BTreeSet<SlotName> {
        self.config.borrow().collectors.iter().map(|one| one.slot.clone()).collect()
    }
}

fn replan(held: &Held, plan: Plan) {
    held.plan.send_if_modified(|now| {
        let differs = *now != plan;
        *now = plan;
        differs
    });
}

/// Puts what the fleet asks for into an agent's slots.
pub(super) struct Keeper(pub(super) Arc<Inner>);

impl Keeper {
    /// Everything that can be said of a wish before anything is loaded.
    fn ready(&self, wanted: Wanted) -> Result<Ready, String> {
        let Wanted { wish, component } = wanted;
        let about = |why: String| format!("slot `{}`: {why}", wish.slot);
        let name = SlotName::new(&wish.slot).map_err(|error| about(error.to_string()))?;
        if self.0.taken().contains(&name) {
            return Err(about("this agent's configuration has a slot of that name".to_owned()));
        }
        for (key, value) in wish.collect.iter().flat_map(|collect| &collect.labels) {
            check_label_key(key).map_err(|error| about(error.to_string()))?;
            if value.len() > MAX_SYMBOL {
                return Err(about(format!("the label {key} is longer than {MAX_SYMBOL} bytes")));
            }
        }
        Ok(Ready { name, wish, component })
    }

    /// What is to be changed for a wish; nothing where the slot runs it, or is disabled. What was
    /// given up is tried `again` with a set that an operator decided since.
    fn change(&self, ready: &Ready, again: bool) -> Option<Change> {
        let component = Arc::clone(ready.component.as_ref()?);
        let wish = &ready.wish;
        let spec = SlotSpec {
            name: ready.name.clone(),
            component,
            config: wish.config.clone(),
            grants: wish.grants.clone(),
        };
        match self.0.fleet.lock().held.get(&ready.name) {
            Some(held) if held.asked == Asked::of(wish) && held.is_as_asked(again) => None,
            Some(held) => Some(Change::Swap { slot: held.slot.clone(), spec }),
            None => Some(Change::Start { spec, services: self.0.services.clone() }),
        }
    }

    /// Waits for slots of the same names that are gone.
    async fn names_are_free(&self, set: &[Ready]) {
        let ending: Vec<JoinHandle<()>> = {
            let mut fleet = self.0.fleet.lock();
            set.iter().filter_map(|ready| fleet.ending.remove(&ready.name)).collect()
        };
        for task in ending {
            let _ = task.await;
        }
    }

    /// Takes note of what runs in a slot now, and calls it by its plan.
    fn runs(&self, ready: &Ready, committed: Option<Committed>) {
        let collect = ready.wish.collect.clone().unwrap_or_default();
        let plan = self.0.plan(&collect);
        if let Some(committed) = &committed {
            let (plugin, version) = (&ready.wish.plugin, &ready.wish.version);
            let generation = committed.generation;
            tracing::info!(slot = %ready.name, %plugin, %version, generation, "slot of the fleet runs");
        }
        let mut fleet = self.0.fleet.lock();
        if let Some(held) = fleet.held.get_mut(&ready.name) {
            (held.asked, held.collect) = (Asked::of(&ready.wish), collect);
            if committed.is_some() {
                held.plugin = ready.wish.plugin.clone();
                held.restarts = held.slot.status().restarts;
            }
            replan(held, plan);
            if held.task.is_none() {
                held.stop.send_replace(false);
                held.task = Some(self.call(&held.slot, &held.plan, &held.stop));
            }
        } else if let Some(Committed { slot, .. }) = committed {
            let (plan, stop) = (watch::Sender::new(plan), watch::Sender::new(false));
            let task = Some(self.call(&slot, &plan, &stop));
            let (asked, plugin) = (Asked::of(&ready.wish), ready.wish.plugin.clone());
            let restarts = slot.status().restarts;
            let held = Held { slot, plugin, asked, collect, plan, stop, task, restarts };
            fleet.held.insert(ready.name.clone(), held);
        }
    }

    fn call(
        &self,
        slot: &Slot,
        plan: &watch::Sender<Plan>,
        stop: &watch::Sender<bool>,
    ) -> JoinHandle<()> {
        let shared = Arc::clone(&self.0.shared);
        tokio::spawn(collect::run(slot.clone(), shared, plan.subscribe(), stop.subscribe()))
    }

    /// Empties the slot of a wish that is disabled: calls in flight are stopped.
    async fn disable(&self, name: &SlotName) {
        let (slot, task) = {
            let mut fleet = self.0.fleet.lock();
            let Some(held) = fleet.held.get_mut(name) else { return };
            held.stop.send_replace(true);
            (held.slot.clone(), held.task.take())
        };
        if !slot.is_empty() {
            slot.disable(DISABLED).await;
        }
        if let Some(task) = task {
            let _ = task.await;
        }
    }

    fn let_go_of_others(&self, names: &BTreeSet<SlotName>) {
        let mut fleet = self.0.fleet.lock();
        let gone: Vec<SlotName> =
            fleet.held.keys().filter(|name| !names.contains(*name)).cloned().collect();
        gone.iter().for_each(|name| fleet.let_go(name));
    }
}

#[async_trait]
impl SlotKeeper for Keeper {
    async fn apply(&self, set: Vec<Wanted>) -> Result<(), ApplyError> {
        let inner = &self.0;
        let _changing = inner.changing.lock().await;
        if inner.closing.load(Ordering::SeqCst) {
            return Err(ApplyError("the agent is stopping".to_owned()));
        }
        // What was fetched for this set may be of somebody who is trusted since then.
        inner.enforce().await;
        let set: Result<Vec<Ready>, String> = set.into_iter().map(|one| self.ready(one)).collect();
        let set = set.map_err(ApplyError)?;
        self.names_are_free(&set).await;
        let (changed, changes): (Vec<&Ready>, Vec<Change>) =
            set.iter().filter_map(|ready| Some((ready, self.change(ready, true)?))).unzip();
        let applied = inner.runtime.apply(changes).await;
        let applied = applied.map_err(|error| ApplyError(error.to_string()))?;
        let mut committed: BTreeMap<&SlotName, Committed> =
            changed.into_iter().map(|ready| &ready.name).zip(applied).collect();
        for ready in &set {
            match ready.component {
                Some(_) => self.runs(ready, committed.remove(&ready.name)),
                None => self.disable(&ready.name).await,
            }
        }
        self.let_go_of_others(&set.into_iter().map(|ready| ready.name).collect());
        Ok(())
    }

    async fn keep(&self, set: Vec<Keeping>) -> BTreeMap<String, String> {
        let inner = &self.0;
        let _changing = inner.changing.lock().await;
        let (mut missing, mut names) = (BTreeMap::new(), BTreeSet::new());
        if inner.closing.load(Ordering::SeqCst) {
            return missing;
        }
        inner.enforce().await;
        for one in set {
            let ready = match one {
                Keeping::Waiting { wish, why } => {
                    names.extend(SlotName::new(&wish.slot));
                    missing.insert(wish.slot, why);
                    continue;
                }
                Keeping::Ready(wanted) => {
                    let slot = wanted.wish.slot.clone();
                    match self.ready(wanted) {
                        Ok(ready) => ready,
                        Err(why) => {
                            missing.insert(slot, why);
                            continue;
                        }
                    }
                }
            };
            names.insert(ready.name.clone());
            self.names_are_free(std::slice::from_ref(&ready)).await;
            let change = self.change(&ready, false);
            match inner.runtime.apply(change.into_iter().collect()).await {
                Ok(_) if ready.component.is_none() => self.disable(&ready.name).await,
                Ok(mut committed) => self.runs(&ready, committed.pop()),
                Err(error) => drop(missing.insert(ready.wish.slot, error.to_string())),
            }
        }
        self.let_go_of_others(&names);
        missing
    }

    async fn stop(&self, slots: &BTreeSet<String>) {
        let mut stopping = JoinSet::new();
        for name in slots.iter().filter_map(|slot| SlotName::new(slot).ok()) {
            let keeper = Self(Arc::clone(&self.0));
            stopping.spawn(async move { keeper.disable(&name).await });
        }
        stopping.join_all().await;
    }

    fn health(&self) -> SlotHealth {
        let mut health = SlotHealth::default();
        self.0.fleet.lock().held.values().for_each(|held| held.judge(&mut health));
        health
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.runtime.changes()
    }
}
