//! Plugins in the server's folder.

use super::{Context, Failure};
use crate::api::PluginBody;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sentinel_registry_client::{Listing, PluginRef};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// The header in which an installed component's signature file travels, base64.
pub const SIGNATURES_HEADER: &str = "sentinel-signatures";

impl From<Listing> for PluginBody {
    fn from(l: Listing) -> Self {
        Self {
            name: l.name,
            version: l.version,
            kind: l.kind,
            digest: l.digest,
            file: l.file.display().to_string(),
            description: l.description,
            refused: l.refused,
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, sentinel_registry_client::PluginError> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|e| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, e))??)
}

/// Plugins in the folder, whether they may run or not.
#[utoipa::path(get, path = "/v1/plugins", responses((status = 200, body = Vec<PluginBody>)))]
pub(super) async fn list(State(context): State<Context>) -> Result<Json<Vec<PluginBody>>, Failure> {
    let folder = Arc::clone(&context.plugins);
    let listed = blocking(move || folder.list()).await?;
    Ok(Json(listed.into_iter().map(Into::into).collect()))
}

/// Verifies a component and keeps it in the folder. The body is the component; its signature
/// file comes in the header `sentinel-signatures`, base64.
#[utoipa::path(post, path = "/v1/plugins", request_body(content = Vec<u8>, content_type = "application/wasm"), params(("sentinel-signatures" = String, Header)), responses((status = 200, body = PluginBody), (status = 403, body = crate::api::ErrorBody)))]
pub(super) async fn install(
    State(context): State<Context>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<PluginBody>, Failure> {
    let signatures = match headers.get(SIGNATURES_HEADER) {
        Some(value) => STANDARD
            .decode(value.as_bytes())
            .map_err(|_| Failure::bad(format!("the header {SIGNATURES_HEADER} is not base64")))?,
        None => Vec::new(),
    };
    let folder = Arc::clone(&context.plugins);
    let listing = blocking(move || folder.install(body.to_vec(), &signatures)).await?;
    tracing::info!(plugin = %listing.name, version = %listing.version, digest = %listing.digest, "installed");
    Ok(Json(listing.into()))
}

/// Which version.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Version {
    /// All versions where it is absent.
    version: Option<String>,
}

/// Removes a plugin from the folder. Slots that run it go on until they are configured
/// otherwise or restarted.
#[utoipa::path(delete, path = "/v1/plugins/{publisher}/{name}", params(("publisher" = String, Path), ("name" = String, Path), Version), responses((status = 200, body = Vec<String>)))]
pub(super) async fn remove(
    State(context): State<Context>,
    Path((publisher, name)): Path<(String, String)>,
    Query(version): Query<Version>,
) -> Result<Json<Vec<String>>, Failure> {
    let version = version.version.map_or(String::new(), |v| format!("@{v}"));
    let wanted: PluginRef =
        format!("{publisher}/{name}{version}").parse().map_err(Failure::from)?;
    let folder = Arc::clone(&context.plugins);
    let removed = blocking(move || folder.remove(&wanted)).await?;
    tracing::info!(%publisher, %name, files = removed.len(), "plugin removed");
    Ok(Json(removed.into_iter().map(|path| path.display().to_string()).collect()))
}
