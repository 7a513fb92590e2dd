//! A table of requests and what must come of them.

use reqwest::Method;
use serde_json::Value;

use super::{Running, headers};

/// One request and what must come of it.
pub(crate) struct Row {
    says: &'static str,
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    status: u16,
    /// Headers that must be there, with this value; `*` for any.
    must: Vec<(&'static str, String)>,
    /// The code of the refusal; empty where there is none.
    code: &'static str,
    /// The body word for word, where it matters.
    answers: Option<Vec<u8>>,
}

pub(crate) fn row(says: &'static str, method: Method, path: impl Into<String>, status: u16) -> Row {
    Row {
        says,
        method,
        path: path.into(),
        headers: Vec::new(),
        body: Vec::new(),
        status,
        must: Vec::new(),
        code: "",
        answers: None,
    }
}

impl Row {
    pub(crate) fn send(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn must(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.must.push((name, value.into()));
        self
    }

    pub(crate) fn code(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }

    pub(crate) fn answers(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.answers = Some(body.into());
        self
    }
}

pub(crate) async fn check(registry: &Running, rows: Vec<Row>) {
    for row in rows {
        let list: Vec<(&'static str, &str)> =
            row.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let response = registry
            .ask(row.method.clone(), &row.path)
            .headers(headers(&list))
            .body(row.body)
            .send()
            .await
            .unwrap();
        let (says, path) = (row.says, &row.path);
        let status = response.status().as_u16();
        let found = response.headers().clone();
        let body = response.bytes().await.unwrap();
        let text = String::from_utf8_lossy(&body);
        assert_eq!(status, row.status, "{says}: {} {path}: {text}", row.method);
        for (name, value) in row.must {
            let found = found.get(name).map(|value| value.to_str().unwrap());
            assert!(found.is_some(), "{says}: no header {name}");
            assert!(
                value == "*" || found == Some(&value),
                "{says}: {name}: {found:?}, not {value}"
            );
        }
        if !row.code.is_empty() && row.method != Method::HEAD {
            let json: Value = serde_json::from_slice(&body).expect("a refusal is JSON");
            assert_eq!(json["errors"][0]["code"], row.code, "{says}: {text}");
        }
        if let Some(expected) = row.answers {
            assert_eq!(&body[..], expected, "{says}");
        }
    }
}
