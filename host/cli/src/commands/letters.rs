//! `sentinel dlq`: notifications that were given up. `sentinel notify test`: whether a notifier is
//! heard.

use std::time::Duration;

use clap::{Args, Subcommand};
use sentinel_model::alert::DeliveryState;
use sentinel_server::api::{ByBody, NotificationBody, NotificationsBody, TestBody};

use super::attention::Author;
use super::fleet::decide::confirm;
use super::now;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::table::{Table, Tone};
use crate::output::{Look, Printer, human};

/// How often a test is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The most dead letters that are taken up at once.
const MOST_AT_ONCE: u32 = 10_000;

#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// Notifications that were given up, newest first.
    List(List),
    /// One of them: what it tells, every attempt, the errors.
    Show {
        /// Its id.
        id: String,
    },
    /// Send dead letters again, with a whole new budget of attempts.
    Retry(Chosen),
    /// Put dead letters away: they are never sent.
    Drop(PutAway),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Chosen {
    /// Their ids.
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<String>,
    /// All that there are.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    author: Author,
}

#[derive(Debug, Args)]
pub(crate) struct PutAway {
    #[command(flatten)]
    chosen: Chosen,
    /// Do not ask, where all are meant
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// The notifier's slot.
    name: String,
    /// How many seconds to wait.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u64,
    #[command(flatten)]
    author: Author,
}

pub(super) async fn dlq(
    command: DlqCommand,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    match command {
        DlqCommand::List(List { limit }) => {
            let body = letters(client, limit).await?;
            printer.data(&body, |look| list(&body, look))?;
            if body.notifications.is_empty() {
                printer.say("there are no dead letters");
            } else {
                printer.hint("send them again with `sentinel dlq retry ID`, or put them away with `sentinel dlq drop ID`");
            }
        }
        DlqCommand::Show { id } => {
            let body: NotificationBody =
                client.get(&format!("/v1/notifications/{id}"), &[]).await?;
            printer.data(&body, |look| show(&body, look))?;
        }
        DlqCommand::Retry(chosen) => {
            let (by, ids) = chosen.read(client).await?;
            let many = take_up(&by, ids, "retry", client, printer).await?;
            printer.say(&format!("{many} dead letters are sent again"));
        }
        DlqCommand::Drop(PutAway { chosen, yes }) => {
            let all = chosen.all;
            let (by, ids) = chosen.read(client).await?;
            if all && !yes && !ids.is_empty() {
                confirm(&format!("put {} dead letters away, never to be sent?", ids.len()))?;
            }
            let many = take_up(&by, ids, "drop", client, printer).await?;
            printer.say(&format!("{many} dead letters were put away"));
        }
    }
    Ok(())
}

async fn letters(client: &Client, limit: u32) -> Result<NotificationsBody, Failure> {
    client.get("/v1/dead-letters", &[("limit", limit.to_string())]).await
}

impl Chosen {
    /// Who chose, and what.
    async fn read(self, client: &Client) -> Result<(String, Vec<String>), Failure> {
        let by = self.author.name()?;
        if !self.all {
            return Ok((by, self.ids));
        }
        let found = letters(client, MOST_AT_ONCE).await?.notifications;
        Ok((by, found.into_iter().map(|delivery| delivery.notification.id).collect()))
    }
}

async fn take_up(
    by: &str,
    ids: Vec<String>,
    what: &str,
    client: &Client,
    printer: &Printer,
) -> Result<usize, Failure> {
    let mut done = Vec::with_capacity(ids.len());
    for id in ids {
        let path = format!("/v1/notifications/{id}/{what}");
        let body: NotificationBody = client.post(&path, &ByBody { by: by.to_owned() }).await?;
        done.push(body.delivery);
    }
    let many = done.len();
    printer.data(&NotificationsBody { notifications: done }, |_| String::new())?;
    Ok(many)
}

pub(super) async fn test(command: Test, client: &Client, printer: &Printer) -> Result<(), Failure> {
    let Test { name, wait, author } = command;
    let begun: TestBody =
        client.post(&format!("/v1/notifiers/{name}/test"), &ByBody { by: author.name()? }).await?;
    let path = format!("/v1/notifications/{}", begun.id);
    let deadline = std::time::Instant::now() + Duration::from_secs(wait);
    loop {
        let body: NotificationBody = client.get(&path, &[]).await?;
        let delivery = &body.delivery;
        let in_time = std::time::Instant::now() < deadline;
        if delivery.state == DeliveryState::Delivered {
            printer.data(&body, |look| show(&body, look))?;
            printer.say(&format!("{name} was told: {}", delivery.message));
            return Ok(());
        }
        // Attempts are read after the delivery: one that arrived in between is told the next time.
        let failed = body.attempts.last().is_some_and(|attempt| attempt.outcome != "delivered");
        if delivery.state == DeliveryState::Dead || failed || !in_time {
            printer.data(&body, |look| show(&body, look))?;
            let why = match body.attempts.last() {
                Some(attempt) => attempt.message.clone(),
                None => format!("no attempt came to an end within {wait} s"),
            };
            return Err(Failure::new(format!("{name} was not told: {why}")).hint(format!(
                "it is tried again like every notification; see `sentinel dlq show {}`",
                begun.id
            )));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn list(body: &NotificationsBody, look: Look) -> String {
    if body.notifications.is_empty() {
        return String::new();
    }
    let mut table = Table::new(look, &["time", "notifier", ">alerts", ">attempts", "id", "error"]);
    for delivery in &body.notifications {
        let notification = &delivery.notification;
        table.toned([
            (human::moment(notification.time), Tone::Quiet),
            (notification.notifier.to_string(), Tone::Plain),
            (notification.alerts.len().to_string(), Tone::Plain),
            (delivery.attempts.to_string(), Tone::Plain),
            (notification.id.clone(), Tone::Plain),
            (delivery.message.clone(), Tone::Bad),
        ]);
    }
    table.text()
}

fn show(body: &NotificationBody, look: Look) -> String {
    let delivery = &body.delivery;
    let notification = &delivery.notification;
    let (state, _) = super::alerts::delivery_state(delivery, now());
    let repeat = if delivery.may_be_repeat { ", may be a repeat" } else { "" };
    let mut text = format!(
        "{}  to {}  of {}  {state}{repeat}\n\n",
        notification.id,
        notification.notifier,
        human::moment(notification.time)
    );
    let mut alerts = Table::new(look, &["state", "rule", "alert", "labels", "summary"]);
    for alert in &notification.alerts {
        alerts.toned([
            (alert.state.as_str().to_owned(), Tone::Plain),
            (alert.rule.clone(), Tone::Plain),
            (alert.fingerprint.to_string(), Tone::Quiet),
            (alert.labels.to_string(), Tone::Plain),
            (alert.summary.clone(), Tone::Plain),
        ]);
    }
    text += &alerts.text();
    if body.attempts.is_empty() {
        return text;
    }
    let mut attempts = Table::new(look, &["time", ">attempt", ">took", "outcome", "said"]);
    for attempt in &body.attempts {
        let tone = if attempt.outcome == "delivered" { Tone::Good } else { Tone::Warning };
        attempts.toned([
            (human::moment(attempt.at), Tone::Quiet),
            (attempt.number.to_string(), Tone::Plain),
            (format!("{} ms", attempt.took_ms), Tone::Plain),
            (attempt.outcome.clone(), tone),
            (attempt.message.clone(), Tone::Plain),
        ]);
    }
    text.push('\n');
    text + &attempts.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Look = Look { color: false, width: 120 };
    const NOW: i64 = 1_700_000_000_000;

    fn letter() -> serde_json::Value {
        serde_json::json!({
            "notification": {
                "id": "ntf_1", "notifier": "pager", "time": NOW, "status": "firing", "group": {},
                "alerts": [{
                    "fingerprint": "62a5f29023c876e3", "rule": "high-cpu", "state": "firing",
                    "labels": { "agent": "web-1" }, "annotations": {}, "summary": "avg 93 > 90",
                    "value": 93.25, "active_since": NOW, "fired_at": NOW, "last_active": NOW,
                    "resolved_at": null, "incident": 4,
                }],
            },
            "state": "dead", "attempts": 2, "may_be_repeat": true, "next_attempt": NOW,
            "opened_at": NOW, "message": "held, it may have been taken: timeout",
        })
    }

    #[test]
    fn dead_letters_are_listed_with_their_errors() {
        let body = serde_json::json!({ "notifications": [letter()] });
        insta::assert_snapshot!(list(&serde_json::from_value(body).unwrap(), LOOK));
    }

    #[test]
    fn a_dead_letter_shows_what_it_tells_and_every_attempt() {
        let attempt = |number: u32, outcome: &str, message: &str| {
            serde_json::json!({
                "number": number, "at": NOW + i64::from(number), "took_ms": 12, "outcome": outcome,
                "message": message, "may_be_repeat": false,
            })
        };
        let body = serde_json::json!({
            "delivery": letter(),
            "attempts": [attempt(1, "retry", "HTTP 503\u{1b}[31m"), attempt(2, "unknown", "timeout")],
        });
        insta::assert_snapshot!(show(&serde_json::from_value(body).unwrap(), LOOK));
    }
}
