//! Where to post, with what, and how long to wait.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use sentinel_sdk::config::WAIT_PATTERN;
use sentinel_sdk::notify::{DEFAULT_TIMEOUT, Endpoint, Receiver, timeout_ms};
use sentinel_sdk::{Diagnostic, pointer_step};
use serde::Deserialize;

/// Most headers of one's own.
const MAX_HEADERS: usize = 32;
/// Longest header value, key name or name of a receiver, in bytes.
const MAX_TEXT_BYTES: usize = 4_096;
/// Headers that the plugin or the host writes.
const RESERVED: [&str; 8] = [
    "content-length",
    "content-type",
    "connection",
    "host",
    "transfer-encoding",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

/// Where notifications go.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// URL to post to. Its origin must be granted to the slot. A token in its path or query is
    /// best written `{{secret:NAME}}`: the host fills it in, and nobody else sees it.
    #[schemars(regex(pattern = r"^https?://"))]
    pub url: String,
    /// Headers to add, by name; a value may hold `{{secret:NAME}}`.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 32))]
    pub headers: BTreeMap<String, String>,
    /// Name of the host's key that signs; without it the request bears no `webhook-signature`.
    /// The key is the bytes that the base64 of a `whsec_` secret stands for.
    #[serde(default)]
    pub secret: Option<String>,
    /// How long to wait for the answer, in `ms` or `s`, at most 60 s; `10s` unless said.
    #[serde(default = "usual_timeout")]
    #[schemars(regex(pattern = WAIT_PATTERN))]
    pub timeout: String,
    /// What the body is; `sentinel` unless said.
    #[serde(default)]
    pub format: Format,
    /// What a body of the format `alertmanager` says in `receiver`; `sentinel` unless said.
    #[serde(default)]
    pub receiver: Option<String>,
}

/// What the body of a request is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// The JSON of `payload.schema.json`.
    #[default]
    Sentinel,
    /// The JSON of Prometheus's Alertmanager, version 4, for receivers that exist.
    Alertmanager,
}

fn usual_timeout() -> String {
    DEFAULT_TIMEOUT.to_owned()
}

/// A config that was checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) receiver: Receiver,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) secret: Option<String>,
    /// What an Alertmanager body says in `receiver`; `None` for Sentinel's own body.
    pub(crate) alertmanager: Option<String>,
}

impl Target {
    /// # Errors
    ///
    /// Everything that is wrong with the config. None of the messages holds the URL.
    pub(crate) fn of(config: Config) -> Result<Self, Vec<Diagnostic>> {
        let mut found = Vec::new();
        let Config { url, headers, secret, timeout, format, receiver } = config;
        let endpoint =
            Endpoint::parse(&url).map_err(|why| found.push(Diagnostic::error("/url", why)));
        check_headers(&headers, &mut found);
        check_secret(secret.as_deref(), &mut found);
        let timeout_ms = timeout_ms(&timeout, &mut found);
        let alertmanager = match (format, receiver) {
            (Format::Sentinel, None) => None,
            (Format::Sentinel, Some(_)) => {
                let why = "means something with `format: alertmanager` only; leave it out";
                found.push(Diagnostic::error("/receiver", why));
                None
            }
            (Format::Alertmanager, receiver) => {
                let receiver = receiver.unwrap_or_else(|| "sentinel".to_owned());
                if receiver.is_empty() || receiver.len() > MAX_TEXT_BYTES {
                    let why = "is empty or longer than 4096 bytes";
                    found.push(Diagnostic::error("/receiver", why));
                }
                Some(receiver)
            }
        };
        match endpoint {
            Ok(endpoint) if found.is_empty() => Ok(Self {
                receiver: Receiver::at(&endpoint, timeout_ms),
                url,
                headers: headers.into_iter().collect(),
                secret,
                alertmanager,
            }),
            _ => Err(found),
        }
    }
}

fn check_secret(secret: Option<&str>, found: &mut Vec<Diagnostic>) {
    let why = match secret {
        None => return,
        Some(name) if name.is_empty() || name.len() > MAX_TEXT_BYTES => {
            "names no key; write the name under which the host keeps it, or leave it out to send \
             without a signature"
        }
        Some(name) if name.starts_with("whsec_") => {
            "is a secret itself; store it in the host (the bytes that the base64 after `whsec_` \
             stands for) and write the name of that key here"
        }
        Some(_) => return,
    };
    found.push(Diagnostic::error("/secret", why));
}

fn check_headers(headers: &BTreeMap<String, String>, found: &mut Vec<Diagnostic>) {
    let mut error = |path: &str, said: String| found.push(Diagnostic::error(path, said));
    if headers.len() > MAX_HEADERS {
        let said = format!("{} headers; at most {MAX_HEADERS} are allowed", headers.len());
        error("/headers", said);
    }
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in headers {
        let path = format!("/headers{}", pointer_step(name));
        let lower = name.to_ascii_lowercase();
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || name.len() > MAX_TEXT_BYTES || !name.bytes().all(token) {
            error(&path, "is no header name; use letters, digits and `-`".to_owned());
        } else if RESERVED.contains(&lower.as_str()) {
            error(&path, format!("`{lower}` is written by Sentinel; leave it out"));
        } else if seen.contains(&lower) {
            error(&path, format!("`{lower}` stands twice; names of headers have no case"));
        }
        let sound = |c: char| c == '\t' || !c.is_control();
        if value.len() > MAX_TEXT_BYTES || !value.chars().all(sound) {
            let said = format!(
                "its value holds control characters or is longer than {MAX_TEXT_BYTES} bytes"
            );
            error(&path, said);
        }
        seen.push(lower);
    }
}
