//! Slack: `chat.postMessage`, `chat.update`, an incoming webhook.

use crate::{Call, Reply, Service, characters};
use serde_json::{Value, json};

/// Most blocks of a message.
const MAX_BLOCKS: usize = 50;
/// Longest text of a message.
const MAX_TEXT: usize = 40_000;
/// Longest text of a section or of an element of a context.
const MAX_SECTION: usize = 3_000;
/// Longest text of a header.
const MAX_HEADER: usize = 150;
/// Most elements of a context.
const MAX_ELEMENTS: usize = 10;
/// Longest text of all blocks; Slack does not say where its own bound is.
const MAX_BLOCKS_TEXT: usize = 12_000;

/// A message in the channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its id.
    pub ts: String,
    /// The message in whose thread it stands.
    pub thread_ts: Option<String>,
    /// Its body as it was last sent.
    pub body: Value,
    /// How often it was changed.
    pub updates: usize,
}

/// A workspace with one channel, `#alerts` (`C0ALERTS`).
#[derive(Debug, Default)]
pub struct Slack {
    /// What `authorization` has to be; anything where it is empty.
    pub authorization: String,
    /// Everything in the channel, in order.
    pub messages: Vec<Message>,
    /// Errors that the next requests get in place of being taken.
    pub errors: Vec<&'static str>,
    /// What was refused as malformed.
    pub refused: Vec<String>,
}

impl Slack {
    /// Messages that stand in no thread.
    pub fn tops(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(|message| message.thread_ts.is_none())
    }

    /// Replies to a message.
    pub fn replies<'a>(&'a self, ts: &'a str) -> impl Iterator<Item = &'a Message> {
        self.messages.iter().filter(move |message| message.thread_ts.as_deref() == Some(ts))
    }

    fn method(&mut self, call: &Call) -> Result<Value, String> {
        if call.method != "POST" {
            return Err("invalid_form_data".to_owned());
        }
        let kind = call.header("content-type").unwrap_or_default();
        if !kind.starts_with("application/json") {
            return Err("invalid_post_type".to_owned());
        }
        let authorization = call.header("authorization").unwrap_or_default();
        if authorization.is_empty()
            || !(self.authorization.is_empty() || self.authorization == authorization)
        {
            return Err("invalid_auth".to_owned());
        }
        if let Some(error) = self.errors.pop() {
            return Err(error.to_owned());
        }
        let body = call.json().map_err(|_| "json_not_object".to_owned())?;
        check(&body).inspect_err(|error| self.refused.push(error.clone()))?;
        let text = |key: &str| body[key].as_str().map(str::to_owned);
        let known = |ts: &str| self.messages.iter().position(|message| message.ts == ts);
        if call.path == "/api/chat.update" {
            if text("channel").as_deref() != Some("C0ALERTS") {
                return Err("channel_not_found".to_owned());
            }
            let at = text("ts").and_then(|ts| known(&ts)).ok_or("message_not_found")?;
            self.messages[at].body = body;
            self.messages[at].updates += 1;
            return Ok(json!({"ok": true, "channel": "C0ALERTS", "ts": self.messages[at].ts}));
        }
        if !["C0ALERTS", "#alerts"].contains(&text("channel").unwrap_or_default().as_str()) {
            return Err("channel_not_found".to_owned());
        }
        let thread_ts = text("thread_ts");
        if let Some(ts) = &thread_ts {
            // Slack takes a reply to what is gone; it stands in no thread then.
            known(ts).ok_or("thread_not_found")?;
        }
        let ts = format!("1795221085.{:06}", self.messages.len() + 1);
        self.messages.push(Message { ts: ts.clone(), thread_ts, body, updates: 0 });
        Ok(json!({"ok": true, "channel": "C0ALERTS", "ts": ts}))
    }

    fn hook(&mut self, call: &Call) -> Reply {
        let body = match call.json() {
            Ok(body) => body,
            Err(_) => return Reply::text(400, "invalid_payload"),
        };
        if let Err(error) = check(&body) {
            self.refused.push(error.clone());
            return Reply::text(400, &error);
        }
        let ts = format!("1795221085.{:06}", self.messages.len() + 1);
        self.messages.push(Message { ts, thread_ts: None, body, updates: 0 });
        Reply::text(200, "ok")
    }
}

impl Service for Slack {
    fn take(&mut self, call: &Call) -> Reply {
        match call.path.as_str() {
            "/api/chat.postMessage" | "/api/chat.update" => {
                let body = match self.method(call) {
                    Ok(body) => body,
                    Err(error) => json!({"ok": false, "error": error}),
                };
                Reply::json(200, &body)
            }
            path if path.starts_with("/services/") => self.hook(call),
            _ => Reply::json(200, &json!({"ok": false, "error": "unknown_method"})),
        }
    }

    fn limited(&self, after_seconds: u32) -> Reply {
        Reply::json(429, &json!({"ok": false, "error": "ratelimited"}))
            .with("retry-after", after_seconds)
    }
}

/// What is wrong with a message, in Slack's words and, after a colon, where.
fn check(body: &Value) -> Result<(), String> {
    let text = body["text"].as_str().unwrap_or_default();
    if characters(text) > MAX_TEXT {
        return Err("msg_too_long".to_owned());
    }
    let Some(blocks) = body["blocks"].as_array() else {
        return if text.is_empty() { Err("no_text".to_owned()) } else { Ok(()) };
    };
    if blocks.is_empty() || blocks.len() > MAX_BLOCKS {
        return Err(format!("invalid_blocks: {} blocks", blocks.len()));
    }
    let mut all = 0;
    for (at, block) in blocks.iter().enumerate() {
        all += check_block(block).map_err(|why| format!("invalid_blocks: {at}: {why}"))?;
    }
    if all > MAX_BLOCKS_TEXT { Err("msg_blocks_too_long".to_owned()) } else { Ok(()) }
}

/// The length of a block's text.
fn check_block(block: &Value) -> Result<usize, String> {
    match block["type"].as_str() {
        Some("header") => {
            if block["text"]["type"] != "plain_text" {
                return Err("a header that is not plain_text".to_owned());
            }
            check_text(&block["text"], MAX_HEADER)
        }
        Some("section") => check_text(&block["text"], MAX_SECTION),
        Some("context") => {
            let elements = block["elements"].as_array().ok_or("no elements")?;
            if elements.is_empty() || elements.len() > MAX_ELEMENTS {
                return Err(format!("{} elements", elements.len()));
            }
            elements.iter().map(|element| check_text(element, MAX_SECTION)).sum()
        }
        other => Err(format!("no such block: {other:?}")),
    }
}

fn check_text(object: &Value, most: usize) -> Result<usize, String> {
    let text = object["text"].as_str().ok_or("no text")?;
    let long = characters(text);
    if long == 0 || long > most {
        return Err(format!("a text of {long} characters"));
    }
    match object["type"].as_str() {
        Some("plain_text") => Ok(long),
        Some("mrkdwn") => {
            check_mrkdwn(text)?;
            Ok(long)
        }
        other => Err(format!("no such text: {other:?}")),
    }
}

/// Nothing in angle brackets but links, no `&` but escapes: whatever the alert holds mentions
/// nobody.
fn check_mrkdwn(text: &str) -> Result<(), String> {
    let mut rest = text;
    while let Some(at) = rest.find(['<', '>', '&']) {
        let from = &rest[at..];
        let escapes = ["&amp;", "&lt;", "&gt;"];
        let length = if let Some(escape) = escapes.iter().find(|one| from.starts_with(**one)) {
            escape.len()
        } else if from.starts_with("<http://") || from.starts_with("<https://") {
            let end = from.find('>').ok_or("a link without an end")?;
            if from[1..end].contains('<') || !from[..end].contains('|') {
                return Err(format!("a broken link: {}", &from[..=end]));
            }
            end + 1
        } else {
            return Err(format!("not escaped: {:.40}", from));
        };
        rest = &from[length..];
    }
    Ok(())
}
