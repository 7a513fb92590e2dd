//! Alerts, their history, their notifications.

use super::{Context, Failure};
use crate::api::{AlertsBody, HistoryBody, NotificationsBody};
use axum::Json;
use axum::extract::{Query, State};
use sentinel_alerting::routing::People;
use sentinel_model::alert::Alert;
use sentinel_store::alerting::NotificationFilter;
use serde::Deserialize;
use std::collections::BTreeMap;
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
    pub(super) fn get(&self) -> u32 {
        self.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT)
    }
}

/// Alerts that are pending or firing, and those resolved in the last quarter of an hour.
#[utoipa::path(get, path = "/v1/alerts", responses((status = 200, body = AlertsBody)))]
pub(super) async fn alerts(State(context): State<Context>) -> Result<Json<AlertsBody>, Failure> {
    let alerts = context.store.alerts(context.now() - SHOW_RESOLVED_MS).await?;
    Ok(Json(with_attention(&context, alerts).await?))
}

/// Alerts with what people decided about them.
pub(super) async fn with_attention(
    context: &Context,
    alerts: Vec<Alert>,
) -> Result<AlertsBody, Failure> {
    let found = context.store.decisions(None).await?.unwrap_or_default();
    let (now, people) = (context.now(), People::new(found.silences, found.acknowledgements));
    let mut body = AlertsBody { alerts, acknowledgements: Vec::new(), silenced: BTreeMap::new() };
    for alert in &body.alerts {
        body.acknowledgements.extend(people.acknowledgement_of(alert, now).cloned());
        let silences: Vec<String> = people.silences_of(alert, now).map(|s| s.id.clone()).collect();
        if !silences.is_empty() {
            body.silenced.insert(alert.fingerprint.to_string(), silences);
        }
    }
    Ok(body)
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
