//! Which alerts are told together, and under which name.
//!
//! A [`Route`] says who is told and by which labels the alerts were grouped. Today a rule's
//! evaluation is one group a notifier: one notification carries all alerts that began to fire
//! or were resolved in that evaluation.

use crate::delivery;
use sentinel_model::alert::{Alert, AlertState, Delivery, Notification, NotificationStatus};
use sentinel_model::ids::SlotName;
use sentinel_model::series::Labels;
use sha2::{Digest, Sha256};

/// The most alerts one notification carries; a larger group becomes several.
pub const MAX_ALERTS: usize = 100;

/// Who is told of a group of alerts.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    /// Notifier slots, each told on its own.
    pub notifiers: &'a [SlotName],
    /// Labels that the alerts share and by which they were grouped.
    pub group: &'a Labels,
}

/// Decides the notifications of one group at `now`, to be stored before any is sent. The order
/// of the alerts does not matter.
#[must_use]
pub fn decide(now: i64, route: Route<'_>, alerts: &[Alert]) -> Vec<Delivery> {
    let mut sorted: Vec<&Alert> = alerts.iter().collect();
    // What fires comes first, so that a split group has few mixed parts.
    sorted.sort_by_key(|a| (a.state != AlertState::Firing, a.fingerprint));
    let parts: Vec<Vec<Alert>> =
        sorted.chunks(MAX_ALERTS).map(|part| part.iter().map(|a| (*a).clone()).collect()).collect();
    let mut out = Vec::with_capacity(parts.len() * route.notifiers.len());
    for notifier in route.notifiers {
        for alerts in &parts {
            let status = status(alerts);
            let notification = Notification {
                id: id(notifier, status, alerts),
                notifier: notifier.clone(),
                time: now,
                status,
                group: route.group.clone(),
                alerts: alerts.clone(),
            };
            out.push(delivery::open(notification));
        }
    }
    out
}

fn status(alerts: &[Alert]) -> NotificationStatus {
    if alerts.iter().any(|a| a.state == AlertState::Firing) {
        NotificationStatus::Firing
    } else {
        NotificationStatus::Resolved
    }
}

/// The idempotency key: `ntf_` and 32 hexadecimal digits of SHA-256 over the notifier, the
/// status, and each alert's fingerprint, state, incident and the time it fired. The time keeps
/// it unique where a fingerprint fires again after its incidents were forgotten; it is stored
/// with the alert, so taking the decision again from what is stored gives the same key.
#[must_use]
pub fn id(notifier: &SlotName, status: NotificationStatus, alerts: &[Alert]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"sentinel-notification-v1");
    hash.update([notifier.as_str().len() as u8]);
    hash.update(notifier.as_str());
    hash.update([match status {
        NotificationStatus::Firing => 1,
        NotificationStatus::Resolved => 2,
    }]);
    let mut keys: Vec<_> = alerts
        .iter()
        .map(|a| (a.fingerprint.0, a.incident, a.fired_at.unwrap_or(0), a.state.as_str()))
        .collect();
    keys.sort_unstable();
    for (fingerprint, incident, fired_at, state) in keys {
        hash.update(fingerprint.to_le_bytes());
        hash.update(incident.to_le_bytes());
        hash.update(fired_at.to_le_bytes());
        hash.update([state.len() as u8]);
        hash.update(state);
    }
    let digest = hash.finalize();
    let hex: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("ntf_{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_model::alert::{DeliveryState, Fingerprint};

    fn alert(n: u64, state: AlertState, incident: u64) -> Alert {
        Alert {
            fingerprint: Fingerprint(n),
            rule: "r".into(),
            state,
            labels: Labels::default(),
            annotations: Labels::default(),
            summary: String::new(),
            value: 1.0,
            active_since: 5,
            fired_at: Some(10),
            last_active: 10,
            resolved_at: (state == AlertState::Resolved).then_some(20),
            incident,
        }
    }

    fn slots(names: &[&str]) -> Vec<SlotName> {
        names.iter().map(|n| SlotName::new(n).unwrap()).collect()
    }

    #[test]
    fn one_notification_a_notifier_carries_everything_that_changed() {
        let (notifiers, group) = (slots(&["pager", "chat"]), Labels::default());
        let alerts = [
            alert(2, AlertState::Resolved, 1),
            alert(3, AlertState::Firing, 1),
            alert(1, AlertState::Firing, 4),
        ];
        let route = Route { notifiers: &notifiers, group: &group };
        let decided = decide(99, route, &alerts);
        assert_eq!(decided.len(), 2);
        for (delivery, slot) in decided.iter().zip(&notifiers) {
            let told = &delivery.notification;
            assert_eq!(
                (&told.notifier, told.time, told.status),
                (slot, 99, NotificationStatus::Firing)
            );
            assert_eq!(told.alerts.iter().map(|a| a.fingerprint.0).collect::<Vec<_>>(), [1, 3, 2]);
            assert_eq!((delivery.state, delivery.next_attempt), (DeliveryState::Pending, 99));
        }
        assert_ne!(decided[0].notification.id, decided[1].notification.id);
    }

    #[test]
    fn a_large_group_is_split_and_every_alert_is_told_once() {
        let (notifiers, group) = (slots(&["pager"]), Labels::default());
        let alerts: Vec<_> = (0..250).map(|n| alert(n, AlertState::Firing, 1)).collect();
        let decided = decide(0, Route { notifiers: &notifiers, group: &group }, &alerts);
        assert_eq!(
            decided.iter().map(|d| d.notification.alerts.len()).collect::<Vec<_>>(),
            [100, 100, 50]
        );
        let mut told: Vec<_> =
            decided.iter().flat_map(|d| &d.notification.alerts).map(|a| a.fingerprint.0).collect();
        told.dedup();
        assert_eq!(told, (0..250).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_is_told_of_nothing() {
        let (notifiers, group) = (slots(&["pager"]), Labels::default());
        assert!(decide(0, Route { notifiers: &notifiers, group: &group }, &[]).is_empty());
    }

    #[test]
    fn the_id_depends_on_what_is_told_and_on_nothing_else() {
        let [pager, chat] = <[SlotName; 2]>::try_from(slots(&["pager", "chat"])).unwrap();
        let (a, b) = (alert(1, AlertState::Firing, 1), alert(2, AlertState::Firing, 1));
        let id_of = |slot: &SlotName, alerts: &[Alert]| id(slot, status(alerts), alerts);
        let first = id_of(&pager, &[a.clone(), b.clone()]);
        assert_eq!(
            first, "ntf_5b4f51cc31b04cedaf0479e0056fb25a",
            "the key of version 1 never changes"
        );
        let later = Alert { value: 7.0, last_active: 999, ..a.clone() };
        assert_eq!(first, id_of(&pager, &[b.clone(), later]));
        for other in [
            id_of(&chat, &[a.clone(), b.clone()]),
            id_of(&pager, std::slice::from_ref(&a)),
            id_of(&pager, &[a.clone(), alert(2, AlertState::Firing, 2)]),
            id_of(&pager, &[a.clone(), alert(2, AlertState::Resolved, 1)]),
            id_of(&pager, &[Alert { fired_at: Some(11), ..a }, b]),
        ] {
            assert_ne!(first, other);
        }
    }
}
