//! Alerts, their history and their notifications, written together; and what people decided
//! about them.

use crate::evaluations::Evaluation;
use crate::lease::Fence;
use sentinel_model::alert::{Alert, Delivery, DeliveryState, Fingerprint, Transition};
use sentinel_model::attention::{Acknowledgement, Attempt, Silence};
use sentinel_model::ids::SlotName;

/// What one evaluation or one delivery changed.
#[derive(Debug, Clone, Default)]
pub struct AlertingChange {
    /// Alerts as they are now, resolved ones included.
    pub alerts: Vec<Alert>,
    /// Alerts that are ok again without ever having fired.
    pub forgotten: Vec<Fingerprint>,
    /// What happened, appended to the history.
    pub transitions: Vec<Transition>,
    /// Groups as they are now, found by their key.
    pub groups: Vec<StoredGroup>,
    /// Keys of groups of which nothing is left to be told.
    pub closed: Vec<String>,
    /// New notifications; one whose id is stored already changes nothing.
    pub decided: Vec<Delivery>,
    /// Deliveries as they are now, found by the notification's id.
    pub delivered: Vec<Delivery>,
    /// Attempts that ended, each with its notification's id.
    pub attempts: Vec<(String, Attempt)>,
    /// What notifiers remember of those attempts from now on.
    pub remembered: Vec<SlotWrite>,
    /// What was evaluated since this was last written; one that is stored already changes nothing.
    pub evaluations: Vec<Evaluation>,
    /// Under which lease it is written; none where one process is alone.
    pub fence: Option<Fence>,
}

impl AlertingChange {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            alerts,
            forgotten,
            transitions,
            groups,
            closed,
            decided,
            delivered,
            attempts,
            remembered,
            evaluations,
            fence: _,
        } = self;
        alerts.is_empty()
            && forgotten.is_empty()
            && transitions.is_empty()
            && groups.is_empty()
            && closed.is_empty()
            && decided.is_empty()
            && delivered.is_empty()
            && attempts.is_empty()
            && remembered.is_empty()
            && evaluations.is_empty()
    }
}

/// A write to the `kv` state of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotWrite {
    /// The slot, as [`crate::Store::slot_state`] is asked for it.
    pub slot: String,
    /// The key.
    pub key: String,
    /// Its value from now on; nothing removes it.
    pub value: Option<Vec<u8>>,
}

/// What was told of a group of alerts. Only routing knows what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredGroup {
    /// Its identity.
    pub key: String,
    /// JSON.
    pub body: String,
}

/// What a person decided.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// A new silence. A conflict where its id is taken.
    Silence(Silence),
    /// Ends a silence now. A conflict where there is none of that id, or it is over.
    EndSilence {
        /// Which.
        id: String,
        /// Who ends it.
        by: String,
    },
    /// An incident is acknowledged, or handed over; in place of what was said of that alert.
    Acknowledge(Acknowledgement),
    /// Nobody has it in hand any more. A conflict where nobody had.
    Release(Fingerprint),
    /// A dead letter becomes this: pending again, or dropped. A conflict where it is none.
    Letter(Delivery),
    /// A notification that no rule decided: a test. One whose id is stored changes nothing.
    Tell(Delivery),
}

/// What people decided, as it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Counts acts, from 0.
    pub revision: u64,
    /// All silences that are remembered, over or not, the one that ends last first.
    pub silences: Vec<Silence>,
    /// All acknowledgements that are remembered, by fingerprint.
    pub acknowledgements: Vec<Acknowledgement>,
}

/// Which notifications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotificationFilter {
    /// All.
    All,
    /// Those that still have to be sent (`Pending` and `Sending`).
    Open,
    /// Those of one notifier that still have to be sent.
    OpenOf(SlotName),
    /// Those in one state.
    State(DeliveryState),
    /// The one of an id.
    One(String),
}
