//! The keys of agents, unwrapped and cached for seconds, so that blocking an agent takes
//! effect at once by any measure of a person.

use crate::keywrap::KeyWrap;
use parking_lot::Mutex;
use sentinel_model::ids::AgentId;
use sentinel_store::agents::AgentState;
use sentinel_store::{Store, StoreError};
use sentinel_wire::key::AgentKey;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an answer of the store is believed.
const FRESH: Duration = Duration::from_secs(2);
/// The most agents that are cached; the cache is emptied beyond.
const MAX_CACHED: usize = 100_000;

/// What an agent may do, and with which keys.
#[derive(Clone)]
pub struct AgentAccess {
    /// Whether its pushes are taken.
    pub state: AgentState,
    /// The number of a key that may not sign before an operator approves it.
    pub waiting: Option<u32>,
    /// Keys that may sign, newest first.
    pub keys: Arc<[AgentKey]>,
}

impl AgentAccess {
    /// The key of a number.
    #[must_use]
    pub fn key(&self, id: u32) -> Option<&AgentKey> {
        self.keys.iter().find(|key| key.id() == id)
    }
}

/// Looks agents up.
pub struct KeyRing {
    store: Arc<dyn Store>,
    wrap: Arc<KeyWrap>,
    cached: Mutex<HashMap<AgentId, (Instant, Option<AgentAccess>)>>,
}

impl KeyRing {
    /// Over a store, with the wrapping key.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, wrap: Arc<KeyWrap>) -> Self {
        Self { store, wrap, cached: Mutex::default() }
    }

    /// What an agent may do; `None` where there is no such agent.
    ///
    /// # Errors
    /// A store that does not answer. A key that does not unwrap is left out and logged.
    pub async fn access(&self, agent: &AgentId) -> Result<Option<AgentAccess>, StoreError> {
        if let Some((at, access)) = self.cached.lock().get(agent)
            && at.elapsed() < FRESH
        {
            return Ok(access.clone());
        }
        let access = self.load(agent).await?;
        let mut cached = self.cached.lock();
        if cached.len() >= MAX_CACHED {
            cached.clear();
        }
        cached.insert(agent.clone(), (Instant::now(), access.clone()));
        Ok(access)
    }

    /// Forgets what is cached of an agent, after its state was changed here.
    pub fn forget(&self, agent: &AgentId) {
        self.cached.lock().remove(agent);
    }

    async fn load(&self, agent: &AgentId) -> Result<Option<AgentAccess>, StoreError> {
        let Some(record) = self.store.agent(agent).await? else { return Ok(None) };
        let mut keys = Vec::new();
        for key in self.store.agent_keys(agent).await? {
            match self.wrap.unwrap(agent, key.key_id, &key.wrapped) {
                Ok(key) => keys.push(key),
                Err(error) => tracing::error!(%agent, key_id = key.key_id, %error, "key left out"),
            }
        }
        let waiting = record.newcomer.map(|newcomer| newcomer.key_id);
        Ok(Some(AgentAccess { state: record.state, waiting, keys: keys.into() }))
    }
}
