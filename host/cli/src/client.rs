//! The server's REST API, as commands call it.

mod pages;

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode, redirect};
use sentinel_agent::LinkTls;
use sentinel_server::api::ErrorBody;
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::{Host, Url};
use zeroize::Zeroizing;

use crate::client_tls::{ClientTls, applied};
use crate::failure::Failure;
use crate::files;
use crate::running::{self, Running};

/// The variable that holds the API token.
const TOKEN_VARIABLE: &str = "SENTINEL_TOKEN";
/// Most bytes of an API token's file.
const MAX_TOKEN_BYTES: usize = 4096;
/// Longest time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time of a whole request.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Most bytes of an answer that are read (256 MiB).
const MAX_ANSWER_BYTES: usize = 256 << 20;
/// Most characters that are shown of an answer that is not ours.
const MAX_SHOWN: usize = 200;

/// One server, and the right to call it.
pub(crate) struct Client {
    base: Url,
    token: Option<Zeroizing<String>>,
    http: reqwest::Client,
    running: Option<Running>,
}

impl Client {
    /// The server that was named, else the `sentinel up` of this user.
    pub(crate) fn find(named: Option<&str>, tls: &ClientTls) -> Result<Self, Failure> {
        let said = std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty());
        let running = running::read();
        let (base, running) = match named {
            // Somebody who names a server does not need the run file.
            Some(named) => (base(named)?, running.unwrap_or_default()),
            None => {
                let running = running?.ok_or_else(nothing_runs)?;
                (base(&running.server)?, Some(running))
            }
        };
        let here = running.filter(|running| is_at(running, &base));
        let token = match said {
            Some(token) => Some(Zeroizing::new(token)),
            None => here.as_ref().map(token_of).transpose()?,
        };
        Ok(Self { running: here, ..Self::new(base, token, &tls.read()?)? })
    }

    /// Whether there is a server to be asked: one was named, or a `sentinel up` of this user runs.
    pub(crate) fn is_to_be_had(named: Option<&str>) -> Result<bool, Failure> {
        Ok(named.is_some() || running::read()?.is_some())
    }

    /// The `sentinel up` of this user, where it is the server that is asked.
    pub(crate) const fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }

    /// A server at a URL.
    pub(crate) fn new(
        base: Url,
        token: Option<Zeroizing<String>>,
        tls: &LinkTls,
    ) -> Result<Self, Failure> {
        let local = is_loopback(&base);
        if token.is_some() && base.scheme() == "http" && !local {
            return Err(Failure::new(format!(
                "{} is another machine without TLS, where everybody on the way could read the API token",
                shown(&base)
            ))
            .hint("use https, or a tunnel to a port of this machine"));
        }
        let mut builder = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .user_agent(concat!("sentinel/", env!("CARGO_PKG_VERSION")));
        if local {
            builder = builder.no_proxy();
        }
        let http = applied(tls, builder)?.build().map_err(|error| {
            Failure::new(format!("no HTTP client can be made: {}", chain(&error)))
        })?;
        Ok(Self { base, token, http, running: None })
    }

    /// The server's URL, for people.
    pub(crate) fn shown(&self) -> &str {
        shown(&self.base)
    }

    /// Asks for something.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, Failure> {
        self.send(self.request(Method::GET, path, query)?).await
    }

    /// Asks for something, unless that is too much at once: then what the server says of that.
    pub(crate) async fn get_unless_too_much<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Result<T, String>, Failure> {
        let (status, body) = self.exchange(self.request(Method::GET, path, query)?).await?;
        if status == StatusCode::UNPROCESSABLE_ENTITY {
            return Ok(Err(refused(&self.base, status, &body).message));
        }
        self.answer(status, &body).map(Ok)
    }

    /// Tells the server to do something.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, Failure> {
        self.send(self.request(Method::POST, path, &[])?.json(body)).await
    }

    /// Removes something.
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.send(self.request(Method::DELETE, path, &[])?).await
    }

    /// Replaces something.
    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, Failure> {
        self.send(self.request(Method::PUT, path, &[])?.json(body)).await
    }

    /// Hands a text over that changes something, unless somebody else was first: then what the
    /// server says of that.
    pub(crate) async fn hand_over<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        text: String,
    ) -> Result<Result<T, String>, Failure> {
        let json = HeaderValue::from_static("application/json");
        let request = self.request(method, path, &[])?.header(CONTENT_TYPE, json).body(text);
        let (status, body) = self.exchange(request).await?;
        if status == StatusCode::CONFLICT {
            return Ok(Err(refused(&self.base, status, &body).message));
        }
        self.answer(status, &body).map(Ok)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<RequestBuilder, Failure> {
        let mut url = self.base.join(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.request_of(method, url)
    }

    fn request_of(&self, method: Method, url: Url) -> Result<RequestBuilder, Failure> {
        let mut request = self.http.request(method, url);
        if let Some(token) = &self.token {
            let bearer = Zeroizing::new(format!("Bearer {}", token.trim()));
            let mut value = HeaderValue::from_str(&bearer)
                .map_err(|_| Failure::new("the API token holds characters that no token has"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        Ok(request)
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let (status, body) = self.exchange(request).await?;
        self.answer(status, &body)
    }

    async fn exchange(&self, request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), Failure> {
        let answer = self.sent(request).await?;
        Ok((answer.status(), self.body(answer).await?))
    }

    async fn sent(&self, request: RequestBuilder) -> Result<Response, Failure> {
        request.send().await.map_err(|error| self.unreached(&error))
    }

    async fn body(&self, mut answer: Response) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.unreached(&error))? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER_BYTES {
                return Err(Failure::new(format!(
                    "the answer of {} has more than {MAX_ANSWER_BYTES} bytes",
                    self.shown()
                ))
                .hint("ask for less: a shorter time, a step, a limit"));
            }
        }
        Ok(body)
    }

    fn answer<T: DeserializeOwned>(&self, status: StatusCode, body: &[u8]) -> Result<T, Failure> {
        if status.is_success() {
            return serde_json::from_slice(body).map_err(|error| {
                Failure::new(format!(
                    "{} answered something else than expected: {error}",
                    self.shown()
                ))
                .hint("are this program and the server of the same version?")
            });
        }
        Err(refused(&self.base, status, body))
    }

    fn unreached(&self, error: &reqwest::Error) -> Failure {
        let cause = chain(error);
        if error.is_timeout() {
            return Failure::new(format!("{} did not answer in time: {cause}", self.shown()));
        }
        if !error.is_connect() {
            return Failure::new(format!(
                "no Sentinel server answers at {}: {cause}",
                self.shown()
            ))
            .hint("is it the address for agents (gRPC)? `sentinel up` prints both");
        }
        Failure::new(format!("there is no server at {}: {cause}", self.shown()))
            .hint("start one with `sentinel up`, or name another with --server or SENTINEL_SERVER")
    }
}

fn nothing_runs() -> Failure {
    Failure::new("no `sentinel up` of this user is running, and no server was named")
        .hint("start one with `sentinel up`, or name one with --server or SENTINEL_SERVER")
}

/// A URL without a path; `HOST:PORT` is taken for `http://HOST:PORT`.
fn base(named: &str) -> Result<Url, Failure> {
    let refused = |why: &str| {
        Failure::new(format!("{named:?} is not a server: {why}"))
            .hint("write it as http://127.0.0.1:8080")
    };
    let text = if named.contains("://") { named.to_owned() } else { format!("http://{named}") };
    let mut url = Url::parse(&text).map_err(|error| refused(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused("its scheme is neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("it holds a user name or password"));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(refused("it has a path"));
    }
    url.set_path("/");
    Ok(url)
}

/// A URL as people write it, without the last slash.
fn shown(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}

/// Whether a URL leads to this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Whether a URL leads to a running `up`: the token goes nowhere else.
fn is_at(running: &Running, base: &Url) -> bool {
    let Ok(known) = Url::parse(&running.server) else { return false };
    known.scheme() == base.scheme()
        && known.port_or_known_default() == base.port_or_known_default()
        && (known.host() == base.host() || (is_loopback(&known) && is_loopback(base)))
}

fn token_of(running: &Running) -> Result<Zeroizing<String>, Failure> {
    let text = files::read_text(&running.token_file, MAX_TOKEN_BYTES)
        .map_err(|failure| failure.hint(format!("set {TOKEN_VARIABLE}")))?;
    Ok(Zeroizing::new(text))
}

fn refused(base: &Url, status: StatusCode, body: &[u8]) -> Failure {
    let failure = match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => Failure::new(body.error),
        Err(_) => {
            let text: String = String::from_utf8_lossy(body).chars().take(MAX_SHOWN).collect();
            let text = crate::output::clean(text.trim());
            Failure::new(format!("{} answered {status}: {text}", shown(base)))
        }
    };
    match status {
        StatusCode::UNAUTHORIZED => {
            failure.hint(format!("set {TOKEN_VARIABLE} to the text in the server's DIR/api.token"))
        }
        StatusCode::NOT_FOUND if failure.message.starts_with(shown(base)) => {
            failure.hint("is this the REST address of a Sentinel server?")
        }
        _ => failure,
    }
}

/// An error with its causes, which reqwest does not repeat.
fn chain(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests;
