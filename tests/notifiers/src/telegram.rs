//! Telegram's Bot API: `sendMessage`.

use crate::{Call, Reply, Service, characters};
use serde_json::{Value, json};

/// Longest text, once its markup is read.
const MAX_TEXT: usize = 4_096;

/// A chat.
#[derive(Debug, Default)]
pub struct Telegram {
    /// Texts in it, in order, as they were sent.
    pub messages: Vec<String>,
    /// Whether the chat has become a supergroup.
    pub migrated: bool,
    /// What was refused as malformed.
    pub refused: Vec<String>,
}

impl Service for Telegram {
    fn take(&mut self, call: &Call) -> Reply {
        if call.method != "POST" || !call.path.starts_with("/bot") {
            return refusal(404, "Not Found", json!({}));
        }
        let body = call.json().unwrap_or_default();
        if body["chat_id"] != "-1001" {
            return refusal(400, "Bad Request: chat not found", json!({}));
        }
        if self.migrated {
            let why = "Bad Request: group chat was upgraded to a supergroup chat";
            return refusal(400, why, json!({"migrate_to_chat_id": -1_002}));
        }
        match check(&body) {
            Ok(text) => {
                self.messages.push(text);
                let result = json!({"message_id": self.messages.len()});
                Reply::json(200, &json!({"ok": true, "result": result}))
            }
            Err(why) => {
                self.refused.push(why.clone());
                refusal(400, &format!("Bad Request: {why}"), json!({}))
            }
        }
    }

    /// Telegram says in the body alone how long to wait.
    fn limited(&self, after_seconds: u32) -> Reply {
        let why = format!("Too Many Requests: retry after {after_seconds}");
        refusal(429, &why, json!({"retry_after": after_seconds}))
    }
}

fn refusal(status: u16, description: &str, parameters: Value) -> Reply {
    let body = json!({
        "ok": false, "error_code": status, "description": description, "parameters": parameters,
    });
    Reply::json(status, &body)
}

fn check(body: &Value) -> Result<String, String> {
    if body["parse_mode"] != "HTML" {
        return Err("unsupported parse_mode".to_owned());
    }
    let text = body["text"].as_str().unwrap_or_default();
    let read = read_html(text)?;
    if read.trim().is_empty() {
        return Err("message text is empty".to_owned());
    }
    if characters(&read) > MAX_TEXT {
        return Err("message is too long".to_owned());
    }
    Ok(text.to_owned())
}

/// The text without its markup, which has to be Telegram's and well-formed.
fn read_html(text: &str) -> Result<String, String> {
    let wrong = |at: &str| Err(format!("can't parse entities: {at:.40}"));
    let (mut read, mut open, mut rest) = (String::new(), Vec::new(), text);
    while let Some(one) = rest.chars().next() {
        let length = match one {
            '<' => {
                let Some(end) = rest.find('>') else { return wrong(rest) };
                let tag = &rest[1..end];
                if let Some(name) = tag.strip_prefix('/') {
                    if open.pop() != Some(name) {
                        return wrong(rest);
                    }
                } else if ["b", "i", "code"].contains(&tag) {
                    open.push(tag);
                } else if let Some(link) = tag.strip_prefix("a href=\"http")
                    && link.find('"') == Some(link.len() - 1)
                {
                    open.push("a");
                } else {
                    return wrong(rest);
                }
                end + 1
            }
            '>' => return wrong(rest),
            '&' => {
                let known = [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>'), ("&quot;", '"')];
                let Some((name, one)) = known.iter().find(|(name, _)| rest.starts_with(name))
                else {
                    return wrong(rest);
                };
                read.push(*one);
                name.len()
            }
            one => {
                read.push(one);
                one.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    if open.is_empty() { Ok(read) } else { wrong("a tag is open at the end") }
}
