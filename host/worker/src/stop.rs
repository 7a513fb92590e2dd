//! The signal to end.

use tokio::sync::watch;

/// Waits until the worker is to end.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Whoever could say it being gone says it too.
    let _ = stop.wait_for(|stop| *stop).await;
}
