//! Pulling and deleting blobs: end-2 and end-10.
//!
//! What the store has under a digest is never believed: a blob is hashed while it is sent,
//! and its last piece goes out only if the whole is what the digest says. So a blob that
//! somebody swapped or cut in the store reaches nobody whole.

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use sentinel_trust::Digest;
use sha2::{Digest as _, Sha256};

use super::{Asked, answer, digest_header, store_failed};
use crate::names::Repository;
use crate::refusal::{Code, Refusal};
use crate::releases;
use crate::service::Shared;
use crate::store::{Store, StoreError};

/// Bytes that are read and sent at a time.
const PIECE_BYTES: u64 = 1 << 20;

fn unknown(repository: &Repository, digest: &Digest) -> Refusal {
    Refusal::new(Code::BlobUnknown, format!("{repository} has no blob {digest}"))
}

/// The size of a blob that the repository has.
pub(super) async fn size(
    store: &Store,
    repository: &Repository,
    digest: &Digest,
) -> Result<u64, Refusal> {
    if !store.is_linked(repository, digest).await.map_err(store_failed)? {
        return Err(unknown(repository, digest));
    }
    store.blob_size(digest).await.map_err(store_failed)?.ok_or_else(|| unknown(repository, digest))
}

pub(super) async fn head(
    asked: Asked,
    repository: &Repository,
    digest: Digest,
) -> Result<Response, Refusal> {
    let bytes = size(&asked.shared.store, repository, &digest).await?;
    Ok(describe(StatusCode::OK, bytes, &digest, Body::empty()))
}

/// That the repository has a blob, or had it a moment ago: a blob that is pulled by many at
/// once does not make the store look for the same link each time.
async fn check_linked(
    shared: &Shared,
    repository: &Repository,
    digest: Digest,
) -> Result<(), Refusal> {
    let now = (shared.options.clock)();
    if shared.links.has(repository, &digest, now) {
        return Ok(());
    }
    if !shared.store.is_linked(repository, &digest).await.map_err(store_failed)? {
        return Err(unknown(repository, &digest));
    }
    shared.links.saw(repository, digest, now);
    Ok(())
}

fn describe(status: StatusCode, bytes: u64, digest: &Digest, body: Body) -> Response {
    let mut response = answer(
        status,
        [
            digest_header(digest),
            (header::CONTENT_LENGTH, bytes.to_string()),
            (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            (header::ACCEPT_RANGES, "bytes".to_owned()),
            (header::ETAG, format!("\"{digest}\"")),
            // Bytes under a digest never change.
            (header::CACHE_CONTROL, "max-age=31536000, immutable".to_owned()),
        ],
    );
    *response.body_mut() = body;
    response
}

/// What a `Range` header asks of `size` bytes.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Whole,
    Part(Range<u64>),
    Nothing,
}

/// Reads a `Range` header. One that is not understood, or asks for several ranges, is as if
/// it were not there, which RFC 9110 allows.
fn wanted(headers: &HeaderMap, size: u64) -> Wanted {
    let text = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let Some(range) = text.and_then(|text| text.strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    let Some((first, last)) = range.split_once('-') else { return Wanted::Whole };
    let part = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) if last.is_empty() => first..size,
        (Err(_), Ok(last)) if first.is_empty() => size.saturating_sub(last)..size,
        _ => return Wanted::Whole,
    };
    if part.start >= part.end { Wanted::Nothing } else { Wanted::Part(part) }
}

pub(super) async fn get(
    asked: Asked,
    repository: &Repository,
    digest: Digest,
) -> Result<Response, Refusal> {
    let shared = &asked.shared;
    let (bytes, cached) = match shared.blobs.get(&digest) {
        Some(cached) => {
            check_linked(shared, repository, digest).await?;
            (cached.len() as u64, Some(cached))
        }
        None => (size(&shared.store, repository, &digest).await?, None),
    };
    let (status, range) = match wanted(&asked.headers, bytes) {
        Wanted::Whole => (StatusCode::OK, 0..bytes),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Nothing => {
            return Ok(answer(
                StatusCode::RANGE_NOT_SATISFIABLE,
                [(header::CONTENT_RANGE, format!("bytes */{bytes}"))],
            ));
        }
    };
    if range.start == 0 {
        shared.downloads.count(repository, &digest);
    }
    let length = range.end - range.start;
    let body = match cached {
        Some(cached) => Body::from(slice(&cached, &range)),
        None if bytes <= PIECE_BYTES => Body::from(slice(&small(shared, digest).await?, &range)),
        None => large(Arc::clone(shared), digest, range.clone(), bytes),
    };
    let mut response = describe(status, length, &digest, body);
    if status == StatusCode::PARTIAL_CONTENT {
        let value = format!("bytes {}-{}/{bytes}", range.start, range.end - 1);
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(header::CONTENT_RANGE, value);
        }
    }
    Ok(response)
}

/// A range of bytes that are all there; as much of it as there is.
fn slice(whole: &Bytes, range: &Range<u64>) -> Bytes {
    let at = |offset: u64| usize::try_from(offset).map_or(whole.len(), |at| at.min(whole.len()));
    whole.slice(at(range.start)..at(range.end))
}

fn damaged(digest: &Digest) -> StoreError {
    StoreError::Damaged {
        object: format!("blob {digest}"),
        why: "its bytes are not those of its digest".to_owned(),
    }
}

/// Reads a small blob whole, checks it and remembers it.
async fn small(shared: &Shared, digest: Digest) -> Result<Bytes, Refusal> {
    let bytes = read(&shared.store, &digest, None).await.map_err(store_failed)?;
    if Digest::of(&bytes) != digest {
        return Err(store_failed(damaged(&digest)));
    }
    shared.blobs.put(digest, bytes.clone());
    Ok(bytes)
}

async fn read(
    store: &Store,
    digest: &Digest,
    range: Option<Range<u64>>,
) -> Result<Bytes, StoreError> {
    match store.blob(digest, range).await? {
        Some(found) => Ok(found.bytes().await?),
        None => Err(StoreError::Damaged {
            object: format!("blob {digest}"),
            why: "it was removed while it was read".to_owned(),
        }),
    }
}

/// A blob that is being sent.
struct Sending {
    shared: Arc<Shared>,
    digest: Digest,
    left: Range<u64>,
    /// Of what was read; nothing where a part was asked for, which no digest vouches for.
    hash: Option<Sha256>,
}

/// Sends a large blob piece by piece. An error cuts the connection before the announced
/// length is reached.
fn large(shared: Arc<Shared>, digest: Digest, range: Range<u64>, size: u64) -> Body {
    let whole = range == (0..size);
    let sending = Sending { shared, digest, left: range, hash: whole.then(Sha256::new) };
    Body::from_stream(futures::stream::try_unfold(sending, |mut sending| async move {
        if sending.left.is_empty() {
            return Ok::<_, StoreError>(None);
        }
        let end = (sending.left.start + PIECE_BYTES).min(sending.left.end);
        let piece = read(&sending.shared.store, &sending.digest, Some(sending.left.start..end));
        let piece = piece.await?;
        let asked = end - sending.left.start;
        sending.left.start = end;
        if let Some(hash) = &mut sending.hash {
            hash.update(&piece);
        }
        let last = sending.left.is_empty();
        let changed = last
            && sending
                .hash
                .take()
                .is_some_and(|hash| Digest::from_bytes(hash.finalize().into()) != sending.digest);
        if changed || piece.len() as u64 != asked {
            let error = damaged(&sending.digest);
            tracing::error!(%error, "a blob is not what its digest says; the answer was cut");
            return Err(error);
        }
        Ok(Some((piece, sending)))
    }))
}

pub(super) async fn delete(
    asked: Asked,
    repository: &Repository,
    digest: Digest,
) -> Result<Response, Refusal> {
    let shared = &asked.shared;
    releases::refuse_loss(shared, repository, &digest).await?;
    let there = shared.store.unlink(repository, &digest).await.map_err(store_failed)?;
    shared.links.forget(repository, &digest);
    if !there {
        return Err(unknown(repository, &digest));
    }
    Ok(answer(StatusCode::ACCEPTED, []))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_has_them() {
        for (text, expected) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=2-4", Wanted::Part(2..5)),
            ("bytes=2-", Wanted::Part(2..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-30", Wanted::Part(0..10)),
            ("bytes=2-99", Wanted::Part(2..10)),
            ("bytes=2-18446744073709551615", Wanted::Part(2..10)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=10-12", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=4-2", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
        ] {
            let headers = HeaderMap::from_iter([(header::RANGE, text.parse().unwrap())]);
            assert_eq!(wanted(&headers, 10), expected, "{text}");
        }
        assert_eq!(wanted(&HeaderMap::new(), 10), Wanted::Whole);
    }
}
