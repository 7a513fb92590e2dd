//! Which messages were delivered, answered, and are to come again. Pure: time is passed in.
//!
//! Every message that was read has an entry, in the order in which it was read, until it and all before it are done:
//!
//! | state | on | becomes |
//! |---|---|---|
//! | waiting until t | taken at t or later, nothing waiting before it in its stream | out, deliveries + 1 |
//! | waiting | ack of an earlier delivery | done |
//! | out | ack | done |
//! | out | nak, drop | waiting until t; so do all behind it in its stream that are out |
//! | out | end of the subscription | waiting until now |
//! | any | forgotten | done |
//! | waiting | forgotten with its place | done |
//! | done | | leaves with all done entries at the front, and its place is told |
//!
//! `P` is where a message lies in what the bus is made of.

use std::collections::{BTreeMap, HashSet};

use sentinel_model::ids::{AgentId, Epoch};
use tokio::time::Instant;

use crate::{MAX_UNANSWERED, MAX_UNANSWERED_BYTES, Message};

/// Names an entry; grows in the order of reading.
pub(crate) type Index = u64;

#[derive(Debug)]
pub(crate) struct Ledger<P> {
    entries: BTreeMap<Index, Entry<P>>,
    /// Those to be delivered, and when at the earliest.
    waiting: BTreeMap<Index, Instant>,
    next: Index,
    bytes: usize,
}

impl<P> Default for Ledger<P> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), waiting: BTreeMap::new(), next: 0, bytes: 0 }
    }
}

#[derive(Debug)]
struct Entry<P> {
    place: P,
    /// None when it is done.
    message: Option<Message>,
    deliveries: u32,
}

/// What an acknowledgement did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Done<P> {
    /// The message was not done before; its bytes.
    pub(crate) finished: Option<usize>,
    /// What left at the front, in order: nothing before these places is to come again.
    pub(crate) left: Vec<P>,
}

fn stream(message: &Message) -> (&AgentId, Epoch) {
    (&message.id.agent, message.id.epoch)
}

impl<P> Ledger<P> {
    /// Whether no more messages may be read for now.
    pub(crate) fn full(&self) -> bool {
        self.entries.len() >= MAX_UNANSWERED || self.bytes >= MAX_UNANSWERED_BYTES
    }

    /// A message was read, which had been delivered so often before.
    pub(crate) fn add(&mut self, place: P, message: Message, before: u32, now: Instant) -> Index {
        let index = self.next;
        self.bytes += message.payload.len();
        self.waiting.insert(index, now);
        self.entries.insert(index, Entry { place, message: Some(message), deliveries: before });
        self.next += 1;
        index
    }

    /// Where a message lies that has not left.
    pub(crate) fn place(&self, index: Index) -> Option<&P> {
        self.entries.get(&index).map(|entry| &entry.place)
    }

    /// There is nothing up to this place.
    pub(crate) fn add_gap(&mut self, place: P) -> Vec<P> {
        self.entries.insert(self.next, Entry { place, message: None, deliveries: 0 });
        self.next += 1;
        self.release_front()
    }

    /// Takes the first message that may be delivered now.
    pub(crate) fn take(&mut self, now: Instant) -> Option<(Index, Message, u32)> {
        let mut held = HashSet::new();
        let mut chosen = None;
        for (index, due) in &self.waiting {
            let Some(message) = self.entries.get(index).and_then(|e| e.message.as_ref()) else {
                continue;
            };
            if *due <= now && !held.contains(&stream(message)) {
                chosen = Some(*index);
                break;
            }
            held.insert(stream(message));
        }
        let index = chosen?;
        self.waiting.remove(&index);
        let entry = self.entries.get_mut(&index)?;
        entry.deliveries = entry.deliveries.saturating_add(1);
        Some((index, entry.message.clone()?, entry.deliveries))
    }

    /// When the next message that nothing before it holds back may be delivered.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let mut seen = HashSet::new();
        let due = |(index, due): (&Index, &Instant)| {
            let message = self.entries.get(index)?.message.as_ref()?;
            seen.insert(stream(message)).then_some(*due)
        };
        self.waiting.iter().filter_map(due).min()
    }

    pub(crate) fn ack(&mut self, index: Index) -> Done<P> {
        let message = self.entries.get_mut(&index).and_then(|e| e.message.take());
        let Some(message) = message else { return Done { finished: None, left: Vec::new() } };
        self.waiting.remove(&index);
        self.bytes -= message.payload.len();
        Done { finished: Some(message.payload.len()), left: self.release_front() }
    }

    /// What waits in some places is done with here, whatever is answered later; those places.
    pub(crate) fn forget_waiting(&mut self, is_there: impl Fn(&P) -> bool) -> Vec<P>
    where
        P: Clone,
    {
        let there = |index: &Index| self.entries.get(index).is_some_and(|e| is_there(&e.place));
        let indexes: Vec<Index> = self.waiting.keys().copied().filter(there).collect();
        let mut places = Vec::with_capacity(indexes.len());
        for index in indexes {
            places.extend(self.place(index).cloned());
            self.ack(index);
        }
        places
    }

    /// Nothing is to come again, whatever is answered later.
    pub(crate) fn forget_all(&mut self) {
        self.entries.clear();
        self.waiting.clear();
        self.bytes = 0;
    }

    /// The `delivery`-th delivery failed; an answer to an earlier one says nothing.
    pub(crate) fn nak(&mut self, index: Index, delivery: u32, due: Instant) {
        let Some(entry) = self.entries.get(&index) else { return };
        let Some(message) = entry.message.as_ref().filter(|_| entry.deliveries == delivery) else {
            return;
        };
        let stream_of = stream(message);
        let behind = self
            .entries
            .range(index..)
            .filter(|(_, e)| e.message.as_ref().is_some_and(|m| stream(m) == stream_of));
        let again: Vec<Index> =
            behind.map(|(i, _)| *i).filter(|i| !self.waiting.contains_key(i)).collect();
        self.waiting.extend(again.into_iter().map(|i| (i, due)));
    }

    /// The subscription ended: all that is not done may be delivered to the next one.
    pub(crate) fn release_all(&mut self, now: Instant) {
        let open = self.entries.iter().filter(|(_, e)| e.message.is_some());
        self.waiting = open.map(|(index, _)| (*index, now)).collect();
    }

    /// Entries leave from the front while they are done.
    fn release_front(&mut self) -> Vec<P> {
        let mut left = Vec::new();
        while let Some(first) = self.entries.first_entry().filter(|e| e.get().message.is_none()) {
            left.push(first.remove().place);
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::MessageId;

    const EPOCH: Epoch = Epoch([1; 16]);

    fn message(agent: &str, seq: u64) -> Message {
        let id = MessageId { agent: AgentId::new(agent).unwrap(), epoch: EPOCH, seq, attempt: 0 };
        Message { id, payload: Bytes::from_static(b"0123456789") }
    }

    /// Entries 0.. of these agents, in order from place 1.
    fn ledger(agents: &[&str], now: Instant) -> Ledger<u64> {
        let mut ledger = Ledger::default();
        for (n, agent) in agents.iter().enumerate() {
            ledger.add(n as u64 + 1, message(agent, n as u64), 0, now);
        }
        ledger
    }

    fn take_all(ledger: &mut Ledger<u64>, now: Instant) -> Vec<(Index, u32)> {
        std::iter::from_fn(|| ledger.take(now))
            .map(|(index, _, deliveries)| (index, deliveries))
            .collect()
    }

    #[test]
    fn what_is_done_leaves_once_everything_before_it_is_done() {
        let now = Instant::now();
        let mut ledger = ledger(&["a", "a", "b", "a"], now);
        assert_eq!(take_all(&mut ledger, now).len(), 4);
        assert_eq!(ledger.ack(1), Done { finished: Some(10), left: vec![] });
        assert_eq!(ledger.ack(1), Done { finished: None, left: vec![] }, "once");
        assert_eq!(ledger.ack(0), Done { finished: Some(10), left: vec![1, 2] });
        assert_eq!((ledger.place(1), ledger.place(2)), (None, Some(&3)));
        assert!(ledger.add_gap(9).is_empty());
        assert!(ledger.ack(3).left.is_empty());
        assert_eq!(ledger.ack(2).left, [3, 4, 9]);
        assert!(ledger.entries.is_empty() && ledger.bytes == 0);
    }

    #[test]
    fn earlier_deliveries_count_and_what_is_forgotten_never_comes() {
        let now = Instant::now();
        let mut ledger = ledger(&["a", "a"], now);
        let index = ledger.add(3, message("b", 1), 4, now);
        assert_eq!(take_all(&mut ledger, now), [(0, 1), (1, 1), (index, 5)]);
        ledger.nak(1, 1, now);
        ledger.forget_all();
        assert_eq!(take_all(&mut ledger, now), []);
        assert_eq!(ledger.ack(0), Done { finished: None, left: vec![] });
        ledger.nak(0, 1, now);
        assert_eq!(ledger.add(1, message("a", 1), 0, now), index + 1, "no index is given again");
        assert_eq!(take_all(&mut ledger, now), [(index + 1, 1)]);
    }

    #[test]
    fn a_nak_brings_back_its_stream_from_there_on_in_order_and_no_other() {
        let now = Instant::now();
        let later = now + Duration::from_secs(5);
        let mut ledger = ledger(&["a", "b", "a", "a", "b"], now);
        take_all(&mut ledger, now);
        ledger.ack(3);
        ledger.nak(0, 1, later);
        ledger.add(6, message("a", 9), 0, now);
        ledger.add(7, message("b", 9), 0, now);
        assert_eq!(take_all(&mut ledger, now), [(6, 1)], "what is new of the stream waits behind");
        assert_eq!(ledger.next_due(), Some(later));
        assert_eq!(take_all(&mut ledger, later), [(0, 2), (2, 2), (5, 1)]);
        ledger.nak(2, 1, now);
        assert_eq!(
            take_all(&mut ledger, later),
            [],
            "an answer to an earlier delivery says nothing"
        );
        ledger.nak(2, 2, now);
        assert_eq!(take_all(&mut ledger, later), [(2, 3), (5, 2)]);
    }

    #[test]
    fn an_ack_of_an_earlier_delivery_ends_the_waiting() {
        let now = Instant::now();
        let mut ledger = ledger(&["a", "a"], now);
        take_all(&mut ledger, now);
        ledger.nak(0, 1, now);
        assert_eq!(ledger.ack(0).left, [1]);
        assert_eq!(take_all(&mut ledger, now), [(1, 2)]);
    }

    #[test]
    fn what_waits_in_a_place_is_forgotten_and_what_is_out_there_is_not() {
        let now = Instant::now();
        let mut ledger = ledger(&["a", "a", "b", "b"], now);
        assert_eq!(ledger.take(now).map(|taken| taken.0), Some(0));
        assert_eq!(ledger.forget_waiting(|place| *place < 3), [2]);
        assert_eq!(take_all(&mut ledger, now), [(2, 1), (3, 1)]);
        ledger.nak(0, 1, now);
        assert_eq!(ledger.forget_waiting(|place| *place < 3), [1]);
        assert_eq!(ledger.ack(0), Done { finished: None, left: vec![] });
        assert_eq!(take_all(&mut ledger, now), []);
        ledger.ack(2);
        assert_eq!(ledger.ack(3).left, [4]);
        assert!(ledger.entries.is_empty() && ledger.bytes == 0);
    }

    #[test]
    fn when_the_subscription_ends_all_that_is_not_done_waits() {
        let now = Instant::now();
        let mut ledger = ledger(&["a", "b", "a"], now);
        take_all(&mut ledger, now);
        ledger.nak(1, 1, now + Duration::from_secs(60));
        ledger.ack(0);
        ledger.release_all(now);
        assert_eq!(take_all(&mut ledger, now), [(1, 2), (2, 2)]);
    }
}
