//! Which nginx to ask, and how long to wait.

use schemars::JsonSchema;
use sentinel_sdk::Diagnostic;
use sentinel_sdk::config::{WAIT_PATTERN, wait_ms};
use serde::Deserialize;

/// Longest wait that a config may ask for, in milliseconds.
const MAX_TIMEOUT_MS: u32 = 30_000;

/// Where nginx tells its status.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// URL of the location with `stub_status`, for example `http://127.0.0.1:8080/stub_status`.
    /// Its origin must be granted to the slot.
    #[schemars(regex(pattern = r"^https?://"))]
    pub url: String,
    /// How long to wait for the page, in `ms` or `s`, at most 30 s; `5s` unless said.
    #[serde(default = "five_seconds")]
    #[schemars(regex(pattern = WAIT_PATTERN))]
    pub timeout: String,
}

fn five_seconds() -> String {
    "5s".to_owned()
}

/// A config that was checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) url: String,
    /// Host and port, as the URL writes them: the label `server`.
    pub(crate) server: String,
    pub(crate) timeout_ms: u32,
}

impl Target {
    /// # Errors
    ///
    /// Everything that is wrong with the config.
    pub(crate) fn of(config: Config) -> Result<Self, Vec<Diagnostic>> {
        let mut found = Vec::new();
        let server = server(&config.url);
        if server.is_none() {
            found.push(Diagnostic::error(
                "/url",
                format!(
                    "{:?} is no http or https URL; write for example http://127.0.0.1/stub_status",
                    without_user(&config.url)
                ),
            ));
        }
        let timeout_ms = wait_ms(&config.timeout, MAX_TIMEOUT_MS);
        if timeout_ms.is_none() {
            found.push(Diagnostic::error(
                "/timeout",
                format!(
                    "{:?} is no wait from 1ms to 30s; write for example 500ms or 5s",
                    config.timeout
                ),
            ));
        }
        match (server, timeout_ms) {
            (Some(server), Some(timeout_ms)) => {
                Ok(Self { server: server.to_owned(), url: config.url, timeout_ms })
            }
            _ => Err(found),
        }
    }
}

/// The authority of a URL, without a user.
fn server(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let server = authority.rsplit_once('@').map_or(authority, |(_, server)| server);
    (!server.is_empty() && !server.contains(char::is_whitespace)).then_some(server)
}

/// A URL fit for a message.
fn without_user(url: &str) -> &str {
    url.rsplit_once('@').map_or(url, |(_, rest)| rest)
}
