//! Agents and who may become one.

use super::{Context, Failure};
use crate::api::{AgentBody, TokenBody, TokenRequest};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use sentinel_model::duration::Millis;
use sentinel_model::ids::AgentId;
use sentinel_store::agents::AgentState;

/// The longest a token may be valid: 30 days.
const MAX_VALID: Millis = Millis(30 * 86_400_000);
/// The most agents one token may enrol.
const MAX_USES: u32 = 10_000;

/// All agents.
#[utoipa::path(get, path = "/v1/agents", responses((status = 200, body = Vec<AgentBody>)))]
pub(super) async fn list(State(context): State<Context>) -> Result<Json<Vec<AgentBody>>, Failure> {
    Ok(Json(context.store.agents().await?.into_iter().map(Into::into).collect()))
}

async fn set(context: &Context, id: &str, state: AgentState) -> Result<Json<AgentBody>, Failure> {
    let id = AgentId::new(id).map_err(Failure::bad)?;
    let unknown = || Failure::not_found(format!("there is no agent {id}; see `sentinel status`"));
    context.store.agent(&id).await?.ok_or_else(unknown)?;
    context.store.set_agent_state(&id, state, context.now()).await?;
    context.keys.forget(&id);
    tracing::info!(agent = %id, ?state, "changed by the API");
    Ok(Json(context.store.agent(&id).await?.ok_or_else(unknown)?.into()))
}

/// Approves an agent that waits or was blocked.
#[utoipa::path(post, path = "/v1/agents/{id}/approve", params(("id" = String, Path)), responses((status = 200, body = AgentBody)))]
pub(super) async fn approve(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<AgentBody>, Failure> {
    set(&context, &id, AgentState::Approved).await
}

/// Blocks an agent: its pushes are refused, its data stays.
#[utoipa::path(post, path = "/v1/agents/{id}/block", params(("id" = String, Path)), responses((status = 200, body = AgentBody)))]
pub(super) async fn block(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<AgentBody>, Failure> {
    set(&context, &id, AgentState::Blocked).await
}

/// Makes an enrolment token. It is shown once.
#[utoipa::path(post, path = "/v1/tokens", request_body = TokenRequest, responses((status = 200, body = TokenBody)))]
pub(super) async fn create_token(
    State(context): State<Context>,
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
    let token = context
        .tokens
        .create(request.uses, expires_at, now)
        .map_err(|e| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, e))?;
    // The server's own secret, and what the host will be able to check of the rest.
    let token = match &context.enrolment {
        Some(enrolment) => enrolment.pins().token(&token),
        None => token,
    };
    Ok(Json(TokenBody { token, expires_at }))
}
