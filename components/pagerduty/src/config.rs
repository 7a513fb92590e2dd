//! Which PagerDuty service is told.

use schemars::JsonSchema;
use sentinel_sdk::Diagnostic;
use sentinel_sdk::config::WAIT_PATTERN;
use sentinel_sdk::notify::{DEFAULT_TIMEOUT, Endpoint, Receiver, timeout_ms};
use serde::Deserialize;

/// Longest name of a secret, in bytes.
const MAX_NAME_BYTES: usize = 100;
/// Longest prefix of a key, in bytes; PagerDuty's keys have 255 characters.
const MAX_PREFIX_BYTES: usize = 100;

/// Which service is told.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the host's secret that is the integration key (routing key) of a service or a
    /// ruleset. Its grant names the place `json: routing_key`.
    pub routing_key: String,
    /// What stands before each alert's fingerprint in its `dedup_key`; `sentinel/` unless said.
    /// Two installations that tell one service need two.
    #[serde(default = "usual_prefix")]
    pub dedup_prefix: String,
    /// Where the Events API is; `https://events.pagerduty.com` unless said
    /// (`https://events.eu.pagerduty.com` for accounts of the EU).
    #[serde(default = "usual_api")]
    #[schemars(regex(pattern = r"^https?://"))]
    pub api: String,
    /// How long to wait for each answer, in `ms` or `s`, at most 60 s; `10s` unless said.
    #[serde(default = "usual_timeout")]
    #[schemars(regex(pattern = WAIT_PATTERN))]
    pub timeout: String,
}

fn usual_prefix() -> String {
    "sentinel/".to_owned()
}

fn usual_api() -> String {
    "https://events.pagerduty.com".to_owned()
}

fn usual_timeout() -> String {
    DEFAULT_TIMEOUT.to_owned()
}

/// A config that was checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) receiver: Receiver,
    pub(crate) url: String,
    /// The member `routing_key`, with the secret's place in it.
    pub(crate) routing_key: String,
    pub(crate) dedup_prefix: String,
}

impl Target {
    /// # Errors
    ///
    /// Everything that is wrong with the config. None of the messages holds the URL.
    pub(crate) fn of(config: Config) -> Result<Self, Vec<Diagnostic>> {
        let mut found = Vec::new();
        let Config { routing_key, dedup_prefix, api, timeout } = config;
        let timeout_ms = timeout_ms(&timeout, &mut found);
        let endpoint = Endpoint::parse(&api).map_err(|why| Diagnostic::error("/api", why));
        let endpoint = endpoint.map_err(|one| found.push(one)).ok();
        let odd = |c: char| c.is_whitespace() || c.is_control() || "{}".contains(c);
        let is_key = routing_key.len() == 32 && routing_key.bytes().all(|b| b.is_ascii_hexdigit());
        if is_key {
            found.push(Diagnostic::error(
                "/routing_key",
                "is a key itself; store it in the host with `sentinel secret set` and write the \
                 name of that secret here",
            ));
        } else if routing_key.is_empty()
            || routing_key.len() > MAX_NAME_BYTES
            || routing_key.contains(odd)
        {
            found.push(Diagnostic::error(
                "/routing_key",
                "names no secret: it is empty, too long or holds blanks",
            ));
        }
        if dedup_prefix.len() > MAX_PREFIX_BYTES || dedup_prefix.contains(char::is_control) {
            let why = "is longer than 100 bytes or holds control characters";
            found.push(Diagnostic::error("/dedup_prefix", why));
        }
        match endpoint {
            Some(endpoint) if found.is_empty() => Ok(Self {
                receiver: Receiver::at(&endpoint, timeout_ms),
                url: endpoint.join("/v2/enqueue"),
                routing_key: format!("{{{{secret:{routing_key}}}}}"),
                dedup_prefix,
            }),
            _ => Err(found),
        }
    }
}
