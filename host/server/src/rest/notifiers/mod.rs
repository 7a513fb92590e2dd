//! Notifiers: shown all, changed those of the fleet.
//!
//! What a notifier may send where is what a plugin may do on a worker, and that only operators decide: a server
//! that could make notifiers could install plugins, and a stolen one too. So there is one truth of each notifier,
//! and none of it is the server's: those of the fleet stand in the desired set, those of a worker's owner in its
//! configuration. A change here is the next desired set, sealed by an operator, of which this checks that it changes
//! this notifier and nothing else; what it takes is kept as `PUT /v1/fleet` keeps it.

mod meant;

use super::{Context, Failure};
use crate::api::{ErrorBody, FleetTakenBody, NotifiersBody};
use crate::fleet::FleetError;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use meant::{Leaves, Said, Worker, in_set, notifiers, problems, taken, wishes};
use sentinel_model::ids::SlotName;
use sentinel_trust::fleet::{Unopened, open};
use serde::Deserialize;
use utoipa::IntoParams;

async fn workers(context: &Context) -> Result<Vec<Worker>, Failure> {
    let statuses = context.store.statuses().await?;
    let of = |(name, json, at): (String, String, i64)| {
        let worker = name.strip_prefix("worker/")?.to_owned();
        let mut said: Said = serde_json::from_str(&json).unwrap_or_default();
        said.slots.retain(|slot| slot.kind == "notifier");
        Some((worker, at, said))
    };
    Ok(statuses.into_iter().filter_map(of).collect())
}

/// The body, and its ETag: the number of the set.
type Tagged = ([(header::HeaderName, HeaderValue); 1], Json<NotifiersBody>);

fn tag(number: u64) -> String {
    format!("\"{number}\"")
}

async fn shown(context: &Context, slot: Option<&str>) -> Result<Tagged, Failure> {
    let set = context.fleet.in_force().await?;
    let number = set.as_ref().map_or(0, |set| set.number);
    let mut notifiers = notifiers(set.as_deref(), &workers(context).await?);
    if let Some(slot) = slot {
        notifiers.retain(|one| one.slot == slot);
        if notifiers.is_empty() {
            return Err(Failure::not_found(format!(
                "neither the fleet nor a worker has a notifier {slot:?}; `GET /v1/notifiers` shows them"
            )));
        }
    }
    let tag = HeaderValue::try_from(tag(number)).map_err(Failure::bad)?;
    Ok(([(header::ETAG, tag)], Json(NotifiersBody { number, notifiers })))
}

/// All notifiers: those that the fleet wants, and those of workers' own configurations.
#[utoipa::path(get, path = "/v1/notifiers", responses((status = 200, body = NotifiersBody, headers(("etag" = String, description = "The number of the desired set in force")))))]
pub(super) async fn list(State(context): State<Context>) -> Result<Tagged, Failure> {
    shown(&context, None).await
}

/// The notifiers of one slot, which there may be on several groups of workers.
#[utoipa::path(get, path = "/v1/notifiers/{slot}", params(("slot" = String, Path)), responses((status = 200, body = NotifiersBody, headers(("etag" = String, description = "The number of the desired set in force"))), (status = 404, body = ErrorBody)))]
pub(super) async fn show(
    State(context): State<Context>,
    Path(slot): Path<String>,
) -> Result<Tagged, Failure> {
    let slot = SlotName::new(&slot).map_err(Failure::bad)?;
    shown(&context, Some(slot.as_str())).await
}

/// How a change is made.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Changing {
    /// Only say what is wrong with it.
    #[serde(default)]
    dry_run: bool,
}

/// Makes or replaces a notifier: the body is the next desired set, sealed by an operator, which differs from the one
/// in force in this slot alone. With `If-Match` only where the set in force is still that of the ETag. Everything
/// that is wrong is said at once.
#[utoipa::path(put, path = "/v1/notifiers/{slot}", params(("slot" = String, Path), Changing), request_body(content = String, content_type = "application/json"), responses((status = 200, body = FleetTakenBody), (status = 403, body = ErrorBody), (status = 409, body = ErrorBody), (status = 412, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn put(
    State(context): State<Context>,
    Path(slot): Path<String>,
    Query(changing): Query<Changing>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<FleetTakenBody>, Failure> {
    change(&context, &slot, Leaves::The, &changing, &headers, &body).await
}

/// Takes a notifier out: the body is the next desired set, sealed by an operator, which lacks this slot and differs in
/// nothing else. As with `PUT` otherwise. What waits to be told by it is kept, and told when there is one again.
#[utoipa::path(delete, path = "/v1/notifiers/{slot}", params(("slot" = String, Path), Changing), request_body(content = String, content_type = "application/json"), responses((status = 200, body = FleetTakenBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 412, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn remove(
    State(context): State<Context>,
    Path(slot): Path<String>,
    Query(changing): Query<Changing>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<FleetTakenBody>, Failure> {
    change(&context, &slot, Leaves::No, &changing, &headers, &body).await
}

async fn change(
    context: &Context,
    slot: &str,
    leaves: Leaves,
    changing: &Changing,
    headers: &HeaderMap,
    sealed: &[u8],
) -> Result<Json<FleetTakenBody>, Failure> {
    let slot = SlotName::new(slot).map_err(Failure::bad)?;
    let operators = context.fleet.operators().ok_or(FleetError::NoFleet)?;
    let before = context.fleet.in_force().await?;
    let number = before.as_ref().map_or(0, |set| set.number);
    if let Some(expected) = headers.get(header::IF_MATCH)
        && expected.as_bytes() != tag(number).as_bytes()
    {
        let text = format!(
            "set {number} of the fleet is in force, not the one of If-Match: somebody else was first; nothing was changed"
        );
        return Err(Failure::new(StatusCode::PRECONDITION_FAILED, text));
    }
    let after = match open(sealed, operators, 0) {
        Ok(after) => after.set().clone(),
        Err(Unopened::Problems { problems, .. }) => {
            return Err(Failure::problems(problems.into_iter().map(in_set).collect()));
        }
        Err(error) => return Err(FleetError::Unopened(error).into()),
    };
    if after.number != number + 1 {
        let text = format!(
            "the set that was sealed has the number {}, and {number} is in force: the next is {}; nothing was changed",
            after.number,
            number + 1
        );
        return Err(Failure::new(StatusCode::CONFLICT, text));
    }
    let had = wishes(before.as_deref()).any(|(_, wish)| wish.slot == slot.as_str());
    if leaves == Leaves::No && !had {
        return Err(Failure::not_found(format!("the fleet has no notifier {:?}", slot.as_str())));
    }
    let mut found = problems(before.as_deref(), &after, slot.as_str(), leaves);
    found.extend(taken(&workers(context).await?, before.as_deref(), &after, slot.as_str()));
    if !found.is_empty() {
        return Err(Failure::problems(found));
    }
    if changing.dry_run {
        return Ok(Json(FleetTakenBody { number }));
    }
    let number = context.fleet.take(sealed, context.now()).await?;
    Ok(Json(FleetTakenBody { number }))
}
