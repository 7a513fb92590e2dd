//! Mail, through a relay that the operator names. Capability `mail`.
//!
//! The plugin says what is told and to whom; relay, TLS and password are the grant's. Headers are
//! the host's, and no text can become one: a subject or a name with a control character is
//! refused, so put what comes from elsewhere through [`one_line`].

use super::host_call;
#[cfg(target_arch = "wasm32")]
use crate::bindings::host::sentinel::plugin::mail as import;

pub use crate::bindings::host::sentinel::plugin::mail::{
    MailError, Mailbox, Message, Receipt, Refusal, Reply,
};

/// Most bytes of a subject.
pub const MAX_SUBJECT_BYTES: usize = 1_000;

impl Mailbox {
    /// An address without a name beside it.
    pub fn new(address: impl Into<String>) -> Self {
        Self { name: String::new(), address: address.into() }
    }

    /// Sets the name that is shown beside the address.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }
}

impl Message {
    /// A message of plain text, with the grant's time. `idempotency_key` is the notification's
    /// id: the same at every attempt.
    pub fn new(
        idempotency_key: impl Into<String>,
        sender: Mailbox,
        to: Vec<Mailbox>,
        subject: impl Into<String>,
        text: impl Into<String>,
    ) -> Self {
        Self {
            sender,
            to,
            cc: Vec::new(),
            reply_to: None,
            subject: subject.into(),
            text: text.into(),
            html: None,
            idempotency_key: idempotency_key.into(),
            in_reply_to: None,
            timeout_ms: 0,
        }
    }

    /// Adds the same as HTML.
    #[must_use]
    pub fn html(mut self, html: impl Into<String>) -> Self {
        self.html = Some(html.into());
        self
    }

    /// Sets who gets a copy.
    #[must_use]
    pub fn cc(mut self, cc: Vec<Mailbox>) -> Self {
        self.cc = cc;
        self
    }

    /// Sets where answers go.
    #[must_use]
    pub fn reply_to(mut self, reply_to: Mailbox) -> Self {
        self.reply_to = Some(reply_to);
        self
    }

    /// Shows it below an earlier message, by that one's idempotency key.
    #[must_use]
    pub fn in_reply_to(mut self, key: impl Into<String>) -> Self {
        self.in_reply_to = Some(key.into());
        self
    }

    /// Sets the time for all of it, in milliseconds; the host cuts it to the grant.
    #[must_use]
    pub fn timeout_ms(mut self, timeout_ms: u32) -> Self {
        self.timeout_ms = timeout_ms;
        self
    }
}

/// A text for a subject or a name: control characters become spaces, and what is beyond
/// `max_bytes` is cut off.
pub fn one_line(text: &str, max_bytes: usize) -> String {
    let cut = &text[..text.floor_char_boundary(max_bytes)];
    // The longest control character has two bytes, and a space one: nothing grows.
    cut.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The words of a message that was not, or perhaps not, taken; never holds a secret.
pub fn describe_error(error: &MailError) -> String {
    let said = |reply: &Reply| format!("{} {}", reply.code, reply.text);
    match error {
        MailError::Denied(why) => format!("the host denied the message: {why}"),
        MailError::Invalid(why) => format!("the message is malformed: {why}"),
        MailError::Throttled(wait) => format!("too many messages; the next in {wait} ms"),
        MailError::Unreachable(why) => format!("the relay was not reached: {why}"),
        MailError::Tls(why) => format!("no TLS with the relay: {why}"),
        MailError::Auth(why) => format!("the relay refused the user: {why}"),
        MailError::Temporary(reply) => format!("the relay refused for now: {}", said(reply)),
        MailError::Rejected(reply) => format!("the relay refused: {}", said(reply)),
        MailError::Unknown(why) => format!("no answer came after the message was sent: {why}"),
    }
}

/// Hands one message to the relay.
///
/// # Errors
///
/// [`MailError`]; its case says whether to try again, to give up, or that nobody knows.
pub fn send(message: &Message) -> Result<Receipt, MailError> {
    host_call!(import::send(message), crate::testing::with_host(|host| host.send_mail(message)))
}
