//! Mail: through which relay, from whom, to whom, how much.

mod address;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::grants::{MAX_TIMEOUT_MS, count, secret_name, within};
use crate::origin::{MAX_ORIGIN_BYTES, Origin};
use crate::text::{excerpt, is_unprintable, travels_as_string};

pub use address::{MAX_MAIL_ADDRESS_BYTES, MailAddress, MailPattern, MailTextError};

/// Most recipients of one message that a grant may allow.
pub const MAX_MAIL_RECIPIENTS: u64 = 100;
/// Most bytes of a message's text and HTML that a grant may allow (4 MiB).
pub const MAX_MAIL_BYTES: u64 = 4 << 20;
/// Most messages a minute that a grant may allow.
pub const MAX_MAILS_PER_MINUTE: u64 = 600;
/// Longest step of a delivery that a grant may allow, in milliseconds (1 minute).
pub const MAX_MAIL_STEP_MS: u64 = 60_000;
/// Longest name of a user, in bytes.
const MAX_USER_BYTES: usize = 256;
/// Longest path of a file of authorities, in bytes.
const MAX_PATH_BYTES: usize = 4096;

/// `smtp://host:port` or `smtps://host:port`: where messages are handed over. Port 587 or 465
/// where none is written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Relay {
    /// TLS from the first byte.
    secure: bool,
    host: Box<str>,
    port: u16,
}

impl Relay {
    /// The host in canonical form, IPv6 addresses in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host as an address, if it is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.host.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    fn is_loopback(&self) -> bool {
        &*self.host == "localhost" || self.address().is_some_and(|address| address.is_loopback())
    }
}

impl FromStr for Relay {
    type Err = MailTextError;

    fn from_str(text: &str) -> Result<Self, MailTextError> {
        let refused = |why| MailTextError { text: excerpt(text), what: "a relay", why };
        let shape = "write `smtp://host:port` or `smtps://host:port`";
        if text.len() > MAX_ORIGIN_BYTES {
            return Err(refused("too long"));
        }
        let (secure, rest, usual) = match text.split_once("://") {
            Some(("smtp", rest)) => (false, rest, 587),
            Some(("smtps", rest)) => (true, rest, 465),
            _ => return Err(refused(shape)),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let names_port = rest.rsplit(']').next().is_some_and(|tail| tail.contains(':'));
        let port = if names_port { String::new() } else { format!(":{usual}") };
        // What an origin may be, a relay may be; read so, hosts have one form everywhere.
        let origin: Origin = format!("http://{rest}{port}").parse().map_err(|_| refused(shape))?;
        if origin.port() == 0 {
            return Err(refused("port 0 is nobody's"));
        }
        Ok(Self { secure, host: origin.host().into(), port: origin.port() })
    }
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "smtps" } else { "smtp" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

travels_as_string!(
    Relay,
    "Relay",
    "^smtps?://[^/?#@*\\s]+/?$",
    "`smtp://host:port` (port 587 unless named) or `smtps://host:port` (465)"
);

/// How a connection to a relay is protected. Weaker ones come first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// Not at all: to loopback only.
    None,
    /// By STARTTLS before anything is said; a relay without it is not used.
    Starttls,
    /// From the first byte.
    Tls,
}

/// Mail: what an operator allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MailGrant {
    /// Where messages are handed over. A name that leads to loopback or link-local addresses is
    /// used only if the address itself (or `localhost`) stands here.
    pub relay: Relay,
    /// How the connection is protected: as the relay's scheme says where left out, STARTTLS for
    /// `smtp://` and TLS for `smtps://`. `none` is for loopback only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<MailTls>,
    /// Whom messages may be from.
    pub senders: BTreeSet<MailAddress>,
    /// Whom they may go to.
    pub recipients: BTreeSet<MailPattern>,
    /// The user that the relay knows; none gives itself out where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Name of the secret that holds the user's password in the host's secret store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Absolute path of a PEM file of authorities to trust in place of the system's. The host
    /// reads it when it connects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// Most recipients of one message: 50 unless set, at most [`MAX_MAIL_RECIPIENTS`].
    #[serde(default = "message_recipients")]
    pub message_recipients: u64,
    /// Most bytes of a message's text and HTML: 256 KiB unless set, at most [`MAX_MAIL_BYTES`].
    #[serde(default = "message_bytes")]
    pub message_bytes: u64,
    /// Most messages a minute: 60 unless set, at most [`MAX_MAILS_PER_MINUTE`].
    #[serde(default = "per_minute")]
    pub per_minute: u64,
    /// Longest wait for each of the relay's answers, in milliseconds: 10 s unless set, at most
    /// [`MAX_MAIL_STEP_MS`].
    #[serde(default = "step_ms")]
    pub step_ms: u64,
    /// Longest delivery in milliseconds: 30 s unless set, at most [`MAX_TIMEOUT_MS`].
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
}

const fn message_recipients() -> u64 {
    50
}

const fn message_bytes() -> u64 {
    256 << 10
}

const fn per_minute() -> u64 {
    60
}

const fn step_ms() -> u64 {
    10_000
}

const fn timeout_ms() -> u64 {
    30_000
}

impl MailGrant {
    /// How the connection is protected.
    #[must_use]
    pub fn protection(&self) -> MailTls {
        self.tls.unwrap_or(if self.relay.secure { MailTls::Tls } else { MailTls::Starttls })
    }

    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        if self.relay.secure && self.protection() != MailTls::Tls {
            problems.push("mail.tls: `smtps://` is TLS from the first byte; leave it out".into());
        }
        if self.protection() == MailTls::None && !self.relay.is_loopback() {
            problems.push(format!(
                "mail.tls: none is for loopback only, and {} is not; leave it out",
                self.relay
            ));
        }
        count("mail.senders", self.senders.len(), problems);
        count("mail.recipients", self.recipients.len(), problems);
        if self.user.is_some() != self.password.is_some() {
            problems.push(
                "mail.user, mail.password: a user needs the name of the secret that holds the password, and the other way round".into(),
            );
        }
        if let Some(user) = &self.user
            && (user.is_empty() || user.len() > MAX_USER_BYTES || user.chars().any(is_unprintable))
        {
            problems.push(format!(
                "mail.user: `{}` is not a name: 1 to {MAX_USER_BYTES} bytes without control characters",
                excerpt(user)
            ));
        }
        if let Some(password) = &self.password {
            secret_name("mail.password", password, problems);
        }
        if let Some(file) = &self.ca_file
            && (!file.starts_with('/') || file.len() > MAX_PATH_BYTES || file.contains('\0'))
        {
            problems.push(format!("mail.ca_file: `{}` is no absolute path", excerpt(file)));
        }
        for (name, value, most) in [
            ("message_recipients", self.message_recipients, MAX_MAIL_RECIPIENTS),
            ("message_bytes", self.message_bytes, MAX_MAIL_BYTES),
            ("per_minute", self.per_minute, MAX_MAILS_PER_MINUTE),
            ("step_ms", self.step_ms, MAX_MAIL_STEP_MS),
            ("timeout_ms", self.timeout_ms, MAX_TIMEOUT_MS),
        ] {
            within(&format!("mail.{name}"), value, most, problems);
        }
    }
}
