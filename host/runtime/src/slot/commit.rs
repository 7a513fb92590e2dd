//! The switch from what runs to what was prepared, of one slot or of several.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;
use tokio::sync::OwnedSemaphorePermit;

use super::content::Content;
use super::prepared::{Committed, Prepared};
use super::{Inner, LastGood, Slot, Transition, title};
use crate::error::{LoadCause, LoadError};
use crate::generation::Generation;
use crate::health::Health;
use crate::state::restore;

/// Switches all or none; the answers are in the order of what was given.
pub(super) async fn commit(prepared: Vec<Prepared>) -> Result<Vec<Committed>, LoadError> {
    // Taken in the order of names, so that two sets never wait for each other.
    let mut all: Vec<(usize, Prepared)> = prepared.into_iter().enumerate().collect();
    all.sort_by(|(_, a), (_, b)| a.spec().name.cmp(&b.spec().name));
    if let Some(pair) = all.windows(2).find(|two| two[0].1.spec().name == two[1].1.spec().name) {
        return Err(pair[1].1.fail(LoadCause::Twice));
    }
    let (places, mut all): (Vec<usize>, Vec<Prepared>) = all.into_iter().unzip();
    let mut held = Vec::new();
    // A prepared one is `Send` and not `Sync`: nothing of it is borrowed while this waits.
    let holdings: Vec<_> = all.iter().map(Prepared::holding).collect();
    for (at, holding) in holdings.into_iter().enumerate() {
        held.extend(holding.await.map_err(|cause| all[at].fail(cause))?);
    }
    let mut ready = Vec::with_capacity(all.len());
    for one in all.drain(..) {
        ready.push(one.taking_over().await?);
    }
    let switched = switch(ready)?;
    drop(held);
    let drained = switched.iter().map(|(slot, _, old)| slot.let_go(old.as_ref()));
    futures::future::join_all(drained).await;
    let mut committed: Vec<(usize, Committed)> = places
        .into_iter()
        .zip(switched)
        .map(|(place, (slot, generation, _))| (place, Committed { slot: Slot(slot), generation }))
        .collect();
    committed.sort_by_key(|(place, _)| *place);
    Ok(committed.into_iter().map(|(_, committed)| committed).collect())
}

/// A slot, its new number, and what ran in it.
type Switched = (Arc<Inner>, u64, Option<Arc<Generation>>);

/// Looks at every slot once more, then switches all of them. Nothing here waits.
fn switch(prepared: Vec<Prepared>) -> Result<Vec<Switched>, LoadError> {
    let slots: Vec<_> = prepared.iter().map(|one| Arc::clone(&one.slot)).collect();
    let mut guards: Vec<MutexGuard<'_, Transition>> = Vec::with_capacity(slots.len());
    for (slot, one) in slots.iter().zip(&prepared) {
        let guard = slot.transition.lock();
        one.may_come(&guard).map_err(|cause| one.fail(cause))?;
        guards.push(guard);
    }
    let switch = |(one, mut guard): (Prepared, MutexGuard<'_, Transition>)| {
        let slot = Arc::clone(&one.slot);
        let (number, old) = one.put_in(&mut guard);
        (slot, number, old)
    };
    let switched = prepared.into_iter().zip(guards).map(switch).collect();
    if let Some(slot) = slots.first() {
        slot.runtime.something_changed();
    }
    Ok(switched)
}

impl Prepared {
    /// The generation whose state this one takes over, if it does: of the same plugin, and not
    /// when the slot goes back from one that failed.
    fn predecessor(&self) -> Option<Arc<Generation>> {
        let content = self.slot.content.load();
        let old = content.generation()?;
        let same = old.spec.component.name() == self.spec().component.name();
        let both = old.keeps_state() && self.generation.keeps_state();
        (same && both && self.step_back.is_none()).then(|| Arc::clone(old))
    }

    /// Waits for the call in flight of a slot whose state is handed over and keeps others out.
    fn holding(
        &self,
    ) -> impl Future<Output = Result<Option<OwnedSemaphorePermit>, LoadCause>> + Send + use<> {
        let permits = self.predecessor().map(|_| Arc::clone(&self.slot.permits));
        let count = self.slot.permit_count;
        async move {
            let Some(permits) = permits else { return Ok(None) };
            let all = permits.acquire_many_owned(count).await;
            all.map(Some).map_err(|_| LoadCause::Stopped)
        }
    }

    /// With the state of what runs, if there is any.
    async fn taking_over(mut self) -> Result<Self, LoadError> {
        let Some(old) = self.predecessor() else { return Ok(self) };
        let runtime = Arc::clone(&self.slot.runtime);
        let tick = runtime.ticker.guard();
        let handed = runtime.threads.spawn(async move {
            let _tick = tick;
            let Some(carried) = old.state().await else { return Ok(self) };
            let from = Box::new(carried.version.clone());
            match restore(&mut self.instance, carried).await {
                Ok(()) => Ok(self),
                Err(cause) => Err(self.fail(LoadCause::Restore { from, cause })),
            }
        });
        handed.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    /// Whether this may be put in now.
    fn may_come(&self, transition: &Transition) -> Result<(), LoadCause> {
        if self.slot.stopped.load(Ordering::SeqCst) {
            return Err(LoadCause::Stopped);
        }
        if transition.disabled != self.disabled {
            return Err(LoadCause::Overtaken("the slot was disabled"));
        }
        let given_up = self.step_back.as_ref().map(|step| step.from);
        if given_up.is_some_and(|from| from != self.slot.content.load().number()) {
            return Err(LoadCause::Overtaken("the slot got something else"));
        }
        Ok(self.slot.runtime.admit(&self.spec().component)?)
    }

    /// Puts it in place of what runs. Its number, and what ran.
    fn put_in(self, transition: &mut Transition) -> (u64, Option<Arc<Generation>>) {
        let Self { slot, generation, instance, step_back, .. } = self;
        let content = slot.content.load_full();
        let number = content.number() + 1;
        let title = title(&generation.spec);
        generation.set_number(number);
        generation.keep(instance);
        slot.content.store(Arc::new(Content::Running(generation)));
        *slot.health.lock() = Health::new(number, slot.runtime.first_wait_ms);
        slot.shared.log.lock().name_plugin(&title);
        slot.shared.metrics.generation(number);
        slot.shared.metrics.running(true);
        let old = content.generation().cloned();
        transition.rolled_back = None;
        match (step_back, &old) {
            (Some(step), _) => {
                transition.last_good = None;
                transition.rolled_back = Some(step.told);
            }
            (None, Some(old)) if old.is_good() => {
                transition.last_good = Some(LastGood::Held(Arc::clone(old)));
            }
            (None, _) => {}
        }
        (number, old)
    }
}

impl Inner {
    /// Lets the generation before finish its calls.
    async fn let_go(&self, old: Option<&Arc<Generation>>) {
        if let Some(old) = old {
            old.retire();
            self.drained(old).await;
        }
    }
}
