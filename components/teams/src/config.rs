//! Where Teams is told.

use schemars::JsonSchema;
use sentinel_sdk::Diagnostic;
use sentinel_sdk::config::WAIT_PATTERN;
use sentinel_sdk::notify::{DEFAULT_TIMEOUT, Endpoint, Receiver, timeout_ms};
use serde::Deserialize;

/// Which workflow takes notifications.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// URL that the workflow "When a Teams webhook request is received" shows, best with its
    /// signature as a secret: `https://.../invoke?...&sig={{secret:NAME}}`. Its origin must be
    /// granted to the slot.
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
            Ok(endpoint) if found.is_empty() => {
                Ok(Self { receiver: Receiver::at(&endpoint, timeout_ms), url: config.url })
            }
            _ => Err(found),
        }
    }
}
