//! The fleet's slots, looked at and stopped beside whatever change is under way.

use super::fleet::DISABLED;
use parking_lot::Mutex;
use sentinel_fleet::SlotHealth;
use sentinel_model::ids::SlotName;
use sentinel_runtime::{Slot, SlotState, SlotStatus};
use sentinel_trust::PluginName;
use std::collections::{BTreeMap, BTreeSet};

/// A slot of the fleet and what was put into it last.
struct One {
    slot: Slot,
    plugin: PluginName,
    /// Failures that were counted then.
    restarts: u64,
}

/// The fleet's slots. Locked for moments only.
#[derive(Default)]
pub(crate) struct Watched(Mutex<BTreeMap<SlotName, One>>);

/// Whether what was asked for failed too often: why.
pub(super) fn given_up(status: &SlotStatus) -> Option<&str> {
    let back = status.rolled_back.as_ref().map(|it| &*it.reason);
    match &status.state {
        SlotState::Quarantined { reason, .. } => Some(reason),
        SlotState::Running | SlotState::BackingOff { .. } | SlotState::Empty { .. } => back,
    }
}

impl Watched {
    /// Something was put into a slot.
    pub(super) fn put(&self, slot: Slot, plugin: PluginName) {
        let restarts = slot.status().restarts;
        self.0.lock().insert(slot.name().clone(), One { slot, plugin, restarts });
    }

    /// A slot is the fleet's no more.
    pub(super) fn forget(&self, name: &SlotName) {
        self.0.lock().remove(name);
    }

    /// How they are.
    pub(crate) fn health(&self) -> SlotHealth {
        let mut health = SlotHealth::default();
        for one in self.0.lock().values() {
            let status = one.slot.status();
            let version = status.rolled_back.as_ref().map_or(&status.version, |it| &it.version);
            let plugin = format!("{} {version}", one.plugin);
            let backs_off = matches!(status.state, SlotState::BackingOff { .. });
            let failing = backs_off || (!status.good && status.restarts > one.restarts);
            health.add(status.name.as_str(), &plugin, given_up(&status), failing);
        }
        health
    }

    /// Empties slots: calls in flight are stopped.
    pub(crate) async fn stop(&self, names: &BTreeSet<String>) {
        let slots: Vec<Slot> = {
            let all = self.0.lock();
            let meant = all.iter().filter(|(name, _)| names.contains(name.as_str()));
            meant.map(|(_, one)| one.slot.clone()).filter(|slot| !slot.is_empty()).collect()
        };
        futures::future::join_all(slots.iter().map(|slot| slot.disable(DISABLED))).await;
    }
}
