//! What was committed since, by whomever: how one process sees the samples of all.
//!
//! Who reads from a position to the end, and then from where that left it, gets every batch once, unless it falls so
//! far behind that batches are packed: that is [`PACKED_AFTER_MS`] after they were committed at the earliest.

/// A batch stays in the tail for at least so long, in milliseconds.
pub const PACKED_AFTER_MS: i64 = 300_000;

/// Up to where the tail was read; only the database that gave it knows how to read it. It is good while
/// [`Store::tail_reaches`](crate::Store::tail_reaches) says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailPosition(pub(crate) String);

/// The most bytes of a position as text.
pub const MAX_POSITION: usize = 64 << 10;

impl TailPosition {
    /// Where it is not known; no store reads from there.
    #[must_use]
    pub fn unknown() -> Self {
        Self("-".to_owned())
    }

    /// As text, to be kept.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Out of text that was kept; `None` where no database gives such ones.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let is_known = |c: char| c.is_ascii_digit() || matches!(c, ':' | ',' | '|' | '-');
        let is_one = !text.is_empty() && text.len() <= MAX_POSITION && text.chars().all(is_known);
        is_one.then(|| Self(text.to_owned()))
    }
}

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
