//! All SQL lives here, behind [`Store`]: what the server and the workers keep, and what people
//! ask. One implementation an engine: SQLite in [`sqlite`], PostgreSQL in [`postgres`].
//!
//! Invariants: knows nothing of the network, plugins or rules' meaning; takes time as an
//! argument; whatever a method says it does, it does in one transaction.

pub mod access;
pub mod agents;
pub mod alerting;
mod error;
pub mod evaluations;
pub mod fleet;
pub mod format;
pub mod ingest;
mod kept;
pub mod lease;
pub mod postgres;
pub mod query;
pub mod rules;
mod samples;
pub mod sqlite;
pub mod tail;
mod upkeep;
pub mod windows;

use access::{ApiToken, Audit, EnrolmentToken, NewAudit, Spent, TokenHash};
use agents::{AgentRecord, AgentState, Claim, Enrolled, Heartbeat, NewAgent, WrappedKey};
use alerting::{Act, AlertingChange, Decisions, NotificationFilter, StoredGroup};
use async_trait::async_trait;
use evaluations::Evaluation;
use fleet::StoredSet;
use ingest::{AgentStream, Commit, CommitOutcome, DeadLetter, LedgerEntry, StreamState};
use lease::Fence;
use query::{Points, SeriesInfo, SeriesRange, Step, TimeRange};
use rules::RuleVersion;
use sentinel_model::alert::{Alert, Delivery, Transition};
use sentinel_model::attention::Attempt;
use sentinel_model::duration::Millis;
use sentinel_model::ids::{AgentId, Epoch, Position, SlotName};
use sentinel_model::rule::RuleSet;
use sentinel_model::series::Selector;
use std::collections::BTreeMap;
use tail::{TailBatch, TailPage, TailPosition};
pub use upkeep::{Maintenance, Sizes};
use windows::{WindowChange, WindowPart};

/// Why the store did not do what was asked. Nothing of it was done.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full: nothing is lost, since agents keep what is not committed.
    #[error("the disk under the database is full ({0}); free some space, work resumes by itself")]
    Full(String),
    /// The engine is busy or unreachable; the same call may succeed later.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// What is stored is not what was written.
    #[error(
        "the database is damaged: {what}; stop Sentinel, keep the file for a look, and restore a backup"
    )]
    Damaged {
        /// Where and how.
        what: String,
    },
    /// What was asked contradicts what is stored.
    #[error("{0}")]
    Conflict(String),
    /// A write came from somebody who does not have the lease any more.
    #[error(
        "another process has taken over what {lease:?} stands for; this one changes nothing any more"
    )]
    Fenced {
        /// The lease.
        lease: String,
    },
    /// A bound of the query is passed.
    #[error("{what}: {found} is more than the {max} that one query may touch; narrow it")]
    TooMuch {
        /// Series or points.
        what: &'static str,
        /// What was found.
        found: u64,
        /// The bound.
        max: u64,
    },
    /// A bug or an engine error that is none of the above.
    #[error("the database failed: {0}")]
    Engine(String),
}

/// What server and workers keep. Every method is atomic and durable when it returns.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    // ---- agents ----

    /// Enrols an agent. Of a known `hw_id` it is `Waiting` until [`Store::set_agent_state`]
    /// approves it. Under a taken agent id the enrolment waits as the agent's
    /// [`newcomer`](AgentRecord::newcomer), and the agent goes on with the keys that it has until
    /// then. The claim of the agent's newest key again changes nothing.
    async fn register_agent(&self, new: NewAgent, now: i64) -> Result<Enrolled, StoreError>;
    /// Approves, or blocks.
    async fn set_agent_state(
        &self,
        id: &AgentId,
        state: AgentState,
        now: i64,
    ) -> Result<(), StoreError>;
    /// One agent.
    async fn agent(&self, id: &AgentId) -> Result<Option<AgentRecord>, StoreError>;
    /// All agents by id.
    async fn agents(&self) -> Result<Vec<AgentRecord>, StoreError>;
    /// In the same order at most `limit` of those after an id, which need not be there; of all
    /// where it is `None`.
    async fn agents_after(
        &self,
        after: Option<&AgentId>,
        limit: u32,
    ) -> Result<Vec<AgentRecord>, StoreError>;
    /// Gives an approved agent a further key, which may sign at once; `newest` is the number of its
    /// newest key as the caller knows it. The number of the new one; `None` where the agent has
    /// another newest key by now, or an enrolment under its id waits.
    async fn add_agent_key(
        &self,
        id: &AgentId,
        newest: u32,
        wrapped: Vec<u8>,
        now: i64,
    ) -> Result<Option<u32>, StoreError>;
    /// Keys of an agent below a number may sign until then at the longest. How many this changed.
    async fn retire_agent_keys(
        &self,
        id: &AgentId,
        below: u32,
        until: i64,
    ) -> Result<u64, StoreError>;
    /// The keys of an agent that are given out, newest first; whether one may still sign, its
    /// `valid_until` says.
    async fn agent_keys(&self, id: &AgentId) -> Result<Vec<WrappedKey>, StoreError>;
    /// Keeps what an agent last said of itself.
    async fn save_heartbeat(&self, heartbeat: Heartbeat, now: i64) -> Result<(), StoreError>;

    // ---- ingest ----

    /// Where an agent's epoch stands; all zero where it is unknown.
    async fn stream_state(&self, agent: &AgentId, epoch: Epoch) -> Result<StreamState, StoreError>;
    /// The same of several, in their order: in one question where the engine is elsewhere.
    async fn stream_states(
        &self,
        streams: &[(AgentId, Epoch)],
    ) -> Result<Vec<StreamState>, StoreError> {
        let mut states = Vec::with_capacity(streams.len());
        for (agent, epoch) in streams {
            states.push(self.stream_state(agent, *epoch).await?);
        }
        Ok(states)
    }
    /// Commits records in their order, each strictly after the one before in its (agent,
    /// epoch), all in one transaction: batch blob, ledger row and committed offset together.
    /// One outcome each; a record that is out of order is refused without harm to the others.
    async fn commit(
        &self,
        commits: Vec<Commit>,
        now: i64,
    ) -> Result<Vec<CommitOutcome>, StoreError>;
    /// Asks the agent to send again from committed + 1 with at least this attempt.
    async fn request_rewind(
        &self,
        agent: &AgentId,
        epoch: Epoch,
        attempt: u32,
    ) -> Result<(), StoreError>;

    /// Records that could not be processed, newest first.
    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, StoreError>;
    /// One of them, while it is kept.
    async fn dead_letter(
        &self,
        agent: &AgentId,
        epoch: Epoch,
        seq: u64,
    ) -> Result<Option<DeadLetter>, StoreError>;
    /// Openings of an agent's log, the one that was last committed into first.
    async fn streams(&self, agent: &AgentId, limit: u32) -> Result<Vec<AgentStream>, StoreError>;
    /// Committed records of one with numbers from `from` on, in their order, as far as the ledger
    /// goes back.
    async fn ledger(
        &self,
        agent: &AgentId,
        epoch: Epoch,
        from: u64,
        limit: u32,
    ) -> Result<Vec<LedgerEntry>, StoreError>;
    /// The samples that a record brought, its rows in their order, while its batch lies in the tail whole: for
    /// [`tail::PACKED_AFTER_MS`] at least, mostly until its hour is packed. `None` where they are packed, or may be in
    /// part, and where the ledger has no such record, or it brought none.
    async fn brought(&self, agent: &AgentId, at: Position)
    -> Result<Option<TailBatch>, StoreError>;

    // ---- questions ----

    /// Series that match, at most 100,000.
    async fn series(&self, selector: &Selector) -> Result<Vec<SeriesInfo>, StoreError>;
    /// Their ids alone, ascending, within the same bound.
    async fn series_ids(&self, selector: &Selector) -> Result<Vec<u32>, StoreError>;
    /// Metric names that start with a prefix, sorted, at most 10,000.
    async fn metric_names(&self, prefix: &str) -> Result<Vec<String>, StoreError>;
    /// Samples of series in `start < time <= end`, tail and chunks as one, in order of time;
    /// of several samples of a series at one time the one committed last.
    async fn samples(&self, series: &[u32], range: TimeRange) -> Result<Vec<Points>, StoreError>;
    /// As [`Store::series`] and [`Store::samples`] together, reduced to at most one value a
    /// step (the last in it) where `step` is given; from rollups where raw samples are gone.
    async fn range(
        &self,
        selector: &Selector,
        range: TimeRange,
        step: Option<Step>,
    ) -> Result<Vec<SeriesRange>, StoreError>;

    // ---- what all workers commit ----

    /// The end of the tail: everything that is committed later comes after it.
    async fn tail_end(&self) -> Result<TailPosition, StoreError>;
    /// At most `limit` batches (at least 1) that were committed since, whoever did it.
    async fn tail(&self, after: &TailPosition, limit: u32) -> Result<TailPage, StoreError>;
    /// Whether all that was committed since is still in the tail; not so where some of it is packed, or where the
    /// position is none of this database.
    async fn tail_reaches(&self, position: &TailPosition) -> Result<bool, StoreError>;
    /// Writes parts of windows, all or none.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] as with [`Store::save_alerting`], [`StoreError::TooMuch`] where a part is too large.
    async fn save_windows(&self, change: WindowChange) -> Result<(), StoreError>;
    /// At most [`windows::PARTS_AT_ONCE`] parts from a number on, in order.
    async fn windows(&self, from: u32) -> Result<Vec<WindowPart>, StoreError>;
    /// Series by their ids; those that are gone are left out.
    async fn known_series(&self, ids: &[u32]) -> Result<Vec<SeriesInfo>, StoreError>;

    // ---- what one process has at a time ----

    /// Takes a lease that nobody has, or whose time is over, by the database's clock; `None` where somebody has it.
    async fn take_lease(
        &self,
        name: &str,
        holder: &str,
        lasts: Millis,
    ) -> Result<Option<Fence>, StoreError>;
    /// Keeps it for so long from now, also where its time is over and nobody has taken it.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] where somebody took it, or it was released.
    async fn keep_lease(&self, fence: &Fence, lasts: Millis) -> Result<(), StoreError>;
    /// Gives it up: whoever waits has it at once.
    ///
    /// # Errors
    /// As [`Store::keep_lease`].
    async fn release_lease(&self, fence: &Fence) -> Result<(), StoreError>;

    // ---- rules and alerts ----

    /// Replaces the rules; the version must be one more than the stored.
    async fn save_rules(&self, rules: &RuleSet) -> Result<(), StoreError>;
    /// The rules in force; version 0 and empty before the first.
    async fn rules(&self) -> Result<RuleSet, StoreError>;
    /// The versions that are kept (the last 100), the newest first, which is the one in force.
    async fn rule_versions(&self, limit: u32) -> Result<Vec<RuleVersion>, StoreError>;
    /// The rules of a version, while it is kept.
    async fn rules_of(&self, version: u64) -> Result<Option<RuleSet>, StoreError>;
    /// Writes what an evaluation or a delivery changed: alerts, history, notifications. A
    /// notification whose id is stored already stays as it is stored.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] where the change has a fence whose lease somebody else took:
    /// nothing of it is written.
    async fn save_alerting(&self, change: AlertingChange) -> Result<(), StoreError>;
    /// What rules were evaluated over, after an id, earliest first, each with its id; at most
    /// [`evaluations::MAX_EVALUATIONS`].
    async fn evaluations(
        &self,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, Evaluation)>, StoreError>;
    /// All alerts that are not ok, and those resolved after `since`.
    async fn alerts(&self, since: i64) -> Result<Vec<Alert>, StoreError>;
    /// Transitions, newest first.
    async fn history(&self, limit: u32) -> Result<Vec<Transition>, StoreError>;
    /// Notifications with their delivery, newest first; open ones oldest first.
    async fn notifications(
        &self,
        filter: NotificationFilter,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError>;
    /// The notifiers that have open notifications.
    async fn open_notifiers(&self) -> Result<Vec<SlotName>, StoreError>;
    /// What was told of which group of alerts, in order of keys.
    async fn alert_groups(&self) -> Result<Vec<StoredGroup>, StoreError>;
    /// Every attempt at a notification, earliest first.
    async fn attempts(&self, notification: &str) -> Result<Vec<Attempt>, StoreError>;
    /// Keeps what a person decided, and makes the revision of [`Store::decisions`] one more.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where it no longer fits what is stored: nothing is kept.
    async fn act(&self, act: Act, now: i64) -> Result<(), StoreError>;
    /// What people decided, where its revision is not `known`; `None` where it is.
    async fn decisions(&self, known: Option<u64>) -> Result<Option<Decisions>, StoreError>;

    // ---- plugins' state, and what roles say of themselves ----

    /// The `kv` state of a slot; what changes it is written with what it came of
    /// ([`AlertingChange::remembered`]).
    async fn slot_state(&self, slot: &str) -> Result<BTreeMap<String, Vec<u8>>, StoreError>;
    /// Keeps a role's own status (a worker's slots), JSON, under its name.
    async fn save_status(&self, name: &str, json: &str, now: i64) -> Result<(), StoreError>;
    /// All of them: name, JSON, time.
    async fn statuses(&self) -> Result<Vec<(String, String, i64)>, StoreError>;

    // ---- the fleet ----

    /// Keeps a desired set; its number must be one more than the newest.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where it is not: nothing is kept.
    async fn save_fleet_set(&self, set: StoredSet) -> Result<(), StoreError>;
    /// Desired sets, the newest first, which is the one in force.
    async fn fleet_sets(&self, limit: u32) -> Result<Vec<StoredSet>, StoreError>;
    /// The desired set of a number, if it was ever taken.
    ///
    /// # Errors
    /// A store that does not answer.
    async fn fleet_set(&self, number: u64) -> Result<Option<StoredSet>, StoreError>;

    // ---- who may call and enrol, and what was changed ----

    /// Keeps a token with which the API is called.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where its id is taken, or there are too many.
    async fn save_api_token(&self, token: ApiToken) -> Result<(), StoreError>;
    /// All of them, the oldest first; expired ones too.
    async fn api_tokens(&self) -> Result<Vec<ApiToken>, StoreError>;
    /// The one of a hash.
    async fn api_token(&self, hash: &TokenHash) -> Result<Option<ApiToken>, StoreError>;
    /// Removes one; whether it was there.
    async fn revoke_api_token(&self, id: &str) -> Result<bool, StoreError>;
    /// Keeps a token with which agents enrol; expired ones go. The same that waits again changes
    /// nothing.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where its id is taken, or there are too many.
    async fn save_enrolment_token(&self, token: EnrolmentToken, now: i64)
    -> Result<(), StoreError>;
    /// Those that have not expired, the oldest first.
    async fn enrolment_tokens(&self, now: i64) -> Result<Vec<EnrolmentToken>, StoreError>;
    /// Uses one for an enrolment: once, however often the same one is said.
    async fn spend_enrolment_token(
        &self,
        hash: TokenHash,
        claim: Claim,
        now: i64,
    ) -> Result<Spent, StoreError>;
    /// Has one that waits serve from now on, until another time; whether one waited.
    async fn approve_enrolment_token(
        &self,
        id: &str,
        by: &str,
        now: i64,
        expires_at: i64,
    ) -> Result<bool, StoreError>;
    /// Removes one; whether it was there.
    async fn revoke_enrolment_token(&self, id: &str) -> Result<bool, StoreError>;
    /// Writes down a change before it is made; its number.
    async fn begin_audit(&self, entry: NewAudit) -> Result<i64, StoreError>;
    /// Writes down what became of it, once.
    async fn end_audit(&self, id: i64, outcome: &str) -> Result<(), StoreError>;
    /// Changes with numbers before one, the newest first.
    async fn audit(&self, before: i64, limit: u32) -> Result<Vec<Audit>, StoreError>;

    // ---- upkeep ----

    /// Packs what is old enough, makes rollups, drops what retention no longer keeps. Call it
    /// every minute; a call does a bounded amount of work and says whether more is waiting.
    async fn maintain(&self, now: i64) -> Result<(Maintenance, bool), StoreError>;
    /// The engine with its version and what it offers, in a few words for people.
    fn describe(&self) -> String;
    /// Sizes.
    async fn sizes(&self) -> Result<Sizes, StoreError>;
    /// Writes everything to its place and closes; later calls fail.
    async fn close(&self) -> Result<(), StoreError>;
}
