//! What was committed since, by whomever: how one process sees the samples of all.
//!
//! Who reads from a position to the end, and then from where that left it, gets every batch once, unless it falls so
//! far behind that batches are packed: that is [`PACKED_AFTER_MS`] after they were committed at the earliest.

/// A batch stays in the tail for at least so long, in milliseconds.
pub const PACKED_AFTER_MS: i64 = 300_000;

/// Up to where the tail was read; only the store that gave it knows how to read it. It is good while the store stays
/// open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailPosition(pub(crate) String);

/// A committed batch.
#[derive(Debug, Clone, PartialEq)]
pub struct TailBatch {
    /// The series of each row.
    pub series: Vec<u32>,
    /// The time of each row, unix milliseconds.
    pub times: Vec<i64>,
    /// The value of each row.
    pub values: Vec<f64>,
}

/// Batches since a position, those of a stream in the order of their commits.
#[derive(Debug, Clone, PartialEq)]
pub struct TailPage {
    /// The batches.
    pub batches: Vec<TailBatch>,
    /// Where to go on.
    pub next: TailPosition,
    /// Whether there is more that was committed before this was asked.
    pub more: bool,
}
