//! Where to post, with what, and how long to wait.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use sentinel_sdk::config::{WAIT_PATTERN, wait_ms};
use sentinel_sdk::{Diagnostic, pointer_step};
use serde::Deserialize;

/// Longest wait that a config may ask for, in milliseconds.
const MAX_TIMEOUT_MS: u32 = 60_000;
/// Most headers of one's own.
const MAX_HEADERS: usize = 32;
/// Longest URL, header value or key name, in bytes.
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
    #[serde(default = "ten_seconds")]
    #[schemars(regex(pattern = WAIT_PATTERN))]
    pub timeout: String,
    /// What the body is; `sentinel` unless said.
    #[serde(default)]
    pub body: Body,
}

/// What the body of a request is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// The JSON of `payload.schema.json`.
    #[default]
    Sentinel,
}

fn ten_seconds() -> String {
    "10s".to_owned()
}

/// A config that was checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) url: String,
    /// Scheme, host and port: what messages may name.
    pub(crate) origin: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) secret: Option<String>,
    pub(crate) timeout_ms: u32,
}

impl Target {
    /// # Errors
    ///
    /// Everything that is wrong with the config. None of the messages holds the URL.
    pub(crate) fn of(config: Config) -> Result<Self, Vec<Diagnostic>> {
        let mut found = Vec::new();
        let Config { url, headers, secret, timeout, body: Body::Sentinel } = config;
        let origin = origin(&url).map_err(|why| found.push(Diagnostic::error("/url", why)));
        check_headers(&headers, &mut found);
        if let Some(name) = &secret
            && (name.is_empty() || name.len() > MAX_TEXT_BYTES)
        {
            found.push(Diagnostic::error(
                "/secret",
                "names no key; write the name under which the host keeps it, or leave it out to \
                 send without a signature",
            ));
        }
        if let Some(text) = &secret
            && text.starts_with("whsec_")
        {
            found.push(Diagnostic::error(
                "/secret",
                "is a secret itself; store it in the host (the bytes that the base64 after \
                 `whsec_` stands for) and write the name of that key here",
            ));
        }
        let wait = wait_ms(&timeout, MAX_TIMEOUT_MS);
        if wait.is_none() {
            let said = format!("{timeout:?} is no wait from 1ms to 60s; write for example 10s");
            found.push(Diagnostic::error("/timeout", said));
        }
        match (origin, wait) {
            (Ok(origin), Some(timeout_ms)) if found.is_empty() => {
                let origin = origin.to_owned();
                let headers = headers.into_iter().collect();
                Ok(Self { origin, url, headers, secret, timeout_ms })
            }
            _ => Err(found),
        }
    }
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> Result<&str, &'static str> {
    const WHOLE: &str = "is no http or https URL; write for example https://example.com/hook";
    let lower = url.get(..8).unwrap_or(url).to_ascii_lowercase();
    let scheme = if lower.starts_with("https://") {
        "https://".len()
    } else if lower.starts_with("http://") {
        "http://".len()
    } else {
        return Err(WHOLE);
    };
    if url.len() > MAX_TEXT_BYTES || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("holds blanks or is longer than 4096 bytes");
    }
    let end = url[scheme..].find(['/', '?', '#', '\\']).map_or(url.len(), |at| scheme + at);
    let authority = &url[scheme..end];
    if authority.contains('@') {
        return Err("holds a user or a password; write a header such as \
             `Authorization: {{secret:NAME}}` instead");
    }
    if authority.contains(['{', '}']) {
        return Err("holds a secret in its host; only the path and the query may");
    }
    if authority.is_empty() || authority.starts_with(':') { Err(WHOLE) } else { Ok(&url[..end]) }
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
