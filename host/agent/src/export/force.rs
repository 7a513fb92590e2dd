//! Sending at once, and again from an offset, because somebody asks for it.

use super::Exporter;
use sentinel_model::ids::Epoch;
use sentinel_wal::{EpochOffsets, Position};
use tokio::sync::oneshot;

/// Asks the exporter to send what is pending without waiting any longer.
pub(crate) struct Force {
    /// Where to begin again, of an epoch; where sending stands where it is absent.
    pub(crate) from: Option<(Option<Epoch>, u64)>,
    /// What comes of it: it is being sent, or why not.
    pub(crate) done: oneshot::Sender<Result<(), String>>,
}

/// Where reading begins.
#[derive(Debug, PartialEq, Eq)]
enum Begin {
    /// At the oldest record that is not committed.
    Oldest,
    At(Position),
}

/// Where to read from so that `seq` of an epoch (the newest where none is named) is sent again and
/// nothing before it is left out that was not accepted yet.
fn begin(offsets: &[EpochOffsets], epoch: Option<Epoch>, seq: u64) -> Result<Begin, String> {
    let named = |o: &&EpochOffsets| epoch.is_none_or(|epoch| o.epoch.0 == epoch.0);
    let Some(found) = offsets.iter().rfind(named) else {
        return Err(match epoch {
            Some(epoch) => {
                format!("the log has no epoch {epoch} with records that are not committed")
            }
            None => "the log is empty".to_owned(),
        });
    };
    let next = found.accepted.max(found.committed) + 1;
    if seq == 0 || seq > next {
        return Err(format!(
            "record {seq} was not sent yet: sending stands at {next}, and begins again at 1 to {next}"
        ));
    }
    let older = offsets.iter().take_while(|o| o.epoch != found.epoch);
    if older.into_iter().any(|o| o.committed < o.written) {
        return Ok(Begin::Oldest);
    }
    // What is committed is not sent again: the server would only say so.
    Ok(Begin::At(Position { epoch: found.epoch, seq: seq.max(found.committed + 1) }))
}

impl Exporter {
    /// Does what was asked for; from here on nothing is waited for that was.
    pub(super) async fn forced(&mut self, force: Force) {
        self.backoff.reset();
        let done = match force.from {
            None => Ok(()),
            Some((epoch, seq)) => self.again_from(epoch, seq).await,
        };
        // Whoever asked may have gone.
        let _ = force.done.send(done);
    }

    async fn again_from(&mut self, epoch: Option<Epoch>, seq: u64) -> Result<(), String> {
        let begin = begin(&self.parts.log.offsets(), epoch, seq)?;
        self.settle(true).await;
        let reader = match begin {
            Begin::Oldest => self.parts.log.reader(),
            Begin::At(position) => {
                self.parts.log.reader_from(position).map_err(|error| error.to_string())?
            }
        };
        self.sending.again(&self.parts.log.offsets());
        self.reader = reader;
        self.parts.metrics.rewinds.inc();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(epoch: u8, written: u64, accepted: u64, committed: u64) -> EpochOffsets {
        EpochOffsets {
            epoch: sentinel_wal::Epoch([epoch; 16]),
            first: committed + 1,
            written,
            synced: written,
            accepted,
            committed,
            bytes: 0,
        }
    }

    #[test]
    fn sending_begins_again_where_it_is_asked_to_and_leaves_nothing_out() {
        let at = |epoch: u8, seq| {
            Ok(Begin::At(Position { epoch: sentinel_wal::Epoch([epoch; 16]), seq }))
        };
        let one = [offsets(1, 9, 6, 3)];
        assert_eq!(begin(&one, None, 5), at(1, 5));
        assert_eq!(begin(&one, None, 2), at(1, 4), "what is committed is done with");
        assert_eq!(begin(&one, None, 7), at(1, 7));
        for seq in [0, 8, u64::MAX] {
            assert!(begin(&one, None, seq).unwrap_err().contains("stands at 7"), "{seq}");
        }
        let two = [offsets(1, 9, 9, 9), offsets(2, 5, 5, 0)];
        assert_eq!(begin(&two, None, 2), at(2, 2));
        assert_eq!(begin(&two, Some(Epoch([2; 16])), 2), at(2, 2));
        assert!(begin(&two, Some(Epoch([3; 16])), 2).unwrap_err().contains("no epoch"));
        let behind = [offsets(1, 9, 7, 7), offsets(2, 5, 0, 0)];
        assert_eq!(begin(&behind, None, 1), Ok(Begin::Oldest), "older records come first");
        assert!(begin(&[], None, 1).is_err());
    }
}
