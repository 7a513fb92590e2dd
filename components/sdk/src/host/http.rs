//! HTTP requests. Capability `http`: an allow-list of origins and methods.
//!
//! A header value, the path and query of the URL, or a member of a JSON object that is the body
//! (as its whole value), may hold `{{secret:NAME}}`: the host fills it in if the grant allows that
//! secret for that origin and that place.

use super::host_call;
#[cfg(target_arch = "wasm32")]
use crate::bindings::host::sentinel::plugin::http as import;

pub use crate::bindings::host::sentinel::plugin::http::{HttpError, Method, Request, Response};

/// Time for a whole exchange where a request names none, in milliseconds.
pub const DEFAULT_TIMEOUT_MS: u32 = 10_000;

impl Request {
    /// A GET without headers, with [`DEFAULT_TIMEOUT_MS`].
    pub fn get(url: impl Into<String>) -> Self {
        Self::new(Method::Get, url, Vec::new())
    }

    /// A POST of `body`, with [`DEFAULT_TIMEOUT_MS`].
    pub fn post(url: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self::new(Method::Post, url, body.into())
    }

    /// A request without headers, with [`DEFAULT_TIMEOUT_MS`].
    pub fn new(method: Method, url: impl Into<String>, body: Vec<u8>) -> Self {
        Self { method, url: url.into(), headers: Vec::new(), body, timeout_ms: DEFAULT_TIMEOUT_MS }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the time for the whole exchange, in milliseconds; the host cuts it to the grant.
    #[must_use]
    pub fn timeout_ms(mut self, timeout_ms: u32) -> Self {
        self.timeout_ms = timeout_ms;
        self
    }
}

impl Response {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The first value of a header, whatever the case of `name`.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as text; bytes that are not UTF-8 become replacement characters.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}

/// The words of an exchange that failed, for a message; never holds the URL.
pub fn describe_error(error: &HttpError) -> String {
    match error {
        HttpError::Denied(why) => format!("the host denied the request: {why}"),
        HttpError::Invalid(why) => format!("the request is malformed: {why}"),
        HttpError::Connect(why) => format!("no connection was made: {why}"),
        HttpError::Tls(why) => format!("TLS failed: {why}"),
        HttpError::Timeout => "no whole response came in time".to_owned(),
        HttpError::Broken(why) => format!("the connection broke: {why}"),
        HttpError::TooLarge(bytes) => format!("the response passed the cap of {bytes} bytes"),
    }
}

/// Sends one request.
///
/// # Errors
///
/// [`HttpError`] where there is no response; a response of any status is `Ok`.
pub fn send(request: &Request) -> Result<Response, HttpError> {
    host_call!(import::send(request), crate::testing::with_host(|host| host.send(request)))
}

/// Sends many at once (at most 256) and answers in their order.
pub fn send_all(requests: &[Request]) -> Vec<Result<Response, HttpError>> {
    host_call!(
        import::send_all(requests),
        crate::testing::with_host(|host| requests.iter().map(|one| host.send(one)).collect())
    )
}
