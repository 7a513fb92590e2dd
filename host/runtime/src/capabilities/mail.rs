//! Mail for a guest: through the relay, from the senders and to the recipients that an operator
//! grants, and through nothing else.
//!
//! What holds for every message:
//!
//! * It is checked whole before anything is connected. Headers are written here, of checked
//!   values; no text that a guest gives can become a header, an address or a command.
//! * The relay's name must lead to an ordinary address (see [`super::http::address`]), and the
//!   connection is made to the very addresses that were checked.
//! * Unless the grant says otherwise (to loopback alone), nothing is said before TLS stands. Until
//!   then, what the relay sends is read byte by byte, so that nothing which somebody on the way
//!   added to its last plain answer is taken for an answer within TLS.
//! * The password is looked up when it is needed and never comes back: it is masked in whatever the
//!   relay says. The copies that the mail library makes of it are freed, not wiped.
//!
//! Everything before the message's content is handed over ends in an error that means: surely not
//! taken. From then on, only an answer of the relay tells, and where none comes the outcome is
//! [`MailError::Unknown`].
//!
//! One connection a message, closed afterwards: alerts are few, and a relay that is kept open
//! times out between them.

mod answers;
mod compose;
mod session;
mod stream;
mod throttle;
mod user;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sentinel_trust::MailGrant;

use super::SecretSource;
use super::http::address::Resolver;
use crate::services::Outside;
use throttle::Throttle;

/// Longest subject, in bytes.
pub const MAX_SUBJECT_BYTES: usize = 1_000;
/// Longest name shown beside an address, in bytes.
pub const MAX_NAME_BYTES: usize = 200;
/// Longest idempotency key, in bytes.
pub const MAX_KEY_BYTES: usize = 200;
/// Longest text of a relay that is repeated, in bytes.
pub const MAX_REPLY_BYTES: usize = 500;

/// Somebody's address, and the name shown beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// At most [`MAX_NAME_BYTES`]; may be empty.
    pub name: String,
    /// `local@domain`.
    pub address: String,
}

/// One message, as a guest gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who it is from.
    pub sender: Mailbox,
    /// Whom it is for.
    pub to: Vec<Mailbox>,
    /// Who gets a copy.
    pub cc: Vec<Mailbox>,
    /// Where answers go, if not to the sender.
    pub reply_to: Option<Mailbox>,
    /// At most [`MAX_SUBJECT_BYTES`].
    pub subject: String,
    /// As plain text.
    pub text: String,
    /// The same as HTML.
    pub html: Option<String>,
    /// At most [`MAX_KEY_BYTES`].
    pub idempotency_key: String,
    /// The key of an earlier message.
    pub in_reply_to: Option<String>,
    /// For all of it, in milliseconds; cut to the grant, and 0 means the grant's.
    pub timeout_ms: u32,
}

/// What a relay said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The code of RFC 5321.
    pub code: u16,
    /// At most [`MAX_REPLY_BYTES`].
    pub text: String,
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.code, self.text)
    }
}

/// The relay has taken a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Its `Message-ID`, without the brackets.
    pub message_id: String,
    /// The relay's last words, at most [`MAX_REPLY_BYTES`].
    pub text: String,
    /// Recipients who do not get it, and why; never all.
    pub refused: Vec<(String, Reply)>,
}

/// Why a message was not, or perhaps not, taken. No text holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// Not granted, or the password is not in the secret store.
    #[error("denied: {0}")]
    Denied(String),
    /// Malformed or too large.
    #[error("invalid message: {0}")]
    Invalid(String),
    /// Too many a minute; milliseconds until the next.
    #[error("too many messages a minute; the next in {0} ms")]
    Throttled(u64),
    /// Not reached, or the connection was lost before the message was handed over.
    #[error("the relay was not reached: {0}")]
    Unreachable(String),
    /// TLS failed or is not offered.
    #[error("no TLS with the relay: {0}")]
    Tls(String),
    /// The user or the password was refused.
    #[error("the relay refused the user: {0}")]
    Auth(String),
    /// Refused for now.
    #[error("the relay refused for now: {0}")]
    Temporary(Reply),
    /// Refused for good.
    #[error("the relay refused: {0}")]
    Rejected(Reply),
    /// Sent, and no answer came.
    #[error("no answer came after the message was sent: {0}")]
    Unknown(String),
}

/// A slot's way to its relay.
pub struct MailGate {
    grant: MailGrant,
    slot: String,
    secrets: Arc<dyn SecretSource>,
    resolver: Arc<dyn Resolver>,
    outside: Option<Arc<dyn Outside>>,
    throttle: Mutex<Throttle>,
}

impl MailGate {
    /// A gate for what a slot may do. `slot` is its name: the same idempotency key of two slots
    /// gives two ids.
    #[must_use]
    pub fn new(
        grant: &MailGrant,
        slot: &str,
        secrets: Arc<dyn SecretSource>,
        resolver: Arc<dyn Resolver>,
    ) -> Self {
        let throttle = Mutex::new(Throttle::new(grant.per_minute));
        let (grant, slot) = (grant.clone(), slot.to_owned());
        Self { grant, slot, secrets, resolver, outside: None, throttle }
    }

    /// The same, but what may be sent is taken by `outside` where there is one.
    #[must_use]
    pub fn facing(self, outside: Option<Arc<dyn Outside>>) -> Self {
        Self { outside, ..self }
    }

    /// Hands one message to the relay. `now` is unix milliseconds; `at_most` is the time that
    /// there is for it, whatever the grant and the message say. It must be polled inside a tokio
    /// runtime with I/O and time.
    ///
    /// # Errors
    /// [`MailError`]. Dropped before its end, the outcome is unknown.
    pub async fn send(
        &self,
        message: Message,
        now: i64,
        at_most: Duration,
    ) -> Result<Receipt, MailError> {
        let asked = u64::from(message.timeout_ms);
        let limit = if asked == 0 { self.grant.timeout_ms } else { asked };
        let limit = Duration::from_millis(limit.min(self.grant.timeout_ms)).min(at_most);
        let shown = self.outside.as_ref().map(|outside| (outside, message.clone()));
        let outgoing = compose::compose(message, &self.grant, &self.slot, now)?;
        self.throttle.lock().take(now).map_err(MailError::Throttled)?;
        if let Some((outside, message)) = shown {
            return outside.mail(message).await;
        }
        let delivery = session::Delivery::new(&self.grant, &*self.secrets, &*self.resolver);
        // On the heap: a TLS connection's state is kilobytes.
        Box::pin(delivery.deliver(&outgoing, limit)).await
    }
}

impl std::fmt::Debug for MailGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MailGate").field("grant", &self.grant).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
