//! The first-party plugin sentinel/smtp: tells by mail, as text and HTML.
//!
//! ```yaml
//! plugin: sentinel/smtp
//! config: { from: "Sentinel <alerts@example.com>", to: [ops@example.com] }
//! grants:
//!   mail:
//!     relay: "smtp://mail.example.com:587"     # STARTTLS; smtps:// for TLS from the start
//!     senders: [alerts@example.com]
//!     recipients: ["*@example.com"]
//!     user: alerts@example.com
//!     password: smtp-password                  # its name in the host's secret store
//! ```
//!
//! The host speaks SMTP: this plugin sees neither relay nor password, and no text of an alert can
//! become a header. Mails of one group of alerts stand in one thread. A mail has at most
//! `max_bytes`; alerts that do not fit are counted, beside the link to all of them.
//!
//! The `Message-ID` is made of the notification's id, so that whoever gets a repeat can tell; a
//! repeat says so too.
//!
//! | the host says | delivery |
//! |---|---|
//! | the relay has it | done; who was refused is told in the receipt and in the log |
//! | too many a minute, not reached, no TLS, refused for now (4xx) | retry |
//! | sent without an answer | unknown: it may have been taken |
//! | not granted, malformed, wrong user, refused for good (5xx) | permanent |

mod config;
mod message;

use sentinel_sdk::mail::{self, MailError, Message};
use sentinel_sdk::notify::group_digest;
use sentinel_sdk::{
    DeliveryError, Diagnostic, Notification, Notifier, Receipt, Retry, export_notifier, log,
};

pub use config::Config;
use config::Target;

/// Longest key of a message, in bytes.
const MAX_KEY_BYTES: usize = 200;
/// Most bytes of a receipt's words.
const MAX_RECEIPT_BYTES: usize = 1_000;

/// The notifier.
#[derive(Debug)]
pub struct Smtp {
    target: Target,
}

impl Notifier for Smtp {
    type Config = Config;

    fn configure(config: Config) -> Result<Self, Vec<Diagnostic>> {
        Target::of(config).map(|target| Self { target })
    }

    fn notify(&mut self, notification: Notification) -> Result<Receipt, DeliveryError> {
        let receipt = mail::send(&self.message(&notification)).map_err(judge)?;
        let mut words = format!("the relay has it: {}", receipt.text);
        if !receipt.refused.is_empty() {
            let refused: Vec<&str> =
                receipt.refused.iter().map(|one| one.address.as_str()).collect();
            words = format!("the relay has it, but not for {}", refused.join(", "));
            log::warn(&words);
        }
        words.truncate(words.floor_char_boundary(MAX_RECEIPT_BYTES));
        Ok(Receipt { message: words, reference: Some(receipt.message_id) })
    }
}

impl Smtp {
    fn message(&self, notification: &Notification) -> Message {
        let Target { from, to, cc, reply_to, max_bytes, timeout_ms } = &self.target;
        // HTML says the same with more bytes.
        let of_text = max_bytes / 5 * 2;
        let text = message::text(notification, of_text);
        let page = message::page(notification, max_bytes - of_text);
        let mut key = mail::one_line(&notification.id, MAX_KEY_BYTES);
        if key.trim().is_empty() {
            key = group_digest(&notification.group);
        }
        let subject = message::subject(notification);
        Message {
            reply_to: reply_to.clone(),
            ..Message::new(key, from.clone(), to.clone(), subject, text)
        }
        .html(page)
        .cc(cc.clone())
        // Nobody ever gets a message of this key: it is what the mails of a group have in common.
        .in_reply_to(format!("group-{}", group_digest(&notification.group)))
        .timeout_ms(*timeout_ms)
    }
}

fn judge(error: MailError) -> DeliveryError {
    let message = mail::describe_error(&error);
    match error {
        MailError::Throttled(wait) => DeliveryError::Retry(Retry { message, after_ms: Some(wait) }),
        MailError::Unreachable(_) | MailError::Tls(_) | MailError::Temporary(_) => {
            DeliveryError::Retry(Retry { message, after_ms: None })
        }
        MailError::Unknown(_) => DeliveryError::Unknown(message),
        MailError::Denied(_)
        | MailError::Invalid(_)
        | MailError::Auth(_)
        | MailError::Rejected(_) => DeliveryError::Permanent(message),
    }
}

export_notifier!(Smtp);

#[cfg(test)]
mod tests;
