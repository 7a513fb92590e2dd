//! What is sent, in order.

use crate::groups::Settled;
use sentinel_model::ids::Epoch;
use sentinel_wire::envelope::Content;

/// What is sent as one envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) epoch: Epoch,
    /// Its record; of a skip, the first.
    pub(super) from: u64,
    pub(super) content: Content,
}

impl Outgoing {
    pub(super) fn skip(epoch: Epoch, from: u64, to: u64) -> Self {
        Self { epoch, from, content: Content::SkippedTo(to) }
    }

    /// The last record that it accounts for.
    pub(super) fn last(&self) -> u64 {
        match self.content {
            Content::Batch(_) => self.from,
            Content::SkippedTo(to) => to,
        }
    }

    /// Bytes of samples.
    pub(super) fn bytes(&self) -> usize {
        match &self.content {
            Content::Batch(bytes) => bytes.len(),
            Content::SkippedTo(_) => 0,
        }
    }
}

impl From<Settled> for Outgoing {
    fn from(settled: Settled) -> Self {
        match settled {
            Settled::Counted { epoch, seq, record } => {
                Self { epoch, from: seq, content: Content::Batch(record.batch) }
            }
            Settled::Skipped { epoch, from, to } => Self::skip(epoch, from, to),
        }
    }
}
