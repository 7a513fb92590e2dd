//! Faults that stand between a notifier and a service, drawn from a seed.

use crate::{Call, Reply, Service};

/// One fault. The names say when the request was taken, and what its sender learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Refused with 429 and a wish to wait; not taken.
    Limited,
    /// Refused with 503; not taken.
    Unavailable,
    /// Its certificate is not trusted; not taken.
    Untrusted,
    /// The request is lost and nothing comes back.
    Lost,
    /// The request is taken and nothing comes back.
    TakenAndSilent,
    /// The request is taken and half of the answer comes.
    TakenAndHalf,
    /// The request is taken and the connection closed.
    TakenAndClosed,
}

impl Fault {
    const ALL: [Self; 7] = [
        Self::Limited,
        Self::Unavailable,
        Self::Untrusted,
        Self::Lost,
        Self::TakenAndSilent,
        Self::TakenAndHalf,
        Self::TakenAndClosed,
    ];
}

/// A service with faults before it.
#[derive(Debug)]
pub struct Faulty<S> {
    /// The service.
    pub service: S,
    state: u64,
    /// Of 256 requests, so many meet a fault.
    often: u8,
    next: Vec<Fault>,
    /// Every fault so far.
    pub met: Vec<Fault>,
}

impl<S> Faulty<S> {
    /// A service before which so many of 256 requests meet a fault, the same for the same seed.
    pub fn seeded(service: S, seed: u64, often: u8) -> Self {
        let state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        Self { service, state, often, next: Vec::new(), met: Vec::new() }
    }

    /// A service before which these requests, and no others, meet a fault.
    pub fn first(service: S, faults: &[Fault]) -> Self {
        let mut next = faults.to_vec();
        next.reverse();
        Self { service, state: 1, often: 0, next, met: Vec::new() }
    }

    fn draw(&mut self) -> Option<Fault> {
        if let Some(fault) = self.next.pop() {
            return Some(fault);
        }
        // xorshift64: a sequence that depends on the seed alone.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let [often, which, ..] = (self.state >> 16).to_le_bytes();
        let fault = Fault::ALL[usize::from(which) % Fault::ALL.len()];
        (often < self.often).then_some(fault)
    }
}

impl<S: Service> Service for Faulty<S> {
    fn take(&mut self, call: &Call) -> Reply {
        let Some(fault) = self.draw() else {
            return self.service.take(call);
        };
        self.met.push(fault);
        match fault {
            Fault::Limited => self.service.limited(2),
            Fault::Unavailable => Reply::text(503, "upstream connect error"),
            Fault::Untrusted => Reply::Untrusted,
            Fault::Lost => Reply::Never,
            Fault::TakenAndSilent | Fault::TakenAndHalf | Fault::TakenAndClosed => {
                // What the service would refuse, it refuses: only what it takes is in doubt.
                match (self.service.take(call), fault) {
                    (Reply::Answer { status, headers, body }, _) if status >= 300 => {
                        Reply::Answer { status, headers, body }
                    }
                    (_, Fault::TakenAndSilent) => Reply::Never,
                    (_, Fault::TakenAndHalf) => Reply::Half,
                    _ => Reply::Closed,
                }
            }
        }
    }
}
