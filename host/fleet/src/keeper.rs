//! The slots that the host around a follower gives to the fleet.

use crate::machine::SlotHealth;
use async_trait::async_trait;
use sentinel_trust::VerifiedComponent;
use sentinel_trust::fleet::{HostReport, RefusedSet, Wish};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::watch;

/// A wish and what is to run for it.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What the operator asked for, within what the host allows.
    pub wish: Wish,
    /// The plugin; `None` for a slot that is disabled.
    pub component: Option<Arc<VerifiedComponent>>,
}

/// One slot of a set that is kept as far as it can be.
#[derive(Debug, Clone)]
pub enum Keeping {
    /// It can run.
    Ready(Wanted),
    /// Its plugin is not to be had now: what is in the slot stays as it is.
    Waiting {
        /// What the operator asked for.
        wish: Wish,
        /// Why it is not to be had.
        why: String,
    },
}

/// Why a set was not applied; every slot is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ApplyError(pub String);

/// The slots of a host that belong to the fleet.
#[async_trait]
pub trait SlotKeeper: Send + Sync + 'static {
    /// Makes the fleet's slots exactly these, as a whole or not at all. Slots that are not
    /// among them finish what is under way and go; those of wishes that are disabled become
    /// empty.
    ///
    /// # Errors
    /// [`ApplyError`]; then every slot goes on with what it had.
    async fn apply(&self, set: Vec<Wanted>) -> Result<(), ApplyError>;

    /// Makes the fleet's slots these as far as they can be now, each for itself: a set that was
    /// applied as a whole runs again after a restart, or while something of it is missing.
    /// Slots that run what they are to run notice nothing. Those that are not as asked, and why.
    async fn keep(&self, set: Vec<Keeping>) -> BTreeMap<String, String>;

    /// Empties these slots now, beside whatever is under way: calls in flight are stopped, and
    /// what is being prepared for them does not come. Those that there are not are none.
    async fn stop(&self, slots: &BTreeSet<String>);

    /// How the fleet's slots are. At once.
    fn health(&self) -> SlotHealth;

    /// Changes whenever [`SlotKeeper::health`] may answer otherwise.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// A report that says which slots of the set that runs were given up since for what ran before,
/// and why: slot and reason of each.
#[must_use]
pub fn with_given_up(
    mut report: HostReport,
    slots: impl Iterator<Item = (String, String)>,
) -> HostReport {
    if report.refused.is_none() {
        let said = |(slot, why)| {
            format!(
                "slot `{slot}`: what the set brought was given up, and what ran before runs again: {why}"
            )
        };
        let all: Vec<String> = slots.map(said).collect();
        let number = report.applied;
        report.refused = (!all.is_empty()).then(|| RefusedSet { number, why: all.join("; ") });
    }
    report
}
