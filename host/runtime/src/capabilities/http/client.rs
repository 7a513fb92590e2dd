//! The process's one HTTP client, and what its errors mean.

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sentinel_trust::{HttpMethod, Scheme};

use super::address::{AddressDenied, Guarded, Resolver, SystemResolver};
use super::{Hop, HttpError, MAX_HEADER_BYTES, Response};

/// Longest time until a connection stands unless another is set.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection is kept for the next request: longer than a usual collection
/// interval.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);
/// Most idle connections kept to one origin.
const MAX_IDLE: usize = 4;
/// Longest cause in an error's text, in bytes.
const MAX_CAUSE_BYTES: usize = 200;

/// What a client is made of.
#[derive(Clone, Default)]
pub struct HttpClientOptions {
    /// Certificates of authorities to trust beside the system's, in PEM.
    pub extra_roots: Vec<Vec<u8>>,
    /// Who resolves names; the system where nothing is set.
    pub resolver: Option<Arc<dyn Resolver>>,
    /// Longest time until a connection stands, names and TLS included; 5 s where nothing is
    /// set. What fails by then was surely not sent; a request's own timeout may be shorter
    /// and cannot tell.
    pub connect_timeout: Option<Duration>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum HttpClientError {
    /// An extra root is not a certificate.
    #[error("extra root certificate {at} cannot be read: {cause}; give one certificate in PEM")]
    Root {
        /// Which, from 0.
        at: usize,
        /// Why.
        cause: String,
    },
}

/// One for a process, shared by all gates: connections are reused over slots. What a slot may
/// do is not known here.
///
/// Certificates of authorities are read when the first `https` request is made, so that a
/// process which makes none does not hold them.
pub struct HttpClient {
    roots: Vec<reqwest::Certificate>,
    resolver: Arc<dyn Resolver>,
    connect_timeout: Duration,
    plain: OnceLock<Result<reqwest::Client, String>>,
    secure: OnceLock<Result<reqwest::Client, String>>,
}

impl HttpClient {
    /// Makes a client; nothing is connected or read yet.
    ///
    /// # Errors
    /// An extra root that is no certificate.
    pub fn new(options: HttpClientOptions) -> Result<Self, HttpClientError> {
        let mut roots = Vec::new();
        for (at, pem) in options.extra_roots.iter().enumerate() {
            let root = authority(pem);
            roots.push(root.map_err(|cause| HttpClientError::Root { at, cause })?);
        }
        Ok(Self {
            roots,
            resolver: options.resolver.unwrap_or_else(|| Arc::new(SystemResolver)),
            connect_timeout: options.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            plain: OnceLock::new(),
            secure: OnceLock::new(),
        })
    }

    /// Who resolves names, for whatever else connects to them.
    pub(crate) fn resolver(&self) -> Arc<dyn Resolver> {
        Arc::clone(&self.resolver)
    }

    fn builder(&self) -> reqwest::ClientBuilder {
        reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE)
            .http2_max_header_list_size(MAX_HEADER_BYTES as u32)
            .user_agent(concat!("sentinel/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(Guarded(Arc::clone(&self.resolver))))
    }

    fn client(&self, scheme: Scheme) -> Result<&reqwest::Client, HttpError> {
        let client = match scheme {
            // No authority at all: this one never speaks TLS.
            Scheme::Http => self.plain.get_or_init(|| {
                let builder = self.builder().http1_only().tls_certs_only([]);
                builder.build().map_err(|e| root_cause(&e))
            }),
            Scheme::Https => self.secure.get_or_init(|| {
                let builder = self.builder().https_only(true).tls_certs_merge(self.roots.clone());
                builder.build().map_err(|e| root_cause(&e))
            }),
        };
        client.as_ref().map_err(|why| HttpError::Tls(format!("no client can be made: {why}")))
    }

    /// Sends a request and waits for the head of its response.
    pub(super) async fn start(&self, hop: &Hop) -> Result<Answer, HttpError> {
        let client = self.client(hop.origin.scheme())?;
        let method = match hop.method {
            HttpMethod::Get => reqwest::Method::GET,
            HttpMethod::Head => reqwest::Method::HEAD,
            HttpMethod::Post => reqwest::Method::POST,
            HttpMethod::Put => reqwest::Method::PUT,
            HttpMethod::Patch => reqwest::Method::PATCH,
            HttpMethod::Delete => reqwest::Method::DELETE,
        };
        let mut request = reqwest::Request::new(method, hop.url.clone());
        request.headers_mut().clone_from(&hop.headers);
        let sends = matches!(hop.method, HttpMethod::Post | HttpMethod::Put | HttpMethod::Patch);
        if sends || !hop.body.is_empty() {
            *request.body_mut() = Some(hop.body.clone().into());
        }
        let response = client.execute(request).await.map_err(|e| meaning(&e))?;
        let headers = response.headers();
        let bytes: usize = headers.iter().map(|(k, v)| k.as_str().len() + v.len()).sum();
        if bytes > MAX_HEADER_BYTES {
            return Err(HttpError::TooLarge(bytes as u64));
        }
        Ok(Answer { response, bodiless: hop.method == HttpMethod::Head })
    }
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").field("extra_roots", &self.roots.len()).finish_non_exhaustive()
    }
}

/// A certificate that a client can be built with: reqwest would look at it only then.
fn authority(pem: &[u8]) -> Result<reqwest::Certificate, String> {
    let der = CertificateDer::from_pem_slice(pem).map_err(|e| e.to_string())?;
    rustls::RootCertStore::empty().add(der.clone()).map_err(|e| e.to_string())?;
    reqwest::Certificate::from_der(&der).map_err(|e| root_cause(&e))
}

/// A response whose head has come.
pub(super) struct Answer {
    response: reqwest::Response,
    /// A response to HEAD announces the size of a body that does not come.
    bodiless: bool,
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(super) fn location(&self) -> Option<&str> {
        self.response.headers().get(http::header::LOCATION)?.to_str().ok()
    }

    /// Reads the body, at most `cap` bytes and at most what `room` has left; what is read is
    /// added to `received`.
    pub(super) async fn read(
        mut self,
        cap: u64,
        room: &AtomicU64,
        received: &AtomicU64,
    ) -> Result<Response, HttpError> {
        let announced = self.response.content_length().filter(|_| !self.bodiless).unwrap_or(0);
        if announced > cap {
            return Err(HttpError::TooLarge(announced));
        }
        let mut body = Vec::new();
        // A size that is only announced buys no more than a modest allocation.
        body.reserve_exact(announced.min(64 << 10) as usize);
        while let Some(chunk) = self.response.chunk().await.map_err(|e| meaning(&e))? {
            let length = chunk.len() as u64;
            received.fetch_add(length, Ordering::Relaxed);
            let total = body.len() as u64 + length;
            let fits = room
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(length))
                .is_ok();
            if total > cap || !fits {
                return Err(HttpError::TooLarge(total.max(announced)));
            }
            body.extend_from_slice(&chunk);
        }
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into();
        let headers = self.response.headers().iter();
        Ok(Response {
            status: self.status(),
            headers: headers.map(|(name, value)| (name.as_str().into(), text(value))).collect(),
            body,
        })
    }
}

/// What an error of the client means to who sent the request.
fn meaning(error: &reqwest::Error) -> HttpError {
    let mut denied = false;
    let mut tls = false;
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(one) = cause {
        denied |= one.is::<AddressDenied>();
        tls |= one.is::<rustls::Error>();
        cause = below(one);
    }
    let why = root_cause(error);
    if denied {
        HttpError::Denied(why)
    } else if error.is_builder() {
        HttpError::Invalid(why)
    } else if error.is_connect() && tls {
        HttpError::Tls(why)
    } else if error.is_connect() {
        HttpError::Connect(why)
    } else {
        // A TLS alert that comes after the handshake belongs here: the request was sent.
        HttpError::Broken(why)
    }
}

/// The next cause. An I/O error's own `source` skips the error that it wraps.
fn below<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    if let Some(io) = error.downcast_ref::<io::Error>()
        && let Some(inner) = io.get_ref()
    {
        return Some(inner);
    }
    error.source()
}

/// The text of the last cause: none of the causes of a client's error holds a URL, but its
/// first one does.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &(dyn Error + 'static) = match below(error) {
        Some(cause) => cause,
        None if error.is_timeout() => return "timed out".into(),
        None => return "the request could not be made or read".into(),
    };
    while let Some(next) = below(cause) {
        cause = next;
    }
    let mut text = cause.to_string();
    text.truncate(text.floor_char_boundary(MAX_CAUSE_BYTES));
    text
}
