//! Notifications that were decided.

use super::{START, slot};
use sentinel_alerting::delivery;
use sentinel_model::alert::{
    Alert, AlertState, Delivery, Fingerprint, Notification, NotificationStatus,
};
use sentinel_model::series::Labels;

/// A notification that tells a notifier that an alert fires, not sent yet.
pub fn decided(id: &str, notifier: &str, alert: u64) -> Delivery {
    let alert = Alert {
        fingerprint: Fingerprint(alert),
        rule: "r".into(),
        state: AlertState::Firing,
        labels: Labels::default(),
        annotations: Labels::default(),
        summary: String::new(),
        value: 1.0,
        active_since: START,
        fired_at: Some(START),
        last_active: START,
        resolved_at: None,
        incident: 1,
    };
    delivery::open(Notification {
        id: id.into(),
        notifier: slot(notifier),
        time: START,
        status: NotificationStatus::Firing,
        group: Labels::default(),
        alerts: vec![alert],
    })
}
