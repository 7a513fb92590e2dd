//! What an operator switches off: at once, and whatever becomes of the rest of the set.

use super::{Effect, Machine};
use std::collections::BTreeSet;

impl Machine {
    /// Slots that the newest set disables on this host, also where it cannot be applied.
    pub(super) fn stops(&self) -> BTreeSet<String> {
        let groups = self.memory.newest.iter().flat_map(|newest| &newest.sealed().set().groups);
        let here = groups.filter(|group| group.matches(&self.place.labels));
        here.flat_map(|group| &group.slots)
            .filter(|wish| wish.disabled && self.place.kinds.contains(&wish.kind))
            .map(|wish| wish.slot.clone())
            .collect()
    }

    /// Stops them, where a set runs or may come to run that has them on.
    pub(super) fn stop(&mut self) -> Option<Effect> {
        let stops = self.stops();
        let newest = self.memory.newest.as_ref().map_or(0, |set| set.number());
        let runs_another = newest > self.applied;
        (runs_another && !stops.is_empty()).then(|| {
            self.stopped = true;
            Effect::Stop(stops)
        })
    }

    /// Said of a set that does not run: what of it counts nevertheless.
    pub(super) fn stopped_all_the_same(&self) -> String {
        let stops: Vec<String> = self.stops().iter().map(|slot| format!("`{slot}`")).collect();
        if stops.is_empty() {
            return String::new();
        }
        format!("; what it disables is stopped all the same: {}", stops.join(", "))
    }
}
