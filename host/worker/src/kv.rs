//! The state of notifiers' `kv`: in memory for reading, in the store for good.

use parking_lot::RwLock;
use sentinel_model::ids::SlotName;
use sentinel_runtime::{KvSource, KvState, KvWrite};
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
fn key(slot: &SlotName) -> String {
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
        let stored = self.store.slot_state(&key(slot)).await?;
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
            let stored = self.store.slot_state(&key(&slot)).await?;
            let mut state = KvState::default();
            state.apply(stored.into_iter().map(|(key, value)| KvWrite { key, value: Some(value) }));
            self.states.write().insert(slot, Arc::new(state));
        }
        Ok(())
    }

    /// Keeps the writes of a call: in the store first.
    ///
    /// # Errors
    /// What the store says; then nothing was kept.
    pub async fn keep(&self, slot: &SlotName, writes: Vec<KvWrite>) -> Result<(), StoreError> {
        if writes.is_empty() {
            return Ok(());
        }
        let _writing = self.writing.lock().await;
        let stored = writes.iter().map(|w| (w.key.clone(), w.value.clone())).collect();
        self.store.save_slot_state(&key(slot), stored).await?;
        let mut states = self.states.write();
        Arc::make_mut(states.entry(slot.clone()).or_default()).apply(writes);
        Ok(())
    }
}

impl KvSource for SlotStates {
    fn load(&self, slot: &SlotName) -> Arc<KvState> {
        self.states.read().get(slot).cloned().unwrap_or_default()
    }
}
