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
//! Bodies are `application/x-protobuf`. These routes need no API token: each message is signed with the
//! agent's key, but the one with which it enrols, which has a token of its own. Nor is the Host header looked
//! at: no browser can sign.

use super::Failure;
use super::bounds::{Bounds, bound};
use crate::ingest::IngestService;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::StreamExt as _;
use prost::Message;
use sentinel_wire::envelope::MAX_PUSH;
use sentinel_wire::v1::ingest_server::Ingest;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Request, Status};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

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

/// The routes of agents.
pub(crate) fn router(service: Arc<IngestService>) -> Router {
    let exchanges = Router::new()
        .route("/v1/register", post(register))
        .route("/v1/push", post(push))
        .route("/v1/sync", post(sync))
        .route_layer(from_fn_with_state(Bounds::new(MAX_RUNNING, MAX_WAITING), bound));
    let held = Router::new()
        .route("/v1/follow", post(follow))
        .route_layer(from_fn_with_state(Bounds::new(MAX_HELD, 0), bound));
    exchanges
        .merge(held)
        .with_state(service)
        .layer(RequestBodyLimitLayer::new(MAX_BODY))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIMEOUT))
        .layer(CatchPanicLayer::new())
}

async fn register(State(service): Service, headers: HeaderMap, body: Bytes) -> Response {
    packed(async { Ok(service.register(unpacked(&headers, body)?).await?.into_inner()) }.await)
}

async fn push(State(service): Service, headers: HeaderMap, body: Bytes) -> Response {
    packed(async { Ok(service.push(unpacked(&headers, body)?).await?.into_inner()) }.await)
}

async fn sync(State(service): Service, headers: HeaderMap, body: Bytes) -> Response {
    packed(async { Ok(service.heartbeat(unpacked(&headers, body)?).await?.into_inner()) }.await)
}

async fn follow(State(service): Service, headers: HeaderMap, body: Bytes) -> Response {
    let sets = async { Ok(service.fleet(unpacked(&headers, body)?).await?.into_inner()) }.await;
    let mut sets = match sets {
        Ok(sets) => sets,
        Err(status) => return refused(&status),
    };
    match tokio::time::timeout(HELD, sets.next()).await {
        Ok(Some(set)) => packed(set),
        // The server stops, or nothing came.
        Ok(None) | Err(_) => StatusCode::NO_CONTENT.into_response(),
    }
}

fn unpacked<M: Message + Default>(headers: &HeaderMap, body: Bytes) -> Result<Request<M>, Status> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if kind != Some(PROTOBUF) {
        return Err(Status::invalid_argument(format!("the body must be {PROTOBUF}")));
    }
    let message = M::decode(body).map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(Request::new(message))
}

fn packed<M: Message>(answer: Result<M, Status>) -> Response {
    match answer {
        Ok(answer) => ([(header::CONTENT_TYPE, PROTOBUF)], answer.encode_to_vec()).into_response(),
        Err(status) => refused(&status),
    }
}

fn refused(status: &Status) -> Response {
    let code = match status.code() {
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::PermissionDenied | Code::Unauthenticated => StatusCode::FORBIDDEN,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Failure::new(code, status.message()).into_response()
}
