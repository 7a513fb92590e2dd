//! What is on its way and how far it got: a state machine without a clock, a disk or a network.
//!
//! | what comes | what happens |
//! |---|---|
//! | a record or a gap of the log | queued behind the others |
//! | the server names what it accepted | it leaves the queue; [`Effect::Accept`] |
//! | the server names what is committed | kept for [`Sending::commits`] |
//! | the server asks for a higher attempt | that attempt; [`Effect::GoBack`] |
//! | the same bus as in the last run, first answer | [`Effect::GoOn`] |
//! | another bus | a higher attempt for all that is under way; [`Effect::Remember`], [`Effect::GoBack`] |
//! | nothing was committed for [`STALLED`] while something was accepted | the same, without another bus |
//! | the log begins behind what the server asked for | what is between is said to be skipped |
//!
//! Times are milliseconds of any clock that only goes forward.

use super::outgoing::Outgoing;
use crate::groups::Groups;
use sentinel_model::ids::{AgentId, Epoch, Position};
use sentinel_wal::{EpochOffsets, Item};
use sentinel_wire::envelope::{Content, Record};
use sentinel_wire::v1::EpochState;
use std::collections::{BTreeMap, VecDeque};

/// The most records of one push.
pub(super) const MAX_RECORDS: usize = 64;
/// No further record is added to a push that has so many bytes.
pub(super) const PUSH_BYTES: usize = 2 << 20;
/// How long an accepted record may go without a commit before it is sent again, milliseconds.
pub(super) const STALLED: i64 = 300_000;

/// What the log is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Note what the server accepted.
    Accept(Epoch, u64),
    /// Note which bus it was.
    Remember(Vec<u8>),
    /// Begin again at the oldest record that is not committed.
    GoBack,
    /// Go on behind what is accepted.
    GoOn,
}

/// What an answer says, whichever it was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) epochs: &'a [EpochState],
    pub(super) incarnation: &'a [u8],
}

/// The log as it is now.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogView<'a> {
    pub(super) offsets: &'a [EpochOffsets],
    pub(super) current: Epoch,
}

impl LogView<'_> {
    fn find(&self, epoch: Epoch) -> Option<EpochOffsets> {
        self.offsets.iter().copied().find(|o| o.epoch.0 == epoch.0)
    }
}

/// A record that the server refuses for what it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dead {
    pub(super) epoch: Epoch,
    pub(super) seq: u64,
    pub(super) bytes: bytes::Bytes,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Sending {
    groups: Groups,
    /// Read and not accepted.
    queue: VecDeque<Outgoing>,
    attempts: BTreeMap<Epoch, u32>,
    incarnation: Vec<u8>,
    /// Whether the server said which bus it has, in this run.
    met: bool,
    /// Committed, and the log was not told yet.
    committed: BTreeMap<Epoch, u64>,
    /// What the server needs next, of epochs that it asked to be sent again.
    due: BTreeMap<Epoch, u64>,
    /// When something was last committed, or nothing was waiting for it.
    moved_at: i64,
}

impl Sending {
    /// Begins; `incarnation` is the bus of the last run, as the log remembers it.
    pub(super) fn new(incarnation: Vec<u8>, now: i64) -> Self {
        Self {
            groups: Groups::default(),
            queue: VecDeque::new(),
            attempts: BTreeMap::new(),
            incarnation,
            met: false,
            committed: BTreeMap::new(),
            due: BTreeMap::new(),
            moved_at: now,
        }
    }

    /// Queues what the log yields next. How many records it says to be skipped.
    pub(super) fn take(&mut self, item: Item) -> u64 {
        let mut skipped = 0;
        for one in self.groups.take(item) {
            skipped += self.enqueue(one.into());
        }
        skipped
    }

    fn enqueue(&mut self, one: Outgoing) -> u64 {
        let mut skipped = 0;
        // The server asked for records from a place that this log no longer has: they were
        // committed, and the database was set back since. They are said to be skipped, so that
        // what follows is taken; what the database still has of them stays.
        if let Some(due) = self.due.get_mut(&one.epoch) {
            if *due < one.from {
                let (from, to) = (*due, one.from - 1);
                tracing::error!(epoch = %one.epoch, from, to, "the server lost committed records that this log no longer has");
                skipped += to - from + 1;
                self.queue.push_back(Outgoing::skip(one.epoch, from, to));
            }
            *due = (*due).max(one.last().saturating_add(1));
        }
        if let Content::SkippedTo(to) = one.content {
            skipped += to.saturating_sub(one.from).saturating_add(1);
        }
        self.queue.push_back(one);
        skipped
    }

    /// Whether the next push has room for more.
    pub(super) fn has_room(&self) -> bool {
        let bytes: usize = self.queue.iter().map(Outgoing::bytes).sum();
        self.queue.len() < MAX_RECORDS && bytes < PUSH_BYTES
    }

    /// Whether there is nothing to send.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    fn attempt(&self, epoch: Epoch) -> u32 {
        self.attempts.get(&epoch).copied().unwrap_or(1)
    }

    /// What the next push carries: the queue's first, since skips put in between may have made
    /// it longer than a push.
    pub(super) fn records<'a>(&'a self, agent: &'a AgentId) -> impl Iterator<Item = Record> + 'a {
        self.queue.iter().take(MAX_RECORDS).map(|one| Record {
            agent: agent.clone(),
            position: Position { epoch: one.epoch, seq: one.from },
            attempt: self.attempt(one.epoch),
            content: one.content.clone(),
        })
    }

    /// Whether something was accepted that is not committed.
    pub(super) fn awaits_commit(&self, offsets: &[EpochOffsets]) -> bool {
        offsets.iter().any(|o| {
            let told = self.committed.get(&Epoch(o.epoch.0)).copied().unwrap_or(0);
            o.accepted > o.committed.max(told)
        })
    }

    /// Takes an answer in.
    ///
    /// # Errors
    /// What makes no sense in it; what stands before that counts.
    pub(super) fn answered(
        &mut self,
        answer: Answer<'_>,
        log: LogView<'_>,
        now: i64,
    ) -> Result<Vec<Effect>, &'static str> {
        // Nothing is kept of epochs that the log no longer has.
        let kept = |epoch: &Epoch| log.find(*epoch).is_some();
        self.attempts.retain(|epoch, _| kept(epoch));
        self.due.retain(|epoch, _| kept(epoch));
        let mut effects = Vec::new();
        let mut back = false;
        for state in answer.epochs {
            let bytes = <[u8; 16]>::try_from(state.epoch.as_slice())
                .map_err(|_| "an epoch does not have 16 bytes")?;
            let epoch = Epoch(bytes);
            let Some(known) = log.find(epoch) else { continue };
            effects.extend(self.advance(epoch, state, &known, log.current, now));
            if state.rewind_attempt > self.attempt(epoch) {
                self.attempts.insert(epoch, state.rewind_attempt);
                self.due.insert(epoch, state.committed.saturating_add(1));
                back = true;
            }
        }
        let same = self.incarnation == answer.incarnation;
        if !same {
            self.raise_attempts(log.offsets);
            self.incarnation = answer.incarnation.to_vec();
            effects.push(Effect::Remember(self.incarnation.clone()));
            back = true;
        } else if !self.met && !back {
            // Right after the start: what the last run knew, so that nothing is sent twice
            // without need.
            self.forget_queue();
            effects.push(Effect::GoOn);
        }
        self.met = true;
        if back {
            self.forget_queue();
            effects.push(Effect::GoBack);
        }
        Ok(effects)
    }

    /// Moves the offsets of one epoch.
    fn advance(
        &mut self,
        epoch: Epoch,
        state: &EpochState,
        known: &EpochOffsets,
        current: Epoch,
        now: i64,
    ) -> Option<Effect> {
        let taken = state.accepted.max(state.committed);
        if taken > known.synced && epoch == current {
            // Only synced records are sent, so nobody honest can have taken more.
            tracing::error!(%epoch, taken, synced = known.synced, "the server speaks of records that were never sent");
            return None;
        }
        self.queue.retain(|one| one.epoch != epoch || one.last() > taken);
        // An older epoch of which the server has more: this log was set back to an earlier copy.
        let committed = state.committed.min(known.synced);
        let told = self.committed.entry(epoch).or_default();
        if committed > *told && committed > known.committed {
            *told = committed;
            self.moved_at = now;
        }
        Some(Effect::Accept(epoch, taken.min(known.synced)))
    }

    /// Sends again what was accepted long ago and never committed: whoever had it dropped it
    /// without a trace.
    pub(super) fn stir(&mut self, offsets: &[EpochOffsets], now: i64) -> Option<Effect> {
        if !self.awaits_commit(offsets) {
            self.moved_at = now;
        }
        if now.saturating_sub(self.moved_at) < STALLED {
            return None;
        }
        self.moved_at = now;
        tracing::warn!("nothing was committed for 5 minutes; what was accepted is sent again");
        self.raise_attempts(offsets);
        self.forget_queue();
        Some(Effect::GoBack)
    }

    /// What is under way is sent again, since somebody asks for it.
    pub(super) fn again(&mut self, offsets: &[EpochOffsets]) {
        self.raise_attempts(offsets);
        self.forget_queue();
    }

    /// Another attempt for every epoch of which something is under way.
    fn raise_attempts(&mut self, offsets: &[EpochOffsets]) {
        for one in offsets.iter().filter(|o| o.accepted > o.committed) {
            let epoch = Epoch(one.epoch.0);
            self.attempts.insert(epoch, self.attempt(epoch).saturating_add(1));
        }
    }

    /// The log will yield again what is queued.
    fn forget_queue(&mut self) {
        self.queue.clear();
        self.groups = Groups::default();
    }

    /// The first queued record is refused for what it is: its bytes, and from now on it is
    /// sent as a skip. `None` where it is one already.
    pub(super) fn bury(&mut self) -> Option<Dead> {
        let first = self.queue.front_mut()?;
        let skip = Content::SkippedTo(first.last());
        match std::mem::replace(&mut first.content, skip) {
            Content::Batch(bytes) => Some(Dead { epoch: first.epoch, seq: first.from, bytes }),
            Content::SkippedTo(_) => None,
        }
    }

    /// What the log is to be told of commits, once.
    pub(super) fn commits(&mut self) -> BTreeMap<Epoch, u64> {
        std::mem::take(&mut self.committed)
    }
}

/// Behind what the last run knew to be accepted: the first epoch that has more.
pub(super) fn behind_accepted(offsets: &[EpochOffsets]) -> Option<sentinel_wal::Position> {
    let taken = |o: &EpochOffsets| o.accepted.max(o.committed);
    let open = offsets.iter().find(|o| taken(o) < o.written).or(offsets.last())?;
    Some(sentinel_wal::Position { epoch: open.epoch, seq: taken(open) + 1 })
}
