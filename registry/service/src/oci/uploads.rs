//! Pushing blobs: end-4, end-5, end-6, end-11, end-13 and end-14.

use axum::body::{Body, BodyDataStream};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderMap, StatusCode, header};
use sentinel_trust::Digest;

use super::{Asked, answer, digest_header, mount, store_failed};
use crate::address::UploadId;
use crate::names::{self, Repository};
use crate::refusal::{Code, Refusal};
use crate::service::Shared;
use crate::store::{BlobWriter, MAX_BLOCK_BYTES, MAX_BLOCKS, Progress, Stored};

fn location(repository: &Repository, id: &UploadId) -> String {
    format!("/v2/{repository}/blobs/uploads/{}", id.as_str())
}

/// What has come so far, as the `Range` header has it.
fn so_far(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}

fn unknown() -> Refusal {
    Refusal::new(Code::BlobUploadUnknown, "there is no such upload; begin one with POST")
}

fn too_large(shared: &Shared) -> Refusal {
    let most = shared.options.limits.blob_bytes;
    Refusal::new(Code::SizeInvalid, format!("a blob has at most {most} bytes here"))
}

fn too_small() -> Refusal {
    Refusal::new(
        Code::BlobUploadInvalid,
        format!("an upload has at most {MAX_BLOCKS} chunks here: begin again with larger ones"),
    )
}

fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    let wrong = Refusal::new(Code::SizeInvalid, "the Content-Length is no number");
    length.map(Some).ok_or(wrong.status(StatusCode::BAD_REQUEST))
}

/// The next bytes of a body.
async fn next(pieces: &mut BodyDataStream) -> Result<Option<Bytes>, Refusal> {
    match pieces.next().await {
        None => Ok(None),
        Some(Ok(bytes)) => Ok(Some(bytes)),
        Some(Err(error)) => Err(Refusal::new(
            Code::BlobUploadInvalid,
            format!("the body did not come whole: {error}"),
        )
        .status(StatusCode::REQUEST_TIMEOUT)),
    }
}

pub(super) async fn begin(asked: Asked, repository: &Repository) -> Result<Response, Refusal> {
    let Asked { shared, who, query, headers, body } = asked;
    if let Some(response) = mount::mount(&shared, &who, &query, repository).await? {
        return Ok(response);
    }
    if let Some(digest) = query.digest {
        let digest = parse(&digest)?;
        let _place = shared.uploads.take(&who)?;
        return whole(&shared, repository, digest, None, &headers, body).await;
    }
    let id = UploadId::random()?;
    let now = (shared.options.clock)();
    shared.store.begin_upload(&id, repository, now).await.map_err(store_failed)?;
    Ok(answer(
        StatusCode::ACCEPTED,
        [
            (header::LOCATION, location(repository, &id)),
            (header::RANGE, so_far(0)),
            (header::CONTENT_LENGTH, "0".to_owned()),
        ],
    ))
}

fn parse(digest: &str) -> Result<Digest, Refusal> {
    names::digest(digest).map_err(|error| Refusal::new(Code::DigestInvalid, error.to_string()))
}

async fn progress(
    shared: &Shared,
    repository: &Repository,
    id: &UploadId,
) -> Result<Progress, Refusal> {
    let progress = shared.store.upload_offset(id, repository).await.map_err(store_failed)?;
    progress.ok_or_else(unknown)
}

pub(super) async fn status(
    asked: Asked,
    repository: &Repository,
    id: &UploadId,
) -> Result<Response, Refusal> {
    let offset = progress(&asked.shared, repository, id).await?.bytes;
    Ok(answer(
        StatusCode::NO_CONTENT,
        [(header::LOCATION, location(repository, id)), (header::RANGE, so_far(offset))],
    ))
}

/// The chunk does not begin where the upload ends.
fn out_of_order(repository: &Repository, id: &UploadId, offset: u64) -> Refusal {
    Refusal::new(
        Code::BlobUploadInvalid,
        format!("the upload has {offset} bytes and goes on there; ask where it is with GET"),
    )
    .status(StatusCode::RANGE_NOT_SATISFIABLE)
    .header(header::LOCATION, &location(repository, id))
    .header(header::RANGE, &so_far(offset))
}

/// Checks `Content-Range: <start>-<end>` against the offset and the length.
fn check_range(headers: &HeaderMap, length: Option<u64>, offset: u64) -> Result<bool, Refusal> {
    let Some(value) = headers.get(header::CONTENT_RANGE) else { return Ok(true) };
    let malformed = || {
        Refusal::new(Code::BlobUploadInvalid, "the Content-Range is not `<start>-<end>`")
            .status(StatusCode::RANGE_NOT_SATISFIABLE)
    };
    let text = value.to_str().map_err(|_| malformed())?;
    let text = text.strip_prefix("bytes ").unwrap_or(text);
    let (start, end) = text.split_once('-').ok_or_else(malformed)?;
    let (start, end): (u64, u64) =
        (start.parse().map_err(|_| malformed())?, end.parse().map_err(|_| malformed())?);
    let bytes = end.checked_sub(start).and_then(|n| n.checked_add(1)).ok_or_else(malformed)?;
    if length.is_some_and(|length| length != bytes) {
        return Err(Refusal::new(
            Code::SizeInvalid,
            format!("the Content-Range has {bytes} bytes, the Content-Length says otherwise"),
        )
        .status(StatusCode::BAD_REQUEST));
    }
    Ok(start == offset)
}

pub(super) async fn patch(
    asked: Asked,
    repository: &Repository,
    id: &UploadId,
) -> Result<Response, Refusal> {
    let Asked { shared, who, headers, body, .. } = asked;
    let _place = shared.uploads.take(&who)?;
    let Progress { bytes: start, mut blocks } = progress(&shared, repository, id).await?;
    let length = content_length(&headers)?;
    if !check_range(&headers, length, start)? {
        return Err(out_of_order(repository, id, start));
    }
    let most = shared.options.limits.blob_bytes;
    if start.saturating_add(length.unwrap_or(0)) > most {
        return Err(too_large(&shared));
    }
    let mut pieces = body.into_data_stream();
    let mut at = start;
    let mut block = BytesMut::new();
    loop {
        let piece = next(&mut pieces).await;
        if let Ok(Some(bytes)) = &piece {
            if at + block.len() as u64 + bytes.len() as u64 > most {
                return Err(too_large(&shared));
            }
            block.extend_from_slice(bytes);
        }
        let ended = !matches!(piece, Ok(Some(_)));
        // What came before a connection broke is kept: the client goes on from there.
        if !block.is_empty() && (ended || block.len() >= MAX_BLOCK_BYTES) {
            let bytes = block.split().freeze();
            let end = at + bytes.len() as u64;
            if blocks == MAX_BLOCKS {
                return Err(too_small());
            }
            blocks += 1;
            if !shared.store.add_block(id, at, bytes).await.map_err(store_failed)? {
                let found = progress(&shared, repository, id).await?.bytes;
                return Err(out_of_order(repository, id, found));
            }
            at = end;
        }
        if piece?.is_none() {
            break;
        }
    }
    Ok(answer(
        StatusCode::ACCEPTED,
        [
            (header::LOCATION, location(repository, id)),
            (header::RANGE, so_far(at)),
            (header::CONTENT_LENGTH, "0".to_owned()),
        ],
    ))
}

pub(super) async fn finish(
    asked: Asked,
    repository: &Repository,
    id: &UploadId,
) -> Result<Response, Refusal> {
    let Asked { shared, who, query, headers, body } = asked;
    let _place = shared.uploads.take(&who)?;
    let start = progress(&shared, repository, id).await?.bytes;
    let Some(digest) = query.digest else {
        return Err(Refusal::new(Code::DigestInvalid, "closing an upload needs ?digest=sha256:…"));
    };
    let digest = parse(&digest)?;
    if !check_range(&headers, content_length(&headers)?, start)? {
        return Err(out_of_order(repository, id, start));
    }
    let response = whole(&shared, repository, digest, Some((id, start)), &headers, body).await?;
    shared.store.end_upload(id).await.map_err(store_failed)?;
    Ok(response)
}

/// Joins what an upload has with a body, checks the digest, and gives the repository the blob.
async fn whole(
    shared: &Shared,
    repository: &Repository,
    digest: Digest,
    upload: Option<(&UploadId, u64)>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let start = upload.map_or(0, |(_, offset)| offset);
    let announced = content_length(headers)?;
    if start.saturating_add(announced.unwrap_or(0)) > shared.options.limits.blob_bytes {
        return Err(too_large(shared));
    }
    let mut writer = shared.store.write_blob(&digest).await.map_err(store_failed)?;
    if let Err(refusal) = fill(shared, &mut writer, upload, body).await {
        writer.abort().await.map_err(store_failed)?;
        return Err(refusal);
    }
    match writer.commit().await.map_err(store_failed)? {
        Stored::Whole => {}
        Stored::OtherDigest(found) => {
            return Err(Refusal::new(
                Code::DigestInvalid,
                format!("the bytes are {found}, not {digest}; nothing was stored"),
            ));
        }
    }
    shared.blobs.remove(&digest);
    shared.store.link(repository, &digest).await.map_err(store_failed)?;
    Ok(created(repository, &digest))
}

/// The answer to a blob that the repository has now.
pub(super) fn created(repository: &Repository, digest: &Digest) -> Response {
    answer(
        StatusCode::CREATED,
        [
            (header::LOCATION, format!("/v2/{repository}/blobs/{digest}")),
            digest_header(digest),
            (header::CONTENT_LENGTH, "0".to_owned()),
        ],
    )
}

async fn fill(
    shared: &Shared,
    writer: &mut BlobWriter,
    upload: Option<(&UploadId, u64)>,
    body: Body,
) -> Result<(), Refusal> {
    if let Some((id, _)) = upload {
        for start in shared.store.block_starts(id).await.map_err(store_failed)? {
            let bytes = shared.store.read_block(id, start).await.map_err(store_failed)?;
            writer.write(bytes).await.map_err(store_failed)?;
        }
    }
    let mut pieces = body.into_data_stream();
    while let Some(bytes) = next(&mut pieces).await? {
        if writer.bytes() + bytes.len() as u64 > shared.options.limits.blob_bytes {
            return Err(too_large(shared));
        }
        writer.write(bytes).await.map_err(store_failed)?;
    }
    Ok(())
}

pub(super) async fn cancel(
    asked: Asked,
    repository: &Repository,
    id: &UploadId,
) -> Result<Response, Refusal> {
    progress(&asked.shared, repository, id).await?;
    asked.shared.store.end_upload(id).await.map_err(store_failed)?;
    Ok(answer(StatusCode::NO_CONTENT, []))
}
