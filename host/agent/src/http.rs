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
    let (ready, measured) = (Arc::clone(&status), Arc::clone(&status));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/ready",
            get(move || async move {
                let now = ready();
                match now.log_error {
                    Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
                    None if now.connected => (StatusCode::OK, "ready\n".to_owned()),
                    None => (
                        StatusCode::SERVICE_UNAVAILABLE,
                        "the server does not answer; samples are kept\n".to_owned(),
                    ),
                }
            }),
        )
        .route(
            "/metrics",
            get(move || async move {
                // Sets the gauges that follow the status.
                drop(measured());
                TextEncoder::new()
                    .encode_to_string(&registry.gather())
                    .map_err(|e| (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
            }),
        )
        .route("/status", get(move || async move { Json(status()) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use sentinel_runtime::confine::Confined;
    use std::collections::BTreeMap;
    use tower::ServiceExt;

    #[tokio::test]
    async fn an_agent_is_ready_when_its_server_answers_and_its_log_takes_samples() {
        let cases = [
            (true, None, StatusCode::OK, "ready"),
            (false, None, StatusCode::SERVICE_UNAVAILABLE, "samples are kept"),
            (true, Some("syncs fail"), StatusCode::SERVICE_UNAVAILABLE, "syncs fail"),
            (false, Some("syncs fail"), StatusCode::SERVICE_UNAVAILABLE, "syncs fail"),
        ];
        for (connected, trouble, code, said) in cases {
            let status = move || AgentStatus {
                connected,
                last_error: None,
                skew_ms: 0,
                log_error: trouble.map(str::to_owned),
                sandbox: Confined::OFF,
                slots: Vec::new(),
                failed: BTreeMap::new(),
                fleet: None,
            };
            let router = router(Arc::new(status), Registry::new());
            let request = Request::get("/ready").body(Body::empty()).unwrap();
            let answer = router.oneshot(request).await.unwrap();
            assert_eq!(answer.status(), code);
            let body = to_bytes(answer.into_body(), 1000).await.unwrap();
            assert!(String::from_utf8_lossy(&body).contains(said), "{body:?}");
        }
    }
}
