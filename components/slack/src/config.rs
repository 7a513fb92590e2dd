//! Whom to tell in Slack, and as whom.

use schemars::JsonSchema;
use sentinel_sdk::Diagnostic;
use sentinel_sdk::config::WAIT_PATTERN;
use sentinel_sdk::notify::{DEFAULT_TIMEOUT, Endpoint, Receiver, timeout_ms};
use serde::Deserialize;

/// Longest name of a channel or a secret, in bytes.
const MAX_NAME_BYTES: usize = 200;

/// Where messages go: a channel, by a bot's token, or an incoming webhook.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the host's secret that is the bot's token (`xoxb-...`, with the scope
    /// `chat:write`). Its grant names the header `authorization`.
    #[serde(default)]
    pub token: Option<String>,
    /// The channel: its id (`C0123456789`) or its name (`#alerts`). Goes with `token`.
    #[serde(default)]
    pub channel: Option<String>,
    /// An incoming webhook in place of `token` and `channel`:
    /// `https://hooks.slack.com/services/{{secret:NAME}}`. It knows no threads.
    #[serde(default)]
    #[schemars(regex(pattern = r"^https?://"))]
    pub webhook: Option<String>,
    /// Whether a group's later notifications go into the thread of its first message, which is
    /// kept up to date; so unless said. Goes with `token`.
    #[serde(default)]
    pub threads: Option<bool>,
    /// Where Slack's API is; `https://slack.com/api` unless said.
    #[serde(default)]
    #[schemars(regex(pattern = r"^https?://"))]
    pub api: Option<String>,
    /// How long to wait for each answer, in `ms` or `s`, at most 60 s; `10s` unless said.
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
    pub(crate) way: Way,
}

/// How a message gets to Slack.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As a bot.
    Bot(Bot),
    /// Through an incoming webhook.
    Webhook { url: String },
}

/// What a bot needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bot {
    /// URL of `chat.postMessage`.
    pub(crate) post: String,
    /// URL of `chat.update`.
    pub(crate) update: String,
    /// The value of `authorization`, with the secret's place in it.
    pub(crate) authorization: String,
    pub(crate) channel: String,
    pub(crate) threads: bool,
}

impl Target {
    /// # Errors
    ///
    /// Everything that is wrong with the config. None of the messages holds a URL.
    pub(crate) fn of(config: Config) -> Result<Self, Vec<Diagnostic>> {
        let mut found = Vec::new();
        let timeout_ms = timeout_ms(&config.timeout, &mut found);
        let mut endpoint = |path: &str, url: &str| {
            Endpoint::parse(url).map_err(|why| found.push(Diagnostic::error(path, why))).ok()
        };
        let (endpoint, way) = if let Some(url) = &config.webhook {
            let endpoint = endpoint("/webhook", url);
            let others = [
                ("/token", config.token.is_some()),
                ("/channel", config.channel.is_some()),
                ("/threads", config.threads.is_some()),
                ("/api", config.api.is_some()),
            ];
            for (path, _) in others.iter().filter(|(_, stands)| *stands) {
                found.push(Diagnostic::error(*path, "does not go with `webhook`; leave one out"));
            }
            (endpoint, Way::Webhook { url: url.clone() })
        } else {
            let endpoint =
                endpoint("/api", config.api.as_deref().unwrap_or("https://slack.com/api"));
            let token = name("/token", config.token, "secret that is the bot's token", &mut found);
            let channel = name("/channel", config.channel, "channel", &mut found);
            let join = |path: &str| endpoint.as_ref().map_or(String::new(), |one| one.join(path));
            let bot = Bot {
                post: join("/chat.postMessage"),
                update: join("/chat.update"),
                authorization: format!("Bearer {{{{secret:{token}}}}}"),
                channel,
                threads: config.threads.unwrap_or(true),
            };
            (endpoint, Way::Bot(bot))
        };
        match endpoint {
            Some(endpoint) if found.is_empty() => {
                Ok(Self { receiver: Receiver::at(&endpoint, timeout_ms), way })
            }
            _ => Err(found),
        }
    }
}

/// A name that has to be there.
fn name(path: &str, name: Option<String>, of: &str, found: &mut Vec<Diagnostic>) -> String {
    let odd = |c: char| c.is_whitespace() || c.is_control() || "{}".contains(c);
    let why = match &name {
        None => format!("is missing: name the {of}, or set `webhook`"),
        Some(name) if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains(odd) => {
            format!("names no {of}: it is empty, too long or holds blanks")
        }
        Some(name) if name.starts_with("xox") => {
            "is a token itself; store it in the host with `sentinel secret set` and write the \
             name of that secret here"
                .to_owned()
        }
        Some(_) => return name.unwrap_or_default(),
    };
    found.push(Diagnostic::error(path, why));
    String::new()
}
