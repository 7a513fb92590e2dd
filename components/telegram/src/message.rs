//! A notification as one text in Telegram's HTML, within its bounds whatever it holds.

use sentinel_sdk::notify::{
    Bounded, cut_escaped, details, headline, html, length, link_of, more, number, repeat_words,
    runbook, time, title,
};
use sentinel_sdk::{Alert, Notification, Status};

/// Longest text. Telegram counts what is left after its markup is read, so this is on the safe
/// side.
const MAX_TEXT: usize = 4_096;
/// Longest headline, and longest description, of one alert.
const MAX_WORDS: usize = 600;
/// Longest label.
const MAX_LABEL: usize = 100;
/// Most labels of an alert that are shown.
const MAX_LABELS: usize = 10;
/// Longest title, and longest id, of the notification.
const MAX_TITLE: usize = 400;

/// The text of a message.
pub(crate) fn text(notification: &Notification) -> String {
    let sign = if notification.status == Status::Firing { "🔥" } else { "✅" };
    let mut text = Bounded::new(MAX_TEXT);
    let head = format!("{sign} <b>{}</b>", escape(&title(notification), MAX_TITLE));
    let end = end(notification, notification.alerts.len());
    let kept = length(&end);
    let mut fits = text.push(&head) && text.keep(kept);
    let mut told = 0;
    for alert in &notification.alerts {
        fits = fits && text.push(&part(alert));
        if !fits {
            break;
        }
        told += 1;
    }
    text.release(kept);
    // With less to tell it is no longer than with all of it.
    text.push(&self::end(notification, notification.alerts.len() - told));
    text.into_text()
}

/// What stands after the alerts: how many are left, the link to all, whether it may be a repeat.
fn end(notification: &Notification, left: usize) -> String {
    let mut end = String::new();
    if left > 0 {
        end.push_str(&format!("\n\n… {}", more(left)));
    }
    if let Some(link) = link_of(notification) {
        end.push_str(&format!("\n\n<a href=\"{}\">Look in Sentinel</a>", escape(link, MAX_TEXT)));
    }
    if let Some(words) = repeat_words(notification) {
        end.push_str(&format!("\n<i>{words}</i>"));
    }
    end
}

/// One alert.
fn part(alert: &Alert) -> String {
    let sign = if alert.status == Status::Firing { "🔥" } else { "✅" };
    let mut part = format!("\n\n{sign} <b>{}</b>", escape(headline(alert), MAX_WORDS));
    if let Some(details) = details(alert) {
        part.push_str(&format!("\n{}", escape(details, MAX_WORDS)));
    }
    let since = time::utc(alert.starts_at);
    part.push_str(&format!("\nvalue {}, since {since}", number(alert.value)));
    if let Some(end) = alert.ends_at.filter(|_| alert.status == Status::Resolved) {
        let lasted = time::duration(end.saturating_sub(alert.starts_at));
        part.push_str(&format!(", over after {lasted}"));
    }
    let labels: Vec<String> = alert
        .labels
        .iter()
        .take(MAX_LABELS)
        .map(|(key, value)| {
            format!("<code>{}</code>", escape(&format!("{key}={value}"), MAX_LABEL))
        })
        .collect();
    if !labels.is_empty() {
        part.push_str(&format!("\n{}", labels.join(" ")));
    }
    if let Some(runbook) = runbook(alert) {
        part.push_str(&format!("\n<a href=\"{}\">Runbook</a>", escape(runbook, MAX_TEXT)));
    }
    part
}

fn escape(text: &str, most: usize) -> String {
    cut_escaped(text, most, html)
}
