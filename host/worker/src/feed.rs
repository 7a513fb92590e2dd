//! Windows that see what all workers commit: fed from the tail of the store.
//!
//! The tail is read from where it ended before the first rule asked for a window, so that a sample is in the tail, or
//! was committed before that and is read with the window. Each page is put in whole, with the position at which the
//! windows stand after it, and between calls of evaluators where those do not last.

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
/// The same where nobody else commits: then who does says so.
pub const POLL_ALONE: Duration = Duration::from_secs(1);
/// The wait after a question that the store did not answer.
const AGAIN: Duration = Duration::from_secs(1);
/// Batches read at once.
const PAGE: u32 = 64;
/// How long a page waits for calls of evaluators under way.
const HOLD: Duration = Duration::from_secs(1);

/// Feeds windows until it is dropped. [`Windows::stands_at`] says from where, before it begins.
pub async fn feed(store: Arc<dyn Store>, windows: Arc<RwLock<Windows>>, poll: Duration) {
    let wake = windows.read().wake();
    let mut trouble = false;
    loop {
        match round(store.as_ref(), &windows).await {
            Ok(()) => {
                if std::mem::take(&mut trouble) {
                    tracing::info!("rules see new samples again");
                }
                // Who was told in the meantime is told again at once.
                let _ = tokio::time::timeout(poll, wake.notified()).await;
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

/// What became of a page.
enum Page {
    More,
    Last,
    /// The windows were put elsewhere meanwhile.
    Elsewhere,
}

/// Reads the tail to its end.
async fn round(store: &dyn Store, windows: &RwLock<Windows>) -> Result<(), StoreError> {
    let (besides, is_idle, at) = {
        let windows = windows.read();
        (windows.besides(), windows.reads_nothing(), windows.position().cloned())
    };
    let Some(mut at) = at else {
        let end = store.tail_end().await?;
        windows.write().stands_at(end);
        return Ok(());
    };
    if is_idle {
        let end = store.tail_end().await?;
        let mut windows = windows.write();
        // What is asked for since may have been read from the store already.
        if windows.reads_nothing() && windows.position() == Some(&at) {
            windows.stands_at(end);
            windows.has_caught_up(besides);
            return Ok(());
        }
    }
    loop {
        match page(store, windows, &mut at).await? {
            Page::More => {}
            Page::Last => {
                windows.write().has_caught_up(besides);
                return Ok(());
            }
            // Whoever did it asks for another round.
            Page::Elsewhere => return Ok(()),
        }
    }
}

async fn page(
    store: &dyn Store,
    windows: &RwLock<Windows>,
    at: &mut TailPosition,
) -> Result<Page, StoreError> {
    let page = store.tail(at, PAGE).await?;
    let ids: BTreeSet<u32> = {
        let windows = windows.read();
        let rows = page.batches.iter().flat_map(|batch| &batch.series);
        rows.copied().filter(|id| windows.is_unknown(*id)).collect()
    };
    if !ids.is_empty() {
        let infos = store.known_series(&ids.into_iter().collect::<Vec<_>>()).await?;
        windows.write().adopt(infos);
    }
    if !page.batches.is_empty() {
        let calls = windows.read().calls();
        if tokio::time::timeout(HOLD, calls.ended()).await.is_err() {
            calls.leave_behind();
        }
    }
    let mut windows = windows.write();
    if windows.position() != Some(at) {
        return Ok(Page::Elsewhere);
    }
    at.clone_from(&page.next);
    for TailBatch { series, times, values } in &page.batches {
        windows.push_known(series, times, values);
    }
    windows.stands_at(page.next);
    Ok(if page.more { Page::More } else { Page::Last })
}
