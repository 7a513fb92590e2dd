//! A notification as an adaptive card, within Teams' bounds whatever it holds.

use sentinel_sdk::notify::{
    Severity, cut, cut_escaped, details, headline, link_of, more, number, repeat_words, runbook,
    time, title,
};
use sentinel_sdk::{Alert, Notification, Status};
use serde_json::{Value, json};

/// Most bytes of a body; Teams takes 28 KiB.
pub(crate) const MAX_BYTES: usize = 27_000;
/// Bytes that are kept for what stands after the alerts.
const END_BYTES: usize = 3_000;
/// Longest headline, and longest description, of one alert, in UTF-16 units.
const MAX_WORDS: usize = 1_000;
/// Longest value of a fact.
const MAX_FACT: usize = 200;
/// Most labels of an alert that are shown.
const MAX_LABELS: usize = 12;
/// Longest id that is shown.
const MAX_ID: usize = 100;

/// The body of a request: a message with one card.
pub(crate) fn message(notification: &Notification) -> Value {
    let mut body = vec![json!({
        "type": "TextBlock", "size": "Large", "weight": "Bolder", "wrap": true,
        "text": escape(&title(notification), MAX_FACT),
        "color": color(notification.status, Severity::worst(notification)),
    })];
    let mut room = MAX_BYTES - END_BYTES;
    let mut told = 0;
    for alert in &notification.alerts {
        let container = container(alert);
        let Some(left) = room.checked_sub(container.to_string().len() + 1) else {
            break;
        };
        room = left;
        told += 1;
        body.push(container);
    }
    let left = notification.alerts.len() - told;
    let mut words: Vec<String> = Vec::new();
    if left > 0 {
        words.push(format!("… {}", more(left)));
    }
    words.extend(repeat_words(notification).map(str::to_owned));
    words.push(escape(&notification.id, MAX_ID));
    let words = words.join(" · ");
    if !words.is_empty() {
        body.push(json!({"type": "TextBlock", "isSubtle": true, "wrap": true, "text": words}));
    }
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard", "version": "1.4",
        "msteams": {"width": "Full"},
        "body": body,
    });
    if let Some(link) = link_of(notification) {
        card["actions"] =
            json!([{"type": "Action.OpenUrl", "title": "Look in Sentinel", "url": link}]);
    }
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": card,
        }],
    })
}

fn color(status: Status, severity: Severity) -> &'static str {
    match (status, severity) {
        (Status::Resolved, _) => "Good",
        (_, Severity::Critical | Severity::Error) => "Attention",
        (_, Severity::Warning) => "Warning",
        (_, Severity::Info) => "Accent",
    }
}

/// One alert.
fn container(alert: &Alert) -> Value {
    let sign = if alert.status == Status::Firing { "🔥" } else { "✅" };
    let mut items = vec![json!({
        "type": "TextBlock", "weight": "Bolder", "wrap": true,
        "text": format!("{sign} {}", escape(headline(alert), MAX_WORDS)),
        "color": color(alert.status, Severity::of(alert)),
    })];
    if let Some(details) = details(alert) {
        items.push(json!({"type": "TextBlock", "wrap": true, "text": escape(details, MAX_WORDS)}));
    }
    let mut facts =
        vec![fact("Value", &number(alert.value)), fact("Since", &time::utc(alert.starts_at))];
    if alert.status == Status::Resolved {
        let end = alert.ends_at.unwrap_or(alert.starts_at);
        facts.push(fact("Lasted", &time::duration(end.saturating_sub(alert.starts_at))));
    }
    for (key, value) in alert.labels.iter().take(MAX_LABELS) {
        facts.push(fact(&escape(key, MAX_FACT), &escape(value, MAX_FACT)));
    }
    items.push(json!({"type": "FactSet", "facts": facts}));
    if let Some(runbook) = runbook(alert) {
        items.push(json!({"type": "TextBlock", "text": format!("[Runbook]({runbook})")}));
    }
    json!({"type": "Container", "separator": true, "items": items})
}

/// A fact without a title or a value is not shown: a blank becomes a dash.
fn fact(title: &str, value: &str) -> Value {
    let shown = |text: &str| cut(if text.trim().is_empty() { "–" } else { text }, MAX_FACT);
    json!({"title": shown(title), "value": shown(value)})
}

/// A text in a card's markdown in which nothing means anything: no link, no mention, no list.
fn escape(text: &str, most: usize) -> String {
    cut_escaped(text, most, |one| match one {
        '\\' => Some("\\\\"),
        '*' => Some("\\*"),
        '_' => Some("\\_"),
        '[' => Some("\\["),
        ']' => Some("\\]"),
        '<' => Some("‹"),
        '>' => Some("›"),
        '{' => Some("("),
        '}' => Some(")"),
        '\n' => Some("\n\n"),
        one if one.is_control() => Some(" "),
        _ => None,
    })
}
