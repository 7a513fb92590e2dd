//! What notifiers share: what an answer means for the delivery, texts that fit into a bound,
//! words of a notification, times.
//!
//! A notifier never fails because a message is long: it cuts texts with [`cut`], tells as many
//! alerts as fit ([`Bounded`]), and says how many there are beyond, and where ([`more`]).

mod answer;
mod endpoint;
mod text;
pub mod time;
mod wording;

pub use answer::{Receiver, wish_in_seconds};
pub use endpoint::{DEFAULT_TIMEOUT, Endpoint, MAX_TIMEOUT_MS, MAX_URL_BYTES, timeout_ms};
pub use text::{Bounded, cut, cut_bytes, cut_escaped, html, length};
pub use wording::{
    Severity, annotation, counts, details, group_digest, headline, is_link, label, link_of, more,
    number, repeat_words, runbook, title,
};
