//! Filling windows from the store.
//!
//! Order that makes it exact: the needs are set first, then a selector's series are adopted,
//! then their samples are read. A sample committed before the read is read; one committed
//! after it comes with its batch; one that does both is the same sample twice.

use super::{Load, MARGIN_MS, Windows};
use parking_lot::RwLock;
use sentinel_store::query::{SeriesInfo, TimeRange};
use sentinel_store::{Store, StoreError};

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
        let infos = match store.series(&load.selector).await {
            Ok(infos) => infos,
            Err(StoreError::TooMuch { found, .. }) => {
                windows.write().refuse(&load.selector, found);
                continue;
            }
            Err(error) => return Err(error),
        };
        windows.write().adopt(&infos);
        let back = i64::try_from(load.window_ms).unwrap_or(i64::MAX).saturating_add(MARGIN_MS);
        let range = TimeRange { start: now.saturating_sub(back), end: i64::MAX };
        load_samples(windows, store, &infos, range).await?;
        windows.write().filled(load);
    }
    Ok(())
}

async fn load_samples(
    windows: &RwLock<Windows>,
    store: &dyn Store,
    infos: &[SeriesInfo],
    range: TimeRange,
) -> Result<(), StoreError> {
    let (mut rest, mut at_once) = (infos, SERIES_AT_ONCE);
    while !rest.is_empty() {
        let part = &rest[..at_once.min(rest.len())];
        let ids: Vec<u32> = part.iter().map(|info| info.id).collect();
        match store.samples(&ids, range).await {
            Ok(points) => {
                let mut windows = windows.write();
                for (id, points) in ids.iter().zip(&points) {
                    windows.merge(*id, points);
                }
                rest = &rest[part.len()..];
            }
            Err(StoreError::TooMuch { .. }) if at_once > 1 => at_once /= 2,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
