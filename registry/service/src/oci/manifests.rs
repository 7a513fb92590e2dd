//! Pulling, pushing and deleting manifests: end-3, end-7 and end-9.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, header};
use sentinel_trust::Digest;

use super::manifest_json::Parsed;
use super::referrers::{MAX_DESCRIBED_BYTES, MAX_REFERRERS};
use super::{Asked, answer, blobs, digest_header, store_failed};
use crate::admission;
use crate::held::too_large;
use crate::names::{Reference, Repository};
use crate::options::MAX_MANIFEST_BYTES;
use crate::refusal::{Code, Refusal};
use crate::releases::{Release, refuse_change};
use crate::service::Shared;
use crate::store::{Descriptor, Store, StoredManifest};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

fn unknown(repository: &Repository, at: &Reference) -> Refusal {
    Refusal::new(Code::ManifestUnknown, format!("{repository} has no manifest {at}"))
}

/// The digest that a reference means now.
async fn resolve(
    store: &Store,
    repository: &Repository,
    at: &Reference,
) -> Result<Digest, Refusal> {
    match at {
        Reference::Digest(digest) => Ok(*digest),
        Reference::Tag(tag) => store
            .tag(repository, tag)
            .await
            .map_err(store_failed)?
            .ok_or_else(|| unknown(repository, at)),
    }
}

pub(super) async fn get(
    asked: Asked,
    repository: &Repository,
    at: &Reference,
) -> Result<Response, Refusal> {
    let store = &asked.shared.store;
    let digest = resolve(store, repository, at).await?;
    let manifest = store.manifest(repository, &digest).await.map_err(store_failed)?;
    let manifest = manifest.ok_or_else(|| unknown(repository, at))?;
    let headers = answer(
        StatusCode::OK,
        [
            digest_header(&digest),
            (header::CONTENT_TYPE, manifest.media_type),
            (header::CONTENT_LENGTH, manifest.bytes.len().to_string()),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            (header::ETAG, format!("\"{digest}\"")),
        ],
    );
    let mut response = headers;
    *response.body_mut() = Body::from(manifest.bytes);
    Ok(response)
}

/// Refuses a manifest by the length that is announced, before it comes.
fn check_announced(headers: &HeaderMap) -> Result<(), Refusal> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<usize>().ok());
    if announced.is_some_and(|bytes| bytes > MAX_MANIFEST_BYTES) {
        return Err(too_large("a manifest", MAX_MANIFEST_BYTES));
    }
    Ok(())
}

/// That everything a manifest names is there, and as long as it says.
async fn check_parts(
    store: &Store,
    repository: &Repository,
    parsed: &Parsed,
) -> Result<(), Refusal> {
    for (digest, announced) in &parsed.blobs {
        let found = blobs::size(store, repository, digest).await.map_err(|refusal| {
            if refusal.code == Code::BlobUnknown {
                Refusal::new(Code::ManifestBlobUnknown, refusal.message)
            } else {
                refusal
            }
        })?;
        if found != *announced {
            return Err(Refusal::new(
                Code::ManifestInvalid,
                format!("the blob {digest} has {found} bytes, the manifest says {announced}"),
            ));
        }
    }
    for digest in &parsed.manifests {
        if !store.has_manifest(repository, digest).await.map_err(store_failed)? {
            return Err(Refusal::new(
                Code::ManifestBlobUnknown,
                format!("{repository} has no manifest {digest}, which the index names"),
            ));
        }
    }
    Ok(())
}

pub(super) async fn put(
    asked: Asked,
    repository: &Repository,
    at: Reference,
) -> Result<Response, Refusal> {
    let Asked { shared, who, headers, body, .. } = asked;
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| Refusal::new(Code::ManifestInvalid, "a Content-Type is needed"))?;
    check_announced(&headers)?;
    let held = shared.room.take(&who, body, MAX_MANIFEST_BYTES, "a manifest").await?;
    let bytes = held.bytes.clone();
    let digest = Digest::of(&bytes);
    if let Reference::Digest(named) = &at
        && *named != digest
    {
        return Err(Refusal::new(
            Code::DigestInvalid,
            format!("the manifest is {digest}, not {named}; nothing was stored"),
        ));
    }
    let parsed = Parsed::read(&bytes, content_type)?;
    check_parts(&shared.store, repository, &parsed).await?;
    if let Reference::Tag(tag) = &at {
        let version = tag.version();
        let moved =
            |one: &Release| Some(&one.version) == version.as_ref() && one.manifest != digest;
        refuse_change(&shared, repository, moved).await?;
    }
    admission::admit(&shared, repository, &at, &parsed).await?;
    store(&shared, repository, &digest, bytes, &parsed).await?;
    if let Reference::Tag(tag) = &at {
        shared.store.set_tag(repository, tag, &digest).await.map_err(store_failed)?;
    }
    let mut response = answer(
        StatusCode::CREATED,
        [
            (header::LOCATION, format!("/v2/{repository}/manifests/{digest}")),
            digest_header(&digest),
            (header::CONTENT_LENGTH, "0".to_owned()),
        ],
    );
    if let Some(subject) = parsed.subject
        && let Ok(value) = subject.to_string().parse()
    {
        response.headers_mut().insert(SUBJECT, value);
    }
    Ok(response)
}

/// What is listed of a referrer must stay small: a list repeats it for each.
fn check_described(parsed: &Parsed) -> Result<(), Refusal> {
    let annotations = parsed.annotations.iter().map(|(key, value)| key.len() + value.len());
    let kind = parsed.artifact_type.as_ref().map_or(0, String::len);
    if annotations.sum::<usize>() + kind > MAX_DESCRIBED_BYTES {
        return Err(Refusal::new(
            Code::ManifestInvalid,
            format!(
                "the annotations of a manifest that refers to another have at most {MAX_DESCRIBED_BYTES} bytes: put them into a layer"
            ),
        ));
    }
    Ok(())
}

/// Keeps the manifest, then notes what it refers to.
async fn store(
    shared: &Shared,
    repository: &Repository,
    digest: &Digest,
    bytes: Bytes,
    parsed: &Parsed,
) -> Result<(), Refusal> {
    let store = &shared.store;
    if let Some(subject) = &parsed.subject {
        check_described(parsed)?;
        let known = store.referrers(repository, subject).await.map_err(store_failed)?;
        if known.len() >= MAX_REFERRERS && !known.contains(digest) {
            return Err(Refusal::new(
                Code::Denied,
                format!("{subject} has {MAX_REFERRERS} referrers already, which is the most"),
            ));
        }
    }
    let size = bytes.len() as u64;
    let kept = StoredManifest { media_type: parsed.media_type.clone(), bytes };
    store.write_manifest(repository, digest, &kept).await.map_err(store_failed)?;
    if let Some(subject) = &parsed.subject {
        let descriptor = Descriptor {
            media_type: parsed.media_type.clone(),
            digest: digest.to_string(),
            size,
            artifact_type: parsed.artifact_type.clone(),
            annotations: parsed.annotations.clone(),
        };
        store.add_referrer(repository, subject, digest, &descriptor).await.map_err(store_failed)?;
    }
    Ok(())
}

pub(super) async fn delete(
    asked: Asked,
    repository: &Repository,
    at: &Reference,
) -> Result<Response, Refusal> {
    let shared = &asked.shared;
    let store = &shared.store;
    let there = match at {
        Reference::Tag(tag) => {
            let version = tag.version();
            let meant = |one: &Release| Some(&one.version) == version.as_ref();
            refuse_change(shared, repository, meant).await?;
            store.remove_tag(repository, tag).await.map_err(store_failed)?
        }
        Reference::Digest(digest) => {
            refuse_change(shared, repository, |one| one.manifest == *digest).await?;
            forget_subject(store, repository, digest).await?;
            store.remove_manifest(repository, digest).await.map_err(store_failed)?
        }
    };
    if there { Ok(StatusCode::ACCEPTED.into_response()) } else { Err(unknown(repository, at)) }
}

/// What the manifest refers to no longer lists it.
async fn forget_subject(
    store: &Store,
    repository: &Repository,
    digest: &Digest,
) -> Result<(), Refusal> {
    // A damaged manifest cannot say, and may be deleted all the same.
    let Ok(Some(manifest)) = store.manifest(repository, digest).await else { return Ok(()) };
    let Ok(parsed) = Parsed::read(&manifest.bytes, &manifest.media_type) else { return Ok(()) };
    if let Some(subject) = parsed.subject {
        store.remove_referrer(repository, &subject, digest).await.map_err(store_failed)?;
    }
    Ok(())
}
