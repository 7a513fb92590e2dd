//! HTTP requests for a guest: only where the grant says, with secrets that the guest never
//! sees.
//!
//! What holds for every request:
//!
//! * Its origin and its method are in the allow-list, and so are those of every redirect that
//!   is followed (at most [`MAX_REDIRECTS`], none with a secret in the request). A redirect
//!   that may not be followed is itself the response.
//! * A name must lead to an ordinary address: see [`address`]. The connection is made to the
//!   very addresses that were checked, so a name that changes its mind gains nothing.
//! * `{{secret:NAME}}` is filled in only for the origin and the place that the secret was
//!   granted for, and its exact echoes (as written and as encoded in the URL) come back as
//!   `***`. A server that returns a secret in another form, compressed for instance, is
//!   beyond this gate.
//! * No proxy is taken from the environment, no cookie is kept, nothing is decompressed.
//! * Errors never hold the URL, nor a secret. Secrets are wiped after the request; the copies
//!   that the HTTP library makes of a header or a URL are freed, not wiped.
//!
//! [`HttpError::Connect`], [`HttpError::Tls`] and [`HttpError::Denied`] mean that surely
//! nothing was sent; once a redirect was answered that is no longer so, and what fails then is
//! [`HttpError::Broken`].

pub mod address;
mod client;
mod mask;
mod member;
mod prepare;
mod redirect;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use sentinel_trust::{HttpCapability, HttpMethod};
use tokio::time::Instant;

pub use client::{HttpClient, HttpClientError, HttpClientOptions};

use super::SecretSource;
use crate::services::Outside;
use prepare::Prepared;

/// Most bytes of a request body (4 MiB).
pub const MAX_REQUEST_BODY_BYTES: usize = 4 << 20;
/// Most bytes of all header names and values of a request, and of a response (64 KiB).
pub const MAX_HEADER_BYTES: usize = 64 << 10;
/// Longest URL, in bytes, before secrets are filled in.
pub const MAX_URL_BYTES: usize = 8 << 10;
/// Most redirects that are followed.
pub const MAX_REDIRECTS: usize = 5;
/// Most requests in one `send-all`.
pub const MAX_REQUESTS: usize = 256;
/// Most requests of one `send-all` that are in flight at once.
pub const MAX_IN_FLIGHT: usize = 16;
/// Most bytes of the response bodies of one `send-all` together (64 MiB), so that a guest
/// cannot make the host hold 256 full responses.
pub const MAX_SEND_ALL_BYTES: u64 = 64 << 20;

/// Longest `send-all`: no less than the longest exchange that a grant may allow. What is in
/// flight by then times out, what was not begun is not begun any more.
pub const MAX_SEND_ALL_TIME: Duration = Duration::from_secs(120);

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: HttpMethod,
    /// Absolute URL, `http` or `https`.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// At most [`MAX_REQUEST_BODY_BYTES`].
    pub body: Vec<u8>,
    /// For the whole exchange, in milliseconds; cut to the grant, and 0 means the grant's.
    pub timeout_ms: u32,
}

/// One response, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Names in lower case, and values; bytes that are not UTF-8 are replaced.
    pub headers: Vec<(String, String)>,
    /// At most what the grant allows.
    pub body: Vec<u8>,
}

/// Why there is no response. The text never holds the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// Not in the allow-list, or a secret that is not granted for this place.
    #[error("denied: {0}")]
    Denied(String),
    /// Malformed URL, header or size.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// Name not resolved or connection not made: surely nothing was sent.
    #[error("no connection: {0}")]
    Connect(String),
    /// TLS failed: surely no request was sent.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// Time ran out before the response was whole; the request may have been taken.
    #[error("no whole response in time")]
    Timeout,
    /// The connection broke after the request was sent; it may have been taken.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The response passed the size cap: its announced size, or what had come by then.
    #[error("the response has {0} bytes or more, which passes the cap")]
    TooLarge(u64),
}

impl HttpError {
    /// What an error means once an earlier request of the same exchange was answered: that
    /// one was taken, so nothing may claim that nothing was sent.
    fn after_redirect(self) -> Self {
        match self {
            Self::Denied(why) | Self::Connect(why) | Self::Tls(why) | Self::Invalid(why) => {
                Self::Broken(format!("following a redirect: {why}"))
            }
            Self::Timeout | Self::Broken(_) | Self::TooLarge(_) => self,
        }
    }
}

/// What went through a gate since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HttpCounts {
    /// Requests that were sent or tried, each redirect counted on its own.
    pub requests: u64,
    /// Requests that were refused before anything was sent.
    pub refused: u64,
    /// Requests that failed otherwise.
    pub failed: u64,
    /// Bytes of request bodies.
    pub sent_bytes: u64,
    /// Bytes of response bodies.
    pub received_bytes: u64,
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

/// A slot's way to the network.
pub struct HttpGate {
    capability: HttpCapability,
    secrets: Arc<dyn SecretSource>,
    client: Arc<HttpClient>,
    outside: Option<Arc<dyn Outside>>,
    counters: Counters,
}

impl HttpGate {
    /// A gate for what a slot may do, over the process's one client.
    #[must_use]
    pub fn new(
        capability: &HttpCapability,
        secrets: Arc<dyn SecretSource>,
        client: Arc<HttpClient>,
    ) -> Self {
        let capability = capability.clone();
        Self { capability, secrets, client, outside: None, counters: Counters::default() }
    }

    /// The same, but what may be sent is answered by `outside` where there is one.
    #[must_use]
    pub fn facing(self, outside: Option<Arc<dyn Outside>>) -> Self {
        Self { outside, ..self }
    }

    /// Sends one request. It must be polled inside a tokio runtime with I/O and time; when it
    /// is dropped, the exchange is given up.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn send(&self, request: Request) -> Result<Response, HttpError> {
        self.exchange(request, &Batch::begin(u64::MAX)).await
    }

    /// Sends many requests, at most [`MAX_IN_FLIGHT`] at once, and answers in their order. The
    /// timeout of each counts from when it is started. More than [`MAX_REQUESTS`] are all
    /// refused; once [`MAX_SEND_ALL_BYTES`] have come back, the rest are too large; after
    /// [`MAX_SEND_ALL_TIME`] the rest fail, those that were not begun as not connected.
    pub async fn send_all(&self, requests: Vec<Request>) -> Vec<Result<Response, HttpError>> {
        if requests.len() > MAX_REQUESTS {
            let why = format!("{} requests at once; at most {MAX_REQUESTS}", requests.len());
            self.counters.refused.fetch_add(requests.len() as u64, Ordering::Relaxed);
            return requests.iter().map(|_| Err(HttpError::Invalid(why.clone()))).collect();
        }
        let batch = Batch::begin(MAX_SEND_ALL_BYTES);
        // Not `buffered`: there a slow request keeps the place of those behind it.
        let mut answers: Vec<_> = futures::stream::iter(requests.into_iter().enumerate())
            .map(async |(at, request)| (at, self.exchange(request, &batch).await))
            .buffer_unordered(MAX_IN_FLIGHT)
            .collect()
            .await;
        answers.sort_unstable_by_key(|(at, _)| *at);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// Most bytes of a response body.
    #[must_use]
    pub fn response_bytes(&self) -> u64 {
        self.capability.response_bytes()
    }

    /// What went through so far.
    #[must_use]
    pub fn counts(&self) -> HttpCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HttpCounts {
            requests: read(&self.counters.requests),
            refused: read(&self.counters.refused),
            failed: read(&self.counters.failed),
            sent_bytes: read(&self.counters.sent_bytes),
            received_bytes: read(&self.counters.received_bytes),
        }
    }

    async fn exchange(&self, request: Request, batch: &Batch) -> Result<Response, HttpError> {
        let asked = u64::from(request.timeout_ms);
        let granted = self.capability.timeout_ms();
        let limit = if asked == 0 { granted } else { asked.min(granted) };
        let now = Instant::now();
        let deadline = batch.deadline.min(now + Duration::from_millis(limit));
        let shown = self.outside.as_ref().map(|outside| (Arc::clone(outside), request.clone()));
        let prepared = prepare::prepare(request, &self.capability, &*self.secrets);
        let result = match (prepared, shown) {
            (Ok(_), Some((outside, request))) => outside.http(request).await,
            (Ok(_), None) if deadline <= now => {
                Err(HttpError::Connect("the requests before it took too long; not begun".into()))
            }
            (Ok(prepared), None) => {
                // On the heap: the state of an exchange is kilobytes, and `send_all` has many.
                let exchange = Box::pin(self.follow(prepared, &batch.room));
                tokio::time::timeout_at(deadline, exchange).await.unwrap_or(Err(HttpError::Timeout))
            }
            (Err(error), _) => Err(error),
        };
        match &result {
            Ok(_) => None,
            Err(HttpError::Denied(_) | HttpError::Invalid(_)) => Some(&self.counters.refused),
            Err(_) => Some(&self.counters.failed),
        }
        .map(|counter| counter.fetch_add(1, Ordering::Relaxed));
        result
    }

    async fn follow(&self, prepared: Prepared, room: &AtomicU64) -> Result<Response, HttpError> {
        let Prepared { mut hop, masks } = prepared;
        let mut followed = 0;
        let result = loop {
            self.counters.requests.fetch_add(1, Ordering::Relaxed);
            self.counters.sent_bytes.fetch_add(hop.body.len() as u64, Ordering::Relaxed);
            let exchange = async {
                let answer = self.client.start(&hop).await?;
                let next = (masks.is_empty() && followed < MAX_REDIRECTS)
                    .then(|| redirect::next(&hop, answer.status(), answer.location()))
                    .flatten()
                    .filter(|next| self.capability.allows(next.method, &next.origin));
                match next {
                    Some(next) => Ok(Step::Next(Box::new(next))),
                    None => {
                        let received = &self.counters.received_bytes;
                        let cap = self.capability.response_bytes();
                        answer.read(cap, room, received).await.map(Step::Last)
                    }
                }
            };
            match exchange.await {
                Ok(Step::Next(next)) => (hop, followed) = (*next, followed + 1),
                Ok(Step::Last(response)) => break Ok(response),
                Err(error) if followed > 0 => break Err(error.after_redirect()),
                Err(error) => break Err(error),
            }
        };
        mask::mask_result(result, masks).await
    }
}

impl std::fmt::Debug for HttpGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpGate")
            .field("capability", &self.capability)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

/// What the requests of one call have in common.
struct Batch {
    /// Bytes that may still come back.
    room: AtomicU64,
    deadline: Instant,
}

impl Batch {
    fn begin(bytes: u64) -> Self {
        Self { room: AtomicU64::new(bytes), deadline: Instant::now() + MAX_SEND_ALL_TIME }
    }
}

enum Step {
    Next(Box<Hop>),
    Last(Response),
}

/// One request as it goes over the wire: everything checked and filled in.
struct Hop {
    method: HttpMethod,
    url: url::Url,
    origin: sentinel_trust::Origin,
    headers: http::HeaderMap,
    body: Bytes,
}

#[cfg(test)]
mod tests;
