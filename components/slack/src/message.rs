//! A notification in Block Kit, within Slack's bounds whatever it holds.

use sentinel_sdk::notify::{
    counts, cut_escaped, details, headline, html, length, link_of, more, number, repeat_words,
    runbook, time, title,
};
use sentinel_sdk::{Alert, Label, Notification, Status};
use serde_json::{Value, json};

/// Most alerts that a message tells; Slack takes 50 blocks.
const MAX_ALERTS: usize = 40;
/// Longest text of all blocks together, in UTF-16 units: Slack refuses what is far below the sum
/// of the bounds of single blocks (`msg_blocks_too_long`), and says nowhere from where on.
const MAX_BLOCKS_TEXT: usize = 11_000;
/// Longest text of one alert; a section takes 3,000.
const MAX_SECTION: usize = 2_900;
/// Longest header.
const MAX_HEADER: usize = 150;
/// Longest text for what shows no blocks; Slack takes 40,000 and advises 4,000.
const MAX_FALLBACK: usize = 1_000;
/// Longest single text of an alert.
const MAX_WORDS: usize = 900;
/// Longest value of a label.
const MAX_LABEL: usize = 120;
/// Most labels of an alert that are shown.
const MAX_LABELS: usize = 12;

/// `text` and `blocks` of a message. `firing` is how many alerts of the group fire in all, where
/// that is known.
pub(crate) fn message(notification: &Notification, firing: Option<usize>) -> (String, Value) {
    let title = match firing {
        // Something fires, though nothing of what this notification tells.
        Some(all) if notification.status == Status::Resolved && all > 0 => {
            title(notification).replacen("RESOLVED", "PARTLY RESOLVED", 1)
        }
        _ => title(notification),
    };
    let sign = if firing.unwrap_or(counts(notification).0) > 0 { "🔥" } else { "✅" };
    let head = cut_escaped(&format!("{sign} {title}"), MAX_HEADER, plain);
    let foot = cut_escaped(&foot_words(notification, firing), MAX_SECTION, plain);
    let link = link_of(notification);
    let mut room = MAX_BLOCKS_TEXT - length(&head) - length(&foot) - 1_200;
    let mut blocks = vec![json!({"type": "header", "text": plain_text(&head)})];
    let mut told = 0;
    for alert in notification.alerts.iter().take(MAX_ALERTS) {
        let text = section(alert);
        let Some(left) = room.checked_sub(length(&text)) else {
            break;
        };
        room = left;
        told += 1;
        blocks.push(json!({"type": "section", "text": mrkdwn(&text)}));
    }
    let mut end = match notification.alerts.len() - told {
        0 => String::new(),
        left => format!("… {}", more(left)),
    };
    if let Some(link) = link {
        let separator = if end.is_empty() { "" } else { ": " };
        end = format!("{end}{separator}<{}|Look in Sentinel>", escape(link, MAX_SECTION));
    }
    if !end.is_empty() {
        blocks.push(json!({"type": "section", "text": mrkdwn(&end)}));
    }
    blocks.push(json!({"type": "context", "elements": [plain_text(&foot)]}));
    let first = notification.alerts.first().map_or("", |alert| headline(alert));
    (escape(&format!("{title}: {first}"), MAX_FALLBACK), Value::Array(blocks))
}

fn foot_words(notification: &Notification, firing: Option<usize>) -> String {
    let mut words = vec![time::utc(notification.time)];
    if let Some(all) = firing.filter(|all| *all > 0) {
        words.push(format!("{all} of this group firing"));
    }
    words.extend(repeat_words(notification).map(str::to_owned));
    words.push(notification.id.clone());
    words.join(" · ")
}

/// One alert: what is wrong, since when, with what value, where.
fn section(alert: &Alert) -> String {
    let sign = match alert.status {
        Status::Firing => "🔥",
        Status::Resolved => "✅",
    };
    let mut text = format!("{sign} *{}*", escape(&bold(headline(alert)), MAX_WORDS));
    if let Some(details) = details(alert) {
        text.push_str(&format!("\n{}", escape(details, MAX_WORDS)));
    }
    let since = time::utc(alert.starts_at);
    let when = match alert.ends_at.filter(|_| alert.status == Status::Resolved) {
        Some(end) => {
            let lasted = time::duration(end.saturating_sub(alert.starts_at));
            format!("{since}, over after {lasted}")
        }
        None => format!("since {since}"),
    };
    text.push_str(&format!("\nvalue {} · {when}", number(alert.value)));
    if let Some(runbook) = runbook(alert) {
        text.push_str(&format!(" · <{}|runbook>", escape(runbook, MAX_WORDS)));
    }
    let labels: Vec<String> = alert.labels.iter().take(MAX_LABELS).map(code).collect();
    // Labels are the last to be told and the first to go.
    for label in &labels {
        if length(&text) + length(label) + 1 > MAX_SECTION {
            break;
        }
        text.push(if std::ptr::eq(label, &labels[0]) { '\n' } else { ' ' });
        text.push_str(label);
    }
    text
}

/// A label as code, in which nothing but a back quote means anything.
fn code((key, value): &Label) -> String {
    let plain = format!("{key}={value}").replace('`', "'").replace(['\n', '\r'], " ");
    format!("`{}`", escape(&plain, MAX_LABEL))
}

/// What stands between two stars: without stars and line breaks, which would end it.
fn bold(text: &str) -> String {
    text.replace('*', "∗").replace(['\n', '\r'], " ")
}

/// A text in mrkdwn: `<!channel>` and the like mean nothing in it.
fn escape(text: &str, most: usize) -> String {
    cut_escaped(text, most, html)
}

/// Nothing means anything in a `plain_text`; control characters become spaces.
fn plain(one: char) -> Option<&'static str> {
    one.is_control().then_some(" ")
}

fn plain_text(text: &str) -> Value {
    json!({"type": "plain_text", "text": text, "emoji": false})
}

fn mrkdwn(text: &str) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}
