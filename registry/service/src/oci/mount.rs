//! A blob of one repository for another, without sending it again: end-11.

use axum::response::Response;

use super::{Query, store_failed, uploads};
use crate::access::Identity;
use crate::names::{Repository, digest};
use crate::refusal::Refusal;
use crate::service::Shared;

/// Mounts the blob that `?mount=…&from=…` names. Nothing where it cannot be had: the
/// specification then begins an ordinary upload.
pub(super) async fn mount(
    shared: &Shared,
    who: &Identity,
    query: &Query,
    to: &Repository,
) -> Result<Option<Response>, Refusal> {
    let Some((wanted, from)) = query.mount.as_deref().zip(query.from.as_deref()) else {
        return Ok(None);
    };
    let (Ok(wanted), Ok(from)) = (digest(wanted), from.parse::<Repository>()) else {
        return Ok(None);
    };
    // Only what one could pull oneself.
    if shared.access.may_pull(who).is_err() {
        return Ok(None);
    }
    let store = &shared.store;
    let there = store.is_linked(&from, &wanted).await.map_err(store_failed)?
        && store.blob_size(&wanted).await.map_err(store_failed)?.is_some();
    if !there {
        return Ok(None);
    }
    store.link(to, &wanted).await.map_err(store_failed)?;
    Ok(Some(uploads::created(to, &wanted)))
}
