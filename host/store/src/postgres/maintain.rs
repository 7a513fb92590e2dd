//! Upkeep: packing and retention, a bounded amount of each a call, by one process at a time.

use super::PostgresStore;
use super::failure::{Again, Did, retried};
use crate::samples::buckets::bucket;
use crate::samples::pick::cutoff;
use crate::samples::tail::Tail;
use crate::{Maintenance, StoreError};
use hashbrown::HashMap;
use sentinel_model::ids::AgentId;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};
use std::future::Future;
use std::pin::Pin;

/// A call begins no further round once it has packed so many samples.
const MAX_PACKED: u64 = 16 << 20;
/// Held by the process that keeps the database; others pass it over meanwhile.
const LOCK: i64 = 0x53_454e_5449_0002;
/// That lock's transaction says nothing while a call works, and locks nothing else: PostgreSQL waits so long for its
/// end, in milliseconds. Work that takes longer loses the lock, and nothing with it.
const GUARDED_IDLE_MS: &str = "240000";

/// What upkeep remembers between calls.
#[derive(Default)]
pub(super) struct Upkeep {
    /// By stream: up to where its ledger is cut.
    pub(super) trimmed: HashMap<i64, u64>,
    /// The hour in which history was last cut.
    pub(super) cut_at: Option<i64>,
    /// The hour in which all was swept that could be.
    pub(super) swept_at: Option<i64>,
}

impl PostgresStore {
    pub(super) async fn upkeep(&self, now: i64) -> Result<(Maintenance, bool), StoreError> {
        self.still_open()?;
        let mut upkeep = self.0.upkeep.lock().await;
        // The transaction only holds the lock: what is done has transactions of its own, which
        // see to it that nothing was done by somebody else.
        let mut guard = self.0.pool.acquire().await?;
        let mut guard = guard.begin().await?;
        let sql = "SELECT pg_try_advisory_xact_lock($1), \
                   set_config('idle_in_transaction_session_timeout', $2, true)";
        let query = sqlx::query(sql).bind(LOCK).bind(GUARDED_IDLE_MS);
        if !query.fetch_one(&mut *guard).await?.try_get::<bool, _>(0)? {
            return Ok((Maintenance::default(), false));
        }
        let mut conn = self.0.pool.acquire().await?;
        let done = self.keep(&mut conn, &mut upkeep, now).await;
        if done.is_err() {
            // It may be in the middle of a transaction or of a COPY.
            let _ = conn.detach().close_hard().await;
        }
        // Where it is lost, the lock was lost with it, and nothing else.
        let _ = guard.rollback().await;
        done.map_err(StoreError::from)
    }

    async fn keep(
        &self,
        conn: &mut PgConnection,
        upkeep: &mut Upkeep,
        now: i64,
    ) -> Did<(Maintenance, bool)> {
        let (mut done, mut more) = (Maintenance::default(), false);
        self.refresh_with(conn).await?;
        self.set_floors(conn, now, &mut done).await?;
        let cutoff = cutoff(now);
        let sql = "SELECT EXISTS (SELECT 1 FROM batches WHERE last < $1) \
                   OR EXISTS (SELECT 1 FROM batches WHERE hour <= $2 AND committed_at < $1)";
        let query = sqlx::query_scalar(sql).bind(cutoff).bind(bucket(cutoff));
        if query.fetch_one(&mut *conn).await? {
            more |= self.pack_due(conn, cutoff, now, &mut done).await?;
            self.drop_packed(conn, bucket(now)).await?;
        }
        self.retain(conn, upkeep, now, &mut done).await?;
        more |= self.sweep(conn, upkeep, now, &mut done).await?;
        Ok((done, more))
    }

    async fn pack_due(
        &self,
        conn: &mut PgConnection,
        cutoff: i64,
        now: i64,
        done: &mut Maintenance,
    ) -> Did<bool> {
        let mut tail = Tail::new(usize::MAX);
        for one in self.list(conn).await? {
            let agent = AgentId::new(&one.agent).map_err(|e| StoreError::Damaged {
                what: format!("the agent of batch {}: {e}", one.entry.id),
            })?;
            tail.push(&agent, one.entry);
        }
        let mut more = false;
        for unit in tail.due(cutoff) {
            if done.samples_packed >= MAX_PACKED {
                return Ok(true);
            }
            more |= self.pack(conn, tail.batches(&unit), cutoff, now, done).await?;
        }
        Ok(more)
    }

    /// Does a step on a connection of its own, again after what passes.
    pub(super) async fn step<T: Send>(
        &self,
        again: Again,
        run: impl for<'a> Fn(&'a mut PgConnection) -> Pin<Box<dyn Future<Output = Did<T>> + Send + 'a>>
        + Send
        + Sync,
    ) -> Result<T, StoreError> {
        self.still_open()?;
        retried(again, || async {
            let mut conn = self.0.pool.acquire().await?;
            let mut tx = conn.begin().await?;
            let done = run(&mut tx).await?;
            tx.commit().await?;
            Ok(done)
        })
        .await
    }
}
