//! PagerDuty's Events API v2.

use crate::{Call, Reply, Service, characters};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Most bytes of an event.
const MAX_BYTES: usize = 512 << 10;
/// Longest key of an event.
const MAX_DEDUP_KEY: usize = 255;
/// Longest summary.
const MAX_SUMMARY: usize = 1_024;

/// A service of PagerDuty, with its alerts by key.
#[derive(Debug, Default)]
pub struct PagerDuty {
    /// The only key that is known; any where it is empty.
    pub routing_key: String,
    /// Alerts that are open: the last event of each.
    pub open: BTreeMap<String, Value>,
    /// Alerts that were opened and resolved, in order.
    pub resolved: Vec<String>,
    /// How often a person was called: once for each alert that was opened.
    pub calls: Vec<String>,
    /// Events that were taken, repeats too.
    pub events: usize,
    /// After so many events, each further one is too many until [`PagerDuty::a_minute_later`].
    pub limit: Option<usize>,
    /// What was refused as malformed.
    pub refused: Vec<String>,
}

impl PagerDuty {
    /// Lets as many events through again.
    pub fn a_minute_later(&mut self) {
        self.limit = self.limit.map(|limit| limit + self.events);
    }

    fn event(&mut self, call: &Call) -> Result<Reply, String> {
        if call.method != "POST" || call.path != "/v2/enqueue" {
            return Ok(Reply::text(404, "not found"));
        }
        if call.body.len() > MAX_BYTES {
            return Ok(Reply::text(413, "too large"));
        }
        let event = call.json().map_err(|error| format!("JSON parse error: {error}"))?;
        let key = event["routing_key"].as_str().unwrap_or_default();
        if key.is_empty() || !(self.routing_key.is_empty() || self.routing_key == key) {
            return Err("Length of 'routing_key' is incorrect (should be 32 characters)".to_owned());
        }
        let dedup_key = event["dedup_key"].as_str().unwrap_or_default().to_owned();
        let long = characters(&dedup_key);
        if long == 0 || long > MAX_DEDUP_KEY {
            return Err(format!("'dedup_key' of {long} characters"));
        }
        check(&event)?;
        if self.limit.is_some_and(|limit| self.events >= limit) {
            return Ok(self.limited(30));
        }
        self.events += 1;
        match event["event_action"].as_str() {
            Some("trigger") => {
                if self.open.insert(dedup_key.clone(), event).is_none() {
                    self.calls.push(dedup_key.clone());
                }
            }
            Some("resolve") => {
                if self.open.remove(&dedup_key).is_some() {
                    self.resolved.push(dedup_key.clone());
                }
            }
            other => return Err(format!("'event_action' is invalid: {other:?}")),
        }
        let said =
            json!({"status": "success", "message": "Event processed", "dedup_key": dedup_key});
        Ok(Reply::json(202, &said))
    }
}

impl Service for PagerDuty {
    fn take(&mut self, call: &Call) -> Reply {
        self.event(call).unwrap_or_else(|error| {
            self.refused.push(error.clone());
            let said = json!({
                "status": "invalid event", "message": "Event object is invalid", "errors": [error],
            });
            Reply::json(400, &said)
        })
    }

    fn limited(&self, after_seconds: u32) -> Reply {
        Reply::text(429, "Too many API calls at a time.").with("retry-after", after_seconds)
    }
}

fn check(event: &Value) -> Result<(), String> {
    let payload = &event["payload"];
    for (key, most) in [("summary", MAX_SUMMARY), ("source", 255)] {
        let long = characters(payload[key].as_str().unwrap_or_default());
        if long == 0 || long > most {
            return Err(format!("'payload.{key}' of {long} characters"));
        }
    }
    for key in ["component", "group", "class"] {
        match &payload[key] {
            Value::Null => {}
            Value::String(text) if (1..=255).contains(&characters(text)) => {}
            other => return Err(format!("'payload.{key}' is invalid: {other:.40}")),
        }
    }
    let severity = payload["severity"].as_str().unwrap_or_default();
    if !["critical", "error", "warning", "info"].contains(&severity) {
        return Err(format!("'payload.severity' is invalid: {severity}"));
    }
    let time = payload["timestamp"].as_str().unwrap_or_default();
    if time.len() != 24 || !time.ends_with('Z') {
        return Err(format!("'payload.timestamp' is invalid: {time}"));
    }
    if !payload["custom_details"].is_object() {
        return Err("'payload.custom_details' is no object".to_owned());
    }
    for link in event["links"].as_array().ok_or("'links' is no list")? {
        let href = link["href"].as_str().unwrap_or_default();
        if !href.starts_with("http") || href.contains([' ', '<', '>', '"']) {
            return Err(format!("'links' holds no URL: {href:.40}"));
        }
    }
    Ok(())
}
