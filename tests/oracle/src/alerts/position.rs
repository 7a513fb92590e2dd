//! Up to where an evaluation saw what was committed.
//!
//! SQLite counts batches: a position is the id of the last one. In PostgreSQL it is a snapshot,
//! `XMIN:XMAX:RUNNING,RUNNING`, or that and a part of what a second one sees besides,
//! `SEEN|SECOND|ID`: the batches of the second up to an id.

/// Where a sample comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A chunk: it was committed at or before `packed_to`.
    Packed,
    /// A batch.
    Batch {
        /// Its id.
        id: i64,
        /// The transaction that committed it; 0 in SQLite.
        transaction: u64,
    },
}

/// Which transactions are to be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// All below are over.
    first: u64,
    /// None from here on has begun.
    end: u64,
    /// Those between them that are not over.
    running: Vec<u64>,
}

impl Snapshot {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (first, end) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let running = parts.next()?.split(',').filter(|one| !one.is_empty());
        let running = running.map(|one| one.parse().ok()).collect::<Option<_>>()?;
        parts.next().is_none().then_some(Self { first, end, running })
    }

    fn sees(&self, transaction: u64) -> bool {
        transaction < self.end && !self.running.contains(&transaction)
    }
}

/// Up to where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// All batches up to this id.
    UpTo(i64),
    /// What a snapshot sees, and what another one sees up to an id.
    Seen(Snapshot, Option<(Snapshot, i64)>),
    /// Whatever was committed by then.
    Anything,
}

impl Position {
    /// Reads one; `None` where no database writes such ones.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "-" {
            return Some(Self::Anything);
        }
        let mut parts = text.split('|');
        let seen = parts.next()?;
        if !seen.contains(':') {
            return seen.parse().ok().filter(|_| parts.next().is_none()).map(Self::UpTo);
        }
        let second = match (parts.next(), parts.next(), parts.next()) {
            (None, None, None) => None,
            (Some(second), Some(id), None) => Some((Snapshot::parse(second)?, id.parse().ok()?)),
            _ => return None,
        };
        Some(Self::Seen(Snapshot::parse(seen)?, second))
    }

    /// Whether a sample was to be seen. Nothing is asked of a position that does not
    /// [reach](Self::reaches) what is packed.
    #[must_use]
    pub fn sees(&self, origin: Origin) -> bool {
        match (self, origin) {
            (_, Origin::Packed) | (Self::Anything, _) => true,
            (Self::UpTo(last), Origin::Batch { id, .. }) => id <= *last,
            (Self::Seen(seen, second), Origin::Batch { id, transaction }) => {
                let further =
                    |(second, last): &(Snapshot, i64)| second.sees(transaction) && id <= *last;
                seen.sees(transaction) || second.as_ref().is_some_and(further)
            }
        }
    }

    /// Whether it saw all that is packed: before that, what it saw is not to be told any more.
    #[must_use]
    pub fn reaches(&self, packed_to: i64) -> bool {
        match self {
            Self::UpTo(last) => *last >= packed_to,
            Self::Seen(seen, _) => i64::try_from(seen.first).is_ok_and(|first| first > packed_to),
            Self::Anything => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_see_what_was_committed_up_to_them() {
        let sees = |position: &str, id, transaction| {
            Position::parse(position).unwrap().sees(Origin::Batch { id, transaction })
        };
        for (position, id, transaction, seen) in [
            ("7", 7, 0, true),
            ("7", 8, 0, false),
            ("-", 8, 0, true),
            ("5:9:5,7", 1, 4, true),
            ("5:9:5,7", 1, 5, false),
            ("5:9:5,7", 1, 6, true),
            ("5:9:5,7", 1, 7, false),
            ("5:9:5,7", 1, 9, false),
            ("5:9:5,7|9:12:10|30", 30, 7, true),
            ("5:9:5,7|9:12:10|30", 31, 7, false),
            ("5:9:5,7|9:12:10|30", 31, 6, true),
            ("5:9:5,7|9:12:10|30", 30, 10, false),
            ("5:9:5,7|9:12:10|30", 30, 12, false),
        ] {
            assert_eq!(sees(position, id, transaction), seen, "{position}: {id}, {transaction}");
        }
        assert!(Position::UpTo(1).sees(Origin::Packed));
    }

    #[test]
    fn what_is_packed_was_seen_from_some_position_on() {
        for (position, packed_to, reaches) in [
            ("7", 7, true),
            ("7", 8, false),
            ("5:9:5", 4, true),
            ("5:9:5", 5, false),
            ("5:9:5|20:20:|3", 5, false),
        ] {
            let found = Position::parse(position).unwrap().reaches(packed_to);
            assert_eq!(found, reaches, "{position} {packed_to}");
        }
    }

    #[test]
    fn other_texts_are_no_positions() {
        for text in
            ["", "x", "7|8|9", "5:9", "5:9:5:6", "5:9:5|6", "5:9:5|5:9:|x", "5:9:5|5:9:|1|2"]
        {
            assert_eq!(Position::parse(text), None, "{text}");
        }
    }
}
