//! Who writes to whom.

use schemars::JsonSchema;
use sentinel_sdk::Diagnostic;
use sentinel_sdk::config::WAIT_PATTERN;
use sentinel_sdk::mail::Mailbox;
use sentinel_sdk::notify::timeout_ms;
use serde::Deserialize;

/// Least and most bytes of a message that a config may ask for.
const BYTES: std::ops::RangeInclusive<usize> = 4_096..=4 << 20;
/// Most recipients, copies included.
const MAX_RECIPIENTS: usize = 50;
/// Longest name beside an address, in bytes.
const MAX_NAME_BYTES: usize = 200;
/// Longest address, in bytes.
const MAX_ADDRESS_BYTES: usize = 254;

/// Who writes to whom. Relay, user and password are the grant's.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who the mails are from: `alerts@example.com` or `Sentinel <alerts@example.com>`; among
    /// the grant's senders.
    pub from: String,
    /// Whom they are for, written alike; covered by the grant's recipients.
    #[schemars(length(min = 1, max = 50))]
    pub to: Vec<String>,
    /// Who gets a copy.
    #[serde(default)]
    pub cc: Vec<String>,
    /// Where answers go, if not to `from`.
    #[serde(default)]
    pub reply_to: Option<String>,
    /// Most bytes of a mail's text and HTML together, within the grant's `message_bytes`;
    /// 200,000 unless said.
    #[serde(default = "usual_bytes")]
    #[schemars(range(min = 4_096, max = 4_194_304))]
    pub max_bytes: usize,
    /// How long a delivery may take, in `ms` or `s`, at most 60 s; `30s` unless said.
    #[serde(default = "usual_timeout")]
    #[schemars(regex(pattern = WAIT_PATTERN))]
    pub timeout: String,
}

const fn usual_bytes() -> usize {
    200_000
}

fn usual_timeout() -> String {
    "30s".to_owned()
}

/// A config that was checked.
#[derive(Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) from: Mailbox,
    pub(crate) to: Vec<Mailbox>,
    pub(crate) cc: Vec<Mailbox>,
    pub(crate) reply_to: Option<Mailbox>,
    pub(crate) max_bytes: usize,
    pub(crate) timeout_ms: u32,
}

impl Target {
    /// # Errors
    ///
    /// Everything that is wrong with the config.
    pub(crate) fn of(config: Config) -> Result<Self, Vec<Diagnostic>> {
        let mut found = Vec::new();
        let timeout_ms = timeout_ms(&config.timeout, &mut found);
        let mut all = |path: &str, texts: &[String]| -> Vec<Mailbox> {
            let mut one = |(at, text): (usize, &String)| {
                mailbox(text).map_err(|why| {
                    found.push(Diagnostic::error(format!("{path}/{at}"), why));
                })
            };
            texts.iter().enumerate().filter_map(|each| one(each).ok()).collect()
        };
        let (to, cc) = (all("/to", &config.to), all("/cc", &config.cc));
        let mut one = |path: &str, text: &str| {
            mailbox(text).map_err(|why| found.push(Diagnostic::error(path, why))).ok()
        };
        let from = one("/from", &config.from);
        let reply_to = config.reply_to.as_deref().and_then(|text| one("/reply_to", text));
        if config.to.is_empty() {
            found.push(Diagnostic::error("/to", "is empty; name whom the mails are for"));
        }
        if config.to.len() + config.cc.len() > MAX_RECIPIENTS {
            let why = "more than 50 recipients; use a list of your mail server";
            found.push(Diagnostic::error("/to", why));
        }
        if !BYTES.contains(&config.max_bytes) {
            let why = format!("{} is not within 4096 to 4194304", config.max_bytes);
            found.push(Diagnostic::error("/max_bytes", why));
        }
        match from {
            Some(from) if found.is_empty() => {
                Ok(Self { from, to, cc, reply_to, max_bytes: config.max_bytes, timeout_ms })
            }
            _ => Err(found),
        }
    }
}

/// `local@domain` or `Name <local@domain>`.
fn mailbox(text: &str) -> Result<Mailbox, &'static str> {
    let (name, address) = match text.trim().strip_suffix('>').and_then(|t| t.rsplit_once('<')) {
        Some((name, address)) => (name.trim().trim_matches('"'), address.trim()),
        None => ("", text.trim()),
    };
    let (local, domain) = address.rsplit_once('@').unwrap_or_default();
    let plain = |c: char| c.is_ascii_graphic() && !"<>()[]\\,;:\"@".contains(c);
    let sound = |part: &str| !part.is_empty() && part.chars().all(plain);
    if !sound(local) || !sound(domain) || address.len() > MAX_ADDRESS_BYTES {
        return Err("is no address; write alerts@example.com or Name <alerts@example.com>");
    }
    if name.len() > MAX_NAME_BYTES || name.contains(char::is_control) {
        return Err("has a name longer than 200 bytes or with control characters");
    }
    Ok(Mailbox::new(address).named(name))
}
