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

    /// Whether it lies before another one of the same database: all that is committed after the other is committed
    /// after this one too.
    #[must_use]
    pub fn precedes(&self, other: &Self) -> bool {
        self.order() < other.order()
    }

    /// The id of a batch; or of a snapshot its first and its end, which only grow, and how many it does not see
    /// between them, which with the same end become fewer; then how far it is read beyond that.
    fn order(&self) -> (u64, u64, std::cmp::Reverse<usize>, usize, i64) {
        let mut parts = self.0.split('|');
        let mut seen = parts.next().unwrap_or_default().split(':');
        let mut number = || seen.next().and_then(|part| part.parse().ok()).unwrap_or_default();
        let (first, end) = (number(), number());
        let running =
            seen.next().map_or(0, |list| list.split(',').filter(|x| !x.is_empty()).count());
        let beyond: Vec<&str> = parts.collect();
        let last = beyond.last().and_then(|last| last.parse().ok()).unwrap_or_default();
        (first, end, std::cmp::Reverse(running), beyond.len(), last)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_in_order() {
        for order in [
            ["7", "12", "100", "101"].as_slice(),
            &[
                "5:5:",
                "5:9:5,7",
                "5:9:5",
                "9:9:",
                "9:9:|9:12:|3",
                "9:9:|9:12:|4",
                "9:12:10",
                "12:12:",
            ],
        ] {
            let all: Vec<TailPosition> =
                order.iter().map(|text| TailPosition::from_text(text).unwrap()).collect();
            for (at, one) in all.iter().enumerate() {
                for (other_at, other) in all.iter().enumerate() {
                    assert_eq!(one.precedes(other), at < other_at, "{one:?} {other:?}");
                }
            }
        }
    }

    #[test]
    fn what_no_database_gives_is_no_position() {
        for text in ["", "x", "1;DROP", "5:9:5\n", &"1".repeat(MAX_POSITION + 1)] {
            assert_eq!(TailPosition::from_text(text), None, "{text:.20}");
        }
    }
}
