//! The time during which this worker keeps alerts.
//!
//! Of several workers one does: it has a lease in the store, and every write of alerts and of their delivery carries
//! its fence. A write that the store refuses since another one has the lease ends the term, and with it all that is
//! done in it, where it stands: what it was doing is the other one's.

use sentinel_store::StoreError;
use sentinel_store::alerting::AlertingChange;
use sentinel_store::lease::Fence;
use std::sync::Arc;
use tokio::sync::watch;

/// A term. Cheap to clone; the default one never ends, since no other worker is there.
#[derive(Debug, Clone, Default)]
pub struct Term(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    fence: Fence,
    over: watch::Sender<bool>,
}

impl Term {
    /// One that lasts as long as a lease.
    #[must_use]
    pub fn under(fence: Fence) -> Self {
        Self(Some(Arc::new(Inner { fence, over: watch::Sender::new(false) })))
    }

    /// A change as it is written in this term.
    #[must_use]
    pub fn sign(&self, mut change: AlertingChange) -> AlertingChange {
        change.fence = self.fence();
        change
    }

    /// What a write of this term carries.
    #[must_use]
    pub fn fence(&self) -> Option<Fence> {
        self.0.as_ref().map(|inner| inner.fence.clone())
    }

    /// Heeds what the store said of a write: where another worker has the lease, the term is over.
    pub fn heed<T>(&self, said: &Result<T, StoreError>) {
        if let Err(StoreError::Fenced { .. }) = said {
            self.end();
        }
    }

    /// Ends it.
    pub fn end(&self) {
        if let Some(inner) = &self.0 {
            inner.over.send_replace(true);
        }
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.as_ref().is_some_and(|inner| *inner.over.borrow())
    }

    /// Waits until it is over.
    pub async fn over(&self) {
        match &self.0 {
            Some(inner) => {
                // The sender is here as long as this is.
                let _ = inner.over.subscribe().wait_for(|over| *over).await;
            }
            None => std::future::pending().await,
        }
    }

    /// Does something until the term is over.
    pub async fn within(&self, work: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = self.over() => {}
            () = work => {}
        }
    }
}
