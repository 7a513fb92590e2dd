//! Upkeep: packing, retention, and moving the write-ahead log to its place, a bounded amount
//! of each a call.

use super::SqliteStore;
use crate::samples::pick::cutoff;
use crate::{Maintenance, StoreError};
use hashbrown::HashMap;
use sqlx::Executor;
use sqlx::sqlite::SqliteConnection;

/// A call begins no further round once it has packed so many samples.
const MAX_PACKED: u64 = 16 << 20;

/// What upkeep remembers between calls; held by one call at a time.
pub(super) struct Upkeep {
    /// None after closing. Only moves the log: it never holds the write lock.
    conn: Option<SqliteConnection>,
    /// By stream: up to where its ledger is cut.
    pub(super) trimmed: HashMap<i64, u64>,
    /// The hour in which history was last cut.
    pub(super) cut_at: Option<i64>,
    /// The hour in which all was swept that could be.
    pub(super) swept_at: Option<i64>,
}

impl Upkeep {
    pub(super) fn new(conn: SqliteConnection) -> Self {
        Self { conn: Some(conn), trimmed: HashMap::new(), cut_at: None, swept_at: None }
    }

    pub(super) fn close(&mut self) -> Option<SqliteConnection> {
        self.conn.take()
    }
}

impl SqliteStore {
    pub(super) async fn upkeep(&self, now: i64) -> Result<(Maintenance, bool), StoreError> {
        self.still_open()?;
        let mut upkeep = self.0.upkeep.lock().await;
        let (mut done, mut more) = (Maintenance::default(), false);
        let cutoff = cutoff(now);
        self.set_floor(now).await?;
        let due = self.0.tail.read().due(cutoff);
        for unit in &due {
            if done.samples_packed >= MAX_PACKED {
                more = true;
                break;
            }
            more |= self.pack(unit, (cutoff, now), &mut done).await?;
        }
        more |= self.retain(&mut upkeep, now, &mut done).await?;
        more |= self.sweep(&mut upkeep, now, &mut done).await?;
        if let Some(conn) = &mut upkeep.conn {
            conn.execute("PRAGMA wal_checkpoint(PASSIVE)").await?;
        }
        Ok((done, more))
    }
}
