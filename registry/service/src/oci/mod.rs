//! The distribution specification 1.1: each endpoint, after who asks and for what is known.

mod blobs;
mod manifest_json;
mod manifests;
mod mount;
mod referrers;
mod tags;
mod uploads;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use sentinel_trust::Digest;

pub(crate) use manifest_json::{OCI_MANIFEST, Parsed};

use crate::access::Identity;
use crate::address::Address;
use crate::refusal::Refusal;
use crate::service::{Peer, Shared};
use crate::store::StoreError;

/// The digest of what an answer holds.
const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// The parameters of an address that the specification knows, decoded.
#[derive(Debug, Default)]
struct Query {
    mount: Option<String>,
    from: Option<String>,
    digest: Option<String>,
    artifact_type: Option<String>,
    n: Option<String>,
    last: Option<String>,
}

impl Query {
    fn parse(text: Option<&str>) -> Self {
        let mut query = Self::default();
        for (key, value) in url::form_urlencoded::parse(text.unwrap_or_default().as_bytes()) {
            let slot = match &*key {
                "mount" => &mut query.mount,
                "from" => &mut query.from,
                "digest" => &mut query.digest,
                "artifactType" => &mut query.artifact_type,
                "n" => &mut query.n,
                "last" => &mut query.last,
                _ => continue,
            };
            *slot = Some(value.into_owned());
        }
        query
    }
}

/// A request, taken apart.
struct Asked {
    shared: Arc<Shared>,
    who: Identity,
    query: Query,
    headers: HeaderMap,
    body: Body,
}

/// The store fails: nobody outside needs to know how.
#[expect(clippy::needless_pass_by_value, reason = "the shape map_err calls")]
pub(crate) fn store_failed(error: StoreError) -> Refusal {
    Refusal::internal("the registry's store fails", &error)
}

/// An answer without a body.
fn answer<const N: usize>(status: StatusCode, headers: [(HeaderName, String); N]) -> Response {
    let mut response = (status, Body::empty()).into_response();
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn digest_header(digest: &Digest) -> (HeaderName, String) {
    (DIGEST, digest.to_string())
}

/// Answers everything below `/v2`.
pub(crate) async fn handle(
    State(shared): State<Arc<Shared>>,
    peer: Peer,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let who = shared
        .access
        .identify(&shared.store, &parts.headers, peer.0.ip(), (shared.options.clock)())
        .await?;
    let address = Address::parse(parts.uri.path())?;
    let query = Query::parse(parts.uri.query());
    let asked = Asked { shared, who, query, headers: parts.headers, body };
    dispatch(asked, address, &parts.method).await
}

async fn dispatch(asked: Asked, address: Address, method: &Method) -> Result<Response, Refusal> {
    let access = &asked.shared.access;
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match &address {
        Address::Base => access.may_greet(&asked.who)?,
        Address::Uploads(repository) | Address::Upload(repository, _) => {
            access.may_push(&asked.who, repository)?;
        }
        Address::Blob(repository, _)
        | Address::Manifest(repository, _)
        | Address::Tags(repository)
        | Address::Referrers(repository, _) => {
            if reads {
                access.may_pull(&asked.who)?;
            } else {
                access.may_push(&asked.who, repository)?;
            }
        }
    }
    match (address, method) {
        (Address::Base, &Method::GET | &Method::HEAD) => Ok(greeting()),
        (Address::Blob(name, digest), &Method::GET) => blobs::get(asked, &name, digest).await,
        (Address::Blob(name, digest), &Method::HEAD) => blobs::head(asked, &name, digest).await,
        (Address::Blob(name, digest), &Method::DELETE) => blobs::delete(asked, &name, digest).await,
        (Address::Uploads(name), &Method::POST) => uploads::begin(asked, &name).await,
        (Address::Upload(name, id), &Method::GET) => uploads::status(asked, &name, &id).await,
        (Address::Upload(name, id), &Method::PATCH) => uploads::patch(asked, &name, &id).await,
        (Address::Upload(name, id), &Method::PUT) => uploads::finish(asked, &name, &id).await,
        (Address::Upload(name, id), &Method::DELETE) => uploads::cancel(asked, &name, &id).await,
        (Address::Manifest(name, at), &Method::GET | &Method::HEAD) => {
            manifests::get(asked, &name, &at).await
        }
        (Address::Manifest(name, at), &Method::PUT) => manifests::put(asked, &name, at).await,
        (Address::Manifest(name, at), &Method::DELETE) => {
            manifests::delete(asked, &name, &at).await
        }
        (Address::Tags(name), &Method::GET | &Method::HEAD) => tags::list(asked, &name).await,
        (Address::Referrers(name, subject), &Method::GET | &Method::HEAD) => {
            referrers::list(asked, &name, subject).await
        }
        (Address::Base | Address::Tags(_) | Address::Referrers(..), _) => {
            Err(Refusal::method("GET, HEAD"))
        }
        (Address::Blob(..), _) => Err(Refusal::method("GET, HEAD, DELETE")),
        (Address::Uploads(_), _) => Err(Refusal::method("POST")),
        (Address::Upload(..), _) => Err(Refusal::method("GET, PATCH, PUT, DELETE")),
        (Address::Manifest(..), _) => Err(Refusal::method("GET, HEAD, PUT, DELETE")),
    }
}

fn greeting() -> Response {
    let version = HeaderName::from_static("docker-distribution-api-version");
    ([(version, "registry/2.0"), (header::CONTENT_TYPE, "application/json")], "{}").into_response()
}
