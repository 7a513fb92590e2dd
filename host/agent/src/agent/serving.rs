//! What an agent shows of itself: its listener, and warnings of its own.

use super::AgentError;
use super::slots::Inner;
use crate::collect::ended;
use crate::http;
use prometheus::Registry;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the caps of the log took before it was sent, since there is the log.
pub(super) fn dropped(records: u64) -> Option<String> {
    (records > 0).then(|| {
        format!("the log has dropped {records} records that were not sent, at its caps (`log.max_bytes`, `log.max_age`)")
    })
}

pub(super) async fn serve(
    address: SocketAddr,
    inner: &Arc<Inner>,
    registry: Registry,
    mut stop: watch::Receiver<bool>,
) -> Result<(SocketAddr, JoinHandle<()>), AgentError> {
    let refuse = |why: String| AgentError::Listen { address, why };
    if !address.ip().is_loopback() {
        return Err(refuse("it is not a loopback address and has no TLS".to_owned()));
    }
    let listener =
        tokio::net::TcpListener::bind(address).await.map_err(|e| refuse(e.to_string()))?;
    let bound = listener.local_addr().map_err(|e| refuse(e.to_string()))?;
    let source = Arc::clone(inner);
    let router = http::router(Arc::new(move || source.status()), registry);
    let served = axum::serve(listener, router).with_graceful_shutdown(async move {
        ended(&mut stop).await;
    });
    let task = tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(%error, "the agent's listener ended");
        }
    });
    Ok((bound, task))
}
