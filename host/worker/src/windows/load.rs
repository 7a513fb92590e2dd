//! Filling windows from the store.
//!
//! Order that makes it exact: the needs are set first, then a selector's series are adopted,
//! then their samples are read. A sample committed before the read is read; one committed
//! after it comes with its batch; one that does both is the same sample twice.

use super::{Load, MARGIN_MS, Windows};
use crate::checkpoint::{Recovered, recover};
use parking_lot::RwLock;
use sentinel_store::query::TimeRange;
use sentinel_store::{Store, StoreError};
use std::sync::Arc;

/// Series whose samples are read at once; halved where that is too much for one query.
const SERIES_AT_ONCE: usize = 1_000;

/// Fills the windows of some needs, as of `now`.
///
/// # Errors
/// What the store says; the same call may be made again. A selector that takes too many series
/// is no error: its questions are answered with that.
pub async fn load(
    windows: &RwLock<Windows>,
    store: &dyn Store,
    loads: &[Load],
    now: i64,
) -> Result<(), StoreError> {
    for load in loads {
        let Some(ids) = adopt(windows, store, load).await? else { continue };
        load_samples(windows, store, &ids, range(load, now)).await?;
        windows.write().filled(load);
    }
    Ok(())
}

/// Fills the windows of all needs from what is kept of them, as of `now`; `None` where that is of no use. They are
/// whole once the tail was read again from where the answer says, and [`Windows::filled`] once it is known that it
/// was there to its end.
///
/// # Errors
/// As [`load`].
pub async fn load_kept(
    windows: &Arc<RwLock<Windows>>,
    store: &dyn Store,
    loads: &[Load],
    now: i64,
) -> Result<Option<Recovered>, StoreError> {
    for load in loads {
        adopt(windows, store, load).await?;
    }
    let Some(recovered) = recover(store, windows).await? else { return Ok(None) };
    if let Some(longest) = loads.iter().max_by_key(|load| load.window_ms) {
        let beyond = windows.read().beyond(&recovered.parts);
        load_samples(windows, store, &beyond, range(longest, now)).await?;
    }
    Ok(Some(recovered))
}

/// What a need reaches back to, and all that comes after.
fn range(load: &Load, now: i64) -> TimeRange {
    let back = i64::try_from(load.window_ms).unwrap_or(i64::MAX).saturating_add(MARGIN_MS);
    TimeRange { start: now.saturating_sub(back), end: i64::MAX }
}

/// Takes a selector's series; their ids, or `None` where they are too many.
async fn adopt(
    windows: &RwLock<Windows>,
    store: &dyn Store,
    load: &Load,
) -> Result<Option<Vec<u32>>, StoreError> {
    let ids = match store.series_ids(&load.selector).await {
        Ok(ids) => ids,
        Err(StoreError::TooMuch { found, .. }) => {
            windows.write().refuse(&load.selector, found);
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    // Several selectors take the same ones.
    let unknown: Vec<u32> = {
        let windows = windows.read();
        ids.iter().copied().filter(|id| windows.is_unknown(*id)).collect()
    };
    if !unknown.is_empty() {
        let infos = store.known_series(&unknown).await?;
        windows.write().adopt(infos);
    }
    Ok(Some(ids))
}

async fn load_samples(
    windows: &RwLock<Windows>,
    store: &dyn Store,
    ids: &[u32],
    range: TimeRange,
) -> Result<(), StoreError> {
    let (mut rest, mut at_once) = (ids, SERIES_AT_ONCE);
    while !rest.is_empty() {
        let part = &rest[..at_once.min(rest.len())];
        match store.samples(part, range).await {
            Ok(points) => {
                let mut windows = windows.write();
                for (id, points) in part.iter().zip(&points) {
                    windows.merge(*id, &points.times, &points.values);
                }
                rest = &rest[part.len()..];
            }
            Err(StoreError::TooMuch { .. }) if at_once > 1 => at_once /= 2,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
