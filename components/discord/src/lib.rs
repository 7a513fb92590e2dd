//! The first-party plugin sentinel/discord: tells a Discord channel through its webhook.
//!
//! ```yaml
//! plugin: sentinel/discord
//! config: { url: "https://discord.com/api/webhooks/1234/{{secret:discord-token}}" }
//! grants:
//!   http:
//!     origins: ["https://discord.com"]
//!     methods: [POST]
//!     secrets: [{ name: discord-token, origin: "https://discord.com", place: url }]
//! ```
//!
//! A notification is a message, each of its alerts an embed in the colour of its severity: nine
//! at most, 5,700 characters in all; what is left is counted, beside the link to all of it.
//! Nothing that an alert holds mentions anybody.
//!
//! 2xx is done. 429 is tried again when its body's `retry_after` says, 5xx after a while, every
//! other status is for good. Discord takes no idempotency key: a repeat says that it may be one.

mod config;
mod message;

use sentinel_sdk::http::{self, Request};
use sentinel_sdk::notify::wish_in_seconds;
use sentinel_sdk::{
    DeliveryError, Diagnostic, Notification, Notifier, Receipt, clock, export_notifier,
};
use serde_json::Value;

pub use config::Config;
use config::Target;

/// The notifier.
#[derive(Debug)]
pub struct Discord {
    target: Target,
}

impl Notifier for Discord {
    type Config = Config;

    fn configure(config: Config) -> Result<Self, Vec<Diagnostic>> {
        Target::of(config).map(|target| Self { target })
    }

    fn notify(&mut self, notification: Notification) -> Result<Receipt, DeliveryError> {
        let Target { receiver, url } = &self.target;
        let request = Request::post(url, message::message(&notification).to_string())
            .timeout_ms(receiver.timeout_ms())
            .header("content-type", "application/json");
        let answer = http::send(&request);
        if let Ok(response) = &answer
            && response.status == 429
        {
            // The body knows fractions of seconds, and is right where the header is rounded.
            let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
            if let Some(wish) = body["retry_after"].as_f64().and_then(wish_in_seconds) {
                return Err(receiver.again(response, Some(wish)));
            }
        }
        let response = receiver.judge(answer, clock::now())?;
        let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        Ok(receiver.receipt(&response, body["id"].as_str().map(str::to_owned)))
    }
}

export_notifier!(Discord);

#[cfg(test)]
mod tests;
