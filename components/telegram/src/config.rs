//! Which chat is told, by which bot.

use schemars::JsonSchema;
use sentinel_sdk::Diagnostic;
use sentinel_sdk::config::WAIT_PATTERN;
use sentinel_sdk::notify::{DEFAULT_TIMEOUT, Endpoint, Receiver, timeout_ms};
use serde::Deserialize;

/// Longest name of a chat or a secret, in bytes.
const MAX_NAME_BYTES: usize = 100;

/// Which chat is told, by which bot.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the host's secret that is the bot's token (`123456:ABC...`). Its grant names the
    /// place `url`.
    pub token: String,
    /// The chat: its number as text (`"-1001234567890"`) or the name of a channel (`@alerts`).
    pub chat_id: String,
    /// The topic of a forum.
    #[serde(default)]
    pub message_thread_id: Option<i64>,
    /// Where the Bot API is; `https://api.telegram.org` unless said.
    #[serde(default = "usual_api")]
    #[schemars(regex(pattern = r"^https?://"))]
    pub api: String,
    /// How long to wait for the answer, in `ms` or `s`, at most 60 s; `10s` unless said.
    #[serde(default = "usual_timeout")]
    #[schemars(regex(pattern = WAIT_PATTERN))]
    pub timeout: String,
}

fn usual_api() -> String {
    "https://api.telegram.org".to_owned()
}

fn usual_timeout() -> String {
    DEFAULT_TIMEOUT.to_owned()
}

/// A config that was checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) receiver: Receiver,
    pub(crate) url: String,
    pub(crate) chat_id: String,
    pub(crate) message_thread_id: Option<i64>,
}

impl Target {
    /// # Errors
    ///
    /// Everything that is wrong with the config. None of the messages holds the URL.
    pub(crate) fn of(config: Config) -> Result<Self, Vec<Diagnostic>> {
        let mut found = Vec::new();
        let Config { token, chat_id, message_thread_id, api, timeout } = config;
        let timeout_ms = timeout_ms(&timeout, &mut found);
        let endpoint = Endpoint::parse(&api);
        let endpoint = endpoint.map_err(|why| found.push(Diagnostic::error("/api", why)));
        let odd = |c: char| c.is_whitespace() || c.is_control() || "{}/".contains(c);
        if token.contains(':') {
            found.push(Diagnostic::error(
                "/token",
                "is a token itself; store it in the host with `sentinel secret set` and write the \
                 name of that secret here",
            ));
        } else if token.is_empty() || token.len() > MAX_NAME_BYTES || token.contains(odd) {
            let why = "names no secret: it is empty, too long or holds blanks";
            found.push(Diagnostic::error("/token", why));
        }
        let number = chat_id.strip_prefix('-').unwrap_or(&chat_id);
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let is_name = chat_id.strip_prefix('@').is_some_and(|name| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        });
        if !(is_number || is_name) || chat_id.len() > MAX_NAME_BYTES {
            let why = "is no chat; write its number as text, or a channel's name such as @alerts";
            found.push(Diagnostic::error("/chat_id", why));
        }
        match endpoint {
            Ok(endpoint) if found.is_empty() => Ok(Self {
                receiver: Receiver::at(&endpoint, timeout_ms),
                url: endpoint.join(&format!("/bot{{{{secret:{token}}}}}/sendMessage")),
                chat_id,
                message_thread_id,
            }),
            _ => Err(found),
        }
    }
}
