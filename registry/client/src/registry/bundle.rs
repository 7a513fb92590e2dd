//! Making and taking offline bundles.

use std::ops::Range;
use std::sync::Arc;

use sentinel_trust::Digest;
use sentinel_trust::repository::{
    Bundle, BundleParts, IndexedRelease, MetadataError, MetadataFile, PluginRange, Request, Role,
    RoleKey, Trusted,
};

use super::error::ClientError;
use super::{Interest, RegistryClient};

/// What a bundle is to hold.
#[derive(Debug)]
pub struct BundleOptions {
    /// The plugins: of each range the newest release that may be installed.
    pub plugins: Vec<PluginRange>,
    /// Until when it may be used, unix milliseconds.
    pub expires_at: i64,
}

impl RegistryClient {
    /// Makes a bundle of what the registry has now, sealed by an operator of the hosts that
    /// are to take it. Returns its bytes and the plugins in it.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn bundle(
        &self,
        options: BundleOptions,
        operator: &RoleKey,
        now: i64,
    ) -> Result<(Vec<u8>, Vec<IndexedRelease>), ClientError> {
        let names = options.plugins.iter().map(|range| range.name.publisher());
        let view = self.refresh(Interest::Only(names.collect()), now).await?;
        let mut releases = Vec::new();
        let mut blobs: Vec<Arc<[u8]>> = Vec::new();
        for range in &options.plugins {
            let release = view.resolve(range, now)?.clone();
            let plugin = self.fetch(&release.name, release.digest, now).await?;
            blobs.push(Arc::clone(plugin.bytes().expect("what was fetched has its bytes")));
            releases.push(release);
        }
        let trusted = self.trusted().await?;
        let mut older_roots = Vec::new();
        for version in 1..trusted.root().version() {
            let request = Request {
                path: Role::Root.path(version),
                max_bytes: Role::Root.max_bytes() as u64,
                may_be_missing: true,
            };
            // Hosts that still trust a root which is gone could not follow from there anyway.
            if let Some(bytes) = self.0.fetcher.metadata(&request).await? {
                older_roots.push(MetadataFile::read(Role::Root, bytes)?);
            }
        }
        let (sealed_at, expires_at) = (now, options.expires_at);
        let parts = BundleParts { trusted: &trusted, older_roots, blobs, sealed_at, expires_at };
        Ok((parts.seal(operator)?, releases))
    }
}

/// A release of a bundle, and where its bytes lie in the file.
type Placed = (IndexedRelease, Range<usize>);

/// What of a bundle is to be taken: newer metadata, if it has any, and the plugins.
pub(super) fn select(
    bundle: &Bundle<'_>,
    trusted: &Trusted,
    now: i64,
) -> Result<(Option<Trusted>, Vec<Placed>), ClientError> {
    let newer = match bundle.update(trusted) {
        Ok(newer) => Some(newer),
        // The host knows better already; the plugins may still be of use to it.
        Err(MetadataError::Rollback { .. }) => None,
        Err(refused) => return Err(refused.into()),
    };
    let view = newer.as_ref().unwrap_or(trusted).view();
    let mut releases = Vec::new();
    for digest in bundle.digests() {
        let listed = view.releases().find(|release| release.digest == digest);
        let listed = listed.ok_or_else(|| not_listed(digest))?;
        let release = view.release(&listed.name, digest, now)?.clone();
        let at = bundle.place(digest).ok_or_else(|| not_listed(digest))?;
        view.admit(&release, bundle.bytes()[at.clone()].into(), now)?;
        releases.push((release, at));
    }
    Ok((newer, releases))
}

fn not_listed(digest: Digest) -> ClientError {
    ClientError::Bundle(sentinel_trust::repository::BundleError::Unreadable(format!(
        "no publisher lists {digest}, which is in it"
    )))
}
