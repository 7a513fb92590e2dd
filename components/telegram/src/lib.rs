//! The first-party plugin sentinel/telegram: tells a Telegram chat through a bot.
//!
//! ```yaml
//! plugin: sentinel/telegram
//! config: { token: telegram-token, chat_id: "-1001234567890" }
//! grants:
//!   http:
//!     origins: ["https://api.telegram.org"]
//!     methods: [POST]
//!     secrets: [{ name: telegram-token, origin: "https://api.telegram.org", place: url }]
//! ```
//!
//! A notification is a message of at most 4,096 characters: as many alerts as fit, each text of
//! them cut at 600; what is left is counted, beside the link to all of it. Nothing that an alert
//! holds is read as markup.
//!
//! 429 is tried again when `parameters.retry_after` says, 5xx after a while; what else Telegram
//! refuses is for good, with its reason. It takes no idempotency key: a repeat says that it may
//! be one.

mod config;
mod message;

use sentinel_sdk::http::{self, Request};
use sentinel_sdk::notify::wish_in_seconds;
use sentinel_sdk::{
    DeliveryError, Diagnostic, Notification, Notifier, Receipt, clock, export_notifier,
};
use serde_json::{Value, json};

pub use config::Config;
use config::Target;

/// The notifier.
#[derive(Debug)]
pub struct Telegram {
    target: Target,
}

impl Notifier for Telegram {
    type Config = Config;

    fn configure(config: Config) -> Result<Self, Vec<Diagnostic>> {
        Target::of(config).map(|target| Self { target })
    }

    fn notify(&mut self, notification: Notification) -> Result<Receipt, DeliveryError> {
        let Target { receiver, url, chat_id, message_thread_id } = &self.target;
        let mut body = json!({
            "chat_id": chat_id,
            "text": message::text(&notification),
            "parse_mode": "HTML",
            "link_preview_options": {"is_disabled": true},
        });
        if let Some(topic) = message_thread_id {
            body["message_thread_id"] = (*topic).into();
        }
        let request = Request::post(url, body.to_string())
            .timeout_ms(receiver.timeout_ms())
            .header("content-type", "application/json");
        let answer = http::send(&request);
        let said = match &answer {
            Ok(response) => serde_json::from_slice(&response.body).unwrap_or_default(),
            Err(_) => Value::Null,
        };
        if let Ok(response) = &answer {
            let parameters = &said["parameters"];
            if response.status == 429
                && let Some(wish) = parameters["retry_after"].as_f64().and_then(wish_in_seconds)
            {
                return Err(receiver.again(response, Some(wish)));
            }
            if let Some(id) = parameters["migrate_to_chat_id"].as_i64() {
                let what = format!("the chat is a supergroup now: set `chat_id` to \"{id}\"");
                return Err(receiver.never(response, &what));
            }
        }
        let response = receiver.judge(answer, clock::now())?;
        if said["ok"] != true {
            let why = format!("{}, which is not ok", receiver.said(&response));
            return Err(DeliveryError::Unknown(why));
        }
        let id = said["result"]["message_id"].as_i64();
        Ok(receiver.receipt(&response, id.map(|id| id.to_string())))
    }
}

export_notifier!(Telegram);

#[cfg(test)]
mod tests;
