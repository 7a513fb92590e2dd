//! Waiting for the store: what must be written is tried until it is taken.

use crate::metrics::Metrics;
use parking_lot::RwLock;
use sentinel_store::StoreError;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// The wait after the first failure; each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Tries something again until the store takes it, and says so: once when it begins to
/// refuse, once when it is well again.
pub struct Patience {
    what: &'static str,
    metrics: Metrics,
    trouble: Arc<RwLock<Option<String>>>,
}

impl Patience {
    /// `what` says in the log what does not happen meanwhile.
    #[must_use]
    pub fn new(what: &'static str, metrics: Metrics) -> Self {
        Self { what, metrics, trouble: Arc::default() }
    }

    /// What the store says while it refuses, for the status.
    #[must_use]
    pub fn trouble(&self) -> Arc<RwLock<Option<String>>> {
        Arc::clone(&self.trouble)
    }

    /// Calls until it succeeds, with growing waits. Dropping the future gives up.
    pub async fn until<T, F>(&self, mut call: impl FnMut() -> F) -> T
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut wait = FIRST_WAIT;
        loop {
            match call().await {
                Ok(value) => {
                    if self.trouble.write().take().is_some() {
                        tracing::info!(was = self.what, "the store is well again; work goes on");
                    }
                    return value;
                }
                Err(error) => {
                    self.metrics.store_failures.inc();
                    let first = self.trouble.write().replace(error.to_string()).is_none();
                    if first {
                        tracing::error!(%error, "{}; tried again until it does", self.what);
                    }
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(MAX_WAIT);
        }
    }
}
