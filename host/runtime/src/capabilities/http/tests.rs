//! The gate against real sockets, and its refusals.

mod failures;
mod redirects;
mod refusals;
mod secrets;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sentinel_trust::{
    Asked, Grants, HttpCapability, HttpGrant, HttpMethod, HttpRequest, Requests, SecretGrant,
    SecretPlace, effective,
};

use super::*;

pub(super) const ALL_METHODS: [HttpMethod; 6] = [
    HttpMethod::Get,
    HttpMethod::Head,
    HttpMethod::Post,
    HttpMethod::Put,
    HttpMethod::Patch,
    HttpMethod::Delete,
];

/// What may be done with these origins: everything, and the secrets.
pub(super) fn capability(
    origins: &[&str],
    secrets: &[(&str, &str, SecretPlace)],
) -> HttpCapability {
    adjusted(origins, secrets, |_| {})
}

pub(super) fn adjusted(
    origins: &[&str],
    secrets: &[(&str, &str, SecretPlace)],
    adjust: impl FnOnce(&mut HttpGrant),
) -> HttpCapability {
    let mut grant = HttpGrant::reading(origins.iter().map(|origin| origin.parse().unwrap()));
    grant.methods = BTreeSet::from(ALL_METHODS);
    for (name, origin, place) in secrets {
        let (name, origin) = ((*name).to_owned(), origin.parse().unwrap());
        grant.secrets.push(SecretGrant { name, origin, place: place.clone() });
    }
    adjust(&mut grant);
    let grants = Grants { http: Some(grant), ..Grants::default() };
    assert_eq!(grants.problems(), Vec::<String>::new());
    let methods = grants.http.as_ref().unwrap().methods.clone();
    let http = HttpRequest { origins: Asked::FromConfig, methods };
    let requests = Requests { http: Some(http), ..Requests::default() };
    effective(&requests, &grants).unwrap().http().unwrap().clone()
}

pub(super) fn header_place(name: &str) -> SecretPlace {
    SecretPlace::Header(name.to_owned())
}

/// Secrets `token`, `path`, `odd`, `empty`, `lines`, `climb`.
pub(super) fn store() -> Arc<BTreeMap<String, Vec<u8>>> {
    let store = [
        ("token", "s3cret-t0ken"),
        ("path", "T0/B1/x y"),
        ("odd", "a&b=c%/?#é"),
        ("empty", ""),
        ("lines", "a\r\nx-evil: 1"),
        ("climb", "a/../b"),
    ];
    Arc::new(store.into_iter().map(|(k, v)| (k.to_owned(), v.as_bytes().to_vec())).collect())
}

pub(super) fn gate(capability: &HttpCapability) -> HttpGate {
    gate_with(capability, HttpClientOptions::default())
}

pub(super) fn gate_with(capability: &HttpCapability, options: HttpClientOptions) -> HttpGate {
    HttpGate::new(capability, store(), Arc::new(HttpClient::new(options).unwrap()))
}

pub(super) fn get(url: impl Into<String>) -> Request {
    Request {
        method: HttpMethod::Get,
        url: url.into(),
        headers: Vec::new(),
        body: Vec::new(),
        timeout_ms: 0,
    }
}

#[tokio::test]
async fn what_a_gate_sends_may_be_spawned() {
    fn movable<T: Send>(future: T) -> T {
        future
    }
    let gate = gate(&capability(&["http://localhost:1"], &[]));
    assert!(movable(gate.send(get("no address"))).await.is_err());
    assert!(movable(gate.send_all(Vec::new())).await.is_empty());
}
