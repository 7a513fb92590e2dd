//! Which records of the log count.
//!
//! The records of one collection count together or not at all, samples and state: those before
//! the last are held back until the last is read. One that will not come (the process ended, or
//! the disk was full, in between), or one that a power failure took, makes all of them a skip:
//! the slot collects anew from the state that it had before, so nothing is lost or doubled.
//!
//! | held back | what comes | then |
//! |---|---|---|
//! | nothing | a record alone | it counts |
//! | nothing | a part before the last | it is held back |
//! | nothing | a last part whose others were read earlier | it counts |
//! | parts | the next part of them | held back too; the last lets all count |
//! | parts | damage | all of it is torn |
//! | parts | dropped at the cap, and not the last | held back too: they counted once |
//! | parts | anything else | a skip of those, and as if nothing had been held back |
//! | torn | a part of a collection that reaches into it | torn too |
//! | torn | more damage | torn too |
//! | torn | anything else | one skip of it, and as if nothing had been held back |
//!
//! Since the records of a collection follow each other without anything in between, whatever
//! else comes settles it, and the same way each time the log is read.

use crate::record::{LogRecord, Part};
use sentinel_model::ids::Epoch;
use sentinel_wal::{GapReason, Item};

/// What is known to count, or not to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Settled {
    /// A record that counts.
    Counted { epoch: Epoch, seq: u64, record: LogRecord },
    /// Records that are gone, or are as if they had never been.
    Skipped { epoch: Epoch, from: u64, to: u64 },
}

impl Settled {
    fn place(&self) -> (u64, u64) {
        match self {
            Self::Counted { seq, .. } => (*seq, *seq),
            Self::Skipped { from, to, .. } => (*from, *to),
        }
    }
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Nothing,
    /// Parts of a collection, up to one before the last.
    Parts { epoch: Epoch, collection: (u64, u16), held: Vec<Settled> },
    /// Records that do not count, and maybe the next.
    Torn { epoch: Epoch, from: u64, to: u64 },
}

/// Puts together what belongs together. See the module.
#[derive(Debug, Default)]
pub(crate) struct Groups(State);

impl Groups {
    /// Takes what the log yields next; gives what that settles, in order.
    pub(crate) fn take(&mut self, item: Item) -> Vec<Settled> {
        let mut out = Vec::new();
        match item {
            Item::Record { position, payload } => {
                let (epoch, seq) = (Epoch(position.epoch.0), position.seq);
                match LogRecord::decode(&payload) {
                    Ok(record) => self.record(epoch, seq, record, &mut out),
                    Err(error) => {
                        tracing::error!(%epoch, seq, %error, "record skipped");
                        self.damage(epoch, seq, seq, &mut out);
                    }
                }
            }
            Item::Gap { epoch, from, to, reason } => {
                let epoch = Epoch(epoch.0);
                tracing::error!(%epoch, from, to, ?reason, "records are gone; the server is told");
                match reason {
                    GapReason::Corrupt => self.damage(epoch, from, to, &mut out),
                    GapReason::DroppedAtCap => self.dropped(epoch, from, to, &mut out),
                }
            }
        }
        out
    }

    fn record(&mut self, epoch: Epoch, seq: u64, record: LogRecord, out: &mut Vec<Settled>) {
        let part = record.part;
        let of = part.collection(seq);
        match &mut self.0 {
            State::Torn { epoch: e, to, .. } if (*e == epoch) && of.0 <= *to => *to = seq,
            State::Parts { epoch: e, collection, held } if (*e, *collection) == (epoch, of) => {
                held.push(Settled::Counted { epoch, seq, record });
                if part.is_last() {
                    out.append(held);
                    self.0 = State::Nothing;
                }
            }
            State::Nothing | State::Parts { .. } | State::Torn { .. } => {
                self.settle(out);
                self.begin(epoch, seq, part, record, out);
            }
        }
    }

    fn begin(
        &mut self,
        epoch: Epoch,
        seq: u64,
        part: Part,
        record: LogRecord,
        out: &mut Vec<Settled>,
    ) {
        let one = Settled::Counted { epoch, seq, record };
        if part.is_last() {
            out.push(one);
        } else {
            let collection = part.collection(seq);
            self.0 = State::Parts { epoch, collection, held: vec![one] };
        }
    }

    fn damage(&mut self, epoch: Epoch, from: u64, to: u64, out: &mut Vec<Settled>) {
        let from = match &self.0 {
            State::Torn { epoch: e, from, .. } if *e == epoch => *from,
            State::Parts { epoch: e, held, .. } if *e == epoch => {
                held.first().map_or(from, |first| first.place().0)
            }
            State::Nothing | State::Parts { .. } | State::Torn { .. } => {
                self.settle(out);
                from
            }
        };
        self.0 = State::Torn { epoch, from, to };
    }

    fn dropped(&mut self, epoch: Epoch, from: u64, to: u64, out: &mut Vec<Settled>) {
        let gone = Settled::Skipped { epoch, from, to };
        match &mut self.0 {
            State::Parts { epoch: e, collection, held }
                if *e == epoch && to < last_of(*collection) =>
            {
                held.push(gone);
            }
            State::Nothing | State::Parts { .. } | State::Torn { .. } => {
                self.settle(out);
                out.push(gone);
            }
        }
    }

    /// What is held back does not count.
    fn settle(&mut self, out: &mut Vec<Settled>) {
        match std::mem::take(&mut self.0) {
            State::Nothing => {}
            State::Torn { epoch, from, to } => out.push(Settled::Skipped { epoch, from, to }),
            State::Parts { epoch, held, .. } => {
                let (Some(first), Some(last)) = (held.first(), held.last()) else { return };
                let (from, to) = (first.place().0, last.place().1);
                tracing::error!(%epoch, from, to, "a collection was cut short and is left out whole; the server is told");
                out.push(Settled::Skipped { epoch, from, to });
            }
        }
    }
}

/// Where the last part of a collection is.
const fn last_of((first, of): (u64, u16)) -> u64 {
    first.saturating_add(of as u64 - 1)
}

#[cfg(test)]
mod tests;
