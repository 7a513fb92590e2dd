//! What a commit is going to write, made record by record before anything is written.

use crate::ingest::{Commit, CommitOutcome, Content, StreamState};
use crate::samples::tail::{Decoded, Shape};
use sentinel_model::batch::Batch;
use sentinel_model::ids::{AgentId, Epoch};
use std::sync::Arc;

pub(super) const SAMPLES: i16 = 0;
pub(super) const SKIPPED: i16 = 1;
pub(super) const DEAD: i16 = 2;

/// An agent's epoch.
pub(super) type StreamKey = (AgentId, Epoch);

/// A stream as it is stored; `id` 0 where it is not.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stream {
    pub(super) id: i64,
    pub(super) state: StreamState,
}

/// A stream that a commit touches.
pub(super) struct Change {
    pub(super) key: StreamKey,
    pub(super) id: i64,
    /// The offset that is stored.
    pub(super) from: u64,
    /// The offset that will be.
    pub(super) to: u64,
    /// It was just read, not remembered.
    pub(super) is_fresh: bool,
}

/// A row of the ledger.
pub(super) struct LedgerRow {
    pub(super) stream: i64,
    pub(super) seq: u64,
    pub(super) last: u64,
    pub(super) rows: usize,
    pub(super) state: i16,
    pub(super) hash: [u8; 32],
}

/// A batch on its way into the database.
pub(super) struct NewBatch {
    pub(super) agent: AgentId,
    pub(super) stream: i64,
    pub(super) batch: Arc<Batch>,
    pub(super) shape: Arc<Shape>,
    pub(super) data: Arc<Decoded>,
}

/// Samples whose series are not known yet.
pub(super) struct Unshaped {
    pub(super) agent: AgentId,
    pub(super) stream: i64,
    pub(super) batch: Arc<Batch>,
    /// Which of the commit's records.
    pub(super) number: usize,
    /// Its place in what is told.
    pub(super) made: usize,
}

/// What was committed, as it was told.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Made {
    pub(super) key: StreamKey,
    pub(super) seq: u64,
    pub(super) hash: [u8; 32],
    pub(super) outcome: CommitOutcome,
}

/// All of one commit.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) changes: Vec<Change>,
    pub(super) ledger: Vec<LedgerRow>,
    pub(super) unshaped: Vec<Unshaped>,
    pub(super) batches: Vec<NewBatch>,
    /// Stream, number, payload, reason.
    pub(super) dead: Vec<(i64, u64, Vec<u8>, String)>,
    pub(super) made: Vec<Made>,
}

/// What becomes of a record, as far as its number tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is next: it commits up to here.
    Next { last: u64 },
    /// It was committed before; its hash has to be compared.
    Compare,
    /// Nothing of it is to be done.
    Done(Verdict),
    /// Records before it are missing.
    Gap,
}

/// An outcome without series.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Duplicate,
    Contradiction,
}

impl From<Verdict> for CommitOutcome {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Duplicate => Self::Duplicate,
            Verdict::Contradiction => Self::Contradiction,
        }
    }
}

/// Where a record stands against the offset that is committed.
pub(super) fn place(commit: &Commit, committed: u64) -> Place {
    let (last, is_skip) = match commit.content {
        Content::Skipped { to } => (to, true),
        Content::Samples(_) | Content::Dead { .. } => (commit.seq, false),
    };
    if last < commit.seq || i64::try_from(last).is_err() {
        return Place::Done(Verdict::Contradiction);
    }
    match (last <= committed, is_skip) {
        (true, true) => Place::Done(Verdict::Duplicate),
        (true, false) => Place::Compare,
        (false, _) if commit.seq > committed + 1 => Place::Gap,
        (false, _) => Place::Next { last },
    }
}

impl Plan {
    pub(super) fn at(&self, key: &StreamKey) -> Option<usize> {
        self.changes.iter().position(|change| change.key == *key)
    }

    /// Streams that move.
    pub(super) fn moved(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.to != change.from)
    }

    /// Whether a record that this commit writes is this one.
    pub(super) fn compare(&self, stream: i64, seq: u64, hash: &[u8; 32]) -> Option<Verdict> {
        let of = |row: &&LedgerRow| row.stream == stream && row.seq <= seq && seq <= row.last;
        let row = self.ledger.iter().find(of)?;
        let same = row.state != SKIPPED && row.hash == *hash;
        Some(if same { Verdict::Duplicate } else { Verdict::Contradiction })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_next_known_too_early_or_impossible() {
        let record = |seq, content| Commit {
            agent: AgentId::new("a").unwrap(),
            epoch: Epoch([0; 16]),
            seq,
            hash: [0; 32],
            content,
        };
        let dead = || Content::Dead { payload: vec![], reason: String::new() };
        let skip = |to| Content::Skipped { to };
        for (seq, content, expected) in [
            (5, dead(), Place::Compare),
            (6, dead(), Place::Next { last: 6 }),
            (7, dead(), Place::Gap),
            (2, skip(5), Place::Done(Verdict::Duplicate)),
            (2, skip(9), Place::Next { last: 9 }),
            (6, skip(6), Place::Next { last: 6 }),
            (7, skip(9), Place::Gap),
            (7, skip(6), Place::Done(Verdict::Contradiction)),
            (1, skip(u64::MAX), Place::Done(Verdict::Contradiction)),
        ] {
            assert_eq!(place(&record(seq, content), 5), expected, "{seq}");
        }
    }
}
