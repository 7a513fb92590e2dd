//! Fakes of the services that notifiers speak to: each as strict about limits as its
//! documentation says, each with its own way of refusing. A fake is a state machine over
//! requests ([`Service`]); [`Faulty`] puts faults before it, by a seed; it answers a plugin in
//! the same thread ([`answering`]) or, as a real server on loopback, a real host ([`Server`]).

mod delivery;

pub mod discord;
mod faults;
pub mod notifications;
pub mod pagerduty;

mod server;
pub mod slack;
pub mod suite;
pub mod teams;
pub mod telegram;

pub use delivery::{Delivered, deliver};
pub use faults::{Fault, Faulty};
pub use server::Server;

use sentinel_sdk::http::{HttpError, Method, Request, Response};
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};

/// A request as a service sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `POST`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Call {
    /// The value of a header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// Why it is none.
    pub fn json(&self) -> Result<Value, String> {
        serde_json::from_slice(&self.body).map_err(|error| error.to_string())
    }
}

/// What a service does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It answers.
    Answer {
        /// The status.
        status: u16,
        /// Headers beside the length.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// The connection stays open and nothing comes.
    Never,
    /// Half of an answer comes, then nothing; the connection stays open.
    Half,
    /// The connection is closed without an answer.
    Closed,
    /// The sender does not trust its certificate, so that no request comes. Over a plain socket it
    /// is closed.
    Untrusted,
}

impl Reply {
    /// An answer without headers of its own.
    #[must_use]
    pub fn text(status: u16, body: &str) -> Self {
        Self::Answer { status, headers: Vec::new(), body: body.as_bytes().to_vec() }
    }

    /// An answer in JSON.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        Self::text(status, &body.to_string()).with("content-type", "application/json")
    }

    /// The same with a header more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_string()));
        }
        self
    }
}

/// A fake service.
pub trait Service: Send + 'static {
    /// Takes a request.
    fn take(&mut self, call: &Call) -> Reply;

    /// How it says that there were too many requests; nothing was taken.
    fn limited(&self, after_seconds: u32) -> Reply {
        Reply::text(429, "Too Many Requests").with("retry-after", after_seconds)
    }
}

/// A service that a test and a server share.
#[derive(Debug, Default)]
pub struct Shared<S>(Arc<Mutex<S>>);

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Shared<S> {
    /// Shares a service.
    pub fn new(service: S) -> Self {
        Self(Arc::new(Mutex::new(service)))
    }

    /// Looks at it.
    pub fn look<R>(&self, look: impl FnOnce(&mut S) -> R) -> R {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A service as what answers the requests of a plugin in this thread: for
/// `sentinel_sdk::testing::Host::server`.
pub fn answering<S: Service>(
    service: &Shared<S>,
) -> impl FnMut(&Request) -> Result<Response, HttpError> + use<S> {
    let service = service.clone();
    move |request| match service.look(|one| one.take(&call(request))) {
        Reply::Answer { status, headers, body } => Ok(Response { status, headers, body }),
        Reply::Never | Reply::Half => Err(HttpError::Timeout),
        Reply::Closed => Err(HttpError::Broken("closed before a response".to_owned())),
        Reply::Untrusted => Err(HttpError::Tls("unknown issuer".to_owned())),
    }
}

fn call(request: &Request) -> Call {
    let behind = request.url.split_once("://").map_or("", |(_, rest)| rest);
    let path = behind.find(['/', '?']).map_or("/", |at| &behind[at..]);
    let lower = |(name, value): &(String, String)| (name.to_ascii_lowercase(), value.clone());
    Call {
        method: method(request.method).to_owned(),
        path: path.to_owned(),
        headers: request.headers.iter().map(lower).collect(),
        body: request.body.clone(),
    }
}

fn method(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Patch => "PATCH",
        Method::Delete => "DELETE",
    }
}

/// How many characters a strict service counts: UTF-16 units, which no count of characters
/// exceeds.
#[must_use]
pub fn characters(text: &str) -> usize {
    text.encode_utf16().count()
}
