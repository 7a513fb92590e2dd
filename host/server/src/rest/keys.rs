//! Keys of agents.

use super::{Context, Failure};
use crate::api::KeyBody;
use crate::rotation::RotationError;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use sentinel_model::ids::AgentId;

impl From<RotationError> for Failure {
    fn from(error: RotationError) -> Self {
        match error {
            RotationError::Unknown(_) => Self::not_found(error),
            RotationError::Undecided(_) | RotationError::Raced(_) => {
                Self::new(StatusCode::CONFLICT, error)
            }
            RotationError::Store(error) => error.into(),
        }
    }
}

/// Makes an agent a new key. It gets it with one of its next heartbeats; from then on the key before
/// is good for the grace that the server is configured with.
#[utoipa::path(post, path = "/v1/agents/{id}/key", params(("id" = String, Path)), responses((status = 200, body = KeyBody)))]
pub(super) async fn rotate(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<KeyBody>, Failure> {
    let id = AgentId::new(&id).map_err(Failure::bad)?;
    let key_id = context.rotation.rotate(&id).await?;
    let grace = context.rotation.options.grace.to_string();
    Ok(Json(KeyBody { agent: id.to_string(), key_id, grace }))
}
