//! Committing: a plan is made from what is known in memory, written as one transaction, and
//! only then taken over into memory. A plan that fails leaves nothing behind.

use super::Shared;
use super::script::{Script, transaction};
use crate::StoreError;
use crate::format::{Codec, batch};
use crate::ingest::{Commit, CommitOutcome, Content, StreamState};
use crate::samples::buckets::day_of;
use crate::samples::series::Pending;
use crate::samples::shapes::Shapes;
use crate::samples::tail::{Decoded, Entry, Shape, Times};
use hashbrown::HashMap;
use sentinel_model::batch::Batch;
use sentinel_model::ids::{AgentId, Epoch};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The most ledger rows or batches in one round trip.
const ROWS_A_SCRIPT: usize = 64;
/// The most new series in one statement.
const SERIES_A_STATEMENT: usize = 500;
/// The most streams remembered; beyond, all are forgotten and read again.
const MAX_STREAMS: usize = 100_000;

const SAMPLES: i64 = 0;
const SKIPPED: i64 = 1;
const DEAD: i64 = 2;

/// A stream as it is stored; `id` 0 where it is not.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stream {
    pub(super) id: i64,
    pub(super) state: StreamState,
}

/// Streams that were asked for.
pub(super) type Streams = HashMap<(AgentId, Epoch), Stream>;

/// The one connection that writes, and what only writers need.
pub(super) struct Writer {
    pub(super) conn: SqliteConnection,
    pub(super) shapes: Shapes,
    pub(super) codec: Codec,
    pub(super) next_batch: i64,
    pub(super) next_stream: i64,
}

struct LedgerRow {
    stream: i64,
    seq: u64,
    last: u64,
    rows: usize,
    state: i64,
    hash: [u8; 32],
}

struct Change {
    key: (AgentId, Epoch),
    stream: Stream,
    is_new: bool,
    from: u64,
}

struct NewBatch {
    agent: AgentId,
    batch: Arc<Batch>,
    blob: Vec<u8>,
    entry: Entry,
}

#[derive(Default)]
struct Plan {
    changes: Vec<Change>,
    ledger: Vec<LedgerRow>,
    batches: Vec<NewBatch>,
    dead: Vec<(i64, u64, Vec<u8>, String)>,
    pending: Pending,
}

impl Plan {
    /// The stream of a record as it will be after the records before it.
    fn stream(&mut self, key: (AgentId, Epoch), known: Stream, next: &mut i64) -> &mut Change {
        if let Some(at) = self.changes.iter().position(|c| c.key == key) {
            return &mut self.changes[at];
        }
        let (mut stream, is_new) = (known, known.id == 0);
        if is_new {
            stream.id = *next;
            *next += 1;
        }
        let from = stream.state.committed;
        self.changes.push(Change { key, stream, is_new, from });
        self.changes.last_mut().expect("one was pushed")
    }

    /// Streams of which something changed.
    fn advanced(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|c| c.stream.state.committed != c.from)
    }
}

impl Writer {
    /// The stored stream, from memory or from the database.
    pub(super) async fn load_stream(
        &mut self,
        shared: &Shared,
        key: &(AgentId, Epoch),
    ) -> Result<Stream, StoreError> {
        if let Some(&stream) = shared.streams.lock().get(key) {
            return Ok(stream);
        }
        let stream = read_stream(&mut self.conn, &key.0, key.1).await?;
        if stream.id != 0 {
            remember(shared, key.clone(), stream);
        }
        Ok(stream)
    }

    /// [`crate::Store::commit`].
    pub(super) async fn commit(
        &mut self,
        shared: &Shared,
        commits: Vec<Commit>,
        now: i64,
    ) -> Result<Vec<CommitOutcome>, StoreError> {
        let mut plan = Plan::default();
        let mut outcomes = Vec::with_capacity(commits.len());
        let mut next_stream = self.next_stream;
        for commit in commits {
            let key = (commit.agent.clone(), commit.epoch);
            let known = self.load_stream(shared, &key).await?;
            plan.stream(key, known, &mut next_stream);
            outcomes.push(self.plan_one(shared, &mut plan, commit, now).await?);
        }
        if plan.ledger.is_empty() {
            return Ok(outcomes);
        }
        let result = transaction(&mut self.conn, scripts(&plan, now)).await;
        if let Err(error) = result {
            // Whatever made it fail may have changed what is known.
            shared.streams.lock().clear();
            return Err(error);
        }
        self.next_stream = next_stream;
        self.next_batch += plan.batches.len() as i64;
        self.take_over(shared, plan, day_of(now));
        shared.last_batch.store(self.next_batch - 1, Ordering::Release);
        Ok(outcomes)
    }

    async fn plan_one(
        &mut self,
        shared: &Shared,
        plan: &mut Plan,
        commit: Commit,
        now: i64,
    ) -> Result<CommitOutcome, StoreError> {
        let key = (commit.agent.clone(), commit.epoch);
        let at = plan.changes.iter().position(|c| c.key == key).expect("it was looked up");
        let (stream, committed) =
            (plan.changes[at].stream.id, plan.changes[at].stream.state.committed);
        let last = match commit.content {
            Content::Skipped { to } => to,
            Content::Samples(_) | Content::Dead { .. } => commit.seq,
        };
        if last < commit.seq || i64::try_from(last).is_err() {
            return Ok(CommitOutcome::Contradiction);
        }
        if last <= committed {
            if matches!(commit.content, Content::Skipped { .. }) {
                return Ok(CommitOutcome::Duplicate);
            }
            return self.compare(plan, stream, commit.seq, &commit.hash).await;
        }
        if commit.seq > committed + 1 {
            return Ok(CommitOutcome::Gap { committed });
        }
        let seq = committed + 1;
        let mut row = LedgerRow { stream, seq, last, rows: 0, state: SKIPPED, hash: commit.hash };
        let mut series = Vec::new();
        match commit.content {
            Content::Skipped { .. } => {}
            Content::Dead { payload, reason } => {
                row.state = DEAD;
                plan.dead.push((stream, seq, payload, reason));
            }
            Content::Samples(batch) => {
                row.state = SAMPLES;
                row.rows = batch.len();
                if !batch.is_empty() {
                    series = self.plan_batch(shared, plan, commit.agent, stream, batch, now)?;
                }
            }
        }
        plan.ledger.push(row);
        plan.changes[at].stream.state.committed = last;
        Ok(CommitOutcome::Committed { series })
    }

    fn plan_batch(
        &mut self,
        shared: &Shared,
        plan: &mut Plan,
        agent: AgentId,
        stream: i64,
        batch: Arc<Batch>,
        now: i64,
    ) -> Result<Vec<u32>, StoreError> {
        let shape = match self.shapes.find(&agent, &batch) {
            Some(shape) => shape,
            None => Shape::new(shared.registry.read().resolve(&batch, &mut plan.pending)?),
        };
        let blob = batch::encode(&mut self.codec, &shape.encoded, &batch.time, &batch.value);
        let series = shape.ids.to_vec();
        let id = self.next_batch + plan.batches.len() as i64;
        let data =
            Decoded { times: Times::new(&batch.time), values: batch.value.as_slice().into() };
        let entry = Entry::new(id, stream, now, shape, data);
        plan.batches.push(NewBatch { agent, batch, blob, entry });
        Ok(series)
    }

    /// Whether a record that is committed was this one.
    async fn compare(
        &mut self,
        plan: &Plan,
        stream: i64,
        seq: u64,
        hash: &[u8; 32],
    ) -> Result<CommitOutcome, StoreError> {
        let planned =
            plan.ledger.iter().find(|r| r.stream == stream && r.seq <= seq && seq <= r.last);
        let same = match planned {
            Some(row) => row.state != SKIPPED && row.hash == *hash,
            None => {
                let sql = "SELECT last, state, hash FROM ledger WHERE stream = ? AND seq <= ? \
                           ORDER BY seq DESC LIMIT 1";
                let found = sqlx::query(sql).bind(stream).bind(seq as i64);
                match found.fetch_optional(&mut self.conn).await? {
                    Some(row) if row.try_get::<i64, _>(0)? >= seq as i64 => {
                        row.try_get::<i64, _>(1)? != SKIPPED
                            && row.try_get::<&[u8], _>(2)? == &hash[..]
                    }
                    // No longer in the ledger: nothing to compare with.
                    _ => true,
                }
            }
        };
        Ok(if same { CommitOutcome::Duplicate } else { CommitOutcome::Contradiction })
    }

    fn take_over(&mut self, shared: &Shared, mut plan: Plan, day: i64) {
        for change in plan.advanced() {
            remember(shared, change.key.clone(), change.stream);
        }
        let pending = std::mem::take(&mut plan.pending);
        if !pending.new.is_empty() || !pending.kinds.is_empty() {
            shared.registry.write().publish(pending, day);
        }
        let mut tail = shared.tail.write();
        for new in plan.batches {
            self.shapes.learn(&new.agent, &new.batch, &new.entry.shape);
            tail.push(&new.agent, new.entry);
        }
    }
}

pub(super) fn remember(shared: &Shared, key: (AgentId, Epoch), stream: Stream) {
    let mut streams = shared.streams.lock();
    if streams.len() >= MAX_STREAMS {
        streams.clear();
    }
    streams.insert(key, stream);
}

/// A stream from the database.
pub(super) async fn read_stream(
    conn: &mut SqliteConnection,
    agent: &AgentId,
    epoch: Epoch,
) -> Result<Stream, StoreError> {
    let sql = "SELECT id, committed, rewind_attempt FROM streams WHERE agent = ? AND epoch = ?";
    let query = sqlx::query(sql).bind(agent.as_str()).bind(epoch.0.to_vec());
    let Some(row) = query.fetch_optional(conn).await? else { return Ok(Stream::default()) };
    let state = StreamState {
        committed: row.try_get::<i64, _>(1)? as u64,
        rewind_attempt: row.try_get::<i64, _>(2)? as u32,
    };
    Ok(Stream { id: row.try_get(0)?, state })
}

fn scripts(plan: &Plan, now: i64) -> Vec<Script> {
    let mut out = vec![Script::new()];
    write_series(&plan.pending, day_of(now), &mut out[0]);
    for change in plan.advanced() {
        write_stream(plan, change, now, &mut out);
    }
    for (i, new) in plan.batches.iter().enumerate() {
        if i > 0 && i % ROWS_A_SCRIPT == 0 {
            out.push(Script::new());
        }
        out.last_mut()
            .expect("there is one")
            .sql("INSERT INTO batches (id, stream, committed_at, data) VALUES (?,?,?,?);")
            .bind(new.entry.id)
            .bind(new.entry.stream)
            .bind(now)
            .bind(new.blob.as_slice());
    }
    for (stream, seq, payload, reason) in &plan.dead {
        out.last_mut()
            .expect("there is one")
            .sql("INSERT INTO dead_letters (stream, seq, at, reason, payload) VALUES (?,?,?,?,?);")
            .bind(*stream)
            .bind(*seq as i64)
            .bind(now)
            .bind(reason.as_str())
            .bind(payload.as_slice());
    }
    out
}

fn write_series(pending: &Pending, day: i64, script: &mut Script) {
    for some in pending.new.chunks(SERIES_A_STATEMENT) {
        script.rows("INSERT INTO series (id, name, labels, kind, seen) VALUES", 5, some.len());
        for new in some {
            let labels = serde_json::to_string(&new.key.labels).expect("labels are texts");
            script.bind(new.id).bind(new.key.name.as_str()).bind(labels).bind(new.kind).bind(day);
        }
    }
    for (&id, &kind) in &pending.kinds {
        script.sql("UPDATE series SET kind = ? WHERE id = ?;").bind(kind).bind(id);
    }
}

/// The stream's new offset, which must follow the stored one, and its ledger rows. The first
/// row takes its state from whether the offset moved: NULL is refused, and with it everything.
fn write_stream(plan: &Plan, change: &Change, now: i64, out: &mut Vec<Script>) {
    let (id, state) = (change.stream.id, change.stream.state);
    let script = out.last_mut().expect("there is one");
    if change.is_new {
        script
            .sql(
                "INSERT INTO streams (id, agent, epoch, committed, rewind_attempt, last_commit) \
                 VALUES (?,?,?,?,?,?);",
            )
            .bind(id)
            .bind(change.key.0.as_str())
            .bind(change.key.1.0.to_vec())
            .bind(state.committed as i64)
            .bind(state.rewind_attempt)
            .bind(now);
    } else {
        script
            .sql(
                "UPDATE streams SET committed = ?, last_commit = ? WHERE id = ? AND committed = ?;",
            )
            .bind(state.committed as i64)
            .bind(now)
            .bind(id)
            .bind(change.from as i64);
    }
    for (i, row) in plan.ledger.iter().filter(|r| r.stream == id).enumerate() {
        if i > 0 && i % ROWS_A_SCRIPT == 0 {
            out.push(Script::new());
        }
        out.last_mut()
            .expect("there is one")
            .sql("INSERT INTO ledger (stream, seq, last, rows, state, hash) VALUES (?,?,?,?,")
            .sql(if i == 0 { "CASE changes() WHEN 1 THEN ? END,?);" } else { "?,?);" })
            .bind(row.stream)
            .bind(row.seq as i64)
            .bind(row.last as i64)
            .bind(row.rows as i64)
            .bind(row.state)
            .bind(&row.hash[..]);
    }
}
