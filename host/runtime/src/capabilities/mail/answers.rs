//! What a relay's answers, and their absence, mean.

use std::error::Error as _;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::response::{Response, Severity};

use super::{MAX_REPLY_BYTES, MailError, Reply};

pub(super) fn is_done(response: &Response) -> bool {
    response.code().severity == Severity::PositiveCompletion
}

/// An answer that is neither yes nor no where one of them must stand.
pub(super) fn done(what: &str, response: &Response) -> Result<(), MailError> {
    if is_done(response) {
        return Ok(());
    }
    Err(MailError::Unreachable(format!("{what}: it answered {}", response.code())))
}

/// What an error of the mail library means while the content is not handed over. Its words are as
/// long as the library lets them be, and not masked.
pub(super) fn failure(what: &str, error: &Error) -> MailError {
    let mut cause = error.source();
    if let Some(code) = error.status() {
        let text = in_one_line(&cause.map(ToString::to_string).unwrap_or_default());
        let reply = Reply { code: u16::from(code), text };
        return if error.is_permanent() {
            MailError::Rejected(reply)
        } else {
            MailError::Temporary(reply)
        };
    }
    let (mut tls, mut said) = (error.is_tls(), None);
    while let Some(one) = cause {
        tls |= one.is::<rustls::Error>();
        said = Some(one.to_string());
        // An I/O error's own source skips the error that it wraps.
        let inner = one.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = inner.map(|inner| inner as &(dyn std::error::Error + 'static)).or(one.source());
    }
    let why = format!("{what}: {}", said.unwrap_or_else(|| error.to_string()));
    if tls { MailError::Tls(why) } else { MailError::Unreachable(why) }
}

/// Words of a relay, in one line.
pub(super) fn in_one_line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.trim().to_owned()
}

/// The beginning of a text, at most [`MAX_REPLY_BYTES`].
pub(super) fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_REPLY_BYTES)].to_owned()
}
