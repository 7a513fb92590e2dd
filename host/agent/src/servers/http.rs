//! The way over HTTP: the messages of gRPC, posted one by one to the server's REST listener, which does
//! with them what its gRPC does.

use crate::link::{LinkError, LinkTls, MAX_FLEET_MESSAGE};
use prost::Message;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, StatusCode, Url, redirect};
use sentinel_wire::v1::{
    FleetRequest, FleetSet, HeartbeatRequest, HeartbeatResponse, PushRequest, PushResponse,
    RegisterRequest, RegisterResponse,
};
use serde::Deserialize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The type of bodies.
const PROTOBUF: &str = "application/x-protobuf";
const CONNECT: Duration = Duration::from_secs(5);
/// The longest an exchange may take: longer than the server holds a question for sets.
const REQUEST: Duration = Duration::from_secs(30);
/// Most bytes of an answer but a set.
const MAX_ANSWER: usize = 1 << 20;
/// Most characters that are shown of an answer.
const MAX_SHOWN: usize = 200;

/// A server's REST listener.
#[derive(Clone)]
pub(super) struct HttpLink {
    base: Url,
    tls: LinkTls,
    /// Made when it is first needed, which is seldom: the system's certificates take a megabyte.
    client: Arc<OnceLock<Client>>,
}

/// What the server says when it refuses.
#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl HttpLink {
    /// To `http://HOST:PORT` or `https://HOST:PORT`. Nothing is sent yet.
    pub(super) fn new(address: &str, tls: &LinkTls) -> Result<Self, LinkError> {
        let none = || LinkError::Address(address.to_owned());
        let base = Url::parse(address).map_err(|_| none())?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(none());
        }
        Ok(Self { base, tls: tls.clone(), client: Arc::default() })
    }

    fn client(&self) -> Result<&Client, LinkError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let mut builder = Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(REQUEST)
            .user_agent(concat!("sentinel-agent/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&self.base) {
            builder = builder.no_proxy();
        }
        if self.base.scheme() == "https" {
            builder = self.tls.http(builder)?;
        }
        let client = builder.build().map_err(|error| LinkError::Http(chain(&error)))?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Its address, for people.
    pub(super) fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    pub(super) async fn register(
        &self,
        request: RegisterRequest,
    ) -> Result<RegisterResponse, LinkError> {
        answered(self.ask("v1/register", &request, MAX_ANSWER).await?)
    }

    pub(super) async fn push(&self, request: PushRequest) -> Result<PushResponse, LinkError> {
        answered(self.ask("v1/push", &request, MAX_ANSWER).await?)
    }

    pub(super) async fn heartbeat(
        &self,
        request: HeartbeatRequest,
    ) -> Result<HeartbeatResponse, LinkError> {
        answered(self.ask("v1/sync", &request, MAX_ANSWER).await?)
    }

    /// A set, if one comes while the server holds the question.
    pub(super) async fn follow(
        &self,
        request: FleetRequest,
    ) -> Result<Option<FleetSet>, LinkError> {
        self.ask("v1/follow", &request, MAX_FLEET_MESSAGE).await
    }

    /// `None` where the server has nothing to say.
    async fn ask<A: Message + Default>(
        &self,
        path: &str,
        request: &impl Message,
        most: usize,
    ) -> Result<Option<A>, LinkError> {
        let failed = |error: reqwest::Error| LinkError::Http(chain(&error.without_url()));
        let url = self.base.join(path).map_err(|error| LinkError::Http(error.to_string()))?;
        let body = request.encode_to_vec();
        let request = self.client()?.post(url).header(CONTENT_TYPE, PROTOBUF).body(body);
        let mut answer = request.send().await.map_err(failed)?;
        let status = answer.status();
        let ours = answer.headers().get(CONTENT_TYPE) == Some(&HeaderValue::from_static(PROTOBUF));
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > most {
                return Err(LinkError::Http(format!("its answer has more than {most} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        match status {
            StatusCode::OK if ours => {
                let answer =
                    A::decode(&*body).map_err(|error| LinkError::Http(error.to_string()))?;
                Ok(Some(answer))
            }
            StatusCode::NO_CONTENT => Ok(None),
            StatusCode::BAD_REQUEST
            | StatusCode::FORBIDDEN
            | StatusCode::CONFLICT
            | StatusCode::TOO_MANY_REQUESTS => Err(refused(status, &body)),
            other => Err(LinkError::Http(format!("it answers {other}: {}", shown(&body)))),
        }
    }
}

fn answered<A>(answer: Option<A>) -> Result<A, LinkError> {
    answer.ok_or_else(|| LinkError::Http("its answer is empty".to_owned()))
}

/// The server's own refusal; of anybody in between it is none.
fn refused(status: StatusCode, body: &[u8]) -> LinkError {
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => LinkError::Refused(refusal.error),
        Err(_) => {
            LinkError::Http(format!("something in between answers {status}: {}", shown(body)))
        }
    }
}

fn shown(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect()
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        None => false,
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
