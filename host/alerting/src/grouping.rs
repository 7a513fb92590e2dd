//! The notifications that tell a group of alerts, each with its idempotency key.

use crate::delivery;
use sentinel_model::alert::{Alert, AlertState, Delivery, Notification, NotificationStatus};
use sentinel_model::ids::SlotName;
use sentinel_model::series::Labels;
use sha2::{Digest, Sha256};

/// The most alerts one notification carries; a larger group becomes several.
pub const MAX_ALERTS: usize = 100;

/// What a notification's id is a function of, beside its notifier, status and alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// Nothing: each incident is told once as firing, and once as over.
    Alerts,
    /// One telling of a group: the same alerts are told again.
    Telling {
        /// The group's identity.
        group: &'a str,
        /// Which telling of it.
        number: u64,
        /// Which step of the escalation, from 1; 0 for the route's own notifiers.
        step: usize,
    },
}

/// Decides the notifications of a group at `now`, to be stored before any is sent: each notifier
/// is told on its own. `group` are the labels by which the alerts were grouped; the order of the
/// alerts does not matter.
#[must_use]
pub fn tell(
    now: i64,
    key: Key<'_>,
    notifiers: &[SlotName],
    group: &Labels,
    alerts: &[&Alert],
) -> Vec<Delivery> {
    let mut sorted = alerts.to_vec();
    // What fires comes first, so that a split group has few mixed parts.
    sorted.sort_by_key(|a| (a.state != AlertState::Firing, a.fingerprint));
    let parts: Vec<Vec<Alert>> =
        sorted.chunks(MAX_ALERTS).map(|part| part.iter().map(|a| (*a).clone()).collect()).collect();
    let mut out = Vec::with_capacity(parts.len() * notifiers.len());
    for notifier in notifiers {
        for alerts in &parts {
            let status = status(alerts);
            let notification = Notification {
                id: id(key, notifier, status, alerts),
                notifier: notifier.clone(),
                time: now,
                status,
                group: group.clone(),
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
/// with the alert, so taking the decision again from what is stored gives the same key. A telling
/// of a group adds the group, the number and the step, which are stored in the same transaction.
#[must_use]
pub fn id(
    key: Key<'_>,
    notifier: &SlotName,
    status: NotificationStatus,
    alerts: &[Alert],
) -> String {
    let mut hash = Sha256::new();
    match key {
        Key::Alerts => hash.update(b"sentinel-notification-v1"),
        Key::Telling { group, number, step } => {
            hash.update(b"sentinel-notification-v2");
            hash.update((group.len() as u64).to_le_bytes());
            hash.update(group);
            hash.update(number.to_le_bytes());
            hash.update((step as u64).to_le_bytes());
        }
    }
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
        let alerts: Vec<&Alert> = alerts.iter().collect();
        let decided = tell(99, Key::Alerts, &notifiers, &group, &alerts);
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
        let alerts: Vec<&Alert> = alerts.iter().collect();
        let decided = tell(0, Key::Alerts, &notifiers, &group, &alerts);
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
        assert!(tell(0, Key::Alerts, &slots(&["pager"]), &Labels::default(), &[]).is_empty());
    }

    #[test]
    fn each_telling_of_a_group_has_an_id_of_its_own() {
        let [pager] = <[SlotName; 1]>::try_from(slots(&["pager"])).unwrap();
        let one = [alert(1, AlertState::Firing, 1)];
        let of = |group, number, step| {
            id(Key::Telling { group, number, step }, &pager, status(&one), &one)
        };
        assert_eq!(
            of("g", 1, 0),
            "ntf_fce426aa97d94f2dbe147c88ae6c8fe9",
            "the key of version 2 never changes"
        );
        for other in [of("h", 1, 0), of("g", 2, 0), of("g", 1, 1)] {
            assert_ne!(other, of("g", 1, 0));
        }
        assert_ne!(of("g", 1, 0), id(Key::Alerts, &pager, status(&one), &one));
    }

    #[test]
    fn the_id_depends_on_what_is_told_and_on_nothing_else() {
        let [pager, chat] = <[SlotName; 2]>::try_from(slots(&["pager", "chat"])).unwrap();
        let (a, b) = (alert(1, AlertState::Firing, 1), alert(2, AlertState::Firing, 1));
        let id_of =
            |slot: &SlotName, alerts: &[Alert]| id(Key::Alerts, slot, status(alerts), alerts);
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
