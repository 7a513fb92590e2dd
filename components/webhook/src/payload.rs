//! The body of a request: Standard Webhooks' envelope (`type`, `timestamp`, `data`) around the
//! notification, never larger than [`MAX_BODY_BYTES`].

use schemars::JsonSchema;
use sentinel_sdk::notify::{cut_bytes, time::rfc3339};
use sentinel_sdk::{Alert, Label, Notification, Status};
use serde::Serialize;
use serde_json::{Map, Value};

/// Most bytes of a body.
pub(crate) const MAX_BODY_BYTES: usize = 256 << 10;
/// Bytes of a body that alerts do not use: its envelope and its group.
pub(crate) const ENVELOPE_BYTES: usize = 64 << 10;
/// Most bytes of one set of labels or annotations, as JSON.
pub(crate) const MAX_PAIRS_BYTES: usize = 32 << 10;
/// Longest single text, in bytes; longer ones are cut.
pub(crate) const MAX_TEXT_BYTES: usize = 2 << 10;

/// What is posted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Payload {
    /// `sentinel.alerts.firing` while one of the alerts fires, `sentinel.alerts.resolved` when
    /// all are over.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = ["sentinel.alerts.firing", "sentinel.alerts.resolved"]))]
    kind: &'static str,
    /// When the notification was decided (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    timestamp: String,
    /// The notification.
    data: Data,
}

/// A group of alerts that are told together.
#[derive(Debug, Serialize, JsonSchema)]
struct Data {
    /// Version of this format: 1. Fields may be added to it.
    #[schemars(range(min = 1, max = 1))]
    version: u32,
    /// Idempotency key, as in the header `webhook-id`: the same whenever this notification is
    /// sent.
    id: String,
    /// Whether one of the alerts fires.
    status: Word,
    /// Labels by which the alerts were grouped.
    group: Pairs,
    /// The alerts; those that do not fit in 256 KiB are counted in `truncated_alerts`.
    alerts: Vec<Told>,
    /// How many alerts there are beyond those listed.
    truncated_alerts: usize,
    /// Whether an earlier attempt may have arrived.
    may_be_repeat: bool,
    /// Where a person can look; may be empty.
    link: String,
}

/// One alert.
#[derive(Debug, Serialize, JsonSchema)]
struct Told {
    /// Stable identity: the same for the same rule and labels, forever.
    fingerprint: String,
    /// The rule's name.
    rule: String,
    /// Whether it fires or is over.
    status: Word,
    /// Labels that identify it.
    labels: Pairs,
    /// Words for people.
    annotations: Pairs,
    /// The value that made it fire; `"NaN"`, `"+Inf"` or `"-Inf"` where JSON has no number.
    value: Number,
    /// When it began to fire (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    starts_at: String,
    /// When it was over (RFC 3339); null while it fires.
    #[schemars(extend("format" = "date-time"))]
    ends_at: Option<String>,
    /// Whether a text of it was cut or left out because it is too long.
    truncated: bool,
}

/// Whether something is wrong or over.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Word {
    Firing,
    Resolved,
}

/// Texts by key.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct Pairs(
    #[schemars(with = "std::collections::BTreeMap<String, String>")] pub(crate) Map<String, Value>,
);

/// A number, or the word for one that JSON cannot write.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
enum Number {
    Finite(f64),
    #[schemars(extend("enum" = ["NaN", "+Inf", "-Inf"]))]
    Other(&'static str),
}

impl From<Status> for Word {
    fn from(status: Status) -> Self {
        match status {
            Status::Firing => Self::Firing,
            Status::Resolved => Self::Resolved,
        }
    }
}

/// The JSON Schema (2020-12) of the body; `payload.schema.json` beside the sources is its text.
#[must_use]
pub fn payload_schema() -> Value {
    schemars::schema_for!(Payload).to_value()
}

/// The body that tells a notification.
pub(crate) fn body(notification: &Notification) -> Vec<u8> {
    let mut room = MAX_BODY_BYTES - ENVELOPE_BYTES;
    let mut alerts = Vec::new();
    for alert in &notification.alerts {
        let told = told(alert);
        // The comma that follows it counts too.
        let Some(left) = room.checked_sub(json(&told).len() + 1) else {
            break;
        };
        room = left;
        alerts.push(told);
    }
    let mut truncated = false;
    let payload = Payload {
        kind: match notification.status {
            Status::Firing => "sentinel.alerts.firing",
            Status::Resolved => "sentinel.alerts.resolved",
        },
        timestamp: rfc3339(notification.time),
        data: Data {
            version: 1,
            id: cut(&notification.id, &mut truncated),
            status: notification.status.into(),
            group: pairs(&notification.group, &mut truncated),
            truncated_alerts: notification.alerts.len() - alerts.len(),
            alerts,
            may_be_repeat: notification.may_be_repeat,
            // Half a link leads nowhere.
            link: match notification.link.len() {
                ..=MAX_TEXT_BYTES => notification.link.clone(),
                _ => String::new(),
            },
        },
    };
    json(&payload)
}

fn told(alert: &Alert) -> Told {
    let mut truncated = false;
    let value = alert.value;
    Told {
        fingerprint: cut(&alert.fingerprint, &mut truncated),
        rule: cut(&alert.rule, &mut truncated),
        status: alert.status.into(),
        labels: pairs(&alert.labels, &mut truncated),
        annotations: pairs(&alert.annotations, &mut truncated),
        value: match value {
            value if value.is_finite() => Number::Finite(value),
            value if value.is_nan() => Number::Other("NaN"),
            value if value > 0.0 => Number::Other("+Inf"),
            _ => Number::Other("-Inf"),
        },
        starts_at: rfc3339(alert.starts_at),
        ends_at: alert.ends_at.map(rfc3339),
        truncated,
    }
}

/// Pairs as long as there is room for them, each text cut where it is too long.
pub(crate) fn pairs(labels: &[Label], truncated: &mut bool) -> Pairs {
    let (mut map, mut room) = (Map::new(), MAX_PAIRS_BYTES);
    for (key, value) in labels {
        let (key, value) = (cut(key, truncated), Value::from(cut(value, truncated)));
        match room.checked_sub(json(&key).len() + json(&value).len() + 2) {
            Some(left) => {
                room = left;
                map.insert(key, value);
            }
            None => *truncated = true,
        }
    }
    Pairs(map)
}

pub(crate) fn cut(text: &str, truncated: &mut bool) -> String {
    if text.len() <= MAX_TEXT_BYTES {
        return text.to_owned();
    }
    *truncated = true;
    cut_bytes(text, MAX_TEXT_BYTES)
}

pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts, numbers and maps of texts are always JSON")
}
