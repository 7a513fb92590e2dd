//! Alerts, their history and their notifications, written together.

use sentinel_model::alert::{Alert, Delivery, DeliveryState, Fingerprint, Transition};
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
    /// New notifications; one whose id is stored already changes nothing.
    pub decided: Vec<Delivery>,
    /// Deliveries as they are now, found by the notification's id.
    pub delivered: Vec<Delivery>,
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
}
