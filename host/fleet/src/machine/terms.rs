//! What a machine is told and what it asks for.

use super::SlotHealth;
use crate::memory::Memory;
use crate::place::Place;
use sentinel_trust::fleet::Wish;
use std::collections::{BTreeMap, BTreeSet};

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Whoever carries sets offers one.
    Offered(Vec<u8>),
    /// The host has other labels, local slots or another ceiling.
    Placed(Box<Place>),
    /// A plugin may be there, or may run, that was not before.
    PluginsChanged,
    /// How the slots are: said when that changes, and after [`Effect::Look`].
    Slots(SlotHealth),
    /// A piece of work ended.
    Ended {
        /// Which.
        work: u64,
        /// How.
        outcome: Outcome,
    },
    /// What was to be saved is durable, or why it is not.
    Saved(Result<(), String>),
    /// The time of [`Machine::wakes_at`](super::Machine::wakes_at) came.
    Woke,
}

/// How a piece of work ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The set runs as a whole.
    Applied,
    /// The set that was kept or gone back to runs, but for these slots, for these reasons.
    Kept(BTreeMap<String, String>),
    /// A plugin of the set could not be had; nothing changed.
    NotFetched(String),
    /// The set was not applied; nothing changed.
    NotApplied(String),
    /// It was told to hurry and ended before anything changed.
    Overtaken,
}

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Empty these slots now, whatever work is under way, and let nothing into them that is
    /// being prepared. Work that follows leaves them out.
    Stop(BTreeSet<String>),
    /// Say [`Input::Slots`].
    Look,
    /// Make this durable, then say [`Input::Saved`].
    Save(Memory),
    /// Work under way fetches no more: a set that is applied ends with [`Outcome::Overtaken`],
    /// one that is kept goes on with what is there. Work that is past fetching ends as it would.
    Hurry,
    /// Do this, then say [`Input::Ended`].
    Begin(Work),
    /// What was offered was of no use: ask again only after a wait.
    LeaveCarrier,
}

/// A piece of work.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// Which.
    pub id: u64,
    /// Number of the set.
    pub number: u64,
    /// What is to be done with it.
    pub task: Task,
    /// The host's share of it.
    pub wishes: Vec<Wish>,
}

/// What is done with a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// A newer one is applied as a whole or not at all.
    Apply,
    /// Of the good one, what can run is kept running.
    Keep,
    /// The good one takes the place of one that was undone: as a whole if it can be, else as
    /// far as it can.
    RollBack,
}
