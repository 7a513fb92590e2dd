//! What a worker does besides: packing and retention of the store, trying again to load what
//! could not be loaded, and saying how it is.

use crate::clock::Clock;
use crate::stop::stopped;
use crate::worker::Shared;
use sentinel_store::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// How often the status is stored.
const STATUS_EVERY: Duration = Duration::from_secs(3);
/// How often the store packs, rolls up and drops.
const MAINTAIN_EVERY: Duration = Duration::from_secs(60);
/// The pause between two steps of one upkeep, so that commits get in between.
const MAINTAIN_PAUSE: Duration = Duration::from_millis(50);
/// How often slots that could not be loaded are tried again.
const LOAD_AGAIN_EVERY: Duration = Duration::from_secs(60);

/// Waits; says whether to go on.
async fn pause(period: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = stopped(stop) => false,
        () = tokio::time::sleep(period) => true,
    }
}

/// Packs, rolls up and drops what retention no longer keeps.
pub(crate) async fn maintain(
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    mut stop: watch::Receiver<bool>,
) {
    let mut more = false;
    while pause(if more { MAINTAIN_PAUSE } else { MAINTAIN_EVERY }, &mut stop).await {
        more = match store.maintain(clock.now()).await {
            Ok((done, more)) => {
                tracing::debug!(?done, more, "maintained the store");
                more
            }
            Err(error) => {
                tracing::warn!(%error, "the store could not be maintained; tried again in a minute");
                false
            }
        };
    }
}

/// Stores the status and tries again to load what could not be loaded.
pub(crate) async fn attend(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut load_again = tokio::time::interval(LOAD_AGAIN_EVERY);
    load_again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    load_again.reset();
    shared.save_status().await;
    while pause(STATUS_EVERY, &mut stop).await {
        shared.save_status().await;
        let due = futures::FutureExt::now_or_never(load_again.tick()).is_some();
        if due && !shared.slots.lock().await.problems().is_empty() {
            shared.apply().await;
        }
    }
}
