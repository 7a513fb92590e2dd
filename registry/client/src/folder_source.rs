//! Folders of plugins as a source of them.

use crate::folder::PluginFolder;
use crate::reference::PluginError;
use crate::source::{PluginSource, SourceError};
use async_trait::async_trait;
use sentinel_trust::repository::PluginRange;
use sentinel_trust::{Digest, PluginName, TrustPolicy, VerifiedComponent};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// How often the folders are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Gives what lies in folders.
pub struct FolderSource {
    folder: Arc<PluginFolder>,
    changes: watch::Sender<u64>,
}

impl FolderSource {
    /// Begins to look after folders, until the source is dropped. Needs a runtime of tokio.
    #[must_use]
    pub fn watch(folder: Arc<PluginFolder>) -> Arc<Self> {
        let source = Arc::new(Self { folder, changes: watch::channel(0).0 });
        tokio::spawn(look(Arc::downgrade(&source)));
        source
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&PluginFolder) -> Result<T, PluginError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let folder = Arc::clone(&self.folder);
        match tokio::task::spawn_blocking(move || work(&folder)).await {
            Ok(done) => Ok(done?),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

async fn look(source: Weak<FolderSource>) {
    let mut seen = None;
    loop {
        let Some(strong) = source.upgrade() else { return };
        let folder = Arc::clone(&strong.folder);
        let Ok(now) = tokio::task::spawn_blocking(move || folder.change()).await else { return };
        if seen.is_some_and(|seen| seen != now) {
            strong.changes.send_modify(|count| *count += 1);
        }
        seen = Some(now);
        drop(strong);
        tokio::time::sleep(LOOK).await;
    }
}

#[async_trait]
impl PluginSource for FolderSource {
    async fn resolve(&self, wanted: &PluginRange) -> Result<Arc<VerifiedComponent>, SourceError> {
        let wanted = wanted.clone();
        self.blocking(move |folder| folder.resolve_range(&wanted)).await
    }

    async fn fetch(
        &self,
        name: &PluginName,
        digest: Digest,
    ) -> Result<Arc<VerifiedComponent>, SourceError> {
        let name = name.clone();
        self.blocking(move |folder| folder.by_digest(&name, digest)).await
    }

    fn policy(&self) -> Result<Arc<TrustPolicy>, SourceError> {
        Ok(Arc::new(self.folder.policy()?))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
