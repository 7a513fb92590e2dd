//! The agent's own health and metrics, on loopback.

use crate::agent::AgentStatus;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use prometheus::{Registry, TextEncoder};
use std::sync::Arc;

/// Where a status comes from.
pub(crate) type StatusSource = Arc<dyn Fn() -> AgentStatus + Send + Sync>;

/// `/healthz`, `/ready`, `/metrics`, `/status`.
pub(crate) fn router(status: StatusSource, registry: Registry) -> Router {
    let ready = Arc::clone(&status);
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/ready",
            get(move || async move {
                if ready().connected {
                    (StatusCode::OK, "ready\n")
                } else {
                    (
                        StatusCode::SERVICE_UNAVAILABLE,
                        "the server does not answer; samples are kept\n",
                    )
                }
            }),
        )
        .route(
            "/metrics",
            get(move || async move {
                TextEncoder::new()
                    .encode_to_string(&registry.gather())
                    .map_err(|e| (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
            }),
        )
        .route("/status", get(move || async move { Json(status()) }))
}
