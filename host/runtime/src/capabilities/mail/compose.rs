//! From what a guest asks for to the bytes that are sent: every check, and the headers.

use std::time::{Duration, SystemTime};

use lettre::Address;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox as Shown, MultiPart, SinglePart};
use sentinel_trust::{MailAddress, MailGrant};
use sha2::{Digest as _, Sha256};

use super::{MAX_KEY_BYTES, MAX_NAME_BYTES, MAX_SUBJECT_BYTES, MailError, Mailbox, Message};

/// Bytes of a hash in a `Message-ID`.
const ID_BYTES: usize = 16;

/// A message that may be sent.
pub(super) struct Outgoing {
    pub(super) sender: Address,
    /// Each once.
    pub(super) recipients: Vec<Address>,
    /// Headers and body, lines ended by CR LF, all ASCII.
    pub(super) content: Vec<u8>,
    pub(super) message_id: String,
}

fn invalid(why: impl Into<String>) -> MailError {
    MailError::Invalid(why.into())
}

fn denied(why: impl Into<String>) -> MailError {
    MailError::Denied(why.into())
}

/// Checks a message against the grant and writes it. `now` is unix milliseconds.
pub(super) fn compose(
    message: Message,
    grant: &MailGrant,
    slot: &str,
    now: i64,
) -> Result<Outgoing, MailError> {
    let bytes = message.text.len() + message.html.as_ref().map_or(0, String::len);
    if bytes as u64 > grant.message_bytes {
        let most = grant.message_bytes;
        return Err(invalid(format!("a text of {bytes} bytes; at most {most} are granted")));
    }
    let count = message.to.len() + message.cc.len();
    if message.to.is_empty() || count as u64 > grant.message_recipients {
        let most = grant.message_recipients;
        return Err(invalid(format!("{count} recipients; 1 in `to`, and at most {most} in all")));
    }
    line("subject", &message.subject, MAX_SUBJECT_BYTES)?;
    let (sender, shown_sender) = mailbox("sender", &message.sender)?;
    if !grant.senders.contains(&sender) {
        return Err(denied(format!("the sender {sender} is not in `mail.senders`")));
    }
    let to = recipients("to", &message.to, grant)?;
    let cc = recipients("cc", &message.cc, grant)?;
    let id = |key: &str| message_id(slot, key, &sender);
    let message_id = id(key("idempotency-key", &message.idempotency_key)?);
    let mut builder = lettre::Message::builder()
        .date(date(now))
        .from(shown_sender.clone())
        .subject(message.subject)
        .message_id(Some(format!("<{message_id}>")))
        // RFC 3834: no vacation notice answers.
        .raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ));
    if let Some(reply_to) = &message.reply_to {
        builder = builder.reply_to(mailbox("reply-to", reply_to)?.1);
    }
    if let Some(earlier) = &message.in_reply_to {
        let earlier = format!("<{}>", id(key("in-reply-to", earlier)?));
        builder = builder.in_reply_to(earlier.clone()).references(earlier);
    }
    let mut recipients: Vec<Address> = Vec::with_capacity(count);
    for shown in to.iter().chain(&cc) {
        if !recipients.contains(&shown.email) {
            recipients.push(shown.email.clone());
        }
    }
    builder = to.into_iter().fold(builder, lettre::message::MessageBuilder::to);
    builder = cc.into_iter().fold(builder, lettre::message::MessageBuilder::cc);
    let plain = SinglePart::plain(body(&message.text));
    let built = match &message.html {
        Some(html) => builder.multipart(
            MultiPart::alternative()
                .boundary(boundary()?)
                .singlepart(plain)
                .singlepart(SinglePart::html(body(html))),
        ),
        None => builder.singlepart(plain),
    };
    let content = built.map_err(|error| invalid(error.to_string()))?.formatted();
    Ok(Outgoing { sender: shown_sender.email, recipients, content, message_id })
}

/// What parts the text from the HTML: nobody who has a say in either can know it.
fn boundary() -> Result<String, MailError> {
    let mut bytes = [0; ID_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| MailError::Unreachable(format!("no random bytes: {error}")))?;
    Ok(format!("=_{}", hex::encode(bytes)))
}

fn date(now: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(now.max(0).unsigned_abs())
}

/// A text that stands in one line of a header.
fn line<'a>(what: &str, text: &'a str, most: usize) -> Result<&'a str, MailError> {
    if text.len() > most {
        return Err(invalid(format!("{what}: {} bytes; at most {most}", text.len())));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid(format!("{what}: it holds a control character")));
    }
    Ok(text)
}

fn key<'a>(what: &str, text: &'a str) -> Result<&'a str, MailError> {
    if text.is_empty() {
        return Err(invalid(format!("{what}: it is empty")));
    }
    line(what, text, MAX_KEY_BYTES)
}

fn mailbox(what: &str, mailbox: &Mailbox) -> Result<(MailAddress, Shown), MailError> {
    let name = line(what, &mailbox.name, MAX_NAME_BYTES)?.trim();
    let address: MailAddress =
        mailbox.address.parse().map_err(|error| invalid(format!("{what}: {error}")))?;
    let email = Address::new(address.local(), address.domain())
        .map_err(|error| invalid(format!("{what}: `{address}`: {error}")))?;
    let name = (!name.is_empty()).then(|| name.to_owned());
    Ok((address, Shown::new(name, email)))
}

fn recipients(
    what: &str,
    mailboxes: &[Mailbox],
    grant: &MailGrant,
) -> Result<Vec<Shown>, MailError> {
    let one = |given: &Mailbox| {
        let (address, shown) = mailbox(what, given)?;
        if grant.recipients.iter().any(|pattern| pattern.matches(&address)) {
            Ok(shown)
        } else {
            Err(denied(format!("{what}: {address} is not covered by `mail.recipients`")))
        }
    };
    mailboxes.iter().map(one).collect()
}

/// The same for the same key in the same slot, from the same domain; it tells nothing of the key.
fn message_id(slot: &str, key: &str, sender: &MailAddress) -> String {
    let mut hash = Sha256::new();
    hash.update(b"sentinel mail 1\0");
    hash.update((slot.len() as u64).to_le_bytes());
    hash.update(slot);
    hash.update(key);
    format!("{}@{}", hex::encode(&hash.finalize()[..ID_BYTES]), sender.domain())
}

/// A text whose lines end in LF alone, and without what may not stand in mail.
fn body(text: &str) -> String {
    let ended = text.replace("\r\n", "\n").replace('\r', "\n");
    if ended.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        let kept = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
        return ended.replace(kept, "\u{FFFD}");
    }
    ended
}
