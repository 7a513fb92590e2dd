//! [`Store`] by SQLite: each method is one call of the module that knows how.

use super::commit::read_stream;
use super::{SqliteStore, closed};
use crate::access::{ApiToken, Audit, EnrolmentToken, NewAudit, Spent, TokenHash};
use crate::agents::{AgentRecord, AgentState, Claim, Enrolled, Heartbeat, NewAgent, WrappedKey};
use crate::alerting::{Act, AlertingChange, Decisions, NotificationFilter, StoredGroup};
use crate::evaluations::Evaluation;
use crate::fleet::StoredSet;
use crate::ingest::{AgentStream, Commit, CommitOutcome, DeadLetter, LedgerEntry, StreamState};
use crate::lease::Fence;
use crate::query::{Points, SeriesInfo, SeriesRange, Step, TimeRange};
use crate::rules::RuleVersion;
use crate::tail::{TailBatch, TailPage, TailPosition};
use crate::windows::{WindowChange, WindowPart};
use crate::{Maintenance, Sizes, Store, StoreError};
use async_trait::async_trait;
use sentinel_model::alert::{Alert, Delivery, Transition};
use sentinel_model::attention::Attempt;
use sentinel_model::duration::Millis;
use sentinel_model::ids::{AgentId, Epoch, Position, SlotName};
use sentinel_model::rule::RuleSet;
use sentinel_model::series::Selector;
use sqlx::{Connection, Executor};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

#[async_trait]
impl Store for SqliteStore {
    async fn register_agent(&self, new: NewAgent, now: i64) -> Result<Enrolled, StoreError> {
        self.do_register(new, now).await
    }

    async fn set_agent_state(
        &self,
        id: &AgentId,
        state: AgentState,
        _now: i64,
    ) -> Result<(), StoreError> {
        self.do_set_agent_state(id, state).await
    }

    async fn agent(&self, id: &AgentId) -> Result<Option<AgentRecord>, StoreError> {
        self.find_agent(id).await
    }

    async fn agents(&self) -> Result<Vec<AgentRecord>, StoreError> {
        self.all_agents().await
    }

    async fn agents_after(
        &self,
        after: Option<&AgentId>,
        limit: u32,
    ) -> Result<Vec<AgentRecord>, StoreError> {
        self.next_agents(after, limit).await
    }

    async fn add_agent_key(
        &self,
        id: &AgentId,
        newest: u32,
        wrapped: Vec<u8>,
        now: i64,
    ) -> Result<Option<u32>, StoreError> {
        self.do_add_agent_key(id, newest, wrapped, now).await
    }

    async fn retire_agent_keys(
        &self,
        id: &AgentId,
        below: u32,
        until: i64,
    ) -> Result<u64, StoreError> {
        self.do_retire_agent_keys(id, below, until).await
    }

    async fn agent_keys(&self, id: &AgentId) -> Result<Vec<WrappedKey>, StoreError> {
        self.keys_of(id).await
    }

    async fn save_heartbeat(&self, heartbeat: Heartbeat, now: i64) -> Result<(), StoreError> {
        self.heartbeat(heartbeat, now).await
    }

    async fn stream_state(&self, agent: &AgentId, epoch: Epoch) -> Result<StreamState, StoreError> {
        self.still_open()?;
        let known = self.0.streams.lock().get(&(agent.clone(), epoch)).copied();
        if let Some(stream) = known {
            return Ok(stream.state);
        }
        let mut conn = self.0.pool.acquire().await?;
        Ok(read_stream(&mut conn, agent, epoch).await?.state)
    }

    async fn commit(
        &self,
        commits: Vec<Commit>,
        now: i64,
    ) -> Result<Vec<CommitOutcome>, StoreError> {
        self.write(move |shared, writer| Box::pin(writer.commit(shared, commits, now))).await
    }

    async fn request_rewind(
        &self,
        agent: &AgentId,
        epoch: Epoch,
        attempt: u32,
    ) -> Result<(), StoreError> {
        let key = (agent.clone(), epoch);
        self.write(move |shared, writer| {
            Box::pin(async move { writer.request_rewind(shared, key, attempt).await })
        })
        .await
    }

    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, StoreError> {
        self.read_dead_letters(limit).await
    }

    async fn dead_letter(
        &self,
        agent: &AgentId,
        epoch: Epoch,
        seq: u64,
    ) -> Result<Option<DeadLetter>, StoreError> {
        self.read_dead_letter(agent, epoch, seq).await
    }

    async fn streams(&self, agent: &AgentId, limit: u32) -> Result<Vec<AgentStream>, StoreError> {
        self.read_streams(agent, limit).await
    }

    async fn ledger(
        &self,
        agent: &AgentId,
        epoch: Epoch,
        from: u64,
        limit: u32,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        self.read_ledger(agent, epoch, from, limit).await
    }

    async fn brought(
        &self,
        agent: &AgentId,
        at: Position,
    ) -> Result<Option<TailBatch>, StoreError> {
        self.read_brought(agent, at).await
    }

    async fn series(&self, selector: &Selector) -> Result<Vec<SeriesInfo>, StoreError> {
        self.select(selector)
    }

    async fn series_ids(&self, selector: &Selector) -> Result<Vec<u32>, StoreError> {
        self.select_ids(selector)
    }

    async fn metric_names(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.still_open()?;
        Ok(self.0.registry.read().names(prefix))
    }

    async fn samples(&self, series: &[u32], range: TimeRange) -> Result<Vec<Points>, StoreError> {
        self.read_samples(series, range).await
    }

    async fn range(
        &self,
        selector: &Selector,
        range: TimeRange,
        step: Option<Step>,
    ) -> Result<Vec<SeriesRange>, StoreError> {
        self.read_range(selector, range, step).await
    }

    async fn tail_end(&self) -> Result<TailPosition, StoreError> {
        self.end_of_tail().await
    }

    async fn tail(&self, after: &TailPosition, limit: u32) -> Result<TailPage, StoreError> {
        self.read_tail(after, limit.max(1)).await
    }

    async fn tail_reaches(&self, position: &TailPosition) -> Result<bool, StoreError> {
        self.reaches(position).await
    }

    async fn save_windows(&self, change: WindowChange) -> Result<(), StoreError> {
        self.write_windows(change).await
    }

    async fn windows(&self, from: u32) -> Result<Vec<WindowPart>, StoreError> {
        self.read_windows(from).await
    }

    async fn known_series(&self, ids: &[u32]) -> Result<Vec<SeriesInfo>, StoreError> {
        self.find_series(ids)
    }

    async fn take_lease(
        &self,
        name: &str,
        holder: &str,
        lasts: Millis,
    ) -> Result<Option<Fence>, StoreError> {
        self.take(name, holder, lasts).await
    }

    async fn keep_lease(&self, fence: &Fence, lasts: Millis) -> Result<(), StoreError> {
        self.keep_taken(fence, lasts).await
    }

    async fn release_lease(&self, fence: &Fence) -> Result<(), StoreError> {
        self.release(fence).await
    }

    async fn save_rules(&self, rules: &RuleSet) -> Result<(), StoreError> {
        self.write_rules(rules).await
    }

    async fn rules(&self) -> Result<RuleSet, StoreError> {
        self.read_rules().await
    }

    async fn rule_versions(&self, limit: u32) -> Result<Vec<RuleVersion>, StoreError> {
        self.newest_versions(limit).await
    }

    async fn rules_of(&self, version: u64) -> Result<Option<RuleSet>, StoreError> {
        self.version_of(version).await
    }

    async fn save_alerting(&self, change: AlertingChange) -> Result<(), StoreError> {
        self.write_alerting(change).await
    }

    async fn evaluations(
        &self,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, Evaluation)>, StoreError> {
        self.read_evaluations(after, limit).await
    }

    async fn alerts(&self, since: i64) -> Result<Vec<Alert>, StoreError> {
        self.read_alerts(since).await
    }

    async fn history(&self, limit: u32) -> Result<Vec<Transition>, StoreError> {
        self.read_history(limit).await
    }

    async fn notifications(
        &self,
        filter: NotificationFilter,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        self.read_notifications(filter, limit).await
    }

    async fn open_notifiers(&self) -> Result<Vec<SlotName>, StoreError> {
        self.read_open_notifiers().await
    }

    async fn alert_groups(&self) -> Result<Vec<StoredGroup>, StoreError> {
        self.read_groups().await
    }

    async fn attempts(&self, notification: &str) -> Result<Vec<Attempt>, StoreError> {
        self.read_attempts(notification).await
    }

    async fn act(&self, act: Act, now: i64) -> Result<(), StoreError> {
        self.keep_act(act, now).await
    }

    async fn decisions(&self, known: Option<u64>) -> Result<Option<Decisions>, StoreError> {
        self.read_decisions(known).await
    }

    async fn slot_state(&self, slot: &str) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        self.read_slot(slot).await
    }

    async fn save_status(&self, name: &str, json: &str, now: i64) -> Result<(), StoreError> {
        self.write_status(name, json, now).await
    }

    async fn statuses(&self) -> Result<Vec<(String, String, i64)>, StoreError> {
        self.read_statuses().await
    }

    async fn save_fleet_set(&self, set: StoredSet) -> Result<(), StoreError> {
        self.keep_set(set).await
    }

    async fn fleet_sets(&self, limit: u32) -> Result<Vec<StoredSet>, StoreError> {
        self.newest_sets(limit).await
    }

    async fn fleet_set(&self, number: u64) -> Result<Option<StoredSet>, StoreError> {
        self.set_of(number).await
    }

    async fn save_api_token(&self, token: ApiToken) -> Result<(), StoreError> {
        self.keep_api_token(token).await
    }

    async fn api_tokens(&self) -> Result<Vec<ApiToken>, StoreError> {
        self.all_api_tokens().await
    }

    async fn api_token(&self, hash: &TokenHash) -> Result<Option<ApiToken>, StoreError> {
        self.api_token_of(hash).await
    }

    async fn revoke_api_token(&self, id: &str) -> Result<bool, StoreError> {
        self.drop_token("api_tokens", id).await
    }

    async fn save_enrolment_token(
        &self,
        token: EnrolmentToken,
        now: i64,
    ) -> Result<(), StoreError> {
        self.keep_enrolment_token(token, now).await
    }

    async fn enrolment_tokens(&self, now: i64) -> Result<Vec<EnrolmentToken>, StoreError> {
        self.open_enrolment_tokens(now).await
    }

    async fn spend_enrolment_token(
        &self,
        hash: TokenHash,
        claim: Claim,
        now: i64,
    ) -> Result<Spent, StoreError> {
        self.spend_token(hash, claim, now).await
    }

    async fn approve_enrolment_token(
        &self,
        id: &str,
        by: &str,
        now: i64,
        expires_at: i64,
    ) -> Result<bool, StoreError> {
        self.approve_token(id, by, now, expires_at).await
    }

    async fn revoke_enrolment_token(&self, id: &str) -> Result<bool, StoreError> {
        self.drop_token("enrolment_tokens", id).await
    }

    async fn begin_audit(&self, entry: NewAudit) -> Result<i64, StoreError> {
        self.write_down(entry).await
    }

    async fn end_audit(&self, id: i64, outcome: &str) -> Result<(), StoreError> {
        self.write_outcome(id, outcome).await
    }

    async fn audit(&self, before: i64, limit: u32) -> Result<Vec<Audit>, StoreError> {
        self.read_audit(before, limit).await
    }

    async fn maintain(&self, now: i64) -> Result<(Maintenance, bool), StoreError> {
        self.upkeep(now).await
    }

    fn describe(&self) -> String {
        format!("SQLite in {}", self.0.path.display())
    }

    async fn sizes(&self) -> Result<Sizes, StoreError> {
        self.still_open()?;
        let size = |suffix: &str| {
            let mut name = self.0.path.as_os_str().to_owned();
            name.push(suffix);
            std::fs::metadata(name).map_or(0, |m| m.len())
        };
        let mut conn = self.0.pool.acquire().await?;
        let free = super::open::number(&mut conn, "PRAGMA freelist_count").await?;
        let page = super::open::number(&mut conn, "PRAGMA page_size").await?;
        Ok(Sizes {
            bytes: size("") + size("-wal"),
            free_bytes: (free * page) as u64,
            series: self.0.registry.read().len() as u64,
            tail_samples: self.0.tail.read().samples() as u64,
            packed_samples: self.0.packed_samples.load(Ordering::Acquire).max(0) as u64,
        })
    }

    async fn close(&self) -> Result<(), StoreError> {
        let mut upkeep = self.0.upkeep.lock().await;
        let mut writer = self.0.writer.lock().await.take().ok_or_else(closed)?;
        self.0.pool.close().await;
        if let Some(conn) = upkeep.close() {
            conn.close().await?;
        }
        writer.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").await?;
        writer.conn.close().await?;
        self.0.lock.lock().take();
        Ok(())
    }
}
