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
    /// Its keys, newest first.
    pub keys: Arc<[KeyVersion]>,
}

/// A key of an agent, and its time.
#[derive(Clone)]
pub struct KeyVersion {
    /// The key.
    pub key: AgentKey,
    /// Unix milliseconds at which it was made.
    pub made_at: i64,
    /// Unix milliseconds until which it may sign; without end where it is absent.
    pub valid_until: Option<i64>,
}

impl AgentAccess {
    /// The key of a number, whether it may still sign or not: what it signed in its time is good.
    #[must_use]
    pub fn key(&self, id: u32) -> Option<&AgentKey> {
        self.keys.iter().map(|one| &one.key).find(|key| key.id() == id)
    }

    /// Whether the key of a number may not sign any more.
    #[must_use]
    pub fn is_over(&self, id: u32, now: i64) -> bool {
        let key = self.keys.iter().find(|one| one.key.id() == id);
        key.and_then(|one| one.valid_until).is_some_and(|until| now > until)
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
                Ok(unwrapped) => keys.push(KeyVersion {
                    key: unwrapped,
                    made_at: key.made_at,
                    valid_until: key.valid_until,
                }),
                Err(error) => tracing::error!(%agent, key_id = key.key_id, %error, "key left out"),
            }
        }
        let waiting = record.newcomer.map(|newcomer| newcomer.key_id);
        Ok(Some(AgentAccess { state: record.state, waiting, keys: keys.into() }))
    }
}
