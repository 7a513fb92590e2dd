//! Notifications as plain as they come, and as wild as they may.

use proptest::prelude::*;
use sentinel_sdk::{Alert, Label, Notification, Status};

/// The time at which everything happens, unix milliseconds.
pub const NOW: i64 = 1_795_221_085_042;

/// A pair of texts.
#[must_use]
pub fn label(key: &str, value: &str) -> Label {
    (key.to_owned(), value.to_owned())
}

/// An alert that fires for a minute.
#[must_use]
pub fn alert(fingerprint: &str, rule: &str) -> Alert {
    Alert {
        fingerprint: fingerprint.to_owned(),
        rule: rule.to_owned(),
        status: Status::Firing,
        labels: vec![label("agent", "web-1"), label("severity", "critical")],
        annotations: vec![
            label("summary", "The disk <root> is \"full\" & hot."),
            label("description", "93 % of *40* GB_s"),
            label("runbook_url", "https://wiki.example/disk"),
        ],
        value: 0.93,
        starts_at: NOW - 60_000,
        ends_at: None,
    }
}

/// An alert that is over.
#[must_use]
pub fn over(alert: Alert) -> Alert {
    Alert { status: Status::Resolved, ends_at: Some(NOW + 60_000), ..alert }
}

/// A notification of these alerts.
#[must_use]
pub fn notification(id: &str, alerts: Vec<Alert>) -> Notification {
    let firing = alerts.iter().any(|alert| alert.status == Status::Firing);
    Notification {
        id: id.to_owned(),
        time: NOW,
        status: if firing { Status::Firing } else { Status::Resolved },
        group: vec![label("agent", "web-1")],
        alerts,
        attempt: 1,
        may_be_repeat: false,
        link: "https://sentinel.example/alerts".to_owned(),
    }
}

/// Texts that break what is not escaped, cut or counted.
pub fn wild_text() -> impl Strategy<Value = String> {
    let hard = prop::sample::select(vec![
        "",
        " ",
        "\u{0}",
        "\u{1b}[31m",
        "\r\n",
        "\"",
        "\\",
        "&amp;",
        "<!channel>",
        "</b>",
        "<@U1>",
        "```",
        "@everyone",
        "|",
        "*",
        "_",
        "[x](y)",
        "😀",
        "ö",
        "\u{202e}",
        "{{secret:token}}",
        "https://x/|y>",
        "\u{2028}",
        "\u{feff}",
    ]);
    prop_oneof![
        4 => "[a-z0-9 .:/-]{0,20}",
        2 => prop::collection::vec(hard.clone(), 0..6).prop_map(|parts| parts.concat()),
        1 => (hard, 1usize..12_000).prop_map(|(text, times)| text.repeat(times)),
        1 => "\\PC{0,60}",
    ]
}

fn wild_pairs() -> impl Strategy<Value = Vec<Label>> {
    let key = prop_oneof![
        3 => "[a-z_]{1,8}",
        2 => prop::sample::select(vec![
            "summary", "description", "runbook_url", "severity", "agent", "alertname",
        ]).prop_map(str::to_owned),
        1 => wild_text(),
    ];
    prop::collection::vec((key, wild_text()), 0..8)
}

fn wild_alert() -> impl Strategy<Value = Alert> {
    let times = (any::<i64>(), prop::option::of(any::<i64>()));
    let texts = ("[0-9a-f]{0,16}", wild_text(), wild_pairs(), wild_pairs());
    (texts, any::<bool>(), any::<f64>(), times).prop_map(|(texts, firing, value, times)| Alert {
        fingerprint: texts.0,
        rule: texts.1,
        status: if firing { Status::Firing } else { Status::Resolved },
        labels: texts.2,
        annotations: texts.3,
        value,
        starts_at: times.0,
        ends_at: times.1,
    })
}

/// A notification of which nothing is certain but that it has an alert; shown no longer than a
/// person reads.
#[derive(Clone)]
pub struct Wild(pub Notification);

impl std::fmt::Debug for Wild {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whole = format!("{:?}", self.0);
        f.write_str(&whole[..whole.floor_char_boundary(2_000)])
    }
}

/// Any such notification.
pub fn wild() -> impl Strategy<Value = Wild> {
    let alerts = (prop::collection::vec(wild_alert(), 1..6), 1usize..40);
    (wild_text(), any::<i64>(), wild_pairs(), alerts, any::<bool>(), wild_text()).prop_map(
        |(link, time, group, (few, times), may_be_repeat, id)| {
            let count = few.len() * times;
            let alerts: Vec<Alert> = few.into_iter().cycle().take(count).collect();
            let link = if may_be_repeat { link } else { "https://h.example/alerts".to_owned() };
            Wild(Notification { time, group, may_be_repeat, link, ..notification(&id, alerts) })
        },
    )
}
