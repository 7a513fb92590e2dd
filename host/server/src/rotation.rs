//! New keys for agents, by command and by schedule.
//!
//! | step | what happens |
//! |---|---|
//! | a key is made | both keys may sign |
//! | [`SETTLED`] later | a heartbeat that an older key signed is answered with an offer of the newest |
//! | the newest signs a heartbeat | those before it may sign for the grace and no longer |
//!
//! So an agent that was away for longer than the grace is not shut out: its grace begins when it has the
//! new key. Whoever was to be shut out is blocked, or enrolled anew.

use crate::ingest::Clock;
use crate::keyring::{AgentAccess, KeyRing};
use crate::keywrap::KeyWrap;
use sentinel_model::duration::Millis;
use sentinel_model::ids::AgentId;
use sentinel_store::access::NewAudit;
use sentinel_store::agents::{AgentRecord, AgentState};
use sentinel_store::{Store, StoreError};
use sentinel_wire::key::AgentKey;
use sentinel_wire::rotation::offer;
use sentinel_wire::v1::KeyOffer;
use std::sync::Arc;
use std::time::Duration;

/// How long a key is not offered after it was made, milliseconds: longer than any server or worker
/// believes what it knew of keys before.
pub const SETTLED: i64 = 5_000;
/// How often the schedule is looked at.
const LOOK: Duration = Duration::from_secs(60);
/// What the schedule is called where changes are written down.
const SCHEDULE: &str = "schedule";

/// When keys are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotationOptions {
    /// How long the key before may sign, once the new one did.
    pub grace: Millis,
    /// The age at which a key is replaced by itself; never where it is absent.
    pub every: Option<Millis>,
}

impl Default for RotationOptions {
    fn default() -> Self {
        Self { grace: Millis(86_400_000), every: None }
    }
}

/// Why an agent gets no new key.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// There is no such agent.
    #[error("there is no agent {0}; see `sentinel agents`")]
    Unknown(AgentId),
    /// It is blocked, waits itself, or somebody waits to take its place.
    #[error(
        "agent {0} is blocked or waits for approval: `sentinel agents approve` or `block` decides first"
    )]
    Undecided(AgentId),
    /// Another server was faster.
    #[error("agent {0} has got another new key just now")]
    Raced(AgentId),
    /// The store does not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes keys and hands them over.
pub(crate) struct Rotation {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) wrap: Arc<KeyWrap>,
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) clock: Clock,
    pub(crate) options: RotationOptions,
}

impl Rotation {
    /// A new key for an agent, which gets it with one of its next heartbeats. The number of the key.
    pub(crate) async fn rotate(&self, agent: &AgentId) -> Result<u32, RotationError> {
        let record = self.store.agent(agent).await?;
        let record = record.ok_or_else(|| RotationError::Unknown(agent.clone()))?;
        if record.state != AgentState::Approved || record.newcomer.is_some() {
            return Err(RotationError::Undecided(agent.clone()));
        }
        self.succeed(agent, record.key_id).await
    }

    /// A key after the one of a number, where that is still the newest.
    async fn succeed(&self, agent: &AgentId, newest: u32) -> Result<u32, RotationError> {
        let wrapped = self.wrap.wrap(agent, AgentKey::random(0).expose());
        let made = self.store.add_agent_key(agent, newest, wrapped, (self.clock)()).await?;
        self.keys.forget(agent);
        let key_id = made.ok_or_else(|| RotationError::Raced(agent.clone()))?;
        tracing::info!(%agent, key_id, "a new key was made");
        Ok(key_id)
    }

    /// After a heartbeat that the key `used` signed: what the agent is offered, if there is a newer key;
    /// otherwise the grace of those before begins.
    pub(crate) async fn heard(
        &self,
        agent: &AgentId,
        access: &AgentAccess,
        used: u32,
    ) -> Option<KeyOffer> {
        let newest = access.keys.first()?;
        let now = (self.clock)();
        if newest.key.id() == used {
            if access.keys.iter().any(|one| one.key.id() < used && one.valid_until.is_none()) {
                self.retire(agent, used, now).await;
            }
            return None;
        }
        if newest.key.id() < used || now.saturating_sub(newest.made_at) < SETTLED {
            return None;
        }
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).ok()?;
        Some(offer(agent, access.key(used)?, &newest.key, nonce))
    }

    async fn retire(&self, agent: &AgentId, used: u32, now: i64) {
        let grace = i64::try_from(self.options.grace.0).unwrap_or(i64::MAX);
        match self.store.retire_agent_keys(agent, used, now.saturating_add(grace)).await {
            Ok(_) => {
                tracing::info!(%agent, key_id = used, grace = %self.options.grace, "the agent signs with its new key; the grace of the old one begins")
            }
            // The next heartbeat tries it again.
            Err(error) => {
                tracing::warn!(%agent, %error, "the grace of an agent's old key does not begin")
            }
        }
        self.keys.forget(agent);
    }

    /// Replaces keys that are old enough, until told to stop.
    pub(crate) async fn run(self: Arc<Self>, stop: impl Future<Output = ()>) {
        let Some(every) = self.options.every else { return };
        tokio::pin!(stop);
        loop {
            if let Err(error) = self.due(every).await {
                tracing::warn!(%error, "keys that are due are not replaced yet");
            }
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Of each agent: whether its newest key is old, and if so another one.
    pub(crate) async fn due(&self, every: Millis) -> Result<(), StoreError> {
        let oldest = (self.clock)().saturating_sub(i64::try_from(every.0).unwrap_or(i64::MAX));
        for agent in self.store.agents().await? {
            if agent.state != AgentState::Approved || agent.newcomer.is_some() {
                continue;
            }
            let keys = self.store.agent_keys(&agent.id).await?;
            if keys.first().is_some_and(|newest| newest.made_at <= oldest) {
                self.replace(&agent).await?;
            }
        }
        Ok(())
    }

    /// Another key for an agent whose newest is old, written down as every change is: before it is
    /// made, and where it cannot be written down it is not made. After the key that was found old
    /// and no other: where another server was faster, the newest is not old any more.
    async fn replace(&self, agent: &AgentRecord) -> Result<(), StoreError> {
        let entry = NewAudit {
            at: (self.clock)(),
            who: SCHEDULE.to_owned(),
            role: "server".to_owned(),
            address: String::new(),
            what: format!("replace the key of {}", agent.id),
        };
        let audit = self.store.begin_audit(entry).await?;
        let made = self.succeed(&agent.id, agent.key_id).await;
        let outcome = match &made {
            Ok(key_id) => format!("made key {key_id}"),
            Err(why) => why.to_string(),
        };
        if let Err(error) = self.store.end_audit(audit, &outcome).await {
            tracing::error!(%error, audit, "what became of a change cannot be written down");
        }
        match made {
            Ok(_) | Err(RotationError::Raced(_)) => {}
            Err(error) => tracing::warn!(%error, "a key that is due is not replaced yet"),
        }
        Ok(())
    }
}
