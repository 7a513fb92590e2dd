//! The first-party plugin sentinel/teams: tells a Microsoft Teams channel through a workflow
//! ("When a Teams webhook request is received", then "Post card in a chat or channel").
//!
//! ```yaml
//! plugin: sentinel/teams
//! config:
//!   url: "https://HOST.logic.azure.com/workflows/ID/triggers/manual/paths/invoke?api-version=2016-06-01&sp=...&sv=1.0&sig={{secret:teams-sig}}"
//! grants:
//!   http:
//!     origins: ["https://HOST.logic.azure.com"]
//!     methods: [POST]
//!     secrets: [{ name: teams-sig, origin: "https://HOST.logic.azure.com", place: url }]
//! ```
//!
//! A notification is an adaptive card, each of its alerts a part of it with its labels as facts,
//! within 27,000 bytes (Teams takes 28 KiB); what is left is counted, beside a button that leads
//! to all of it. Nothing that an alert holds is read as markdown, as a mention or as a template.
//!
//! 2xx is done: the workflow has it. 429 and 5xx are tried again, after `Retry-After`; so is a
//! 200 that says that Teams refused. Teams takes no idempotency key: a repeat says that it may be
//! one.

mod card;
mod config;

use sentinel_sdk::http::Request;
use sentinel_sdk::{DeliveryError, Diagnostic, Notification, Notifier, Receipt, export_notifier};

pub use config::Config;
use config::Target;

/// What the older connectors say, with status 200, where Teams itself refused.
const REFUSED: &str = "Microsoft Teams endpoint returned HTTP error";

/// The notifier.
#[derive(Debug)]
pub struct Teams {
    target: Target,
}

impl Notifier for Teams {
    type Config = Config;

    fn configure(config: Config) -> Result<Self, Vec<Diagnostic>> {
        Target::of(config).map(|target| Self { target })
    }

    fn notify(&mut self, notification: Notification) -> Result<Receipt, DeliveryError> {
        let Target { receiver, url } = &self.target;
        let request = Request::post(url, card::message(&notification).to_string())
            .header("content-type", "application/json");
        let response = receiver.send(request)?;
        let text = response.text();
        let Some((_, status)) = text.split_once(REFUSED) else {
            return Ok(receiver.receipt(&response, None));
        };
        let for_good = ["400", "413"].iter().any(|one| status.trim_start().starts_with(one));
        Err(if for_good { receiver.never(&response, "") } else { receiver.again(&response, None) })
    }
}

export_notifier!(Teams);

#[cfg(test)]
mod tests;
