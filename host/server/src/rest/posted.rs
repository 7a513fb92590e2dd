//! What agents say over gRPC, posted over HTTP: for networks through which gRPC does not come. The same
//! messages, and the same service answers them; here they are only unpacked and packed.
//!
//! | route | gRPC |
//! |---|---|
//! | `POST /v1/register` | `Register` |
//! | `POST /v1/push` | `Push` |
//! | `POST /v1/sync` | `Heartbeat` |
//! | `POST /v1/follow` | `Fleet`: the first set that comes, or 204 after [`HELD`] |
//!
//! Bodies are `application/x-protobuf`; the service is told the peer's address as over gRPC. Its refusals are
//! 400, 403, 409 (an enrolment that waits for approval), 429 (too many of them, with `Retry-After`) and 503. These routes need no API token: each message is signed with the
//! agent's key, but the one with which it enrols, which has a token of its own. Nor is the Host header looked
//! at: no browser can sign.

use super::Failure;
use super::bounds::{Bounds, bound};
use crate::ingest::{IngestService, pushback};
use crate::listen::Peer;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request as Posting, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use prost::Message;
use sentinel_wire::envelope::MAX_PUSH;
use sentinel_wire::v1::ingest_server::Ingest;
use sentinel_wire::v1::{FleetRequest, HeartbeatRequest, PushRequest, RegisterRequest};
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Request, Status};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The type of bodies.
const PROTOBUF: &str = "application/x-protobuf";
/// The largest body: a push, as over gRPC.
const MAX_BODY: usize = MAX_PUSH + (1 << 20);
/// The longest an exchange may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a question for sets is held.
const HELD: Duration = Duration::from_secs(20);
/// The most exchanges at once, those that wait for their turn, and the most held questions.
const MAX_RUNNING: usize = 64;
const MAX_WAITING: usize = 256;
const MAX_HELD: usize = 4096;

type Service = State<Arc<IngestService>>;

/// The routes of agents, described.
pub(super) fn described() -> OpenApiRouter<Arc<IngestService>> {
    let exchanges = OpenApiRouter::default()
        .routes(routes!(register))
        .routes(routes!(push))
        .routes(routes!(sync))
        .route_layer(from_fn_with_state(Bounds::new(MAX_RUNNING, MAX_WAITING), bound));
    let held = OpenApiRouter::default()
        .routes(routes!(follow))
        .route_layer(from_fn_with_state(Bounds::new(MAX_HELD, 0), bound));
    exchanges.merge(held)
}

/// The routes of agents.
pub(crate) fn router(service: Arc<IngestService>) -> axum::Router {
    let (router, _) = described().split_for_parts();
    router
        .with_state(service)
        .layer(RequestBodyLimitLayer::new(MAX_BODY))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIMEOUT))
        .layer(CatchPanicLayer::new())
}

/// A message that was posted, and who posted it: what the service is asked over gRPC.
struct Posted<M>(Request<M>);

impl<M: Message + Default, S: Send + Sync> FromRequest<S> for Posted<M> {
    type Rejection = Response;

    async fn from_request(posting: Posting, state: &S) -> Result<Self, Response> {
        let kind = posting.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
        if kind != Some(PROTOBUF) {
            let text = format!("the body must be {PROTOBUF}");
            return Err(refused(&Status::invalid_argument(text)));
        }
        let peer = posting.extensions().get::<Peer>().copied();
        let body = Bytes::from_request(posting, state).await.map_err(|e| e.into_response())?;
        let message = M::decode(body)
            .map_err(|error| refused(&Status::invalid_argument(error.to_string())))?;
        let mut request = Request::new(message);
        // As gRPC does: rates are counted by it, and it is written down.
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        Ok(Self(request))
    }
}

/// Enrols an agent: `RegisterRequest`, answered by `RegisterResponse` of `proto/sentinel.proto`.
/// 409 while the code that the agent shows waits for an admin's approval.
#[utoipa::path(post, path = "/v1/register", request_body(content = Vec<u8>, content_type = "application/x-protobuf"), responses((status = 200, body = Vec<u8>, content_type = "application/x-protobuf"), (status = 400, body = crate::api::ErrorBody), (status = 403, body = crate::api::ErrorBody), (status = 409, body = crate::api::ErrorBody), (status = 429, body = crate::api::ErrorBody), (status = 503, body = crate::api::ErrorBody)))]
async fn register(State(service): Service, Posted(request): Posted<RegisterRequest>) -> Response {
    packed(service.register(request).await)
}

/// Takes records that an agent signed: `PushRequest`, answered by `PushResponse`, which says too
/// which were refused and why.
#[utoipa::path(post, path = "/v1/push", request_body(content = Vec<u8>, content_type = "application/x-protobuf"), responses((status = 200, body = Vec<u8>, content_type = "application/x-protobuf"), (status = 400, body = crate::api::ErrorBody), (status = 413), (status = 503, body = crate::api::ErrorBody)))]
async fn push(State(service): Service, Posted(request): Posted<PushRequest>) -> Response {
    packed(service.push(request).await)
}

/// Takes what an agent says of itself: `HeartbeatRequest`, answered by `HeartbeatResponse`.
#[utoipa::path(post, path = "/v1/sync", request_body(content = Vec<u8>, content_type = "application/x-protobuf"), responses((status = 200, body = Vec<u8>, content_type = "application/x-protobuf"), (status = 400, body = crate::api::ErrorBody), (status = 503, body = crate::api::ErrorBody)))]
async fn sync(State(service): Service, Posted(request): Posted<HeartbeatRequest>) -> Response {
    packed(service.heartbeat(request).await)
}

/// The next desired set: `FleetRequest`, answered by `FleetSet`; 204 where none came for 20
/// seconds, after which the agent asks again.
#[utoipa::path(post, path = "/v1/follow", request_body(content = Vec<u8>, content_type = "application/x-protobuf"), responses((status = 200, body = Vec<u8>, content_type = "application/x-protobuf"), (status = 204), (status = 400, body = crate::api::ErrorBody), (status = 403, body = crate::api::ErrorBody), (status = 503, body = crate::api::ErrorBody)))]
async fn follow(State(service): Service, Posted(request): Posted<FleetRequest>) -> Response {
    let mut sets = match service.fleet(request).await {
        Ok(sets) => sets.into_inner(),
        Err(status) => return refused(&status),
    };
    match tokio::time::timeout(HELD, sets.next()).await {
        Ok(Some(set)) => packed(set.map(tonic::Response::new)),
        // The server stops, or nothing came.
        Ok(None) | Err(_) => StatusCode::NO_CONTENT.into_response(),
    }
}

fn packed<M: Message>(answer: Result<tonic::Response<M>, Status>) -> Response {
    match answer {
        Ok(answer) => {
            let body = answer.into_inner().encode_to_vec();
            ([(header::CONTENT_TYPE, PROTOBUF)], body).into_response()
        }
        Err(status) => refused(&status),
    }
}

/// A refusal in the words of HTTP. What gRPC says of when to come again is said here too.
fn refused(status: &Status) -> Response {
    let code = match status.code() {
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::PermissionDenied | Code::Unauthenticated => StatusCode::FORBIDDEN,
        Code::FailedPrecondition => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = Failure::new(code, status.message()).into_response();
    if let Some(wait) = pushback(status) {
        let seconds = HeaderValue::from(wait.div_ceil(1000));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_of_grpc_has_its_own_in_http_and_none_is_an_error_of_the_server() {
        for (status, code) in [
            (Status::invalid_argument("x"), 400),
            (Status::permission_denied("x"), 403),
            (Status::unauthenticated("x"), 403),
            (Status::failed_precondition("x"), 409),
            (Status::resource_exhausted("x"), 429),
            (Status::unavailable("x"), 503),
            (Status::internal("x"), 500),
        ] {
            assert_eq!(refused(&status).status().as_u16(), code, "{status}");
            assert!(!refused(&status).headers().contains_key(header::RETRY_AFTER), "{status}");
        }
        let later = refused(&crate::ingest::too_often(1_001));
        assert_eq!(later.headers()[header::RETRY_AFTER], "2");
    }
}
