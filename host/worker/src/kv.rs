//! The state of notifiers' `kv`: in memory for reading, in the store for good.
//!
//! What a notifier remembers of an attempt is written in the transaction of the attempt's outcome, under its fence: a
//! worker that lost its lease changes nothing of it, and one that is killed leaves both or neither.

use parking_lot::RwLock;
use sentinel_model::ids::SlotName;
use sentinel_runtime::{KvSource, KvState, KvWrite};
use sentinel_store::alerting::SlotWrite;
use sentinel_store::{Store, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The state of all slots.
pub struct SlotStates {
    store: Arc<dyn Store>,
    states: RwLock<BTreeMap<SlotName, Arc<KvState>>>,
    /// Held over a write to both, so that memory and store see all writes in one order.
    writing: tokio::sync::Mutex<()>,
}

/// Under which name the store keeps a slot's state.
fn stored_as(slot: &SlotName) -> String {
    format!("worker/{slot}")
}

impl SlotStates {
    /// Without any slot yet.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, states: RwLock::default(), writing: tokio::sync::Mutex::default() }
    }

    /// Reads a slot's state; before the slot is started.
    ///
    /// # Errors
    /// What the store says.
    pub async fn open(&self, slot: &SlotName) -> Result<(), StoreError> {
        if self.states.read().contains_key(slot) {
            return Ok(());
        }
        let stored = self.store.slot_state(&stored_as(slot)).await?;
        let mut state = KvState::default();
        state.apply(stored.into_iter().map(|(key, value)| KvWrite { key, value: Some(value) }));
        self.states.write().insert(slot.clone(), Arc::new(state));
        Ok(())
    }

    /// Reads the state of all slots again: another worker may have changed it.
    ///
    /// # Errors
    /// What the store says; then some are as they were.
    pub async fn read_again(&self) -> Result<(), StoreError> {
        let _writing = self.writing.lock().await;
        let slots: Vec<SlotName> = self.states.read().keys().cloned().collect();
        for slot in slots {
            let stored = self.store.slot_state(&stored_as(&slot)).await?;
            let mut state = KvState::default();
            state.apply(stored.into_iter().map(|(key, value)| KvWrite { key, value: Some(value) }));
            self.states.write().insert(slot, Arc::new(state));
        }
        Ok(())
    }

    /// Has what a notifier remembers stored by `store`, which returns once it is; only then it is in
    /// memory.
    pub async fn keep<Stored: Future<Output = ()>>(
        &self,
        slot: &SlotName,
        writes: Vec<KvWrite>,
        store: impl FnOnce(Vec<SlotWrite>) -> Stored,
    ) {
        if writes.is_empty() {
            return store(Vec::new()).await;
        }
        let _writing = self.writing.lock().await;
        let stored = |w: &KvWrite| {
            let (key, value) = (w.key.clone(), w.value.clone());
            SlotWrite { slot: stored_as(slot), key, value }
        };
        store(writes.iter().map(stored).collect()).await;
        let mut states = self.states.write();
        Arc::make_mut(states.entry(slot.clone()).or_default()).apply(writes);
    }
}

impl KvSource for SlotStates {
    fn load(&self, slot: &SlotName) -> Arc<KvState> {
        self.states.read().get(slot).cloned().unwrap_or_default()
    }
}
