//! Reading from the network within bounds: of size, of time, and of slowness.

use std::time::Duration;

use bytes::BytesMut;
use reqwest::{Client, Response, StatusCode, redirect};
use sentinel_trust::repository::Request;
use sentinel_trust::{Digest, MAX_COMPONENT_BYTES, PluginName};
use tokio::time::{Instant, timeout_at};
use url::{Host, Url};

use super::error::ClientError;

/// Most characters of an error's message that are repeated.
const MAX_MESSAGE_CHARS: usize = 500;
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(10);
/// Most bytes of an error's body that are read.
const MAX_ERROR_BYTES: u64 = 16 << 10;

/// Bounds on what the network may do. Times are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchLimits {
    /// Until a connection stands: 10 s.
    pub connect_ms: u64,
    /// From the question to the head of the answer: 20 s.
    pub answer_ms: u64,
    /// Windows of this length must each bring at least [`window_bytes`](Self::window_bytes),
    /// the last one excepted: 10 s.
    pub window_ms: u64,
    /// What one window must bring: 64 KiB.
    pub window_bytes: u64,
    /// For one whole file: 10 minutes.
    pub total_ms: u64,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            connect_ms: 10_000,
            answer_ms: 20_000,
            window_ms: 10_000,
            window_bytes: 64 << 10,
            total_ms: 600_000,
        }
    }
}

/// Asks one registry.
#[derive(Debug)]
pub(super) struct Fetcher {
    http: Client,
    base: Url,
    limits: FetchLimits,
}

impl Fetcher {
    pub(super) fn new(
        mut base: Url,
        ca: Option<&[u8]>,
        limits: FetchLimits,
    ) -> Result<Self, ClientError> {
        let refused = |why: String| ClientError::Address(why);
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(refused(format!("{base} is no http or https address")));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(refused("an address with a password ends up in logs; leave it out".into()));
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        base.set_query(None);
        base.set_fragment(None);
        let mut http = Client::builder()
            .connect_timeout(Duration::from_millis(limits.connect_ms))
            // Before a registry closes it: a question on a connection that ends is lost.
            .pool_idle_timeout(IDLE)
            // A redirect could lead anywhere, inside the network of the host too.
            .redirect(redirect::Policy::none())
            .user_agent(concat!("sentinel/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&base) {
            http = http.no_proxy();
        }
        if base.scheme() == "http" {
            // Nothing is ever verified by them, and reading them takes its time and memory.
            http = http.tls_certs_only([]);
        }
        if let Some(pem) = ca {
            let certificates = reqwest::Certificate::from_pem_bundle(pem)
                .map_err(|error| refused(format!("its certificates cannot be read: {error}")))?;
            http =
                certificates.into_iter().fold(http, reqwest::ClientBuilder::add_root_certificate);
        }
        let http = http.build().map_err(|error| refused(why(&error)))?;
        Ok(Self { http, base, limits })
    }

    /// An address below the registry's.
    pub(super) fn url(&self, path: &str) -> Result<Url, ClientError> {
        self.base.join(path).map_err(|error| ClientError::Address(error.to_string()))
    }

    pub(super) const fn http(&self) -> &Client {
        &self.http
    }

    /// Whether a secret may be sent there.
    pub(super) fn is_private(&self) -> bool {
        self.base.scheme() == "https" || is_loopback(&self.base)
    }

    /// A file of the metadata; none where it may be missing and is.
    pub(super) async fn metadata(&self, request: &Request) -> Result<Option<Vec<u8>>, ClientError> {
        let url = self.url(&format!("metadata/{}", request.path))?;
        let deadline = Instant::now() + Duration::from_millis(self.limits.total_ms);
        let response = self.send(self.http.get(url.clone()), &url).await?;
        if response.status() == StatusCode::NOT_FOUND && request.may_be_missing {
            // Read to its end, so that the connection serves the next question; how it goes
            // does not matter.
            let _ = self.body(response, &url, MAX_ERROR_BYTES, deadline).await;
            return Ok(None);
        }
        let response = self.good(response, &url).await?;
        self.body(response, &url, request.max_bytes, deadline).await.map(Some)
    }

    /// A plugin's bytes, `size` of them at most.
    pub(super) async fn blob(
        &self,
        name: &PluginName,
        digest: Digest,
        size: u64,
    ) -> Result<Vec<u8>, ClientError> {
        let url = self.url(&format!("v2/{name}/blobs/{digest}"))?;
        let deadline = Instant::now() + Duration::from_millis(self.limits.total_ms);
        let response = self.send(self.http.get(url.clone()), &url).await?;
        let response = self.good(response, &url).await?;
        self.body(response, &url, size.min(MAX_COMPONENT_BYTES as u64), deadline).await
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &self,
        request: reqwest::RequestBuilder,
        url: &Url,
    ) -> Result<Response, ClientError> {
        self.send_within(request, url, Duration::from_millis(self.limits.answer_ms)).await
    }

    /// The same within a time of its own: an upload's answer comes after all was sent.
    pub(super) async fn send_within(
        &self,
        request: reqwest::RequestBuilder,
        url: &Url,
        within: Duration,
    ) -> Result<Response, ClientError> {
        match tokio::time::timeout(within, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                Err(ClientError::Unreachable { url: url.to_string(), why: why(&error) })
            }
            Err(_) => {
                let ms = within.as_millis().try_into().unwrap_or(u64::MAX);
                Err(ClientError::TooSlow { url: url.to_string(), bytes: 0, ms, least: 1 })
            }
        }
    }

    /// Passes a successful answer on, and makes an error of any other.
    pub(super) async fn good(
        &self,
        response: Response,
        url: &Url,
    ) -> Result<Response, ClientError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let deadline = Instant::now() + Duration::from_millis(self.limits.answer_ms);
        let body = self.body(response, url, MAX_ERROR_BYTES, deadline).await.unwrap_or_default();
        Err(ClientError::Answer {
            url: url.to_string(),
            status: status.as_u16(),
            message: message(&body),
        })
    }

    /// A body of at most `max` bytes that does not dawdle.
    pub(super) async fn body(
        &self,
        mut response: Response,
        url: &Url,
        max: u64,
        deadline: Instant,
    ) -> Result<Vec<u8>, ClientError> {
        let too_big = || ClientError::TooBig { url: url.to_string(), max };
        let length = response.content_length();
        if length.is_some_and(|length| length > max) {
            return Err(too_big());
        }
        let window = Duration::from_millis(self.limits.window_ms);
        let mut body = BytesMut::new();
        let (mut window_end, mut window_start) = (Instant::now() + window, 0);
        loop {
            let chunk = match timeout_at(window_end.min(deadline), response.chunk()).await {
                Ok(chunk) => chunk.map_err(|error| ClientError::Unreachable {
                    url: url.to_string(),
                    why: why(&error),
                })?,
                Err(_) => {
                    let came = (body.len() - window_start) as u64;
                    if came < self.limits.window_bytes || Instant::now() >= deadline {
                        return Err(self.too_slow(url, came));
                    }
                    (window_end, window_start) = (window_end + window, body.len());
                    continue;
                }
            };
            let Some(chunk) = chunk else { break };
            if body.len() as u64 + chunk.len() as u64 > max {
                return Err(too_big());
            }
            body.extend_from_slice(&chunk);
            // A byte now and then keeps the timer from ever firing by itself.
            if Instant::now() >= window_end {
                let came = (body.len() - window_start) as u64;
                if came < self.limits.window_bytes {
                    return Err(self.too_slow(url, came));
                }
                (window_end, window_start) = (Instant::now() + window, body.len());
            }
        }
        Ok(body.into())
    }

    fn too_slow(&self, url: &Url, bytes: u64) -> ClientError {
        let FetchLimits { window_ms, window_bytes, .. } = self.limits;
        ClientError::TooSlow { url: url.to_string(), bytes, ms: window_ms, least: window_bytes }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// What an error and its causes say, without the address, which stands beside it.
fn why(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = next {
        causes.push(error.to_string());
        next = error.source();
    }
    if causes.is_empty() {
        causes
            .push(if error.is_timeout() { "no answer in time" } else { "it broke off" }.to_owned());
    }
    clean(&causes.join(": "))
}

/// What the body of an error says: the first message of an OCI error, or nothing.
fn message(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        message: String,
    }

    let errors: Option<Errors> = serde_json::from_slice(body).ok();
    let first = errors.and_then(|errors| errors.errors.into_iter().next());
    first.map(|one| clean(&one.message)).unwrap_or_default()
}

/// Text of a stranger, safe to print and short.
fn clean(text: &str) -> String {
    let safe = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(safe).take(MAX_MESSAGE_CHARS).collect()
}
