//! What refers to a manifest: end-12.

use axum::response::{IntoResponse, Response};
use http::{HeaderName, header};
use sentinel_trust::Digest;
use serde_json::json;

use super::{Asked, manifest_json::OCI_INDEX, store_failed};
use crate::names::Repository;
use crate::refusal::Refusal;

/// Most referrers of one manifest; more are not taken.
pub(super) const MAX_REFERRERS: usize = 256;
/// Most bytes of the annotations and the type of one referrer, as a list repeats them.
pub(super) const MAX_DESCRIBED_BYTES: usize = 16 << 10;

const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

pub(super) async fn list(
    asked: Asked,
    repository: &Repository,
    subject: Digest,
) -> Result<Response, Refusal> {
    let store = &asked.shared.store;
    let mut found = Vec::new();
    let referrers = store.referrers(repository, &subject).await.map_err(store_failed)?;
    for digest in referrers.iter().take(MAX_REFERRERS) {
        let referrer = store.referrer(repository, &subject, digest).await.map_err(store_failed)?;
        found.extend(referrer);
    }
    let filter = asked.query.artifact_type.as_deref();
    if let Some(wanted) = filter {
        found.retain(|descriptor| descriptor.artifact_type.as_deref() == Some(wanted));
    }
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found });
    let mut response = ([(header::CONTENT_TYPE, OCI_INDEX)], index.to_string()).into_response();
    if filter.is_some() {
        response.headers_mut().insert(FILTERS, http::HeaderValue::from_static("artifactType"));
    }
    Ok(response)
}
