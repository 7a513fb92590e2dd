//! One event of the Events API v2, within its bounds whatever the alert holds.

use sentinel_sdk::notify::{
    Severity, cut, details, headline, label, link_of, number, repeat_words, runbook, time,
};
use sentinel_sdk::{Alert, Label, Notification, Status};
use serde_json::{Map, Value, json};

/// Longest summary; PagerDuty cuts what is longer than 1,024 characters.
const MAX_SUMMARY: usize = 1_024;
/// Longest key of an event.
const MAX_DEDUP_KEY: usize = 255;
/// Longest short field (source, component, group, class).
const MAX_FIELD: usize = 255;
/// Longest single text among the details.
const MAX_DETAIL: usize = 4_000;
/// Most bytes of all labels, and of all annotations, as JSON. An event may have 512 KiB; so it
/// stays far below.
const MAX_PAIRS_BYTES: usize = 64 << 10;

/// The event of one alert of a notification.
pub(crate) fn event(
    routing_key: &str,
    prefix: &str,
    notification: &Notification,
    alert: &Alert,
) -> Value {
    let dedup_key = cut(&format!("{prefix}{}", alert.fingerprint), MAX_DEDUP_KEY);
    let mut event = json!({
        "routing_key": routing_key,
        "dedup_key": dedup_key,
        "event_action": match alert.status {
            Status::Firing => "trigger",
            Status::Resolved => "resolve",
        },
        "payload": payload(notification, alert),
        "client": "Sentinel",
    });
    let link = link_of(notification);
    if let Some(link) = link {
        event["client_url"] = link.into();
    }
    let links: Vec<Value> = [(runbook(alert), "Runbook"), (link, "Sentinel")]
        .into_iter()
        .filter_map(|(href, text)| Some(json!({"href": href?, "text": text})))
        .collect();
    event["links"] = links.into();
    event
}

fn payload(notification: &Notification, alert: &Alert) -> Value {
    let from = |keys: &[&str]| keys.iter().find_map(|key| label(&alert.labels, key));
    let words = if alert.rule.is_empty() || headline(alert) == alert.rule {
        headline(alert).to_owned()
    } else {
        format!("{}: {}", alert.rule, headline(alert))
    };
    let mut payload = json!({
        "summary": filled(&words, MAX_SUMMARY, "alert"),
        "source": filled(from(&["agent", "instance", "host"]).unwrap_or_default(), MAX_FIELD, "sentinel"),
        "severity": Severity::of(alert).word(),
        "timestamp": time::rfc3339(alert.starts_at),
        "class": filled(&alert.rule, MAX_FIELD, "alert"),
        "custom_details": custom_details(notification, alert),
    });
    if let Some(component) = from(&["service", "job", "component"]) {
        payload["component"] = filled(component, MAX_FIELD, "sentinel").into();
    }
    if !notification.group.is_empty() {
        let pairs: Vec<String> =
            notification.group.iter().map(|(key, value)| format!("{key}={value}")).collect();
        payload["group"] = filled(&pairs.join(" "), MAX_FIELD, "sentinel").into();
    }
    payload
}

/// A text that is not blank, cut.
fn filled(text: &str, most: usize, otherwise: &str) -> String {
    cut(if text.trim().is_empty() { otherwise } else { text }, most)
}

fn custom_details(notification: &Notification, alert: &Alert) -> Value {
    let mut all = json!({
        "value": number(alert.value),
        "labels": pairs(&alert.labels),
        "annotations": pairs(&alert.annotations),
        "notification": cut(&notification.id, MAX_FIELD),
    });
    if let Some(details) = details(alert) {
        all["description"] = cut(details, MAX_DETAIL).into();
    }
    if let Some(words) = repeat_words(notification) {
        all["repeat"] = words.into();
    }
    all
}

/// Pairs as long as there is room for them, each text cut where it is too long; what is left
/// out is said.
fn pairs(labels: &[Label]) -> Value {
    let (mut map, mut room, mut left_out) = (Map::new(), MAX_PAIRS_BYTES, 0);
    for (key, value) in labels {
        let (key, value) = (cut(key, MAX_FIELD), Value::from(cut(value, MAX_DETAIL)));
        match room.checked_sub(value.to_string().len() + Value::from(&*key).to_string().len()) {
            Some(left) => {
                room = left;
                map.insert(key, value);
            }
            None => left_out += 1,
        }
    }
    if left_out > 0 {
        map.insert("…".to_owned(), format!("{left_out} more, too long to tell").into());
    }
    Value::Object(map)
}
