//! Agents and who may become one.

use super::page::{Next, Page};
use super::{Context, Failure};
use crate::api::{AgentBody, ErrorBody};
use axum::Json;
use axum::extract::{Path, Query, State};
use sentinel_model::ids::AgentId;
use sentinel_store::agents::AgentState;

/// Agents by id, a page of them.
#[utoipa::path(get, path = "/v1/agents", params(Page), responses((status = 200, body = Vec<AgentBody>, headers(("link" = String, description = "Where the next page is, rel=\"next\"; absent after the last"))), (status = 400, body = ErrorBody)))]
pub(super) async fn list(
    State(context): State<Context>,
    Query(page): Query<Page>,
) -> Result<(Next, Json<Vec<AgentBody>>), Failure> {
    let limit = page.limit()?;
    let after = page.after().map(AgentId::new).transpose().map_err(|_| page.nowhere())?;
    let mut agents = context.store.agents_after(after.as_ref(), limit + 1).await?;
    let next = page.cut(&mut agents, ("/v1/agents", &[]), |agent| agent.id.to_string());
    Ok((next, Json(agents.into_iter().map(Into::into).collect())))
}

async fn one(context: &Context, id: &AgentId) -> Result<AgentBody, Failure> {
    let found = context.store.agent(id).await?;
    found.map(Into::into).ok_or_else(|| {
        Failure::not_found(format!("there is no agent {id}; `sentinel agents` lists them"))
    })
}

/// One agent.
#[utoipa::path(get, path = "/v1/agents/{id}", params(("id" = String, Path)), responses((status = 200, body = AgentBody), (status = 404, body = ErrorBody)))]
pub(super) async fn show(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<AgentBody>, Failure> {
    let id = AgentId::new(&id).map_err(Failure::bad)?;
    Ok(Json(one(&context, &id).await?))
}

async fn set(context: &Context, id: &str, state: AgentState) -> Result<Json<AgentBody>, Failure> {
    let id = AgentId::new(id).map_err(Failure::bad)?;
    one(context, &id).await?;
    context.store.set_agent_state(&id, state, context.now()).await?;
    context.keys.forget(&id);
    tracing::info!(agent = %id, ?state, "changed by the API");
    Ok(Json(one(context, &id).await?))
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
