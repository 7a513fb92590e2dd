//! Tokens: with which agents enrol, and with which the API is called. And what was changed.

use super::{Context, Failure};
use crate::access::{Caller, hash};
use crate::api::{
    ApiTokenBody, ApiTokenRequest, AuditBody, DoneBody, EnrolmentTokenBody, MadeApiTokenBody,
    TokenBody, TokenRequest,
};
use crate::code::{code, typed};
use crate::enrolment::{EnrolmentError, fresh};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use sentinel_model::duration::Millis;
use sentinel_store::access::ApiToken;
use serde::Deserialize;
use utoipa::IntoParams;

/// The longest an enrolment token may be valid: 30 days.
const MAX_VALID: Millis = Millis(30 * 86_400_000);
/// The most agents one token may enrol.
const MAX_USES: u32 = 10_000;
/// The longest an API token may be said to be valid: ten years.
const MAX_API_VALID: Millis = Millis(3_653 * 86_400_000);
/// The most bytes of a token's name.
const MAX_NAME: usize = 64;
/// Changes that are listed unless it is said otherwise, and the most at once.
const LISTED: u32 = 100;
const MAX_LISTED: u32 = 1_000;

fn failed(error: EnrolmentError) -> Failure {
    match error {
        EnrolmentError::Store(error) => error.into(),
        other => Failure::bad(other),
    }
}

/// Makes an enrolment token. It is shown once.
#[utoipa::path(post, path = "/v1/tokens", request_body = TokenRequest, responses((status = 200, body = TokenBody)))]
pub(super) async fn create(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    Json(request): Json<TokenRequest>,
) -> Result<Json<TokenBody>, Failure> {
    let valid: Millis = request.valid_for.parse().map_err(Failure::bad)?;
    if valid > MAX_VALID || valid == Millis(0) || request.uses == 0 || request.uses > MAX_USES {
        let text = format!(
            "a token is valid for at most {MAX_VALID} and {MAX_USES} uses, and for at least one"
        );
        return Err(Failure::bad(text));
    }
    let now = context.now();
    let expires_at = now + valid.0 as i64;
    let made = context.tokens.create(request.uses, expires_at, &caller.name, now).await;
    let token = made.map_err(failed)?;
    // The server's own secret, and what the host will be able to check of the rest.
    let token = match &context.enrolment {
        Some(enrolment) => enrolment.pins().token(&token),
        None => token,
    };
    Ok(Json(TokenBody { token, expires_at }))
}

/// Enrolment tokens that have not expired, and agents that ask to be let in.
#[utoipa::path(get, path = "/v1/tokens", responses((status = 200, body = Vec<EnrolmentTokenBody>)))]
pub(super) async fn list(
    State(context): State<Context>,
) -> Result<Json<Vec<EnrolmentTokenBody>>, Failure> {
    let tokens = context.store.enrolment_tokens(context.now()).await?;
    Ok(Json(tokens.into_iter().map(Into::into).collect()))
}

/// Has an enrolment token serve no longer.
#[utoipa::path(delete, path = "/v1/tokens/{id}", params(("id" = String, Path)), responses((status = 200, body = DoneBody), (status = 404, body = crate::api::ErrorBody)))]
pub(super) async fn revoke(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<DoneBody>, Failure> {
    if !context.store.revoke_enrolment_token(&id).await? {
        return Err(Failure::not_found(format!("there is no enrolment token {id}")));
    }
    Ok(Json(DoneBody { id }))
}

/// Lets the agent in that shows a code.
#[utoipa::path(post, path = "/v1/tokens/{id}/approve", params(("id" = String, Path)), responses((status = 200, body = DoneBody), (status = 404, body = crate::api::ErrorBody)))]
pub(super) async fn approve(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<DoneBody>, Failure> {
    let unknown = || {
        Failure::not_found(format!(
            "no agent waits with the code {id:?}, or no longer; it shows a code for 15 minutes"
        ))
    };
    let code = typed(&id).ok_or_else(unknown)?;
    let approved = context.tokens.approve(&code, &caller.name, context.now()).await;
    if !approved.map_err(failed)? {
        return Err(unknown());
    }
    Ok(Json(DoneBody { id: code }))
}

/// Makes an API token. It is shown once.
#[utoipa::path(post, path = "/v1/api-tokens", request_body = ApiTokenRequest, responses((status = 200, body = MadeApiTokenBody)))]
pub(super) async fn create_api(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    Json(request): Json<ApiTokenRequest>,
) -> Result<Json<MadeApiTokenBody>, Failure> {
    let ApiTokenRequest { name, role, valid_for } = request;
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(Failure::bad(format!("a token's name has 1 to {MAX_NAME} bytes of text")));
    }
    let valid: Option<Millis> = valid_for.map(|it| it.parse()).transpose().map_err(Failure::bad)?;
    if valid.is_some_and(|it| it == Millis(0) || it > MAX_API_VALID) {
        return Err(Failure::bad(format!("a token is valid for at most {MAX_API_VALID}")));
    }
    let now = context.now();
    let token = fresh("sat");
    let hash = hash(&token);
    let kept = ApiToken {
        id: format!("api-{}", code(&hash).to_ascii_lowercase()),
        hash,
        name,
        role: role.to_string(),
        made_by: caller.name,
        made_at: now,
        expires_at: valid.map(|it| now + it.0 as i64),
    };
    context.store.save_api_token(kept.clone()).await?;
    Ok(Json(MadeApiTokenBody { token, kept: kept.into() }))
}

/// API tokens. The owner's, which lies in a file of each server, is not among them.
#[utoipa::path(get, path = "/v1/api-tokens", responses((status = 200, body = Vec<ApiTokenBody>)))]
pub(super) async fn list_api(
    State(context): State<Context>,
) -> Result<Json<Vec<ApiTokenBody>>, Failure> {
    Ok(Json(context.store.api_tokens().await?.into_iter().map(Into::into).collect()))
}

/// Has an API token serve no longer: here at once, at other servers within two seconds.
#[utoipa::path(delete, path = "/v1/api-tokens/{id}", params(("id" = String, Path)), responses((status = 200, body = DoneBody), (status = 404, body = crate::api::ErrorBody)))]
pub(super) async fn revoke_api(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<DoneBody>, Failure> {
    let revoked = context.store.revoke_api_token(&id).await?;
    context.access.forget();
    if !revoked {
        return Err(Failure::not_found(format!("there is no API token {id}")));
    }
    Ok(Json(DoneBody { id }))
}

/// Which changes to list.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Listed {
    /// Those before this number; the newest where it is absent.
    before: Option<i64>,
    /// How many; 100 where it is absent, at most 1,000.
    limit: Option<u32>,
}

/// Changes that were asked for, newest first.
#[utoipa::path(get, path = "/v1/audit", params(Listed), responses((status = 200, body = Vec<AuditBody>)))]
pub(super) async fn audit(
    State(context): State<Context>,
    Query(listed): Query<Listed>,
) -> Result<Json<Vec<AuditBody>>, Failure> {
    let limit = listed.limit.unwrap_or(LISTED);
    if limit == 0 || limit > MAX_LISTED {
        let text = format!("limit is {limit}; write 1 to {MAX_LISTED}");
        return Err(Failure::new(StatusCode::BAD_REQUEST, text));
    }
    let found = context.store.audit(listed.before.unwrap_or(i64::MAX), limit).await?;
    Ok(Json(found.into_iter().map(Into::into).collect()))
}
