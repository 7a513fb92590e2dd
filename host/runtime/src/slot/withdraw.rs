//! Emptying a slot: its owner disables it, or its plugin may not run any more.
//!
//! What is emptied takes no further call from that moment. A guest in the midst of a call is
//! stopped at the next tick of the epoch; a host function that it waits for is dropped.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use sentinel_trust::Digest;

use super::content::{Content, Identity, Vacancy};
use super::{Inner, LastGood, Slot, Transition, now};
use crate::admission::{Admission, Refusal, Withdrawn};
use crate::generation::Generation;
use crate::runtime::Runtime;
use crate::status::Emptied;

/// Longest that calls in flight are waited for once they were told to stop.
const HALT: Duration = Duration::from_secs(2);

impl Slot {
    /// Takes the plugin out of the slot and forgets what it could go back to. Calls in flight
    /// are stopped; what is being loaded for the slot meanwhile will not come. A later swap
    /// fills it again.
    pub async fn disable(&self, reason: &str) {
        let halted = {
            let mut transition = self.0.transition.lock();
            transition.disabled += 1;
            transition.last_good = None;
            self.0.vacate(&mut transition, Emptied::Disabled, reason.to_owned())
        };
        if let Some(generation) = halted {
            tracing::info!(slot = %self.name(), plugin = %generation.spec.component.name(), reason, "slot disabled");
            self.0.gone(&generation).await;
        }
    }
}

impl Runtime {
    /// Decides anew what may run, from now on and of what runs: slots whose plugin is refused
    /// become empty, what a slot could go back to is forgotten if it is refused, and compiled
    /// code of what is refused is removed. Call it whenever the answers may have changed;
    /// repeating it costs nothing. Returns once the plugins are gone, at most a few seconds.
    pub async fn enforce(&self, admission: Arc<dyn Admission>) -> Vec<Withdrawn> {
        // First: a swap that is decided after this asks the new one, a swap that was decided
        // before is found below.
        self.set_admission(Arc::clone(&admission));
        let (mut withdrawn, mut halted, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for slot in self.slots() {
            if let Some((said, generation)) = slot.recheck(&*admission, &mut refused) {
                tracing::error!(slot = %said.slot, plugin = %said.plugin, version = %said.version, digest = %said.digest, why = %said.why, "plugin was stopped: it may not run any more");
                withdrawn.push(said);
                halted.push((slot, generation));
            }
        }
        join_all(halted.iter().map(|(slot, generation)| slot.gone(generation))).await;
        drop(halted);
        self.forget(refused).await;
        withdrawn
    }
}

impl Inner {
    /// Empties the slot if its plugin is refused; adds digests that are to `refused`.
    fn recheck(
        &self,
        admission: &dyn Admission,
        refused: &mut Vec<Digest>,
    ) -> Option<(Withdrawn, Arc<Generation>)> {
        let mut transition = self.transition.lock();
        let is_refused = |it: &mut LastGood| admission.admit(&it.spec().component).is_err();
        if let Some(gone) = transition.last_good.take_if(is_refused) {
            refused.push(gone.spec().component.digest());
        }
        let generation = self.content.load().generation().cloned()?;
        let Err(why) = admission.admit(&generation.spec.component) else { return None };
        let Identity { name, version, digest } = Identity::from(&*generation.spec.component);
        refused.push(digest);
        let Refusal(reason) = why.clone();
        self.vacate(&mut transition, Emptied::Revoked, reason);
        let slot = self.shared.name.clone();
        Some((Withdrawn { slot, plugin: name, version, digest, why }, generation))
    }

    /// Takes the plugin out. What ran, told to stop.
    fn vacate(
        &self,
        transition: &mut Transition,
        emptied: Emptied,
        reason: String,
    ) -> Option<Arc<Generation>> {
        let content = self.content.load_full();
        let old = content.generation().cloned();
        let (plugin, number) = (content.plugin(), content.number());
        let vacancy = Vacancy { plugin, number, emptied, reason, since: now() };
        self.content.store(Arc::new(Content::Empty(vacancy)));
        transition.rolled_back = None;
        self.shared.metrics.running(false);
        if let Some(old) = &old {
            old.halt();
        }
        self.runtime.something_changed();
        old
    }

    /// Waits until a generation that was told to stop has no call in flight.
    async fn gone(&self, generation: &Generation) {
        if tokio::time::timeout(HALT, generation.drained()).await.is_err() {
            tracing::warn!(slot = %self.shared.name, "a host function still holds a call of a plugin that was stopped");
        }
    }
}
