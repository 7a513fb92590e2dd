//! The agent of `sentinel up`: of the same process and user as the server, so that nobody else
//! has to let it in. Where its identity is lost, or is none of this database, it gets another
//! by itself; what an operator blocked stays blocked.

use anyhow::{Context, Result};
use async_trait::async_trait;
use sentinel_agent::enrol::{Approval, EnrolError, Enrolment, Identity, Waiting};
use sentinel_server::enrolment::EnrolmentTokens;
use sentinel_server::keyring::KeyRing;
use sentinel_store::Store;
use sentinel_store::agents::AgentState;
use sentinel_worker::clock::{Clock, SystemClock};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// How long a token lives with which the agent of this process enrols, once.
const TOKEN_MS: i64 = 10 * 60 * 1000;

/// Lets the agent of this process in.
pub(crate) struct OwnAgent {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) tokens: Arc<EnrolmentTokens>,
    pub(crate) keys: KeyRing,
}

impl OwnAgent {
    /// Looks at the identity of the last run. One with which the agent could never push to
    /// this database is put aside, so that it enrols anew.
    pub(crate) async fn check(&self, file: &Path) -> Result<()> {
        let why = match Identity::load(file) {
            Ok(None) => return Ok(()),
            Ok(Some(identity)) => self.misfit(&identity).await?,
            Err(error @ EnrolError::Damaged { .. }) => Some(error.to_string()),
            Err(error) => return Err(error.into()),
        };
        let Some(why) = why else { return Ok(()) };
        let aside = file.with_extension("json.old");
        fs::rename(file, &aside)
            .with_context(|| format!("{} cannot be put aside", file.display()))?;
        tracing::warn!(why, aside = %aside.display(), "this machine's agent enrols anew");
        Ok(())
    }

    /// Why an identity is of no use with this database.
    async fn misfit(&self, identity: &Identity) -> Result<Option<String>> {
        let id = &identity.id;
        let Some(access) = self.keys.access(id).await? else {
            return Ok(Some(format!("the database knows no agent {id}")));
        };
        if access.state == AgentState::Blocked {
            return Ok(None);
        }
        let key = access.key(identity.key.id());
        let fits = key.is_some_and(|key| key.expose() == identity.key.expose());
        Ok((!fits).then(|| format!("the key of agent {id} is not the one in the database")))
    }
}

#[async_trait]
impl Enrolment for OwnAgent {
    fn is_possible(&self) -> bool {
        true
    }

    async fn token(&self) -> Result<Zeroizing<String>, String> {
        let now = SystemClock.now();
        let token = self.tokens.create(1, now + TOKEN_MS, "sentinel up", now).await;
        let token = token.map_err(|e| e.to_string())?;
        Ok(Zeroizing::new(token))
    }

    /// Approves what was enrolled just now, on this machine. Another machine's agent of this
    /// name, or one that an operator blocked, is the operator's affair.
    async fn waiting(&self, agent: Waiting<'_>) -> Result<Approval, String> {
        let failed = |error: sentinel_store::StoreError| error.to_string();
        let id = agent.id;
        let known = self.store.agent(id).await.map_err(failed)?;
        let known = known.ok_or_else(|| format!("the database knows no agent {id}"))?;
        if known.state == AgentState::Blocked {
            return Ok(Approval::Awaited("this agent was blocked".to_owned()));
        }
        if known.hw_id != agent.hw_id {
            return Ok(Approval::Awaited(format!("agent {id} is of another machine")));
        }
        if known.key_id != agent.key_id {
            return Err(format!("agent {id} was enrolled once more meanwhile"));
        }
        let approved = AgentState::Approved;
        self.store.set_agent_state(id, approved, SystemClock.now()).await.map_err(failed)?;
        self.keys.forget(id);
        tracing::info!(agent = %id, "this machine's agent was enrolled before and is approved again");
        Ok(Approval::Given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_model::ids::AgentId;
    use sentinel_server::keywrap::KeyWrap;
    use sentinel_store::agents::{Claim, NewAgent};
    use sentinel_store::sqlite::{SqliteStore, StoreOptions};
    use sentinel_wire::key::AgentKey;
    use std::path::PathBuf;
    use tempfile::TempDir;

    const HERE: &str = "0000000000000000000000000000000000000000000000000000000000000001";
    const ELSEWHERE: &str = "0000000000000000000000000000000000000000000000000000000000000002";

    struct Case {
        own: OwnAgent,
        wrap: Arc<KeyWrap>,
        id: AgentId,
        dir: TempDir,
    }

    impl Case {
        async fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = SqliteStore::open(dir.path().join("db"), StoreOptions::default());
            let store: Arc<dyn Store> = Arc::new(store.await.unwrap());
            let wrap = Arc::new(KeyWrap::open(&dir.path().join("server.key")).unwrap());
            let tokens = EnrolmentTokens::new(Arc::clone(&store));
            let keys = KeyRing::new(Arc::clone(&store), Arc::clone(&wrap));
            let own = OwnAgent { store, tokens: Arc::new(tokens), keys };
            Self { own, wrap, id: AgentId::new("a").unwrap(), dir }
        }

        /// What the server does; the number of the key and the key.
        async fn register(&self, hw_id: &str) -> (u32, AgentKey) {
            let key = AgentKey::random(0);
            let new = NewAgent {
                id: self.id.clone(),
                hw_id: hw_id.to_owned(),
                hostname: "h".to_owned(),
                version: "1".to_owned(),
                labels: Default::default(),
                wrapped_key: self.wrap.wrap(&self.id, key.expose()),
                claim: Claim(*key.expose().first_chunk().unwrap()),
            };
            let record = self.own.store.register_agent(new, 1).await.unwrap().agent;
            self.own.keys.forget(&self.id);
            (record.key_id, AgentKey::new(record.key_id, key.expose()).unwrap())
        }

        async fn waiting(&self, key_id: u32) -> Result<Approval, String> {
            self.own.waiting(Waiting { id: &self.id, key_id, hw_id: HERE }).await
        }

        fn file(&self) -> PathBuf {
            self.dir.path().join("identity.json")
        }

        /// Whether an identity is there after it was looked at.
        async fn stays(&self, key: &AgentKey) -> bool {
            let identity = Identity { id: self.id.clone(), key: key.clone(), before: None };
            identity.save(&self.file()).unwrap();
            self.own.check(&self.file()).await.unwrap();
            self.file().exists()
        }
    }

    #[tokio::test]
    async fn an_agent_that_lost_its_identity_is_approved_again_on_its_own_machine_only() {
        let case = Case::new().await;
        case.register(HERE).await;
        let (key_id, key) = case.register(HERE).await;
        assert!(case.waiting(key_id + 1).await.is_err(), "another enrolment's key is not approved");
        assert_eq!(case.waiting(key_id).await, Ok(Approval::Given));
        let access = case.own.keys.access(&case.id).await.unwrap().unwrap();
        assert_eq!(access.state, AgentState::Approved);
        assert_eq!(access.key(key_id).unwrap().expose(), key.expose());

        let case = Case::new().await;
        case.register(ELSEWHERE).await;
        let (key_id, _) = case.register(HERE).await;
        assert!(matches!(case.waiting(key_id).await, Ok(Approval::Awaited(_))));
    }

    #[tokio::test]
    async fn a_blocked_agent_stays_blocked_and_keeps_its_identity() {
        let case = Case::new().await;
        let (_, key) = case.register(HERE).await;
        case.own.store.set_agent_state(&case.id, AgentState::Blocked, 1).await.unwrap();
        case.own.keys.forget(&case.id);
        assert!(case.stays(&key).await);
        let (key_id, _) = case.register(HERE).await;
        assert!(matches!(case.waiting(key_id).await, Ok(Approval::Awaited(_))));
    }

    #[tokio::test]
    async fn an_identity_is_put_aside_where_this_database_does_not_know_it() {
        let case = Case::new().await;
        assert!(!case.stays(&AgentKey::random(1)).await, "a new database");
        let (key_id, key) = case.register(HERE).await;
        assert!(case.stays(&key).await);
        assert!(!case.stays(&AgentKey::random(key_id)).await, "another key");
        fs::write(case.file(), "{").unwrap();
        case.own.check(&case.file()).await.unwrap();
        assert!(!case.file().exists() && case.dir.path().join("identity.json.old").exists());
        case.own.check(&case.file()).await.unwrap();
    }
}
