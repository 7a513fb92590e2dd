//! The first-party plugin sentinel/slack: tells Slack.
//!
//! As a bot, which can do more:
//!
//! ```yaml
//! plugin: sentinel/slack
//! config: { token: slack-token, channel: "#alerts" }
//! grants:
//!   http:
//!     origins: ["https://slack.com"]
//!     methods: [POST]
//!     secrets:
//!       - { name: slack-token, origin: "https://slack.com", place: { header: authorization } }
//!   kv: { max_bytes: 1048576 }
//! ```
//!
//! A group's first notification is a message. While something of the group fires, later ones go
//! into its thread, and the message is brought up to date (`chat.update`): its header says how
//! things stand now. When all is over it says so, and the next alert begins a new message. The
//! token needs the scope `chat:write`; the bot must be in the channel.
//!
//! Through an incoming webhook each notification is a message of its own:
//!
//! ```yaml
//! plugin: sentinel/slack
//! config: { webhook: "https://hooks.slack.com/services/{{secret:slack-hook}}" }
//! grants:
//!   http:
//!     origins: ["https://hooks.slack.com"]
//!     methods: [POST]
//!     secrets: [{ name: slack-hook, origin: "https://hooks.slack.com", place: url }]
//! ```
//!
//! **Bounds.** A message tells at most 40 alerts and 11,000 characters of text; each text of an
//! alert is cut at 900. What does not fit is counted, beside the link to all of it.
//!
//! **Repeats.** Slack takes no idempotency key. An attempt whose outcome is unknown is repeated
//! or held as the slot's `on_unknown` says, and a repeat says that it may be one. Bringing the
//! message up to date comes before the reply, since it may be done twice without harm.

mod answer;
mod config;
mod message;
mod thread;

use sentinel_sdk::http::Request;
use sentinel_sdk::{DeliveryError, Diagnostic, Notification, Notifier, Receipt, export_notifier};
use serde_json::{Value, json};

use answer::{Answer, Refusal};
pub use config::Config;
use config::{Bot, Target, Way};
use thread::Thread;

/// The notifier.
#[derive(Debug)]
pub struct Slack {
    target: Target,
}

impl Notifier for Slack {
    type Config = Config;

    fn configure(config: Config) -> Result<Self, Vec<Diagnostic>> {
        Target::of(config).map(|target| Self { target })
    }

    fn notify(&mut self, notification: Notification) -> Result<Receipt, DeliveryError> {
        match &self.target.way {
            Way::Webhook { url } => {
                let (text, blocks) = message::message(&notification, None);
                let body = json!({"text": text, "blocks": blocks});
                let response = self.target.receiver.send(request(url, &body))?;
                Ok(self.target.receiver.receipt(&response, None))
            }
            Way::Bot(bot) if bot.threads => self.threaded(bot, &notification),
            Way::Bot(bot) => Ok(self.post(bot, &notification, None, None)?.receipt),
        }
    }
}

/// A message that Slack has.
struct Posted {
    channel: String,
    ts: String,
    receipt: Receipt,
}

impl Slack {
    /// Tells a group in its thread, or begins one.
    fn threaded(&self, bot: &Bot, notification: &Notification) -> Result<Receipt, DeliveryError> {
        if let Some(mut thread) = Thread::of(&notification.group) {
            thread.take_in(notification);
            if self.update(bot, notification, &thread)? {
                let posted =
                    self.post(bot, notification, Some(thread.firing()), Some(&thread.ts))?;
                thread.keep(&notification.group);
                return Ok(posted.receipt);
            }
            // Somebody deleted the message, or it may not be changed any more: a new one begins.
        }
        let posted = self.post(bot, notification, None, None)?;
        let mut thread = Thread::new(posted.channel, posted.ts);
        thread.take_in(notification);
        thread.keep(&notification.group);
        Ok(posted.receipt)
    }

    /// Posts a message, into the thread of `ts` or as one of its own.
    fn post(
        &self,
        bot: &Bot,
        notification: &Notification,
        firing: Option<usize>,
        ts: Option<&str>,
    ) -> Result<Posted, DeliveryError> {
        let (text, blocks) = message::message(notification, firing);
        let mut body = json!({
            "channel": bot.channel, "text": text, "blocks": blocks,
            "unfurl_links": false, "unfurl_media": false,
        });
        if let Some(ts) = ts {
            body["thread_ts"] = ts.into();
        }
        let answer = self.ask(bot, &bot.post, &body)?;
        let text = |name: &str| answer.body[name].as_str().unwrap_or_default().to_owned();
        let (channel, ts) = (text("channel"), text("ts"));
        let reference = (!ts.is_empty()).then(|| format!("{channel}/{ts}"));
        let receipt = self.target.receiver.receipt(&answer.response, reference);
        Ok(Posted { channel, ts, receipt })
    }

    /// Brings a group's message up to date; `false` where there is no such message any more.
    fn update(
        &self,
        bot: &Bot,
        notification: &Notification,
        thread: &Thread,
    ) -> Result<bool, DeliveryError> {
        let (text, blocks) = message::message(notification, Some(thread.firing()));
        let body = json!({
            "channel": thread.channel, "ts": thread.ts, "text": text, "blocks": blocks,
        });
        match self.ask(bot, &bot.update, &body) {
            Ok(_) => Ok(true),
            Err(Refusal { gone: true, .. }) => Ok(false),
            Err(refusal) => Err(refusal.why),
        }
    }

    /// Calls a method of Slack's API.
    fn ask(&self, bot: &Bot, url: &str, body: &Value) -> Result<Answer, Refusal> {
        let request = request(url, body).header("authorization", &bot.authorization);
        Answer::of(&self.target.receiver, self.target.receiver.send(request)?)
    }
}

fn request(url: &str, body: &Value) -> Request {
    Request::post(url, body.to_string()).header("content-type", "application/json; charset=utf-8")
}

export_notifier!(Slack);

#[cfg(test)]
mod tests;
