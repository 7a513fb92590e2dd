//! The body that Prometheus's Alertmanager posts to its webhooks, version 4 of it, under the
//! bounds of our own body.

use sentinel_sdk::notify::{link_of, time::rfc3339};
use sentinel_sdk::{Alert, Label, Notification, Status};
use serde::Serialize;

use crate::payload::{ENVELOPE_BYTES, MAX_BODY_BYTES, Pairs, cut, json, pairs};

/// What Go writes for a time that is not set: Alertmanager's `endsAt` while an alert fires.
const NEVER: &str = "0001-01-01T00:00:00Z";
/// The label that bears a rule's name.
const ALERTNAME: &str = "alertname";

/// What is posted, with Alertmanager's names.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    version: &'static str,
    group_key: String,
    truncated_alerts: usize,
    status: &'static str,
    receiver: String,
    group_labels: Pairs,
    common_labels: Pairs,
    common_annotations: Pairs,
    #[serde(rename = "externalURL")]
    external_url: String,
    alerts: Vec<Told>,
}

/// One alert, with Alertmanager's names.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    status: &'static str,
    labels: Pairs,
    annotations: Pairs,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    fingerprint: String,
}

/// The body that tells a notification to a receiver of this name.
pub(crate) fn body(notification: &Notification, receiver: &str) -> Vec<u8> {
    let link = link_of(notification).unwrap_or_default();
    let mut envelope = Message {
        version: "4",
        group_key: group_key(&notification.group),
        truncated_alerts: notification.alerts.len(),
        status: word(notification.status),
        receiver: cut(receiver, &mut false),
        group_labels: pairs(&notification.group, &mut false),
        common_labels: common(notification, labels),
        common_annotations: common(notification, |alert| alert.annotations.clone()),
        external_url: link.to_owned(),
        alerts: Vec::new(),
    };
    // What all alerts share stands with each of them too, so it may go where room is short.
    for part in [&mut envelope.common_annotations, &mut envelope.common_labels] {
        if json(part).len() > ENVELOPE_BYTES / 4 {
            *part = Pairs::default();
        }
    }
    let mut room = MAX_BODY_BYTES.saturating_sub(json(&envelope).len());
    for alert in &notification.alerts {
        let told = told(alert, link);
        // The comma that follows it counts too.
        let Some(left) = room.checked_sub(json(&told).len() + 1) else {
            break;
        };
        room = left;
        envelope.alerts.push(told);
    }
    envelope.truncated_alerts -= envelope.alerts.len();
    json(&envelope)
}

fn told(alert: &Alert, link: &str) -> Told {
    let ends_at = match (alert.status, alert.ends_at) {
        (Status::Firing, _) => NEVER.to_owned(),
        (Status::Resolved, ends_at) => rfc3339(ends_at.unwrap_or(alert.starts_at)),
    };
    Told {
        status: word(alert.status),
        labels: pairs(&labels(alert), &mut false),
        annotations: pairs(&alert.annotations, &mut false),
        starts_at: rfc3339(alert.starts_at),
        ends_at,
        generator_url: link.to_owned(),
        fingerprint: cut(&alert.fingerprint, &mut false),
    }
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Firing => "firing",
        Status::Resolved => "resolved",
    }
}

/// An alert's labels; its rule is the `alertname`, unless it has one.
fn labels(alert: &Alert) -> Vec<Label> {
    let mut labels = Vec::with_capacity(alert.labels.len() + 1);
    if !alert.labels.iter().any(|(key, _)| key == ALERTNAME) {
        labels.push((ALERTNAME.to_owned(), alert.rule.clone()));
    }
    labels.extend_from_slice(&alert.labels);
    labels
}

/// What stands with every alert of a notification, whether it is listed or not.
fn common(notification: &Notification, of: impl Fn(&Alert) -> Vec<Label>) -> Pairs {
    let mut alerts = notification.alerts.iter();
    let mut shared = alerts.next().map(&of).unwrap_or_default();
    for alert in alerts {
        let other = of(alert);
        shared.retain(|pair| other.contains(pair));
    }
    pairs(&shared, &mut false)
}

/// Alertmanager's form of a group's key, `{}:{agent="web-1"}`: the same for the same labels,
/// in whatever order they come.
fn group_key(group: &[Label]) -> String {
    let mut sorted: Vec<&Label> = group.iter().collect();
    sorted.sort_unstable();
    let pairs: Vec<String> =
        sorted.into_iter().map(|(key, value)| format!("{key}={value:?}")).collect();
    cut(&format!("{{}}:{{{}}}", pairs.join(", ")), &mut false)
}
