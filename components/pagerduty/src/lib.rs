//! The first-party plugin sentinel/pagerduty: tells PagerDuty through its Events API v2.
//!
//! ```yaml
//! plugin: sentinel/pagerduty
//! config: { routing_key: pagerduty-key }
//! grants:
//!   http:
//!     origins: ["https://events.pagerduty.com"]
//!     methods: [POST]
//!     secrets:
//!       - name: pagerduty-key
//!         origin: "https://events.pagerduty.com"
//!         place: { json: routing_key }
//! ```
//!
//! Each alert is an event: `trigger` while it fires, `resolve` when it is over, under the
//! `dedup_key` of its fingerprint. PagerDuty folds events of one key into one alert, so
//! telling it twice changes nothing, and a resolution finds what it resolves.
//!
//! | field | of |
//! |---|---|
//! | `summary` | the rule and the annotation `summary`, else `description` |
//! | `severity` | the label `severity`: critical, error, warning (also where it says nothing known), info |
//! | `source`, `component` | the labels `agent`, `instance` or `host`; `service`, `job` or `component` |
//! | `class`, `group` | the rule; the labels by which the alerts were grouped |
//! | `links` | the annotation `runbook_url`, the notification's link |
//! | `custom_details` | the value, all labels and annotations, within 64 KiB each |
//!
//! The host writes the integration key into the member `routing_key`; the plugin never sees it.
//! 202 is done; 429 and 5xx are tried again; 400 says in its `errors` what is wrong, for good.
//! The events of a notification go out together; where some were refused for now, only those are
//! sent again while the instance lives, and all of them otherwise, which their keys make harmless.

mod config;
mod event;

use std::collections::{BTreeSet, VecDeque};

use sentinel_sdk::http::{self, Request};
use sentinel_sdk::{
    DeliveryError, Diagnostic, Notification, Notifier, Receipt, Retry, clock, export_notifier,
};

pub use config::Config;
use config::Target;

/// Requests that are sent at once.
const AT_ONCE: usize = 20;
/// Notifications of which it is remembered what PagerDuty took, until all of it is taken.
const REMEMBERED: usize = 64;

/// The notifier.
#[derive(Debug)]
pub struct PagerDuty {
    target: Target,
    /// Notifications that were taken in part, oldest first: their ids, and which alerts.
    taken: VecDeque<(String, BTreeSet<usize>)>,
}

impl Notifier for PagerDuty {
    type Config = Config;

    fn configure(config: Config) -> Result<Self, Vec<Diagnostic>> {
        Target::of(config).map(|target| Self { target, taken: VecDeque::new() })
    }

    fn notify(&mut self, notification: Notification) -> Result<Receipt, DeliveryError> {
        let before = self.taken.iter().position(|(id, _)| *id == notification.id);
        let before = before.and_then(|at| self.taken.remove(at));
        let mut taken = before.map(|(_, taken)| taken).unwrap_or_default();
        let left: Vec<usize> =
            (0..notification.alerts.len()).filter(|at| !taken.contains(at)).collect();
        let mut worst = None;
        for some in left.chunks(AT_ONCE) {
            for (at, answer) in some.iter().zip(self.send(&notification, some)) {
                match answer {
                    Ok(()) => {
                        taken.insert(*at);
                    }
                    Err(error) => worst = Some(worse(worst.take(), error)),
                }
            }
            // What is refused for now is refused for all that follows.
            if worst.is_some() {
                break;
            }
        }
        let count = notification.alerts.len();
        let Some(why) = worst else {
            let message = format!("{} accepted {count} events", self.target.receiver.name());
            return Ok(Receipt { message, reference: None });
        };
        if !matches!(why, DeliveryError::Permanent(_)) && !taken.is_empty() {
            self.taken.push_back((notification.id, taken));
            if self.taken.len() > REMEMBERED {
                self.taken.pop_front();
            }
        }
        Err(why)
    }
}

impl PagerDuty {
    /// Sends the events of some alerts at once; one answer each.
    fn send(&self, notification: &Notification, some: &[usize]) -> Vec<Result<(), DeliveryError>> {
        let Target { receiver, url, routing_key, dedup_prefix } = &self.target;
        let requests: Vec<Request> = some
            .iter()
            .map(|at| {
                let alert = &notification.alerts[*at];
                let event = event::event(routing_key, dedup_prefix, notification, alert);
                Request::post(url, event.to_string())
                    .timeout_ms(receiver.timeout_ms())
                    .header("content-type", "application/json")
            })
            .collect();
        let answers = http::send_all(&requests);
        answers.into_iter().map(|one| receiver.judge(one, clock::now()).map(drop)).collect()
    }
}

/// The error that decides for both: one that is for good is told, but what may still be taken is
/// tried first; of waits the longest counts.
fn worse(one: Option<DeliveryError>, other: DeliveryError) -> DeliveryError {
    use DeliveryError::{Permanent, Retry as Again, Unknown};
    match (one, other) {
        (None, other) | (Some(Permanent(_)), other) => other,
        (Some(Again(one)), Again(other)) => {
            Again(Retry { after_ms: one.after_ms.max(other.after_ms), ..other })
        }
        // Sending again is harmless here whatever became of it: the wait is what matters.
        (Some(Again(one)), Unknown(_)) | (Some(Unknown(_)), Again(one)) => Again(one),
        (Some(one), _) => one,
    }
}

export_notifier!(PagerDuty);

#[cfg(test)]
mod tests;
