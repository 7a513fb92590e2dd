//! A webhook of Discord.

use crate::{Call, Reply, Service, characters};
use serde_json::{Value, json};

/// Most embeds of a message.
const MAX_EMBEDS: usize = 10;
/// Longest text of all embeds of a message.
const MAX_ALL: usize = 6_000;

/// A channel.
#[derive(Debug, Default)]
pub struct Discord {
    /// Bodies of the messages in it, in order.
    pub messages: Vec<Value>,
    /// What was refused as malformed.
    pub refused: Vec<String>,
}

impl Service for Discord {
    fn take(&mut self, call: &Call) -> Reply {
        if call.method != "POST" || !call.path.starts_with("/api/webhooks/1234/") {
            return Reply::json(404, &json!({"message": "Unknown Webhook", "code": 10_015}));
        }
        let checked = call.json().and_then(|body| check(&body).map(|()| body));
        match checked {
            Ok(body) => {
                self.messages.push(body);
                let id = format!("99{}", self.messages.len());
                let waits = call.path.contains("wait=true");
                if waits { Reply::json(200, &json!({"id": id})) } else { Reply::text(204, "") }
            }
            Err(why) => {
                self.refused.push(why.clone());
                let said = json!({"message": "Invalid Form Body", "code": 50_035, "errors": why});
                Reply::json(400, &said)
            }
        }
    }

    /// The header is rounded up, as Discord's is; the body is exact.
    fn limited(&self, after_seconds: u32) -> Reply {
        let exact = f64::from(after_seconds) - 0.75;
        let said = json!({
            "message": "You are being rate limited.", "retry_after": exact, "global": false,
        });
        Reply::json(429, &said).with("retry-after", after_seconds)
    }
}

fn check(body: &Value) -> Result<(), String> {
    let bound = |name: &str, text: &Value, least: usize, most: usize| match text {
        Value::Null if least == 0 => Ok(0),
        Value::String(text) if (least..=most).contains(&characters(text)) => Ok(characters(text)),
        other => Err(format!("{name}: {other:.60}")),
    };
    bound("content", &body["content"], 1, 2_000)?;
    if body["allowed_mentions"]["parse"] != json!([]) {
        return Err("a message that may mention".to_owned());
    }
    let embeds = body["embeds"].as_array().ok_or("embeds")?;
    if embeds.is_empty() || embeds.len() > MAX_EMBEDS {
        return Err(format!("{} embeds", embeds.len()));
    }
    let mut all = 0;
    for embed in embeds {
        all += bound("title", &embed["title"], 1, 256)?;
        all += bound("description", &embed["description"], 0, 4_096)?;
        if !embed["footer"].is_null() {
            all += bound("footer", &embed["footer"]["text"], 1, 2_048)?;
        }
        let fields = embed["fields"].as_array().map_or(&[][..], Vec::as_slice);
        if fields.len() > 25 {
            return Err(format!("{} fields", fields.len()));
        }
        for field in fields {
            all += bound("name", &field["name"], 1, 256)?;
            all += bound("value", &field["value"], 1, 1_024)?;
        }
        if let Some(url) = embed["url"].as_str()
            && (!url.starts_with("http") || url.contains(char::is_whitespace))
        {
            return Err(format!("url: {url:.60}"));
        }
    }
    if all > MAX_ALL { Err(format!("embeds of {all} characters")) } else { Ok(()) }
}
