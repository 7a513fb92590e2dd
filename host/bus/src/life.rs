//! The lives of the embedded bus: its incarnation, and which messages it speaks of.
//!
//! A new incarnation says of every message accepted until then that it may be lost; agents send
//! all of them again. So it is told once, however much of the backlog turns out to be damaged,
//! and however often the bus is opened before that is read: a later loss is new only where the
//! message was accepted after the telling. That place is kept with the incarnation, as the log's
//! tag:
//!
//! | bytes | |
//! |---|---|
//! | 16 | incarnation |
//! | 16 | epoch of the log in which it was told |
//! | 8 | last record of that epoch written by then, little-endian |

use sentinel_model::ids::Incarnation;
use sentinel_wal::{Epoch, Log, Position};

/// An incarnation and what it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) incarnation: Incarnation,
    /// The last record accepted before it began.
    pub(crate) since: Position,
}

impl Life {
    /// One that begins now. What is written is looked at before anybody hears of the new
    /// incarnation, so nothing that is sent because of it counts as lost.
    pub(crate) fn begin(log: &Log) -> Life {
        let epoch = log.epoch();
        let offsets = log.offsets();
        let seq = offsets.iter().find(|o| o.epoch == epoch).map_or(0, |o| o.written);
        Life { incarnation: Incarnation::random(), since: Position { epoch, seq } }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = self.incarnation.0.to_vec();
        out.extend_from_slice(&self.since.epoch.0);
        out.extend_from_slice(&self.since.seq.to_le_bytes());
        out
    }

    /// `None` for anything that [`Life::encode`] does not make.
    pub(crate) fn decode(tag: &[u8]) -> Option<Life> {
        let tag: &[u8; 40] = tag.try_into().ok()?;
        let (incarnation, rest) = tag.split_first_chunk::<16>()?;
        let (epoch, seq) = rest.split_first_chunk::<16>()?;
        let since =
            Position { epoch: Epoch(*epoch), seq: u64::from_le_bytes(seq.try_into().ok()?) };
        Some(Life { incarnation: Incarnation(*incarnation), since })
    }

    /// Whether the loss of a record was told when this life began. `order` are the log's epochs,
    /// oldest first; one that is not among them is gone, and was before all of them.
    pub(crate) fn covers(&self, place: Position, order: &[Epoch]) -> bool {
        if place.epoch == self.since.epoch {
            return place.seq <= self.since.seq;
        }
        let rank = |epoch: Epoch| order.iter().position(|e| *e == epoch);
        rank(place.epoch) < rank(self.since.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(epoch: u8, seq: u64) -> Position {
        Position { epoch: Epoch([epoch; 16]), seq }
    }

    #[test]
    fn golden_bytes_of_a_life() {
        let life = Life { incarnation: Incarnation([1; 16]), since: place(2, 258) };
        let bytes = life.encode();
        assert_eq!(bytes, [&[1; 16][..], &[2; 16], &[2, 1, 0, 0, 0, 0, 0, 0]].concat());
        assert_eq!(Life::decode(&bytes), Some(life));
        for other in [&bytes[..39], &bytes[..16], &[]] {
            assert_eq!(Life::decode(other), None);
        }
    }

    #[test]
    fn a_loss_is_told_already_where_the_record_is_older_than_the_life() {
        let order = [1, 2, 3].map(|n| Epoch([n; 16]));
        let life = |since| Life { incarnation: Incarnation([9; 16]), since };
        for (since, lost, told) in [
            (place(2, 5), place(2, 5), true),
            (place(2, 5), place(2, 6), false),
            (place(2, 5), place(1, 900), true),
            (place(2, 5), place(3, 1), false),
            (place(7, 5), place(1, 1), false),
            (place(7, 5), place(3, 1), false),
        ] {
            assert_eq!(life(since).covers(lost, &order), told, "{since:?} {lost:?}");
        }
    }
}
