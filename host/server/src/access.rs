//! Who may call the REST API: the holder of the token, under one of our own names.
//!
//! The name is checked because a browser can be made to call a loopback address under a
//! stranger's name (DNS rebinding); the token because a machine may have several users.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use subtle::ConstantTimeEq;

use crate::api::ErrorBody;
use crate::listen::{Addresses, Peer};

/// The API token and the names under which the server may be called.
#[derive(Clone)]
pub struct Access {
    token: [u8; 32],
    hosts: Arc<[String]>,
}

impl Access {
    /// Access for the holder of a token, under the addresses and further `host:port` names.
    #[must_use]
    pub fn new(token: &str, addresses: &Addresses, names: &[String]) -> Self {
        let mut hosts = Vec::new();
        for address in std::iter::once(addresses.rest).chain(addresses.own_rest) {
            let port = address.port();
            hosts.push(address.to_string());
            hosts.extend(["localhost", "127.0.0.1", "[::1]"].map(|name| format!("{name}:{port}")));
        }
        hosts.extend(names.iter().map(|name| name.to_ascii_lowercase()));
        Self { token: Sha256::digest(token.as_bytes()).into(), hosts: hosts.into() }
    }

    fn knows_host(&self, headers: &HeaderMap, uri_host: Option<&str>) -> bool {
        let header = headers.get(header::HOST).and_then(|value| value.to_str().ok());
        header.or(uri_host).is_some_and(|host| {
            let host = host.to_ascii_lowercase();
            self.hosts.contains(&host)
        })
    }

    fn knows_token(&self, headers: &HeaderMap) -> bool {
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(token) = value.and_then(|value| value.strip_prefix("Bearer ")) else {
            return false;
        };
        // Of equal length whatever was sent, so the comparison's time says nothing.
        let given: [u8; 32] = Sha256::digest(token.trim().as_bytes()).into();
        given.ct_eq(&self.token).into()
    }
}

fn refuse(status: StatusCode, message: &str) -> Response {
    (status, axum::Json(ErrorBody { error: message.to_owned(), problems: Vec::new() }))
        .into_response()
}

/// Lets through requests under a known name.
pub async fn check_host(State(access): State<Access>, request: Request, next: Next) -> Response {
    // Nobody gets a certificate for our address under a name that is not ours.
    let tls = request.extensions().get::<Peer>().is_some_and(|peer| peer.tls);
    let uri_host = request.uri().authority().map(ToString::to_string);
    if tls || access.knows_host(request.headers(), uri_host.as_deref()) {
        return next.run(request).await;
    }
    refuse(
        StatusCode::MISDIRECTED_REQUEST,
        "the Host header names another server; call the server by its address, or list the name under `hosts`",
    )
}

/// Lets through requests with the token.
pub async fn check_token(State(access): State<Access>, request: Request, next: Next) -> Response {
    if access.knows_token(request.headers()) {
        return next.run(request).await;
    }
    let message = if request.headers().contains_key(header::AUTHORIZATION) {
        "this is not the API token of this server; `sentinel up` keeps it in DIR/api.token"
    } else {
        "an API token is needed: `Authorization: Bearer TOKEN`; `sentinel up` keeps it in DIR/api.token"
    };
    refuse(StatusCode::UNAUTHORIZED, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_and_the_token_pass() {
        let here = "127.0.0.1:8080".parse().unwrap();
        let addresses =
            Addresses { tls: false, rest: here, grpc: here, own_rest: None, own_grpc: None };
        let access = Access::new("secret", &addresses, &["mon.example:443".into()]);
        let with = |name: header::HeaderName, value: &str| {
            HeaderMap::from_iter([(name, value.parse().unwrap())])
        };
        for (host, known) in [
            ("127.0.0.1:8080", true),
            ("LOCALHOST:8080", true),
            ("[::1]:8080", true),
            ("mon.example:443", true),
            ("evil.example:8080", false),
            ("localhost", false),
            ("localhost:8081", false),
        ] {
            assert_eq!(access.knows_host(&with(header::HOST, host), None), known, "{host}");
        }
        assert!(!access.knows_host(&HeaderMap::new(), None));
        for (value, known) in [
            ("Bearer secret", true),
            ("Bearer secre", false),
            ("secret", false),
            ("Bearer ", false),
        ] {
            assert_eq!(access.knows_token(&with(header::AUTHORIZATION, value)), known, "{value}");
        }
    }
}
