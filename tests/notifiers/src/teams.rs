//! A workflow of Microsoft Teams that posts cards.

use crate::{Call, Reply, Service};
use serde_json::Value;

/// Most bytes of a message.
const MAX_BYTES: usize = 28 << 10;

/// A channel behind a workflow.
#[derive(Debug, Default)]
pub struct Teams {
    /// Cards in it, in order.
    pub cards: Vec<Value>,
    /// Answered in place of 202, as the older connectors do: with 200 and these words.
    pub connector: Option<&'static str>,
    /// What was refused as malformed.
    pub refused: Vec<String>,
}

impl Service for Teams {
    fn take(&mut self, call: &Call) -> Reply {
        if call.method != "POST" || !call.path.contains("sig=") {
            return Reply::text(401, "DirectApiAuthorizationRequired");
        }
        if call.body.len() > MAX_BYTES {
            self.refused.push(format!("{} bytes", call.body.len()));
            return Reply::text(413, "RequestEntityTooLarge");
        }
        if let Some(words) = self.connector.take() {
            return Reply::text(200, words);
        }
        match call.json().and_then(card) {
            Ok(card) => {
                self.cards.push(card);
                Reply::text(202, "")
            }
            Err(why) => {
                self.refused.push(why.clone());
                Reply::text(400, &why)
            }
        }
    }
}

fn card(body: Value) -> Result<Value, String> {
    let attachment = &body["attachments"][0];
    let sound = body["type"] == "message"
        && attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
        && attachment["content"]["type"] == "AdaptiveCard"
        && attachment["content"]["version"] == "1.4";
    if !sound {
        return Err("no adaptive card".to_owned());
    }
    let card = &attachment["content"];
    for element in card["body"].as_array().ok_or("no body")? {
        check(element)?;
    }
    for action in card["actions"].as_array().into_iter().flatten() {
        let url = action["url"].as_str().unwrap_or_default();
        if action["type"] != "Action.OpenUrl" || !url.starts_with("http") {
            return Err(format!("an action: {action:.60}"));
        }
    }
    Ok(card.clone())
}

fn check(element: &Value) -> Result<(), String> {
    let filled = |text: &Value| text.as_str().is_some_and(|text| !text.is_empty());
    match element["type"].as_str() {
        Some("TextBlock") if filled(&element["text"]) => {
            // `<at>` would mention somebody, `${...}` be filled in by a template.
            let text = element["text"].as_str().unwrap_or_default();
            let odd = text.contains(['<', '>', '{', '}']);
            if odd { Err(format!("a text that may mean something: {text:.60}")) } else { Ok(()) }
        }
        Some("FactSet") => {
            let facts = element["facts"].as_array().ok_or("no facts")?;
            let sound = facts.iter().all(|one| filled(&one["title"]) && filled(&one["value"]));
            if sound { Ok(()) } else { Err("a fact without a text".to_owned()) }
        }
        Some("Container") => {
            element["items"].as_array().ok_or("no items")?.iter().try_for_each(check)
        }
        _ => Err(format!("an element: {element:.60}")),
    }
}
