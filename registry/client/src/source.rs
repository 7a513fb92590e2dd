//! Where a host's slots get their plugins from.

use crate::host::{Pin, PinsError};
use crate::registry::ClientError;
use async_trait::async_trait;
use sentinel_trust::repository::{PluginRange, ResolveError};
use sentinel_trust::{Digest, PluginName, TrustPolicy, VerifiedComponent};
use std::sync::Arc;
use tokio::sync::watch;

/// Why a slot does not get its plugin. Cheap to clone: one failure may be told to many.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The registry, or what is kept of it.
    #[error(transparent)]
    Registry(Arc<ClientError>),
    /// Which releases this host runs.
    #[error(transparent)]
    Pins(Arc<PinsError>),
    /// The release that was chosen is not to be had, or must not run.
    #[error(
        "{range} is {version} on this host ({digest}): {source}{}", away(.source),
        range = .pin.range, version = .pin.version, digest = .pin.digest
    )]
    Pinned {
        /// What was chosen.
        pin: Box<Pin>,
        /// Why it is of no use.
        source: Arc<ClientError>,
    },
}

/// What helps where a release must not run any more.
fn away(why: &ClientError) -> &'static str {
    match why {
        ClientError::Refused(_) | ClientError::Resolve(ResolveError::Refused(_)) => {
            "; `sentinel plugin upgrade` goes to another release, where there is one"
        }
        _ => "",
    }
}

impl From<PinsError> for SourceError {
    fn from(error: PinsError) -> Self {
        Self::Pins(Arc::new(error))
    }
}

impl From<ClientError> for SourceError {
    fn from(error: ClientError) -> Self {
        Self::Registry(Arc::new(error))
    }
}

/// Gives the slots of a host their plugins, verified.
#[async_trait]
pub trait PluginSource: Send + Sync {
    /// The plugin of a slot that names a range of versions: the same version each time, until an
    /// operator moves it.
    ///
    /// # Errors
    /// Why there is none that may run, and what to do.
    async fn resolve(&self, wanted: &PluginRange) -> Result<Arc<VerifiedComponent>, SourceError>;

    /// The plugin of a slot that names a digest.
    ///
    /// # Errors
    /// As [`PluginSource::resolve`].
    async fn fetch(
        &self,
        name: &PluginName,
        digest: Digest,
    ) -> Result<Arc<VerifiedComponent>, SourceError>;

    /// Whom to trust now, and what was revoked.
    ///
    /// # Errors
    /// Why that is not known: then nothing new is loaded, and what runs goes on.
    fn policy(&self) -> Result<Arc<TrustPolicy>, SourceError>;

    /// Changes whenever asking again may give another answer.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// Has no plugin: for a host that runs none.
#[derive(Debug, Clone, Copy)]
pub struct NoPlugins;

fn unknown(name: &PluginName) -> SourceError {
    ClientError::from(ResolveError::UnknownPublisher { publisher: name.publisher() }).into()
}

#[async_trait]
impl PluginSource for NoPlugins {
    async fn resolve(&self, wanted: &PluginRange) -> Result<Arc<VerifiedComponent>, SourceError> {
        Err(unknown(&wanted.name))
    }

    async fn fetch(
        &self,
        name: &PluginName,
        _: Digest,
    ) -> Result<Arc<VerifiedComponent>, SourceError> {
        Err(unknown(name))
    }

    fn policy(&self) -> Result<Arc<TrustPolicy>, SourceError> {
        Ok(Arc::default())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}
