//! Windows that see what all workers commit: fed from the tail of the store.
//!
//! The tail is read from where it ended before the first rule asked for a window, so that a sample is in the tail, or
//! was committed before that and is read with the window.

use crate::windows::Windows;
use parking_lot::RwLock;
use sentinel_store::tail::{TailBatch, TailPosition};
use sentinel_store::{Store, StoreError};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How often the store is asked what was committed. It is part of the time from a commit to its evaluation; the
/// question costs a round trip where nothing was.
pub const POLL: Duration = Duration::from_millis(50);
/// The wait after a question that the store did not answer.
const AGAIN: Duration = Duration::from_secs(1);
/// Batches read at once.
const PAGE: u32 = 64;

/// Feeds windows until it is dropped.
pub async fn feed(store: Arc<dyn Store>, windows: Arc<RwLock<Windows>>, from: TailPosition) {
    let (mut at, mut trouble) = (from, false);
    loop {
        match page(store.as_ref(), &windows, &at).await {
            Ok((next, more)) => {
                at = next;
                if std::mem::take(&mut trouble) {
                    tracing::info!("rules see new samples again");
                }
                if !more {
                    tokio::time::sleep(POLL).await;
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut trouble, true) {
                    tracing::error!(%error, "what was committed cannot be read: rules see nothing new until it can");
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn page(
    store: &dyn Store,
    windows: &RwLock<Windows>,
    at: &TailPosition,
) -> Result<(TailPosition, bool), StoreError> {
    let page = store.tail(at, PAGE).await?;
    let ids: BTreeSet<u32> = {
        let windows = windows.read();
        let rows = page.batches.iter().flat_map(|batch| &batch.series);
        rows.copied().filter(|id| windows.is_unknown(*id)).collect()
    };
    if !ids.is_empty() {
        let infos = store.known_series(&ids.into_iter().collect::<Vec<_>>()).await?;
        windows.write().adopt(&infos);
    }
    for TailBatch { series, times, values } in &page.batches {
        windows.write().push_known(series, times, values);
    }
    Ok((page.next, page.more))
}
