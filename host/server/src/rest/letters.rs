//! Dead letters, single notifications, and tests of notifiers.

use super::alerts::Limit;
use super::silences::{MAX_NAME, named, random_id};
use super::{Context, Failure};
use crate::api::{ByBody, NotificationBody, NotificationsBody, TestBody};
use axum::Json;
use axum::extract::{Path, Query, State};
use sentinel_alerting::delivery;
use sentinel_model::alert::{
    Alert, AlertState, Delivery, DeliveryState, Fingerprint, Notification, NotificationStatus,
};
use sentinel_model::ids::SlotName;
use sentinel_model::series::Labels;
use sentinel_store::alerting::{Act, NotificationFilter};
use std::collections::BTreeSet;

async fn one(context: &Context, id: &str) -> Result<Delivery, Failure> {
    let filter = NotificationFilter::One(id.to_owned());
    let found = context.store.notifications(filter, 1).await?.pop();
    found.ok_or_else(|| {
        Failure::not_found(format!(
            "there is no notification {id:?}; `sentinel alerts notifications` lists them"
        ))
    })
}

/// Notifications that were given up, newest first.
#[utoipa::path(get, path = "/v1/dead-letters", params(Limit), responses((status = 200, body = NotificationsBody)))]
pub(super) async fn list(
    State(context): State<Context>,
    Query(limit): Query<Limit>,
) -> Result<Json<NotificationsBody>, Failure> {
    let filter = NotificationFilter::State(DeliveryState::Dead);
    let notifications = context.store.notifications(filter, limit.get()).await?;
    Ok(Json(NotificationsBody { notifications }))
}

/// One notification with every attempt at it.
#[utoipa::path(get, path = "/v1/notifications/{id}", params(("id" = String, Path)), responses((status = 200, body = NotificationBody), (status = 404, body = crate::api::ErrorBody)))]
pub(super) async fn show(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<NotificationBody>, Failure> {
    let delivery = one(&context, &id).await?;
    let attempts = context.store.attempts(&id).await?;
    Ok(Json(NotificationBody { delivery, attempts }))
}

fn no_letter(found: &Delivery) -> Failure {
    let id = &found.notification.id;
    let state = match found.state {
        DeliveryState::Pending | DeliveryState::Sending => "is still being sent",
        DeliveryState::Delivered => "was delivered",
        DeliveryState::Dropped => "was dropped",
        DeliveryState::Dead => "is a dead letter",
    };
    let text = format!("the notification {id} {state}; `sentinel dlq list` shows the dead letters");
    Failure::new(axum::http::StatusCode::CONFLICT, text)
}

async fn take_up(
    context: &Context,
    id: &str,
    change: impl FnOnce(&Delivery, i64) -> Option<Delivery>,
) -> Result<Json<NotificationBody>, Failure> {
    let (found, now) = (one(context, id).await?, context.now());
    let delivery = change(&found, now).ok_or_else(|| no_letter(&found))?;
    context.store.act(Act::Letter(delivery.clone()), now).await?;
    context.rules.applied();
    let attempts = context.store.attempts(id).await?;
    Ok(Json(NotificationBody { delivery, attempts }))
}

/// Sends a dead letter again, under its id and with a whole new budget.
#[utoipa::path(post, path = "/v1/notifications/{id}/retry", params(("id" = String, Path)), request_body = ByBody, responses((status = 200, body = NotificationBody), (status = 409, body = crate::api::ErrorBody)))]
pub(super) async fn retry(
    State(context): State<Context>,
    Path(id): Path<String>,
    Json(body): Json<ByBody>,
) -> Result<Json<NotificationBody>, Failure> {
    let by = named("who retries it", &body.by, MAX_NAME)?;
    let again = take_up(&context, &id, delivery::replay).await?;
    tracing::info!(id, by, "a dead letter is sent again");
    Ok(again)
}

/// Puts a dead letter away: it is never sent.
#[utoipa::path(post, path = "/v1/notifications/{id}/drop", params(("id" = String, Path)), request_body = ByBody, responses((status = 200, body = NotificationBody), (status = 409, body = crate::api::ErrorBody)))]
pub(super) async fn put_away(
    State(context): State<Context>,
    Path(id): Path<String>,
    Json(body): Json<ByBody>,
) -> Result<Json<NotificationBody>, Failure> {
    let by = named("who drops it", &body.by, MAX_NAME)?;
    take_up(&context, &id, |found, _| delivery::put_away(found, &by)).await
}

/// The notifiers that workers say they have.
async fn notifiers(context: &Context) -> Result<BTreeSet<String>, Failure> {
    let mut names = BTreeSet::new();
    for (_, json, _) in context.store.statuses().await? {
        let Ok(status) = serde_json::from_str::<serde_json::Value>(&json) else { continue };
        let slots = status["slots"].as_array().into_iter().flatten();
        let notifiers = slots.filter(|slot| slot["kind"] == "notifier");
        names.extend(notifiers.filter_map(|slot| slot["name"].as_str().map(str::to_owned)));
    }
    Ok(names)
}

/// The alert that a test tells.
fn example(now: i64, by: &str) -> Alert {
    let rule = "sentinel-notify-test";
    let labels: Labels = [("severity", "none"), ("test", "true")].into_iter().collect();
    let words = format!("{by} tests whether this notifier is heard; nothing is wrong");
    Alert {
        fingerprint: Fingerprint::of(rule, &labels),
        rule: rule.to_owned(),
        state: AlertState::Firing,
        annotations: [("summary", words.as_str())].into_iter().collect(),
        labels,
        summary: words,
        value: 1.0,
        active_since: now,
        fired_at: Some(now),
        last_active: now,
        resolved_at: None,
        incident: 1,
    }
}

/// Tells a notifier of an alert that nobody has, the way of every notification: through the
/// journal, with attempts that are kept.
#[utoipa::path(post, path = "/v1/notifiers/{slot}/test", params(("slot" = String, Path)), request_body = ByBody, responses((status = 200, body = TestBody), (status = 404, body = crate::api::ErrorBody)))]
pub(super) async fn test(
    State(context): State<Context>,
    Path(slot): Path<String>,
    Json(body): Json<ByBody>,
) -> Result<Json<TestBody>, Failure> {
    let by = named("who tests it", &body.by, MAX_NAME)?;
    let slot = SlotName::new(&slot).map_err(Failure::bad)?;
    let known = notifiers(&context).await?;
    if !known.contains(slot.as_str()) {
        let names: Vec<&str> = known.iter().map(String::as_str).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let text = format!("no worker has a notifier {:?}; there are: {names}", slot.as_str());
        return Err(Failure::not_found(text));
    }
    let now = context.now();
    let id = random_id("ntf_test");
    let test = delivery::open(Notification {
        id: id.clone(),
        notifier: slot,
        time: now,
        status: NotificationStatus::Firing,
        group: Labels::default(),
        alerts: vec![example(now, &by)],
    });
    context.store.act(Act::Tell(test), now).await?;
    context.rules.applied();
    Ok(Json(TestBody { id }))
}
