//! What Slack's Web API means by an answer: most say 200 and tell in the body how it went.
//!
//! | `error` | delivery |
//! |---|---|
//! | `ratelimited`, `rate_limited`, `service_unavailable`, `team_added_to_org` | retry |
//! | `internal_error`, `fatal_error`, `request_timeout`, an answer that is no JSON | unknown: it may have been posted |
//! | every other | permanent: the config, the token or the channel has to change |
//!
//! Other statuses are judged as those of every receiver.

use sentinel_sdk::DeliveryError;
use sentinel_sdk::http::Response;
use sentinel_sdk::notify::{Receiver, cut, time::retry_after_ms};
use serde_json::Value;

/// Longest name of an error that is told.
const MAX_ERROR: usize = 100;

/// An answer that says ok.
pub(crate) struct Answer {
    pub(crate) body: Value,
    pub(crate) response: Response,
}

/// An answer that does not.
pub(crate) struct Refusal {
    /// Whether the message that was to be changed is gone or may not be changed.
    pub(crate) gone: bool,
    pub(crate) why: DeliveryError,
}

impl From<DeliveryError> for Refusal {
    fn from(why: DeliveryError) -> Self {
        Self { gone: false, why }
    }
}

impl From<Refusal> for DeliveryError {
    fn from(refusal: Refusal) -> Self {
        refusal.why
    }
}

impl Answer {
    /// Reads an answer of status 2xx.
    pub(crate) fn of(receiver: &Receiver, response: Response) -> Result<Self, Refusal> {
        let name = receiver.name();
        let Ok(body) = serde_json::from_slice::<Value>(&response.body) else {
            let said = receiver.said(&response);
            let why = format!("{said}, which is no JSON: is this Slack's API?");
            return Err(DeliveryError::Unknown(why).into());
        };
        if body["ok"] == true {
            return Ok(Self { body, response });
        }
        let error = cut(body["error"].as_str().unwrap_or("no error"), MAX_ERROR);
        let said = format!("{name} says {error}");
        let why = match error.as_str() {
            "ratelimited" | "rate_limited" | "service_unavailable" | "team_added_to_org" => {
                let wish = response.header("retry-after");
                let after_ms = wish.and_then(|value| retry_after_ms(value, 0));
                receiver.again(&response, after_ms)
            }
            "internal_error" | "fatal_error" | "request_timeout" => DeliveryError::Unknown(said),
            error => DeliveryError::Permanent(format!("{said}{}", what_to_do(error))),
        };
        let gone =
            ["message_not_found", "cant_update_message", "edit_window_closed", "channel_not_found"];
        Err(Refusal { gone: gone.contains(&error.as_str()), why })
    }
}

fn what_to_do(error: &str) -> &'static str {
    match error {
        "not_authed" | "invalid_auth" | "token_expired" | "token_revoked" | "account_inactive" => {
            "; store the bot's token (xoxb-...) under the name that `token` says"
        }
        "missing_scope" | "no_permission" => "; give the app the scope `chat:write`",
        "channel_not_found" => "; check `channel`: its id always works",
        "not_in_channel" => "; invite the bot to the channel",
        "is_archived" => "; name another channel in `channel`",
        _ => "",
    }
}
