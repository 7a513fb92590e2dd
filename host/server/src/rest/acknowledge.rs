//! Who has an alert in hand.

use super::silences::{MAX_NAME, MAX_WORDS, named, words};
use super::{Context, Failure};
use crate::api::{AcknowledgeBody, AcknowledgedBody, ByBody};
use axum::Json;
use axum::extract::{Path, State};
use sentinel_model::alert::{Alert, AlertState, Fingerprint};
use sentinel_model::attention::{Acknowledgement, HandOver};
use sentinel_model::duration::Millis;
use sentinel_store::alerting::Act;

/// Hand-overs of one incident that are remembered, the newest.
const MAX_HAND_OVERS: usize = 100;

async fn firing(context: &Context, text: &str) -> Result<Alert, Failure> {
    let unknown = || {
        Failure::not_found(format!(
            "no alert {text:?} fires; `sentinel alerts` lists those that do"
        ))
    };
    let fingerprint = Fingerprint::try_from(text.to_owned()).map_err(|_| unknown())?;
    let alerts = context.store.alerts(context.now()).await?;
    let is_it = |a: &Alert| a.fingerprint == fingerprint && a.state == AlertState::Firing;
    alerts.into_iter().find(is_it).ok_or_else(unknown)
}

/// Takes an alert that fires in hand, or hands it over: until it is over it is neither repeated
/// nor escalated.
#[utoipa::path(post, path = "/v1/alerts/{fingerprint}/acknowledge", params(("fingerprint" = String, Path)), request_body = AcknowledgeBody, responses((status = 200, body = AcknowledgedBody), (status = 404, body = crate::api::ErrorBody)))]
pub(super) async fn acknowledge(
    State(context): State<Context>,
    Path(fingerprint): Path<String>,
    Json(body): Json<AcknowledgeBody>,
) -> Result<Json<AcknowledgedBody>, Failure> {
    let alert = firing(&context, &fingerprint).await?;
    let by = named("who acknowledges it", &body.by, MAX_NAME)?;
    let owner = match &body.to {
        Some(to) => named("who it is handed to", to, MAX_NAME)?,
        None => by,
    };
    let note = words("the note", &body.note, MAX_WORDS)?;
    let now = context.now();
    let until = match body.lasts.as_deref().map(str::parse::<Millis>) {
        Some(lasts) => Some(now.saturating_add(lasts.map_err(Failure::bad)?.0 as i64)),
        None => None,
    };
    let known = context.store.decisions(None).await?.unwrap_or_default().acknowledgements;
    let is_it = |one: &Acknowledgement| {
        one.fingerprint == alert.fingerprint && one.incident == alert.incident
    };
    let mut before = Vec::new();
    if let Some(earlier) = known.into_iter().find(is_it) {
        before = earlier.before;
        if earlier.owner != owner {
            let over =
                HandOver { from: earlier.owner, to: owner.clone(), note: note.clone(), at: now };
            before.push(over);
        }
    }
    let many = before.len().saturating_sub(MAX_HAND_OVERS);
    before.drain(..many);
    let acknowledgement = Acknowledgement {
        fingerprint: alert.fingerprint,
        incident: alert.incident,
        owner,
        note,
        at: now,
        until,
        before,
    };
    context.store.act(Act::Acknowledge(acknowledgement.clone()), now).await?;
    context.rules.applied();
    tracing::info!(alert = %alert.fingerprint, owner = acknowledgement.owner, "an alert was acknowledged");
    Ok(Json(AcknowledgedBody { acknowledgement }))
}

/// Nobody has it in hand any more: repeats and the escalation go on.
#[utoipa::path(post, path = "/v1/alerts/{fingerprint}/release", params(("fingerprint" = String, Path)), request_body = ByBody, responses((status = 200, body = ByBody), (status = 409, body = crate::api::ErrorBody)))]
pub(super) async fn release(
    State(context): State<Context>,
    Path(fingerprint): Path<String>,
    Json(body): Json<ByBody>,
) -> Result<Json<ByBody>, Failure> {
    let alert = firing(&context, &fingerprint).await?;
    let by = named("who releases it", &body.by, MAX_NAME)?;
    context.store.act(Act::Release(alert.fingerprint), context.now()).await?;
    context.rules.applied();
    tracing::info!(alert = %alert.fingerprint, by, "an alert was released");
    Ok(Json(ByBody { by }))
}
