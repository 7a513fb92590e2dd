//! A notification as a mail's subject, text and HTML, within a bound whatever it holds.

use sentinel_sdk::notify::{
    Severity, cut, cut_bytes, cut_escaped, details, headline, html, link_of, more, number,
    repeat_words, runbook, time, title,
};
use sentinel_sdk::{Alert, Notification, Status};

/// Bytes that are kept for what stands after the alerts.
const END_BYTES: usize = 1_600;
/// Longest headline, and longest description, of one alert, in UTF-16 units.
const MAX_WORDS: usize = 2_000;
/// Longest name or value of a label.
const MAX_LABEL: usize = 300;
/// Most labels of an alert that are shown.
const MAX_LABELS: usize = 24;
/// Longest id that is shown, in bytes.
const MAX_ID_BYTES: usize = 200;

/// The subject: one line, at most 600 bytes.
pub(crate) fn subject(notification: &Notification) -> String {
    cut_bytes(&title(notification), 600)
}

/// The mail as plain text, at most `most` bytes.
pub(crate) fn text(notification: &Notification, most: usize) -> String {
    let head = format!("{}\n", cut_bytes(&title(notification), 600));
    let (mut out, left) = with_alerts(head, notification, most, part_of_text);
    if left > 0 {
        out.push_str(&format!("\n... {}\n", more(left)));
    }
    if let Some(link) = link_of(notification) {
        out.push_str(&format!("\n{link}\n"));
    }
    if let Some(words) = repeat_words(notification) {
        out.push_str(&format!("\n{words}\n"));
    }
    out.push_str(&format!("\n-- \nSentinel {}\n", cut_bytes(&notification.id, MAX_ID_BYTES)));
    cut_bytes(&out, most)
}

/// The mail as HTML, at most `most` bytes.
pub(crate) fn page(notification: &Notification, most: usize) -> String {
    let head = format!(
        "<!DOCTYPE html><html><body style=\"font-family:sans-serif\"><h2>{}</h2>\n",
        escape(&title(notification), 400)
    );
    let (mut out, left) = with_alerts(head, notification, most, part_of_page);
    if left > 0 {
        out.push_str(&format!("<p>… {}</p>\n", more(left)));
    }
    if let Some(link) = link_of(notification) {
        out.push_str(&format!("<p><a href=\"{}\">Look in Sentinel</a></p>\n", escape(link, 1_100)));
    }
    if let Some(words) = repeat_words(notification) {
        out.push_str(&format!("<p><i>{words}</i></p>\n"));
    }
    out.push_str("</body></html>\n");
    out
}

/// The head and as many alerts as fit beside the end; how many are left.
fn with_alerts(
    mut out: String,
    notification: &Notification,
    most: usize,
    part: impl Fn(&Alert) -> String,
) -> (String, usize) {
    let mut told = 0;
    for alert in &notification.alerts {
        let part = part(alert);
        if out.len() + part.len() + END_BYTES > most {
            break;
        }
        out.push_str(&part);
        told += 1;
    }
    (out, notification.alerts.len() - told)
}

fn when(alert: &Alert) -> String {
    let since = time::utc(alert.starts_at);
    match alert.ends_at.filter(|_| alert.status == Status::Resolved) {
        Some(end) => {
            let lasted = time::duration(end.saturating_sub(alert.starts_at));
            format!("{since}, over after {lasted}")
        }
        None => format!("since {since}"),
    }
}

fn word(alert: &Alert) -> &'static str {
    match alert.status {
        Status::Firing => "FIRING",
        Status::Resolved => "RESOLVED",
    }
}

fn part_of_text(alert: &Alert) -> String {
    let mut out = format!("\n[{}] {}\n", word(alert), plain(headline(alert), MAX_WORDS));
    if let Some(details) = details(alert) {
        out.push_str(&format!("  {}\n", plain(details, MAX_WORDS)));
    }
    out.push_str(&format!(
        "  {}, value {}, {}\n",
        Severity::of(alert).word(),
        number(alert.value),
        when(alert)
    ));
    for (key, value) in alert.labels.iter().take(MAX_LABELS) {
        out.push_str(&format!("  {} = {}\n", plain(key, MAX_LABEL), plain(value, MAX_LABEL)));
    }
    if let Some(runbook) = runbook(alert) {
        out.push_str(&format!("  {runbook}\n"));
    }
    out
}

fn part_of_page(alert: &Alert) -> String {
    let color = match (alert.status, Severity::of(alert)) {
        (Status::Resolved, _) => "#2eb886",
        (_, Severity::Critical | Severity::Error) => "#d0021b",
        (_, Severity::Warning) => "#f5a623",
        (_, Severity::Info) => "#4a90e2",
    };
    let mut out = format!(
        "<div style=\"border-left:4px solid {color};padding-left:1em;margin:1em 0\">\
         <b>{}: {}</b>",
        word(alert),
        escape(headline(alert), MAX_WORDS)
    );
    if let Some(details) = details(alert) {
        let shown = escape(details, MAX_WORDS).replace('\n', "<br>");
        out.push_str(&format!("<p>{shown}</p>"));
    }
    out.push_str(&format!("<p>value {}, {}</p><table>", number(alert.value), when(alert)));
    for (key, value) in alert.labels.iter().take(MAX_LABELS) {
        let (key, value) = (escape(key, MAX_LABEL), escape(value, MAX_LABEL));
        out.push_str(&format!("<tr><td>{key}</td><td>{value}</td></tr>"));
    }
    out.push_str("</table>");
    if let Some(runbook) = runbook(alert) {
        out.push_str(&format!("<p><a href=\"{}\">Runbook</a></p>", escape(runbook, 1_100)));
    }
    out.push_str("</div>\n");
    out
}

/// A text on one line.
fn plain(text: &str, most: usize) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    cut(&line, most)
}

fn escape(text: &str, most: usize) -> String {
    cut_escaped(text, most, html)
}
