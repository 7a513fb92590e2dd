//! Committing: planned from what is stored, written in one transaction, and only then told.
//!
//! A connection that is lost while a transaction commits leaves open whether it did. The ledger
//! decides: its rows carry the token of their commit, so the next attempt finds them or not.

use super::failure::{Again, Did, Failure, pauses};
use super::ledger;
use super::open::for_commits;
use super::plan::{Made, Plan, Stream, StreamKey};
use super::{PostgresStore, closed, text};
use crate::StoreError;
use crate::ingest::{Commit, CommitOutcome, StreamState};
use crate::samples::buckets::{bucket, day_of};
use crate::samples::shapes::Shapes;
use hashbrown::HashMap;
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Connection};
use std::hash::{BuildHasher, RandomState};

/// The most streams remembered; beyond, all are forgotten and read again.
const MAX_STREAMS: usize = 100_000;
/// The most outcomes remembered of commits that nobody could be told of.
const MAX_MADE: usize = 10_000;

/// The connection that commits, and what only commits need.
pub(super) struct Writer {
    conn: Option<PgConnection>,
    pub(super) shapes: Shapes,
    pub(super) streams: HashMap<StreamKey, Stream>,
    /// A commit of which it is not known whether it was made.
    doubt: Option<(i64, Plan)>,
    /// What such commits made, until it is asked for again.
    made: Vec<Made>,
}

impl Writer {
    pub(super) fn new(shape_bytes: usize) -> Self {
        Self {
            conn: None,
            shapes: Shapes::new(shape_bytes),
            streams: HashMap::new(),
            doubt: None,
            made: Vec::new(),
        }
    }

    pub(super) async fn close(self) {
        if let Some(conn) = self.conn {
            let _ = conn.close().await;
        }
    }

    fn remember(&mut self, key: StreamKey, stream: Stream) {
        if self.streams.len() >= MAX_STREAMS {
            self.streams.clear();
        }
        self.streams.insert(key, stream);
    }

    fn take_made(&mut self, commit: &Commit) -> Option<CommitOutcome> {
        let is_this = |made: &Made| {
            (&made.key.0, made.key.1, made.seq, &made.hash)
                == (&commit.agent, commit.epoch, commit.seq, &commit.hash)
        };
        let at = self.made.iter().position(is_this)?;
        Some(self.made.swap_remove(at).outcome)
    }
}

impl PostgresStore {
    /// [`crate::Store::commit`], to its end even if the caller gives up.
    pub(super) async fn do_commit(
        &self,
        commits: Vec<Commit>,
        now: i64,
    ) -> Result<Vec<CommitOutcome>, StoreError> {
        let store = self.clone();
        let task = tokio::spawn(async move {
            let mut writer = store.0.writer.lock().await;
            let writer = writer.as_mut().ok_or_else(closed)?;
            let mut pauses = pauses();
            loop {
                let failure = match store.attempt(writer, &commits, now).await {
                    Ok(outcomes) => return Ok(outcomes),
                    Err(failure) => failure,
                };
                let may_pass = store.recover(writer, &failure);
                match pauses.next() {
                    Some(pause) if may_pass => tokio::time::sleep(pause).await,
                    _ => return Err(failure.into()),
                }
                tracing::debug!(?failure, "committed again");
            }
        });
        task.await.map_err(|e| StoreError::Engine(e.to_string()))?
    }

    /// Forgets what a failure may have made wrong; whether another attempt may go better.
    fn recover(&self, writer: &mut Writer, failure: &Failure) -> bool {
        writer.streams.clear();
        if failure.is_lost() {
            writer.conn = None;
        }
        if failure.is_stale_reference() {
            writer.shapes.clear();
        }
        if failure.is_without_partition() {
            self.0.hours.lock().clear();
        }
        failure.may_pass(Again::Whenever)
            || failure.is_stale_reference()
            || failure.is_without_partition()
            || failure.is_taken()
    }

    async fn attempt(
        &self,
        writer: &mut Writer,
        commits: &[Commit],
        now: i64,
    ) -> Did<Vec<CommitOutcome>> {
        let mut conn = match writer.conn.take() {
            Some(conn) => conn,
            None => for_commits(&self.0.connect).connect().await?,
        };
        let done = self.attempt_with(&mut conn, writer, commits, now).await;
        // A connection on which something failed may have a transaction open.
        if done.is_ok() {
            writer.conn = Some(conn);
        }
        done
    }

    async fn attempt_with(
        &self,
        conn: &mut PgConnection,
        writer: &mut Writer,
        commits: &[Commit],
        now: i64,
    ) -> Did<Vec<CommitOutcome>> {
        self.resolve_doubt(conn, writer).await?;
        let mut plan =
            Plan { changes: self.streams_of(conn, writer, commits).await?, ..Plan::default() };
        let mut outcomes = Vec::with_capacity(commits.len());
        let mut told = Vec::new();
        for commit in commits {
            let outcome = match writer.take_made(commit) {
                Some(outcome) => {
                    told.push(made(commit, outcome.clone()));
                    outcome
                }
                None => self.plan_one(conn, &mut plan, commit, outcomes.len()).await?,
            };
            outcomes.push(outcome);
        }
        self.give_shapes(conn, writer, &mut plan, &mut outcomes, day_of(now)).await?;
        let written = self.write(conn, writer, plan, now).await;
        if written.is_err() {
            // They are asked for again with the rest.
            writer.made.append(&mut told);
        }
        written.map(|()| outcomes)
    }

    /// Finds out whether the commit in doubt was made.
    async fn resolve_doubt(&self, conn: &mut PgConnection, writer: &mut Writer) -> Did<()> {
        let Some((token, plan)) = &writer.doubt else { return Ok(()) };
        let Some(row) = plan.ledger.first() else { return Ok(()) };
        let sql = "SELECT token FROM ledger WHERE stream = $1 AND seq = $2";
        let query = sqlx::query_scalar(sql).bind(row.stream).bind(row.seq as i64);
        let found: Option<i64> = query.fetch_optional(conn).await?;
        let was_made = found == Some(*token);
        if let Some((_, plan)) = writer.doubt.take()
            && was_made
        {
            tracing::info!("the connection was lost after a commit was made");
            writer.made.extend(plan.made);
            let over = writer.made.len().saturating_sub(MAX_MADE);
            writer.made.drain(..over);
        }
        Ok(())
    }

    async fn write(
        &self,
        conn: &mut PgConnection,
        writer: &mut Writer,
        plan: Plan,
        now: i64,
    ) -> Did<()> {
        if plan.ledger.is_empty() {
            return Ok(());
        }
        let hour = bucket(now);
        if !plan.batches.is_empty() {
            self.ensure_hour(conn, hour).await?;
        }
        let token = RandomState::new().hash_one(now) as i64;
        let mut tx = conn.begin().await?;
        let ids = ledger::write(&mut tx, &plan, (token, hour, now)).await?;
        for (stream, seq, payload, reason) in &plan.dead {
            let sql = "INSERT INTO dead_letters (stream, seq, at, reason, payload) \
                       VALUES ($1, $2, $3, $4, $5)";
            let query = sqlx::query(sql).bind(stream).bind(*seq as i64).bind(now);
            query.bind(text::kept(reason)).bind(payload).execute(&mut *tx).await?;
        }
        writer.doubt = Some((token, plan));
        tx.commit().await?;
        if let Some((_, plan)) = writer.doubt.take() {
            self.take_over(writer, plan, &ids);
        }
        Ok(())
    }

    /// Takes what is committed into memory.
    fn take_over(&self, writer: &mut Writer, plan: Plan, ids: &[i64]) {
        for change in plan.moved() {
            let state = StreamState { committed: change.to, rewind_attempt: 0 };
            writer.remember(change.key.clone(), Stream { id: change.id, state });
        }
        let mut cache = self.0.cache.lock();
        for (new, &id) in plan.batches.into_iter().zip(ids) {
            writer.shapes.learn(&new.agent, &new.batch, &new.shape);
            if let Some(&row) = new.shape.row.get() {
                cache.put((id, row), new.data);
            }
        }
    }
}

pub(super) fn made(commit: &Commit, outcome: CommitOutcome) -> Made {
    let key = (commit.agent.clone(), commit.epoch);
    Made { key, seq: commit.seq, hash: commit.hash, outcome }
}

impl PostgresStore {
    /// [`crate::Store::request_rewind`].
    pub(super) async fn rewind(&self, key: StreamKey, attempt: u32) -> Result<(), StoreError> {
        let (store, key) = (self, &key);
        super::failure::retried(Again::Whenever, || async move {
            let sql = "INSERT INTO streams (agent, epoch, committed, rewind_attempt, last_commit) \
                       VALUES ($1, $2, 0, $3, 0) ON CONFLICT (agent, epoch) DO UPDATE SET \
                       rewind_attempt = greatest(streams.rewind_attempt, excluded.rewind_attempt)";
            let query = sqlx::query(sql).bind(key.0.as_str()).bind(&key.1.0[..]);
            query.bind(i64::from(attempt)).execute(&store.0.pool).await?;
            Ok(())
        })
        .await
    }
}
