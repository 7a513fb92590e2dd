//! Where Discord is told.

use schemars::JsonSchema;
use sentinel_sdk::Diagnostic;
use sentinel_sdk::config::WAIT_PATTERN;
use sentinel_sdk::notify::{DEFAULT_TIMEOUT, Endpoint, Receiver, timeout_ms};
use serde::Deserialize;

/// Whom a channel's webhook tells.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// URL of the channel's webhook, best with its token as a secret:
    /// `https://discord.com/api/webhooks/ID/{{secret:NAME}}`. Its origin must be granted to the slot.
    #[schemars(regex(pattern = r"^https?://"))]
    pub url: String,
    /// How long to wait for the answer, in `ms` or `s`, at most 60 s; `10s` unless said.
    #[serde(default = "usual_timeout")]
    #[schemars(regex(pattern = WAIT_PATTERN))]
    pub timeout: String,
}

fn usual_timeout() -> String {
    DEFAULT_TIMEOUT.to_owned()
}

/// A config that was checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) receiver: Receiver,
    pub(crate) url: String,
}

impl Target {
    /// # Errors
    ///
    /// Everything that is wrong with the config. None of the messages holds the URL.
    pub(crate) fn of(config: Config) -> Result<Self, Vec<Diagnostic>> {
        let mut found = Vec::new();
        let timeout_ms = timeout_ms(&config.timeout, &mut found);
        let endpoint = Endpoint::parse(&config.url);
        let endpoint = endpoint.map_err(|why| found.push(Diagnostic::error("/url", why)));
        match endpoint {
            Ok(endpoint) if found.is_empty() => Ok(Self {
                receiver: Receiver::at(&endpoint, timeout_ms),
                url: waiting(&config.url),
            }),
            _ => Err(found),
        }
    }
}

/// The URL that answers with the message, once Discord has it.
fn waiting(url: &str) -> String {
    let (url, query) = url.split_once('?').unwrap_or((url, ""));
    if query.is_empty() { format!("{url}?wait=true") } else { format!("{url}?{query}&wait=true") }
}
