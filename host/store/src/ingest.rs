//! Committing records: what is counted, and counted once.

use crate::StoreError;
use sentinel_model::batch::Batch;
use sentinel_model::ids::{AgentId, Epoch};
use std::sync::Arc;

/// Where an agent's epoch stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamState {
    /// Highest record in the database.
    pub committed: u64,
    /// The agent sends again when its attempt is lower.
    pub rewind_attempt: u32,
}

/// What a record brings.
#[derive(Debug, Clone)]
pub enum Content {
    /// Samples, after the transforms; the agent's label is in the rows already.
    Samples(Arc<Batch>),
    /// The records up to `to` were lost or dropped at the agent, and are said to be.
    Skipped {
        /// The last of them.
        to: u64,
    },
    /// The record could not be processed; its bytes are kept for people.
    Dead {
        /// The payload as it came.
        payload: Vec<u8>,
        /// Why.
        reason: String,
    },
}

/// One record to commit.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Whose.
    pub agent: AgentId,
    /// Which opening of its log.
    pub epoch: Epoch,
    /// Its number; of a skip, the first.
    pub seq: u64,
    /// SHA-256 of what the agent signed: the same number with another hash is refused loudly.
    pub hash: [u8; 32],
    /// What it brings.
    pub content: Content,
}

/// What became of one record.
#[derive(Debug, Clone, PartialEq)]
pub enum CommitOutcome {
    /// It is in the database.
    Committed {
        /// The series of each row, in order of rows; empty for skips and dead records.
        series: Vec<u32>,
    },
    /// It was in the database before; acknowledge and forget.
    Duplicate,
    /// It was in the database before with another hash, or is a range that cannot be:
    /// somebody lies, or a disk did.
    Contradiction,
    /// Records before it are missing; ask for them.
    Gap {
        /// The highest committed.
        committed: u64,
    },
}

/// A record that could not be processed, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Whose.
    pub agent: AgentId,
    /// Which opening of its log.
    pub epoch: Epoch,
    /// Its number.
    pub seq: u64,
    /// Unix milliseconds of the commit.
    pub at: i64,
    /// Why.
    pub reason: String,
    /// The payload as it came.
    pub payload: Vec<u8>,
}

/// An opening of an agent's log, of which something was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentStream {
    /// Which.
    pub epoch: Epoch,
    /// Highest record in the database.
    pub committed: u64,
    /// Unix milliseconds of the newest commit.
    pub last_commit: i64,
}

/// What became of a committed record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordState {
    /// Its samples are stored.
    Samples,
    /// The agent said that it, and those up to the last, are lost.
    Skipped,
    /// It could not be processed; its bytes are kept.
    Dead,
}

/// A committed record as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Its number; of a skip, the first.
    pub seq: u64,
    /// The same number, but of a skip, the last.
    pub last: u64,
    /// Rows that it brought.
    pub rows: u64,
    /// What became of it.
    pub state: RecordState,
    /// SHA-256 of what the agent signed.
    pub hash: [u8; 32],
}

impl LedgerEntry {
    /// As both engines keep it.
    pub(crate) fn stored(
        (seq, last, rows): (i64, i64, i64),
        state: i64,
        hash: &[u8],
    ) -> Result<Self, StoreError> {
        let damaged = |what: &str| StoreError::Damaged { what: format!("ledger {seq}: {what}") };
        let number = |n: i64| u64::try_from(n).map_err(|_| damaged("a number below 0"));
        Ok(Self {
            seq: number(seq)?,
            last: number(last)?,
            rows: number(rows)?,
            state: match state {
                0 => RecordState::Samples,
                1 => RecordState::Skipped,
                2 => RecordState::Dead,
                _ => return Err(damaged("a state that is none")),
            },
            hash: hash.try_into().map_err(|_| damaged("a hash that is not 32 bytes"))?,
        })
    }
}
