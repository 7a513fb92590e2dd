//! `wasi:http` for third parties: an outgoing request goes through the slot's one gate for HTTP,
//! as those of the contract's own `http` do, and so through the same allow-list, secrets, caps,
//! checks of addresses and counts. Nothing else of the network is there.
//!
//! A request is sent once its body is whole, and a response is there once its body is: neither is
//! streamed further than to the host. `{{secret:NAME}}` means what it means in `http`. Timeouts
//! for connecting and for the first byte, if both are given, bound the whole exchange.
//!
//! What an instance can make the host hold: as many exchanges as [`MAX_RESPONSES_BYTES`] has room
//! for at the grant's cap (at most [`MAX_IN_FLIGHT`]), each from its request until the guest lets
//! go of the response's body.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use sentinel_trust::HttpMethod;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpHooks};

use crate::capabilities::http::{
    HttpError, HttpGate, MAX_HEADER_BYTES, MAX_IN_FLIGHT, MAX_REQUEST_BODY_BYTES,
    MAX_SEND_ALL_BYTES, Request, Response,
};
use crate::capabilities::log::Level;
use crate::host::SlotShared;
use crate::slot::now;
use crate::threads::AbortOnDrop;

/// Most bytes of responses that an instance may make the host hold.
const MAX_RESPONSES_BYTES: u64 = MAX_SEND_ALL_BYTES;
/// Most bytes of fields as `wasi:http` counts them: names, values, and what holds them.
const MAX_FIELDS_BYTES: usize = 4 * MAX_HEADER_BYTES;

/// The HTTP side of one instance.
pub(crate) struct WasiOutgoing {
    pub(super) context: WasiHttpCtx,
    pub(super) hooks: Hooks,
}

impl WasiOutgoing {
    /// Goes through `gate`; where there is none, nothing goes anywhere.
    pub(super) fn new(slot: Arc<SlotShared>, gate: Option<Arc<HttpGate>>) -> Self {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(MAX_FIELDS_BYTES);
        let cap = gate.as_ref().map_or(u64::MAX, |gate| gate.response_bytes());
        let places = (MAX_RESPONSES_BYTES / cap.max(1)).clamp(1, MAX_IN_FLIGHT as u64);
        let places = Arc::new(Semaphore::new(places as usize));
        let hooks = Hooks { slot, gate, places, describing: true, deadline: Instant::now() };
        Self { context, hooks }
    }
}

/// What stands between `wasi:http` and the gate.
pub(super) struct Hooks {
    slot: Arc<SlotShared>,
    gate: Option<Arc<HttpGate>>,
    places: Arc<Semaphore>,
    /// As in [`CallState`](crate::host::CallState).
    pub(super) describing: bool,
    pub(super) deadline: Instant,
}

type Ended = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Result<(http::Response<WasiBody>, Ended), Error>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Ended,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let gate = self.gate.clone().filter(|_| !self.describing);
        let place = Arc::clone(&self.places).try_acquire_owned();
        let (slot, deadline) = (Arc::clone(&self.slot), self.deadline);
        Box::new(async move {
            let Some(gate) = gate else { return Err(Error::HttpRequestDenied) };
            let place = place.map_err(|_| Error::ConnectionLimitReached)?;
            let result = exchange(&slot.io, gate, request, options, deadline).await;
            match result {
                Ok(response) => {
                    Ok((converted(response, place), Box::new(async { Ok(()) }) as Ended))
                }
                Err(error) => {
                    // WASI has no words for it, and the author needs them.
                    slot.log.lock().write(now(), Level::Debug, &format!("wasi:http: {error}"));
                    Err(meaning(error))
                }
            }
        })
    }
}

async fn exchange(
    io: &Handle,
    gate: Arc<HttpGate>,
    request: http::Request<WasiBody>,
    options: Option<RequestOptions>,
    deadline: Instant,
) -> Result<Response, HttpError> {
    let whole = async {
        let request = taken(request, options).await?;
        let sent = AbortOnDrop::new(io.spawn(async move { gate.send(request).await })).await;
        sent.unwrap_or_else(|error| Err(HttpError::Broken(format!("it ended early: {error}"))))
    };
    let left = deadline.saturating_duration_since(Instant::now());
    // The guest's own thread waits here: its clock is not the host's I/O's.
    let timed = AbortOnDrop::new(io.spawn(tokio::time::sleep(left)));
    tokio::select! {
        biased;
        result = whole => result,
        _ = timed => Err(HttpError::Timeout),
    }
}

/// A request as the gate takes it, its body whole.
async fn taken(
    request: http::Request<WasiBody>,
    options: Option<RequestOptions>,
) -> Result<Request, HttpError> {
    let (head, body) = request.into_parts();
    let method = method(&head.method)?;
    let mut headers = Vec::with_capacity(head.headers.len());
    for (name, value) in &head.headers {
        // The host's own: it says whom it asks and how much it sends.
        if name != HOST && name != CONTENT_LENGTH {
            let value = value.to_str().map_err(|_| {
                HttpError::Invalid(format!("the value of `{name}` is no visible ASCII"))
            })?;
            headers.push((name.as_str().to_owned(), value.to_owned()));
        }
    }
    let body = Limited::new(body, MAX_REQUEST_BODY_BYTES).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            HttpError::Invalid(format!("a body above {MAX_REQUEST_BODY_BYTES} bytes"))
        } else {
            HttpError::Invalid("the body was not finished".to_owned())
        }
    })?;
    let given = options.and_then(|given| Some(given.connect_timeout? + given.first_byte_timeout?));
    let timeout_ms =
        given.map_or(0, |given| given.as_millis().clamp(1, u128::from(u32::MAX)) as u32);
    let body = body.to_bytes().to_vec();
    Ok(Request { method, url: head.uri.to_string(), headers, body, timeout_ms })
}

fn method(method: &http::Method) -> Result<HttpMethod, HttpError> {
    use HttpMethod::{Delete, Get, Head, Patch, Post, Put};
    [Get, Head, Post, Put, Patch, Delete]
        .into_iter()
        .find(|known| known.as_str() == method.as_str())
        .ok_or_else(|| HttpError::Denied("the method is not in the allow-list".to_owned()))
}

fn converted(response: Response, place: OwnedSemaphorePermit) -> http::Response<WasiBody> {
    let body = Held { body: Full::new(response.body.into()), _place: place };
    let mut converted = http::Response::new(body.boxed_unsync());
    // It came out of a status, and is one.
    *converted.status_mut() = http::StatusCode::from_u16(response.status).unwrap_or_default();
    for (name, value) in response.headers {
        // A replaced byte may have made a value that is none.
        if let (Ok(name), Ok(value)) =
            (http::HeaderName::from_bytes(name.as_bytes()), http::HeaderValue::from_str(&value))
        {
            converted.headers_mut().append(name, value);
        }
    }
    converted
}

/// The body of a response, and the place that it takes until it is gone.
struct Held {
    body: Full<Bytes>,
    _place: OwnedSemaphorePermit,
}

impl Body for Held {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.body).poll_frame(context).map_err(|never| match never {})
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn meaning(error: HttpError) -> Error {
    match error {
        HttpError::Denied(_) => Error::HttpRequestDenied,
        HttpError::Invalid(why) => Error::InternalError(Some(why)),
        HttpError::Connect(_) => Error::ConnectionRefused,
        HttpError::Tls(_) => Error::TlsProtocolError,
        HttpError::Timeout => Error::HttpResponseTimeout,
        HttpError::Broken(_) => Error::ConnectionTerminated,
        HttpError::TooLarge(bytes) => Error::HttpResponseBodySize(Some(bytes)),
    }
}
