//! Planning a commit: where its streams stand, which of its records are next, and the series of
//! their samples.
//!
//! What the database is asked for, and made to keep first, is asked for all records together:
//! when a thousand agents begin, a commit is full of streams, series and shapes that are new, and
//! a transaction for each of them would hold up the samples by many seconds.

use super::PostgresStore;
use super::commit::{Writer, made};
use super::failure::{Did, Failure};
use super::ledger::{add_streams, compare, read_streams};
use super::plan::{
    Change, DEAD, LedgerRow, NewBatch, Place, Plan, SAMPLES, SKIPPED, StreamKey, Unshaped, place,
};
use crate::ingest::{Commit, CommitOutcome, Content};
use crate::samples::tail::{Decoded, Times};
use sqlx::postgres::PgConnection;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The number of a stream's first record.
const FIRST: u64 = 1;

impl PostgresStore {
    /// Where the streams of these records stand. Those that are new and begin here have a row then.
    pub(super) async fn streams_of(
        &self,
        conn: &mut PgConnection,
        writer: &Writer,
        commits: &[Commit],
    ) -> Did<Vec<Change>> {
        // In one order, so that no two workers wait for each other's rows.
        let mut begins: BTreeMap<StreamKey, bool> = BTreeMap::new();
        for commit in commits {
            *begins.entry((commit.agent.clone(), commit.epoch)).or_default() |= commit.seq <= FIRST;
        }
        let absent: Vec<StreamKey> =
            begins.keys().filter(|key| !writer.streams.contains_key(*key)).cloned().collect();
        let mut found: BTreeMap<_, _> =
            absent.iter().cloned().zip(read_streams(conn, &absent).await?).collect();
        let new: Vec<StreamKey> =
            absent.into_iter().filter(|key| found[key].id == 0 && begins[key]).collect();
        if !new.is_empty() {
            add_streams(conn, &new).await?;
            let added = read_streams(conn, &new).await?;
            found.extend(new.into_iter().zip(added));
        }
        let change = |key: StreamKey| {
            let fresh = found.get(&key);
            let stream = fresh.or_else(|| writer.streams.get(&key)).copied().unwrap_or_default();
            let from = stream.state.committed;
            Change { key, id: stream.id, from, to: from, is_fresh: fresh.is_some() }
        };
        Ok(begins.into_keys().map(change).collect())
    }

    /// What becomes of one record, `number` among those of the commit.
    pub(super) async fn plan_one(
        &self,
        conn: &mut PgConnection,
        plan: &mut Plan,
        commit: &Commit,
        number: usize,
    ) -> Did<CommitOutcome> {
        let key = (commit.agent.clone(), commit.epoch);
        let at = plan.at(&key).ok_or(Failure::Moved)?;
        let mut found = place(commit, plan.changes[at].to);
        if found == Place::Gap && !plan.changes[at].is_fresh {
            // What is remembered may be behind what another worker has committed.
            let stored = read_streams(conn, std::slice::from_ref(&key)).await?;
            if stored.first().is_none_or(|one| one.state.committed != plan.changes[at].from) {
                return Err(Failure::Moved);
            }
            plan.changes[at].is_fresh = true;
            found = place(commit, plan.changes[at].to);
        }
        match found {
            Place::Done(verdict) => Ok(verdict.into()),
            Place::Gap => Ok(CommitOutcome::Gap { committed: plan.changes[at].to }),
            Place::Compare => {
                let stream = plan.changes[at].id;
                match plan.compare(stream, commit.seq, &commit.hash) {
                    Some(verdict) => Ok(verdict.into()),
                    None => compare(conn, stream, commit).await.map(CommitOutcome::from),
                }
            }
            // It went since it was read.
            Place::Next { .. } if plan.changes[at].id == 0 => Err(Failure::Moved),
            Place::Next { last } => Ok(plan_next(plan, (at, last), commit, number)),
        }
    }

    /// Finds the series of all samples that are planned, makes those that are new, and says which
    /// they are.
    pub(super) async fn give_shapes(
        &self,
        conn: &mut PgConnection,
        writer: &mut Writer,
        plan: &mut Plan,
        outcomes: &mut [CommitOutcome],
        day: i64,
    ) -> Did<()> {
        let unshaped = std::mem::take(&mut plan.unshaped);
        let known: Vec<_> =
            unshaped.iter().map(|one| writer.shapes.find(&one.agent, &one.batch)).collect();
        let unknown = unshaped.iter().zip(&known).filter(|(_, shape)| shape.is_none());
        let unknown: Vec<_> = unknown.map(|(one, _)| &*one.batch).collect();
        let mut found = self.shapes_of(conn, &unknown, day).await?.into_iter();
        for (one, known) in unshaped.into_iter().zip(known) {
            let Some(shape) = known.or_else(|| found.next()) else { return Err(Failure::Moved) };
            let outcome = CommitOutcome::Committed { series: shape.ids.to_vec() };
            plan.made[one.made].outcome = outcome.clone();
            outcomes[one.number] = outcome;
            let times = Times::new(&one.batch.time);
            let data = Arc::new(Decoded { times, values: one.batch.value.as_slice().into() });
            let Unshaped { agent, stream, batch, .. } = one;
            plan.batches.push(NewBatch { agent, stream, batch, shape, data });
        }
        Ok(())
    }
}

/// Plans a record that is next. The series of its samples are found when all are planned.
fn plan_next(
    plan: &mut Plan,
    (at, last): (usize, u64),
    commit: &Commit,
    number: usize,
) -> CommitOutcome {
    let (stream, seq) = (plan.changes[at].id, plan.changes[at].to + 1);
    let mut row = LedgerRow { stream, seq, last, rows: 0, state: SKIPPED, hash: commit.hash };
    match &commit.content {
        Content::Skipped { .. } => {}
        Content::Dead { payload, reason } => {
            row.state = DEAD;
            plan.dead.push((stream, seq, payload.clone(), reason.clone()));
        }
        Content::Samples(batch) => {
            row.state = SAMPLES;
            row.rows = batch.len();
            if !batch.is_empty() {
                let (agent, batch) = (commit.agent.clone(), Arc::clone(batch));
                let made = plan.made.len();
                plan.unshaped.push(Unshaped { agent, stream, batch, number, made });
            }
        }
    }
    plan.ledger.push(row);
    plan.changes[at].to = last;
    let outcome = CommitOutcome::Committed { series: Vec::new() };
    plan.made.push(made(commit, outcome.clone()));
    outcome
}
