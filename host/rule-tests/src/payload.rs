//! What a notifier sent, as tests compare and reports show it.

use sentinel_runtime::capabilities::http::Request;
use sentinel_runtime::capabilities::mail::{Mailbox, Message};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// One thing that left a notifier. Secrets stand in it as their names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Sent {
    /// An HTTP request.
    Http {
        /// `GET`, `POST` and so on.
        method: String,
        /// As the notifier wrote it.
        url: String,
        /// By names in lower case; of one that is there twice the values, with a comma.
        headers: BTreeMap<String, String>,
        /// JSON where it is any, else the text.
        body: Value,
    },
    /// A mail.
    Mail {
        /// The sender's address.
        from: String,
        /// Recipients.
        to: Vec<String>,
        /// Who gets a copy.
        cc: Vec<String>,
        /// The subject.
        subject: String,
        /// Plain text.
        text: String,
        /// The same as HTML.
        html: Option<String>,
    },
}

impl From<&Request> for Sent {
    fn from(request: &Request) -> Self {
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in &request.headers {
            let all = headers.entry(name.to_ascii_lowercase()).or_default();
            if !all.is_empty() {
                all.push_str(", ");
            }
            all.push_str(value);
        }
        let text = || Value::String(String::from_utf8_lossy(&request.body).into_owned());
        Self::Http {
            method: request.method.to_string(),
            url: request.url.clone(),
            headers,
            body: serde_json::from_slice(&request.body).unwrap_or_else(|_| text()),
        }
    }
}

impl From<&Message> for Sent {
    fn from(message: &Message) -> Self {
        let all = |list: &[Mailbox]| list.iter().map(|one| one.address.clone()).collect();
        Self::Mail {
            from: message.sender.address.clone(),
            to: all(&message.to),
            cc: all(&message.cc),
            subject: message.subject.clone(),
            text: message.text.clone(),
            html: message.html.clone(),
        }
    }
}

/// Most differences that are told of one payload.
const MAX_TOLD: usize = 20;

/// In what a payload differs from what was expected of it: a JSON Pointer into it, and both.
/// What is not expected of the top or of the headers may be as it is; all else is exact.
pub(crate) fn differences(expected: &Value, sent: &Sent) -> Vec<String> {
    let found = serde_json::to_value(sent).unwrap_or_default();
    let mut out = Vec::new();
    for (key, wanted) in expected.as_object().into_iter().flatten() {
        match (key.as_str(), wanted) {
            ("headers", Value::Object(headers)) => {
                for (name, wanted) in headers {
                    let name = name.to_ascii_lowercase();
                    compare(
                        &format!("/headers/{name}"),
                        wanted,
                        found["headers"].get(&name),
                        &mut out,
                    );
                }
            }
            _ => compare(&format!("/{key}"), wanted, found.get(key), &mut out),
        }
    }
    let more = out.len().saturating_sub(MAX_TOLD);
    out.truncate(MAX_TOLD);
    if more > 0 {
        out.push(format!("and {more} more"));
    }
    out
}

fn compare(path: &str, wanted: &Value, found: Option<&Value>, out: &mut Vec<String>) {
    match (wanted, found) {
        (wanted, None) => out.push(format!("{path}: - {wanted}")),
        (Value::Object(wanted), Some(Value::Object(found))) => {
            for (key, value) in wanted {
                compare(&format!("{path}/{key}"), value, found.get(key), out);
            }
            for (key, value) in found.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
                out.push(format!("{path}/{key}: + {value}"));
            }
        }
        (Value::Array(wanted), Some(Value::Array(found))) => {
            for (at, value) in wanted.iter().enumerate() {
                compare(&format!("{path}/{at}"), value, found.get(at), out);
            }
            for (at, value) in found.iter().enumerate().skip(wanted.len()) {
                out.push(format!("{path}/{at}: + {value}"));
            }
        }
        (Value::Number(a), Some(Value::Number(b))) if a.as_f64() == b.as_f64() => {}
        (wanted, Some(found)) if wanted == found => {}
        (wanted, Some(found)) => out.push(format!("{path}: - {wanted}\n{path}: + {found}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sent() -> Sent {
        Sent::from(&Request {
            method: sentinel_trust::HttpMethod::Post,
            url: "https://a.example/x".into(),
            headers: vec![("X-A".into(), "1".into()), ("x-a".into(), "2".into())],
            body: br#"{"a": 1, "b": [1, 2], "c": {"d": "e"}}"#.to_vec(),
            timeout_ms: 0,
        })
    }

    #[test]
    fn a_payload_is_compared_exactly_but_for_what_nobody_expects_of_the_top_and_the_headers() {
        let same = json!({"method": "POST", "headers": {"X-A": "1, 2"}, "body": {"a": 1.0, "b": [1, 2], "c": {"d": "e"}}});
        assert_eq!(differences(&same, &sent()), [""; 0]);
        let other = json!({"url": "https://b.example", "headers": {"y": "1"}, "body": {"a": 2, "b": [1], "x": 0}});
        assert_eq!(
            differences(&other, &sent()),
            [
                r#"/body/a: - 2
/body/a: + 1"#,
                "/body/b/1: + 2",
                "/body/x: - 0",
                r#"/body/c: + {"d":"e"}"#,
                r#"/headers/y: - "1""#,
                r#"/url: - "https://b.example"
/url: + "https://a.example/x""#,
            ]
        );
    }

    #[test]
    fn a_body_that_is_no_json_is_its_text() {
        let request = Request {
            method: sentinel_trust::HttpMethod::Post,
            url: "https://a.example".into(),
            headers: Vec::new(),
            body: b"plain".to_vec(),
            timeout_ms: 0,
        };
        assert_eq!(differences(&json!({"body": "plain"}), &Sent::from(&request)), [""; 0]);
    }
}
