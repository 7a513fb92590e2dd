//! The plugins that the checkout built, verified without a registry: these benches measure what
//! comes after.

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use sentinel_registry_client::{ClientError, PluginSource, SourceError};
use sentinel_trust::repository::{PluginRange, ResolveError};
use sentinel_trust::{
    Digest, PluginName, PublisherKey, TrustPolicy, Unverified, VerifiedComponent, sign, verify,
};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// What was built, signed by the checkout's key.
pub(crate) struct Built {
    policy: Arc<TrustPolicy>,
    /// Each with its name, its bytes and its signatures.
    plugins: Vec<(PluginName, Arc<[u8]>, String)>,
}

impl Built {
    /// Reads and verifies all of it.
    pub(crate) fn open() -> Result<Self> {
        let path = |name| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .with_context(|| format!("{name} is not set; run `cargo xtask bench`"))
        };
        let key = PublisherKey::from_file_text(&std::fs::read(path("SENTINEL_PUBLISHER_KEY")?)?)?;
        let policy = TrustPolicy::trusting(key.publisher().clone(), key.public());
        let folder = path("SENTINEL_PLUGINS")?;
        let mut plugins = Vec::new();
        for folder in [folder.join("fixtures"), folder] {
            for entry in std::fs::read_dir(&folder)? {
                let file = entry?.path();
                if file.extension().is_none_or(|extension| extension != "wasm") {
                    continue;
                }
                let bytes = std::fs::read(&file)?;
                let unverified = Unverified::read(&bytes);
                let unverified = unverified.with_context(|| file.display().to_string())?;
                let signatures = sign(&bytes, &key, None)?.to_json();
                plugins.push((unverified.manifest().name.clone(), bytes.into(), signatures));
            }
        }
        Ok(Self { policy: Arc::new(policy), plugins })
    }

    /// A plugin by its name.
    pub(crate) fn plugin(&self, name: &str) -> Result<Arc<VerifiedComponent>> {
        let found = self.plugins.iter().find(|(known, ..)| known.as_str() == name);
        let Some((_, bytes, signatures)) = found else {
            bail!("{name} was not built; run `cargo xtask bench`");
        };
        Ok(Arc::new(verify(Arc::clone(bytes), signatures.as_bytes(), &self.policy)?))
    }
}

#[async_trait]
impl PluginSource for Built {
    async fn resolve(&self, wanted: &PluginRange) -> Result<Arc<VerifiedComponent>, SourceError> {
        let unknown = ResolveError::UnknownPublisher { publisher: wanted.name.publisher() };
        self.plugin(wanted.name.as_str()).map_err(|_| ClientError::from(unknown).into())
    }

    async fn fetch(
        &self,
        name: &PluginName,
        digest: Digest,
    ) -> Result<Arc<VerifiedComponent>, SourceError> {
        let none = ResolveError::NotListed { name: name.clone(), digest };
        let found = self.plugin(name.as_str()).ok().filter(|one| one.digest() == digest);
        found.ok_or_else(|| ClientError::from(none).into())
    }

    fn policy(&self) -> Result<Arc<TrustPolicy>, SourceError> {
        Ok(Arc::clone(&self.policy))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}
