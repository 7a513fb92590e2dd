//! Bodies that are held whole: manifests, indexes, metadata. Each is bounded, and so are all of
//! them together, by what has come of them and not by what they say will come.

use std::sync::Arc;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::access::Identity;
use crate::refusal::{Code, Refusal};
use http::StatusCode;

/// What one permit stands for.
const UNIT_BYTES: usize = 16 << 10;

/// Room for bodies.
pub(crate) struct Room {
    holders: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

/// A body, and the room that it takes until it is dropped.
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Room {
    pub(crate) fn new(bytes: usize) -> Self {
        let room = || Arc::new(Semaphore::new(bytes.div_ceil(UNIT_BYTES)));
        Self { holders: room(), strangers: room() }
    }

    /// Takes a body of at most `most` bytes. `what` says of what, as in `a manifest`.
    pub(crate) async fn take(
        &self,
        who: &Identity,
        body: Body,
        most: usize,
        what: &str,
    ) -> Result<Held, Refusal> {
        // Strangers bring metadata, which needs no token; they take no room from others.
        let room = match who {
            Identity::Holder(_) => &self.holders,
            Identity::Anonymous => &self.strangers,
        };
        let mut pieces = body.into_data_stream();
        let mut whole = BytesMut::new();
        let mut held: Option<OwnedSemaphorePermit> = None;
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| {
                Refusal::new(Code::SizeInvalid, format!("{what} did not come whole: {error}"))
                    .status(StatusCode::REQUEST_TIMEOUT)
            })?;
            let bytes = whole.len() + piece.len();
            if bytes > most {
                return Err(too_large(what, most));
            }
            let has = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let more = bytes.div_ceil(UNIT_BYTES).saturating_sub(has);
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            let more = Arc::clone(room).try_acquire_many_owned(more);
            let more = more.map_err(|_| Refusal::too_many("too much is being sent at once"))?;
            match &mut held {
                Some(held) => held.merge(more),
                None => held = Some(more),
            }
            whole.extend_from_slice(&piece);
        }
        Ok(Held { bytes: whole.freeze(), _room: held })
    }
}

pub(crate) fn too_large(what: &str, most: usize) -> Refusal {
    Refusal::new(Code::SizeInvalid, format!("{what} has at most {most} bytes here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn take(room: &Room, bytes: usize, most: usize) -> Result<Held, Code> {
        let pieces = vec![7; bytes];
        let pieces: Vec<_> =
            pieces.chunks(1000).map(|p| Ok::<_, std::io::Error>(p.to_vec())).collect();
        let body = Body::from_stream(futures::stream::iter(pieces));
        room.take(&Identity::Anonymous, body, most, "a thing").await.map_err(|one| one.code)
    }

    #[tokio::test]
    async fn all_bodies_together_are_bounded_and_each_gives_its_room_back() {
        let room = Room::new(4 * UNIT_BYTES);
        let most = 3 * UNIT_BYTES;
        assert_eq!(take(&room, most + 1, most).await.err(), Some(Code::SizeInvalid));
        let first = take(&room, most, most).await.unwrap();
        assert_eq!(first.bytes.len(), most);
        assert_eq!(take(&room, most, most).await.err(), Some(Code::TooManyRequests));
        assert!(take(&room, UNIT_BYTES, most).await.is_ok(), "a little still has room");
        drop(first);
        assert!(take(&room, most, most).await.is_ok(), "what was refused holds nothing");
        assert!(take(&room, 0, most).await.is_ok());
    }
}
