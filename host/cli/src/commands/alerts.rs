//! `sentinel alerts`: what is wrong, what was, and who was told.

use clap::{Args, Subcommand};
use sentinel_model::alert::{AlertState, Delivery, DeliveryState, NotificationStatus};
use sentinel_server::api::{AlertsBody, HistoryBody, NotificationsBody};

use super::attention::{self, Acknowledge, Release, SilenceCommand};
use super::now;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::table::{Table, Tone};
use crate::output::{Look, Printer, human};

/// Digits of an alert's id that are shown: enough to tell alerts apart, and to write them again.
const SHOWN_DIGITS: usize = 8;

/// Options of `sentinel alerts`.
#[derive(Debug, Args)]
pub(crate) struct Alerts {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// What happened to alerts, newest first.
    History(Limit),
    /// Notifications and what became of them, newest first.
    Notifications(Limit),
    /// Take an alert that fires in hand, or hand it over: it is not repeated nor escalated.
    Ack(Acknowledge),
    /// Give an alert back that somebody had in hand.
    Release(Release),
    /// Silences: alerts that nobody is told of for a time.
    #[command(subcommand)]
    Silence(SilenceCommand),
}

#[derive(Debug, Args)]
struct Limit {
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
}

impl Limit {
    fn query(&self) -> [(&'static str, String); 1] {
        [("limit", self.limit.to_string())]
    }
}

pub(super) async fn run(
    command: Alerts,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    match command.what {
        None => {
            let body: AlertsBody = client.get("/v1/alerts", &[]).await?;
            printer.data(&body, |look| alerts(&body, now(), look))?;
            if body.alerts.is_empty() {
                printer.say("no alert is pending or firing");
            }
        }
        Some(What::History(limit)) => {
            let body: HistoryBody = client.get("/v1/alerts/history", &limit.query()).await?;
            printer.data(&body, |look| history(&body, look))?;
            if body.transitions.is_empty() {
                printer.say("nothing has happened yet");
            }
        }
        Some(What::Ack(command)) => attention::acknowledge(command, client, printer).await?,
        Some(What::Release(command)) => attention::release(command, client, printer).await?,
        Some(What::Silence(command)) => attention::silence(command, client, printer).await?,
        Some(What::Notifications(limit)) => {
            let body: NotificationsBody = client.get("/v1/notifications", &limit.query()).await?;
            printer.data(&body, |look| notifications(&body, now(), look))?;
            if body.notifications.is_empty() {
                printer.say("nobody has been told anything yet");
            }
        }
    }
    Ok(())
}

const fn tone(state: AlertState) -> Tone {
    match state {
        AlertState::Pending => Tone::Warning,
        AlertState::Firing => Tone::Bad,
        AlertState::Resolved => Tone::Good,
    }
}

pub(super) fn alerts(body: &AlertsBody, now: i64, look: Look) -> String {
    if body.alerts.is_empty() {
        return String::new();
    }
    let mut table = Table::new(
        look,
        &["id", "state", "rule", ">since", ">value", "labels", "summary", "in hand"],
    );
    for alert in &body.alerts {
        let fingerprint = alert.fingerprint.to_string();
        let silences = body.silenced.get(&fingerprint);
        let silenced = silences.map(|ids| format!("silenced ({})", ids.join(", ")));
        let owned = body.acknowledgements.iter().find(|a| a.fingerprint == alert.fingerprint);
        let in_hand = owned.map(|a| a.owner.clone()).or(silenced).unwrap_or_default();
        let since = alert.resolved_at.or(alert.fired_at).unwrap_or(alert.active_since);
        table.toned([
            (fingerprint[..SHOWN_DIGITS].to_owned(), Tone::Quiet),
            (alert.state.as_str().to_owned(), tone(alert.state)),
            (alert.rule.clone(), Tone::Plain),
            (human::ago(now - since), Tone::Plain),
            (human::value(alert.value), Tone::Plain),
            (alert.labels.to_string(), Tone::Plain),
            (alert.summary.clone(), Tone::Plain),
            (in_hand, Tone::Quiet),
        ]);
    }
    table.text()
}

fn history(body: &HistoryBody, look: Look) -> String {
    if body.transitions.is_empty() {
        return String::new();
    }
    let mut table =
        Table::new(look, &["time", "rule", "alert", ">incident", "from", "to", ">value"]);
    for one in &body.transitions {
        let name = |state: Option<AlertState>| state.map_or("ok", AlertState::as_str).to_owned();
        table.toned([
            (human::moment(one.at), Tone::Quiet),
            (one.rule.clone(), Tone::Plain),
            (one.fingerprint.to_string(), Tone::Quiet),
            (one.incident.to_string(), Tone::Plain),
            (name(one.from), Tone::Plain),
            (name(one.to), one.to.map_or(Tone::Plain, tone)),
            (human::value(one.value), Tone::Plain),
        ]);
    }
    table.text()
}

fn notifications(body: &NotificationsBody, now: i64, look: Look) -> String {
    if body.notifications.is_empty() {
        return String::new();
    }
    let mut table = Table::new(
        look,
        &["time", "notifier", "status", ">alerts", "delivery", ">attempts", "id", "said"],
    );
    for delivery in &body.notifications {
        let notification = &delivery.notification;
        let (state, tone) = delivery_state(delivery, now);
        let status = match notification.status {
            NotificationStatus::Firing => "firing",
            NotificationStatus::Resolved => "resolved",
        };
        table.toned([
            (human::moment(notification.time), Tone::Quiet),
            (notification.notifier.to_string(), Tone::Plain),
            (status.to_owned(), Tone::Plain),
            (notification.alerts.len().to_string(), Tone::Plain),
            (state, tone),
            (delivery.attempts.to_string(), Tone::Plain),
            (notification.id.clone(), Tone::Quiet),
            (delivery.message.clone(), Tone::Plain),
        ]);
    }
    table.text()
}

pub(super) fn delivery_state(delivery: &Delivery, now: i64) -> (String, Tone) {
    match delivery.state {
        DeliveryState::Pending if delivery.next_attempt > now => {
            (format!("retry in {}", human::span(delivery.next_attempt - now)), Tone::Warning)
        }
        DeliveryState::Pending => ("pending".into(), Tone::Plain),
        DeliveryState::Sending => ("sending".into(), Tone::Plain),
        DeliveryState::Delivered => ("delivered".into(), Tone::Good),
        DeliveryState::Dead => ("dead".into(), Tone::Bad),
        DeliveryState::Dropped => ("dropped".into(), Tone::Quiet),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Look = Look { color: false, width: 120 };
    const NOW: i64 = 1_700_000_000_000;

    fn alert(state: &str, extra: serde_json::Value) -> serde_json::Value {
        let mut alert = serde_json::json!({
            "fingerprint": "62a5f29023c876e3", "rule": "high-cpu", "state": state,
            "labels": { "agent": "web-1", "cpu": "0" }, "annotations": {},
            "summary": "avg 93 > 90", "value": 93.25, "active_since": NOW - 300_000,
            "fired_at": null, "last_active": NOW, "resolved_at": null, "incident": 4,
        });
        for (key, value) in extra.as_object().unwrap() {
            alert[key] = value.clone();
        }
        alert
    }

    #[test]
    fn alerts_show_since_when_they_are_what_they_are() {
        let body = serde_json::json!({ "alerts": [
            alert("firing", serde_json::json!({ "fired_at": NOW - 60_000 })),
            alert("pending", serde_json::json!({})),
            alert("resolved", serde_json::json!({ "fired_at": NOW - 60_000, "resolved_at": NOW - 1000 })),
        ] });
        insta::assert_snapshot!(alerts(&serde_json::from_value(body).unwrap(), NOW, LOOK));
    }

    #[test]
    fn history_names_both_ends_of_a_step() {
        let step = |from, to| {
            serde_json::json!({
                "fingerprint": "62a5f29023c876e3", "rule": "high-cpu", "incident": 4, "from": from,
                "to": to, "at": NOW, "value": 93.25, "rules_version": 3,
            })
        };
        let body = serde_json::json!({ "transitions": [
            step(Some("resolved"), None),
            step(Some("pending"), Some("firing")),
            step(None, Some("pending")),
        ] });
        insta::assert_snapshot!(history(&serde_json::from_value(body).unwrap(), LOOK));
    }

    #[test]
    fn notifications_show_what_became_of_them() {
        let delivery = |state: &str, next: i64, message: &str| {
            serde_json::json!({
                "notification": {
                    "id": "msg_1", "notifier": "webhook", "time": NOW, "status": "firing",
                    "group": {}, "alerts": [alert("firing", serde_json::json!({}))],
                },
                "state": state, "attempts": 3, "may_be_repeat": false, "next_attempt": next,
                "message": message,
            })
        };
        let body = serde_json::json!({ "notifications": [
            delivery("pending", NOW + 90_000, "HTTP 503\u{1b}[31m"),
            delivery("pending", NOW, ""),
            delivery("sending", NOW, ""),
            delivery("delivered", NOW, "HTTP 200"),
            delivery("dead", NOW, "HTTP 410"),
        ] });
        insta::assert_snapshot!(notifications(&serde_json::from_value(body).unwrap(), NOW, LOOK));
    }
}
