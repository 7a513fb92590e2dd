//! A store that can be made to refuse writes of samples and alerts.

use async_trait::async_trait;
use sentinel_model::alert::{Alert, Delivery, Transition};
use sentinel_model::attention::Attempt;
use sentinel_model::duration::Millis;
use sentinel_model::ids::{AgentId, Epoch, Position, SlotName};
use sentinel_model::rule::RuleSet;
use sentinel_model::series::Selector;
use sentinel_store::access::{ApiToken, Audit, EnrolmentToken, NewAudit, Spent, TokenHash};
use sentinel_store::agents::{
    AgentRecord, AgentState, Claim, Enrolled, Heartbeat, NewAgent, WrappedKey,
};
use sentinel_store::alerting::{Act, AlertingChange, Decisions, NotificationFilter, StoredGroup};
use sentinel_store::evaluations::Evaluation;
use sentinel_store::fleet::StoredSet;
use sentinel_store::ingest::{
    AgentStream, Commit, CommitOutcome, DeadLetter, LedgerEntry, StreamState,
};
use sentinel_store::lease::Fence;
use sentinel_store::query::{Points, SeriesInfo, SeriesRange, Step, TimeRange};
use sentinel_store::rules::RuleVersion;
use sentinel_store::tail::{TailBatch, TailPage, TailPosition};
use sentinel_store::windows::{WindowChange, WindowPart};
use sentinel_store::{Maintenance, Sizes, Store, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What goes wrong at a write of alerts.
#[derive(Debug, Clone, Copy)]
pub struct Death {
    /// At which, from 0.
    pub at: usize,
    /// Whether that one is kept.
    pub is_kept: bool,
    /// Whether nothing more goes wrong: the process only did not hear that it was kept.
    pub goes_on: bool,
}

pub struct FlakyStore {
    inner: Arc<dyn Store>,
    refuses: AtomicBool,
    death: Option<Death>,
    happened: AtomicBool,
    /// Writes of alerts that were asked for.
    pub writes: AtomicUsize,
    /// Held alone, it keeps notifications that were read from whoever asked for them.
    pub reads: tokio::sync::RwLock<()>,
    /// Who has read and waits for that.
    pub waiting: AtomicUsize,
    /// How often samples were read from history.
    pub histories: AtomicUsize,
    /// How often a position of the tail is still found good.
    pub good_positions: AtomicUsize,
}

impl FlakyStore {
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            refuses: AtomicBool::new(false),
            death: None,
            happened: AtomicBool::new(false),
            writes: AtomicUsize::new(0),
            reads: tokio::sync::RwLock::default(),
            waiting: AtomicUsize::new(0),
            histories: AtomicUsize::new(0),
            good_positions: AtomicUsize::new(usize::MAX),
        }
    }

    /// The same store for another process, which may end.
    pub fn reborn(&self, death: Option<Death>) -> Self {
        Self { death, ..Self::new(Arc::clone(&self.inner)) }
    }

    /// Whether the process ended: nothing that it still does is kept.
    pub fn is_dead(&self) -> bool {
        self.happened.load(Ordering::SeqCst)
    }

    pub fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::SeqCst);
    }

    fn guard(&self) -> Result<(), StoreError> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(StoreError::Full("by order of a test".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl Store for FlakyStore {
    async fn register_agent(&self, new: NewAgent, now: i64) -> Result<Enrolled, StoreError> {
        self.inner.register_agent(new, now).await
    }
    async fn set_agent_state(
        &self,
        id: &AgentId,
        state: AgentState,
        now: i64,
    ) -> Result<(), StoreError> {
        self.inner.set_agent_state(id, state, now).await
    }
    async fn agent(&self, id: &AgentId) -> Result<Option<AgentRecord>, StoreError> {
        self.inner.agent(id).await
    }
    async fn agents(&self) -> Result<Vec<AgentRecord>, StoreError> {
        self.inner.agents().await
    }
    async fn agents_after(
        &self,
        after: Option<&AgentId>,
        limit: u32,
    ) -> Result<Vec<AgentRecord>, StoreError> {
        self.inner.agents_after(after, limit).await
    }
    async fn add_agent_key(
        &self,
        id: &AgentId,
        newest: u32,
        wrapped: Vec<u8>,
        now: i64,
    ) -> Result<Option<u32>, StoreError> {
        self.inner.add_agent_key(id, newest, wrapped, now).await
    }
    async fn retire_agent_keys(
        &self,
        id: &AgentId,
        below: u32,
        until: i64,
    ) -> Result<u64, StoreError> {
        self.inner.retire_agent_keys(id, below, until).await
    }
    async fn agent_keys(&self, id: &AgentId) -> Result<Vec<WrappedKey>, StoreError> {
        self.inner.agent_keys(id).await
    }
    async fn save_heartbeat(&self, heartbeat: Heartbeat, now: i64) -> Result<(), StoreError> {
        self.inner.save_heartbeat(heartbeat, now).await
    }
    async fn stream_state(&self, agent: &AgentId, epoch: Epoch) -> Result<StreamState, StoreError> {
        self.inner.stream_state(agent, epoch).await
    }
    async fn commit(
        &self,
        commits: Vec<Commit>,
        now: i64,
    ) -> Result<Vec<CommitOutcome>, StoreError> {
        self.guard()?;
        self.inner.commit(commits, now).await
    }
    async fn request_rewind(
        &self,
        agent: &AgentId,
        epoch: Epoch,
        attempt: u32,
    ) -> Result<(), StoreError> {
        self.inner.request_rewind(agent, epoch, attempt).await
    }
    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, StoreError> {
        self.inner.dead_letters(limit).await
    }
    async fn dead_letter(
        &self,
        agent: &AgentId,
        epoch: Epoch,
        seq: u64,
    ) -> Result<Option<DeadLetter>, StoreError> {
        self.inner.dead_letter(agent, epoch, seq).await
    }
    async fn streams(&self, agent: &AgentId, limit: u32) -> Result<Vec<AgentStream>, StoreError> {
        self.inner.streams(agent, limit).await
    }
    async fn ledger(
        &self,
        agent: &AgentId,
        epoch: Epoch,
        from: u64,
        limit: u32,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        self.inner.ledger(agent, epoch, from, limit).await
    }
    async fn brought(
        &self,
        agent: &AgentId,
        at: Position,
    ) -> Result<Option<TailBatch>, StoreError> {
        self.inner.brought(agent, at).await
    }
    async fn series(&self, selector: &Selector) -> Result<Vec<SeriesInfo>, StoreError> {
        self.inner.series(selector).await
    }
    async fn series_ids(&self, selector: &Selector) -> Result<Vec<u32>, StoreError> {
        self.inner.series_ids(selector).await
    }
    async fn metric_names(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.inner.metric_names(prefix).await
    }
    async fn samples(&self, series: &[u32], range: TimeRange) -> Result<Vec<Points>, StoreError> {
        self.histories.fetch_add(1, Ordering::SeqCst);
        self.inner.samples(series, range).await
    }
    async fn range(
        &self,
        selector: &Selector,
        range: TimeRange,
        step: Option<Step>,
    ) -> Result<Vec<SeriesRange>, StoreError> {
        self.inner.range(selector, range, step).await
    }
    async fn tail_end(&self) -> Result<TailPosition, StoreError> {
        self.inner.tail_end().await
    }
    async fn tail(&self, after: &TailPosition, limit: u32) -> Result<TailPage, StoreError> {
        self.inner.tail(after, limit).await
    }
    async fn known_series(&self, ids: &[u32]) -> Result<Vec<SeriesInfo>, StoreError> {
        self.inner.known_series(ids).await
    }
    async fn take_lease(
        &self,
        name: &str,
        holder: &str,
        lasts: Millis,
    ) -> Result<Option<Fence>, StoreError> {
        self.inner.take_lease(name, holder, lasts).await
    }
    async fn keep_lease(&self, fence: &Fence, lasts: Millis) -> Result<(), StoreError> {
        self.inner.keep_lease(fence, lasts).await
    }
    async fn release_lease(&self, fence: &Fence) -> Result<(), StoreError> {
        self.inner.release_lease(fence).await
    }
    async fn save_rules(&self, rules: &RuleSet) -> Result<(), StoreError> {
        self.inner.save_rules(rules).await
    }
    async fn rules(&self) -> Result<RuleSet, StoreError> {
        self.inner.rules().await
    }
    async fn rule_versions(&self, limit: u32) -> Result<Vec<RuleVersion>, StoreError> {
        self.inner.rule_versions(limit).await
    }
    async fn rules_of(&self, version: u64) -> Result<Option<RuleSet>, StoreError> {
        self.inner.rules_of(version).await
    }
    async fn save_alerting(&self, change: AlertingChange) -> Result<(), StoreError> {
        self.guard()?;
        let number = self.writes.fetch_add(1, Ordering::SeqCst);
        let ended = || StoreError::Unavailable("the process ended".to_owned());
        let Some(death) = self.death.filter(|death| number >= death.at) else {
            return self.inner.save_alerting(change).await;
        };
        if number > death.at {
            return if death.goes_on {
                self.inner.save_alerting(change).await
            } else {
                Err(ended())
            };
        }
        if death.is_kept {
            self.inner.save_alerting(change).await?;
        }
        self.happened.store(true, Ordering::SeqCst);
        Err(ended())
    }
    async fn tail_reaches(&self, position: &TailPosition) -> Result<bool, StoreError> {
        let left = |left: usize| Some(left.saturating_sub(1));
        let update = self.good_positions.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left);
        Ok(update != Ok(0) && self.inner.tail_reaches(position).await?)
    }
    async fn save_windows(&self, change: WindowChange) -> Result<(), StoreError> {
        self.guard()?;
        self.inner.save_windows(change).await
    }
    async fn windows(&self, from: u32) -> Result<Vec<WindowPart>, StoreError> {
        self.inner.windows(from).await
    }
    async fn evaluations(
        &self,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, Evaluation)>, StoreError> {
        self.inner.evaluations(after, limit).await
    }
    async fn alerts(&self, since: i64) -> Result<Vec<Alert>, StoreError> {
        self.inner.alerts(since).await
    }
    async fn history(&self, limit: u32) -> Result<Vec<Transition>, StoreError> {
        self.inner.history(limit).await
    }
    async fn notifications(
        &self,
        filter: NotificationFilter,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        let found = self.inner.notifications(filter, limit).await;
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _given = self.reads.read().await;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        found
    }
    async fn open_notifiers(&self) -> Result<Vec<SlotName>, StoreError> {
        self.inner.open_notifiers().await
    }
    async fn alert_groups(&self) -> Result<Vec<StoredGroup>, StoreError> {
        self.inner.alert_groups().await
    }
    async fn attempts(&self, notification: &str) -> Result<Vec<Attempt>, StoreError> {
        self.inner.attempts(notification).await
    }
    async fn act(&self, act: Act, now: i64) -> Result<(), StoreError> {
        self.guard()?;
        self.inner.act(act, now).await
    }
    async fn decisions(&self, known: Option<u64>) -> Result<Option<Decisions>, StoreError> {
        self.inner.decisions(known).await
    }
    async fn slot_state(&self, slot: &str) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        self.inner.slot_state(slot).await
    }
    async fn save_status(&self, name: &str, json: &str, now: i64) -> Result<(), StoreError> {
        self.inner.save_status(name, json, now).await
    }
    async fn statuses(&self) -> Result<Vec<(String, String, i64)>, StoreError> {
        self.inner.statuses().await
    }
    async fn save_fleet_set(&self, set: StoredSet) -> Result<(), StoreError> {
        self.inner.save_fleet_set(set).await
    }
    async fn fleet_sets(&self, limit: u32) -> Result<Vec<StoredSet>, StoreError> {
        self.inner.fleet_sets(limit).await
    }
    async fn fleet_set(&self, number: u64) -> Result<Option<StoredSet>, StoreError> {
        self.inner.fleet_set(number).await
    }
    async fn save_api_token(&self, token: ApiToken) -> Result<(), StoreError> {
        self.inner.save_api_token(token).await
    }
    async fn api_tokens(&self) -> Result<Vec<ApiToken>, StoreError> {
        self.inner.api_tokens().await
    }
    async fn api_token(&self, hash: &TokenHash) -> Result<Option<ApiToken>, StoreError> {
        self.inner.api_token(hash).await
    }
    async fn revoke_api_token(&self, id: &str) -> Result<bool, StoreError> {
        self.inner.revoke_api_token(id).await
    }
    async fn save_enrolment_token(
        &self,
        token: EnrolmentToken,
        now: i64,
    ) -> Result<(), StoreError> {
        self.inner.save_enrolment_token(token, now).await
    }
    async fn enrolment_tokens(&self, now: i64) -> Result<Vec<EnrolmentToken>, StoreError> {
        self.inner.enrolment_tokens(now).await
    }
    async fn spend_enrolment_token(
        &self,
        hash: TokenHash,
        claim: Claim,
        now: i64,
    ) -> Result<Spent, StoreError> {
        self.inner.spend_enrolment_token(hash, claim, now).await
    }
    async fn approve_enrolment_token(
        &self,
        id: &str,
        by: &str,
        now: i64,
        expires_at: i64,
    ) -> Result<bool, StoreError> {
        self.inner.approve_enrolment_token(id, by, now, expires_at).await
    }
    async fn revoke_enrolment_token(&self, id: &str) -> Result<bool, StoreError> {
        self.inner.revoke_enrolment_token(id).await
    }
    async fn begin_audit(&self, entry: NewAudit) -> Result<i64, StoreError> {
        self.inner.begin_audit(entry).await
    }
    async fn end_audit(&self, id: i64, outcome: &str) -> Result<(), StoreError> {
        self.inner.end_audit(id, outcome).await
    }
    async fn audit(&self, before: i64, limit: u32) -> Result<Vec<Audit>, StoreError> {
        self.inner.audit(before, limit).await
    }
    async fn maintain(&self, now: i64) -> Result<(Maintenance, bool), StoreError> {
        self.inner.maintain(now).await
    }
    fn describe(&self) -> String {
        self.inner.describe()
    }
    async fn sizes(&self) -> Result<Sizes, StoreError> {
        self.inner.sizes().await
    }
    async fn close(&self) -> Result<(), StoreError> {
        self.inner.close().await
    }
}
