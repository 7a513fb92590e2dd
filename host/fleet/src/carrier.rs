//! Whoever carries sets, and how often it is asked.

use async_trait::async_trait;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Wait after the first failure, and the longest: a host that lost its stream hears of a set
/// within five seconds of its carrier's return.
const FIRST: Duration = Duration::from_millis(250);
const MOST: Duration = Duration::from_secs(5);

/// Why there is no answer now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CarrierError(pub String);

/// Whoever carries sets to this host. It is believed nothing: what it brings is opened with
/// the operators' keys.
#[async_trait]
pub trait Carrier: Send + 'static {
    /// Waits for a set above `have` and gives it as it is sealed, of at most
    /// [`sentinel_trust::fleet::MAX_SEALED_BYTES`]. May be dropped while it waits.
    ///
    /// # Errors
    /// [`CarrierError`]; asked again after a wait.
    async fn next(&mut self, have: u64) -> Result<Vec<u8>, CarrierError>;

    /// What it brought was of no use: whatever connection there is, is to be made anew.
    fn reset(&mut self);
}

/// A set on its way to the machine, and where to say whether it was of use.
pub(crate) struct Offer {
    pub(crate) sealed: Vec<u8>,
    pub(crate) useful: oneshot::Sender<bool>,
}

/// How long to wait after the next failure.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    /// Twice as long each time, spread by `lot` (from 0 up to 1) over the upper half.
    pub(crate) fn next(&mut self, lot: f64) -> Duration {
        let wait = self.0.mul_f64(0.5 + lot.clamp(0.0, 1.0) / 2.0);
        self.0 = (self.0 * 2).min(MOST);
        wait
    }
}

/// Asks until nobody listens: one set at a time, and the next only when it is known what
/// became of it, so that a carrier cannot pile up anything here.
pub(crate) async fn ask(
    mut carrier: Box<dyn Carrier>,
    have: watch::Receiver<u64>,
    offers: mpsc::Sender<Offer>,
) {
    let mut backoff = Backoff::default();
    let mut said: Option<CarrierError> = None;
    loop {
        let above = *have.borrow();
        let answer = tokio::select! {
            () = offers.closed() => return,
            answer = carrier.next(above) => answer,
        };
        match answer {
            Ok(sealed) => {
                let (useful, answer) = oneshot::channel();
                if offers.send(Offer { sealed, useful }).await.is_err() {
                    return;
                }
                if answer.await.unwrap_or(false) {
                    (backoff, said) = (Backoff::default(), None);
                    continue;
                }
            }
            Err(error) => {
                if said.as_ref() != Some(&error) {
                    tracing::warn!(%error, "nobody says now what this host is to run; what runs goes on");
                }
                said = Some(error);
            }
        }
        carrier.reset();
        tokio::select! {
            () = offers.closed() => return,
            () = tokio::time::sleep(backoff.next(rand::random())) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_seconds_and_are_spread_over_their_upper_half() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..7).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 5000, 5000]);
        for (lot, expected) in [(0.0, 2500), (0.5, 3750), (7.0, 5000)] {
            assert_eq!(backoff.next(lot).as_millis(), expected);
        }
    }
}
