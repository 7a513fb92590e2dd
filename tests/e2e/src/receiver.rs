//! A receiver of Standard Webhooks that checks what it gets, and fails on demand.

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

/// One webhook as it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`.
    pub timestamp: String,
    /// Whether `webhook-signature` fits the key.
    pub signed: bool,
    /// The body.
    pub body: Value,
    /// What was answered; 0 where nothing was.
    pub answered: u16,
}

#[derive(Default)]
struct Seen {
    key: Vec<u8>,
    received: Vec<Received>,
    answers: VecDeque<u16>,
    /// Nothing is answered.
    mute: bool,
}

/// A receiver on a free port.
pub struct Receiver {
    port: u16,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Listens; signatures are checked with `key`.
    ///
    /// # Errors
    /// Where no port is free.
    pub async fn start(key: &[u8]) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let seen = Arc::new(Mutex::new(Seen { key: key.to_vec(), ..Seen::default() }));
        let router = Router::new().route("/hook", post(take)).with_state(Arc::clone(&seen));
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { port, seen, task })
    }

    /// Its origin, `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A worker's `notifiers`, as YAML: a slot that posts here, signed with the secret
    /// `webhook-key`.
    #[must_use]
    pub fn notifiers(&self) -> String {
        format!(
            "  notifiers:
    - slot: webhook
      plugin: sentinel/webhook
      config: {{url: \"{origin}/hook\", secret: webhook-key}}
      grants:
        http: {{origins: [\"{origin}\"], methods: [POST]}}
        mac: {{keys: [webhook-key]}}
",
            origin = self.origin()
        )
    }

    /// Answers the next requests with these, and 200 after them.
    ///
    /// # Panics
    /// If a request panicked.
    pub fn answer_next(&self, answers: &[u16]) {
        self.seen.lock().expect("unpoisoned").answers.extend(answers);
    }

    /// From now on takes requests and answers nothing, or answers again.
    ///
    /// # Panics
    /// If a request panicked.
    pub fn mute(&self, mute: bool) {
        self.seen.lock().expect("unpoisoned").mute = mute;
    }

    /// Everything that came, in order.
    ///
    /// # Panics
    /// If a request panicked.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.seen.lock().expect("unpoisoned").received.clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(State(seen): State<Arc<Mutex<Seen>>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let answer = note(&mut seen.lock().expect("unpoisoned"), &headers, &body);
    match answer {
        // Ends with the connection: the sender waits until it gives up or is gone.
        None => std::future::pending().await,
        Some(answer) => StatusCode::from_u16(answer).expect("a status"),
    }
}

/// Keeps a request; what to answer.
fn note(seen: &mut Seen, headers: &HeaderMap, body: &[u8]) -> Option<u16> {
    let header = |name: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let mut mac = Hmac::<Sha256>::new_from_slice(&seen.key).expect("any length serves");
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    let signed = header("webhook-signature").split(' ').any(|one| one == expected);
    let answer = (!seen.mute).then(|| seen.answers.pop_front().unwrap_or(200));
    let body = serde_json::from_slice(body).unwrap_or(Value::Null);
    seen.received.push(Received { id, timestamp, signed, body, answered: answer.unwrap_or(0) });
    answer
}
