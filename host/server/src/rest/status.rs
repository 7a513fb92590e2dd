//! Health, metrics, and everything at a glance.

use super::{Context, Failure};
use crate::api::{RoleBody, SizesBody, StatusBody};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use prometheus::TextEncoder;
use sentinel_bus::Depth;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The process answers.
#[utoipa::path(get, path = "/healthz", responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The store answers, so that what is asked and sent can be served.
#[utoipa::path(get, path = "/ready", responses((status = 200, body = String, content_type = "text/plain"), (status = 503, body = crate::api::ErrorBody)))]
pub(super) async fn ready(State(context): State<Context>) -> Result<&'static str, Failure> {
    context.store.rules().await?;
    Ok("ready\n")
}

/// Prometheus text.
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(context): State<Context>) -> Result<String, Failure> {
    TextEncoder::new()
        .encode_to_string(&context.registry.gather())
        .map_err(|e| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, e))
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, body = Object)))]
pub(super) async fn description() -> Json<&'static utoipa::openapi::OpenApi> {
    static DESCRIPTION: LazyLock<utoipa::openapi::OpenApi> = LazyLock::new(super::openapi);
    Json(&DESCRIPTION)
}

/// Everything at a glance: agents, workers, slots, offsets, lag, sizes.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = StatusBody)))]
pub(super) async fn status(State(context): State<Context>) -> Result<Json<StatusBody>, Failure> {
    let rules = context.store.rules().await?;
    let (depth, bus_trouble) = match context.bus.depth().await {
        Ok(depth) => (depth, None),
        Err(error) => (Depth::default(), Some(error.to_string())),
    };
    let now = context.now();
    let mut alerts = BTreeMap::new();
    for alert in context.store.alerts(now).await? {
        *alerts.entry(alert.state.as_str().to_owned()).or_insert(0) += 1;
    }
    let workers = context.store.statuses().await?.into_iter().map(|(name, json, at)| RoleBody {
        name,
        at,
        status: serde_json::from_str(&json).unwrap_or(serde_json::Value::Null),
    });
    Ok(Json(StatusBody {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        now,
        started_at: context.started_at,
        agents: context.store.agents().await?.into_iter().map(Into::into).collect(),
        workers: workers.collect(),
        bus_messages: depth.messages,
        bus_bytes: depth.bytes,
        bus_trouble,
        store: SizesBody::new(context.store.describe(), context.store.sizes().await?),
        rules_version: rules.version,
        rules: rules.rules.len(),
        alerts,
    }))
}
