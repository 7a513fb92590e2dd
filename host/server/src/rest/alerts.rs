//! Alerts, their history, their notifications.

use super::{Context, Failure};
use crate::api::{AlertsBody, HistoryBody, NotificationsBody};
use axum::Json;
use axum::extract::{Query, State};
use sentinel_store::alerting::NotificationFilter;
use serde::Deserialize;
use utoipa::IntoParams;

/// How long a resolved alert is shown.
const SHOW_RESOLVED_MS: i64 = 15 * 60 * 1000;
const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 10_000;

/// How many.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Limit {
    /// At most so many.
    limit: Option<u32>,
}

impl Limit {
    fn get(&self) -> u32 {
        self.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT)
    }
}

/// Alerts that are pending or firing, and those resolved in the last quarter of an hour.
#[utoipa::path(get, path = "/v1/alerts", responses((status = 200, body = AlertsBody)))]
pub(super) async fn alerts(State(context): State<Context>) -> Result<Json<AlertsBody>, Failure> {
    let alerts = context.store.alerts(context.now() - SHOW_RESOLVED_MS).await?;
    Ok(Json(AlertsBody { alerts }))
}

/// What happened to alerts, newest first.
#[utoipa::path(get, path = "/v1/alerts/history", params(Limit), responses((status = 200, body = HistoryBody)))]
pub(super) async fn history(
    State(context): State<Context>,
    Query(limit): Query<Limit>,
) -> Result<Json<HistoryBody>, Failure> {
    Ok(Json(HistoryBody { transitions: context.store.history(limit.get()).await? }))
}

/// Notifications with their delivery, newest first.
#[utoipa::path(get, path = "/v1/notifications", params(Limit), responses((status = 200, body = NotificationsBody)))]
pub(super) async fn notifications(
    State(context): State<Context>,
    Query(limit): Query<Limit>,
) -> Result<Json<NotificationsBody>, Failure> {
    let notifications = context.store.notifications(NotificationFilter::All, limit.get()).await?;
    Ok(Json(NotificationsBody { notifications }))
}
