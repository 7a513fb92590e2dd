//! A notification as embeds, within Discord's bounds whatever it holds.

use sentinel_sdk::notify::{
    Severity, cut, cut_escaped, details, headline, length, link_of, more, number, repeat_words,
    runbook, time, title,
};
use sentinel_sdk::{Alert, Notification, Status};
use serde_json::{Value, json};

/// Most alerts that are told; Discord takes ten embeds, and one says what is left.
const MAX_ALERTS: usize = 9;
/// Longest text of all embeds together is 6,000; so much of it is kept for the last embed.
const MAX_ALL: usize = 5_700;
/// Longest title of an embed.
const MAX_TITLE: usize = 256;
/// Longest description of one alert; Discord takes 4,096.
const MAX_WORDS: usize = 1_000;
/// Longest content of a message is 2,000.
const MAX_CONTENT: usize = 600;
/// Longest list of labels: one field's value may have 1,024.
const MAX_LABELS: usize = 900;
/// Longest name of a username is 80; longest text of a footer 2,048.
const MAX_FOOTER: usize = 200;

/// The body of a request.
pub(crate) fn message(notification: &Notification) -> Value {
    let sign = if notification.status == Status::Firing { "🔥" } else { "✅" };
    let mut content = format!("{sign} **{}**", escape(&title(notification), MAX_CONTENT / 2));
    if let Some(words) = repeat_words(notification) {
        content.push_str(&format!("\n{words}"));
    }
    let (mut embeds, mut room) = (Vec::new(), MAX_ALL);
    for alert in notification.alerts.iter().take(MAX_ALERTS) {
        let (embed, size) = embed(notification, alert);
        let Some(left) = room.checked_sub(size) else {
            break;
        };
        room = left;
        embeds.push(embed);
    }
    let left = notification.alerts.len() - embeds.len();
    if left > 0 {
        let mut last = json!({"title": format!("… {}", more(left))});
        if let Some(link) = link_of(notification) {
            last["url"] = link.into();
        }
        embeds.push(last);
    }
    json!({"content": content, "embeds": embeds, "allowed_mentions": {"parse": []}})
}

/// One alert, and how many characters of it count.
fn embed(notification: &Notification, alert: &Alert) -> (Value, usize) {
    let (color, sign) = match (alert.status, Severity::of(alert)) {
        (Status::Resolved, _) => (0x2E_B8_86, "✅"),
        (_, Severity::Critical) => (0xD0_02_1B, "🔥"),
        (_, Severity::Error) => (0xE6_5C_00, "🔥"),
        (_, Severity::Warning) => (0xF5_A6_23, "🔥"),
        (_, Severity::Info) => (0x4A_90_E2, "🔥"),
    };
    let title = format!("{sign} {}", escape(headline(alert), MAX_TITLE - 3));
    let mut words = details(alert).map(|text| escape(text, MAX_WORDS)).unwrap_or_default();
    if let Some(runbook) = runbook(alert).filter(|link| length(link) < MAX_WORDS) {
        words.push_str(&format!("\n[Runbook]({runbook})"));
    }
    let mut labels = String::new();
    for (key, value) in &alert.labels {
        let label =
            cut(&format!("{key}={value}").replace('`', "'").replace(['\n', '\r'], " "), 120);
        if length(&labels) + length(&label) + 3 > MAX_LABELS {
            break;
        }
        labels.push_str(&format!("`{label}` "));
    }
    let mut fields = vec![("Value", number(alert.value))];
    if alert.status == Status::Resolved {
        let lasted = alert.ends_at.unwrap_or(alert.starts_at).saturating_sub(alert.starts_at);
        fields.push(("Lasted", time::duration(lasted)));
    }
    if !labels.trim().is_empty() {
        fields.push(("Labels", labels.trim_end().to_owned()));
    }
    let footer = cut(&notification.id, MAX_FOOTER);
    let size = [&title, &words, &footer].iter().map(|text| length(text)).sum::<usize>()
        + fields.iter().map(|(name, value)| length(name) + length(value)).sum::<usize>();
    let fields: Vec<Value> = fields
        .into_iter()
        .map(|(name, value)| json!({"name": name, "value": value, "inline": name != "Labels"}))
        .collect();
    let mut embed = json!({
        "title": title, "description": words, "color": color, "fields": fields,
        "timestamp": time::rfc3339(alert.starts_at),
    });
    if !footer.is_empty() {
        embed["footer"] = json!({"text": footer});
    }
    if let Some(link) = link_of(notification) {
        embed["url"] = link.into();
    }
    (embed, size)
}

/// A text in Discord's markdown in which nothing means anything; mentions are off besides.
fn escape(text: &str, most: usize) -> String {
    cut_escaped(text, most, |one| match one {
        '\\' => Some("\\\\"),
        '*' => Some("\\*"),
        '_' => Some("\\_"),
        '~' => Some("\\~"),
        '`' => Some("\\`"),
        '|' => Some("\\|"),
        '>' => Some("\\>"),
        '<' => Some("\\<"),
        '[' => Some("\\["),
        ']' => Some("\\]"),
        '#' => Some("\\#"),
        '\n' => None,
        one if one.is_control() => Some(" "),
        _ => None,
    })
}
