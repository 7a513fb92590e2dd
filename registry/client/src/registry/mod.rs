//! A registry over the network: what a host trusts of it, what it keeps, what it fetches.
//!
//! | on disk, below one folder | what |
//! |---|---|
//! | `trusted` | the verified metadata; replaced in one step, or not at all |
//! | `trusted.lock` | one update at a time, over processes |
//! | `plugins/HEX.wasm`, `.wasm.sig` | plugins that were verified, by digest |
//!
//! The network decides nothing: every byte that it gives is bounded in size and time, and
//! verified by `sentinel_trust` before any of it is kept. Without the network, what was
//! verified once and is not revoked is given again; only what is new waits.
//!
//! A `trusted` that cannot be read is an error, never a new beginning: whoever can damage a
//! file must not make a host forget what was revoked.

mod bundle;
mod error;
mod fetch;
mod offer;
mod plugins;
mod publish;
mod state;

pub use bundle::BundleOptions;
pub use error::ClientError;
pub use fetch::FetchLimits;
pub use publish::{PublishError, Published, Publisher};

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use sentinel_trust::repository::{
    Bundle, Enrolment, IndexedRelease, Interest, PluginRange, RepositoryView, ResolveError,
    Trusted, Update,
};
use sentinel_trust::{Digest, PluginName, PublisherName, TrustError, VerifiedComponent};
use url::Url;

use fetch::Fetcher;
use plugins::Plugins;
use state::State;

/// How a host reaches its registry.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// The registry's address, `https://registry.example.com` or with a path.
    pub url: Url,
    /// The folder that is kept; made if need be.
    pub folder: PathBuf,
    /// Certificates, PEM, that are trusted beside the system's.
    pub ca: Option<Vec<u8>>,
    /// Bounds on what the network may do.
    pub limits: FetchLimits,
}

/// A registry as one host knows it. Cheap to ask; clones share everything.
#[derive(Debug, Clone)]
pub struct RegistryClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fetcher: Fetcher,
    state: State,
    plugins: Plugins,
    view: ArcSwap<RepositoryView>,
    /// One refresh at a time in this process; the others find its result.
    refreshing: tokio::sync::Mutex<()>,
}

impl RegistryClient {
    /// Opens what the host knows. Where it knows nothing yet, `enrolment` is where it begins;
    /// once it knows something, `enrolment` is not looked at.
    ///
    /// # Errors
    ///
    /// [`ClientError::NotEnrolled`], a state that cannot be read, a folder that cannot be made.
    pub fn open(
        options: RegistryOptions,
        enrolment: Option<&Enrolment>,
    ) -> Result<Self, ClientError> {
        let state = State::open(&options.folder, enrolment)?;
        let view = ArcSwap::from_pointee(state.read()?.view());
        let plugins = Plugins::open(options.folder.join("plugins"))?;
        let fetcher = Fetcher::new(options.url, options.ca.as_deref(), options.limits)?;
        let refreshing = tokio::sync::Mutex::default();
        Ok(Self(Arc::new(Inner { fetcher, state, plugins, view, refreshing })))
    }

    /// What is known now.
    #[must_use]
    pub fn view(&self) -> Arc<RepositoryView> {
        self.0.view.load_full()
    }

    /// Looks whether another process of this host knows more by now, and goes by that.
    ///
    /// # Errors
    ///
    /// A state that cannot be read.
    pub async fn reload(&self) -> Result<Arc<RepositoryView>, ClientError> {
        let _one = self.0.refreshing.lock().await;
        let view = Arc::new(self.trusted().await?.view());
        self.0.view.store(Arc::clone(&view));
        Ok(view)
    }

    /// What is trusted now, for bundles and for publishing.
    ///
    /// # Errors
    ///
    /// A state that cannot be read.
    pub async fn trusted(&self) -> Result<Trusted, ClientError> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.state.read()).await
    }

    /// Asks the registry for what is new, at `now` (unix milliseconds). What was known stays
    /// unless all that it answers is good; a publisher's own broken index is told in the view
    /// and hurts nobody else.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn refresh(
        &self,
        interest: Interest,
        now: i64,
    ) -> Result<Arc<RepositoryView>, ClientError> {
        let _one = self.0.refreshing.lock().await;
        let mut update = Update::new(&self.trusted().await?, interest, now);
        while let Some(request) = update.next() {
            let body = match self.0.fetcher.metadata(&request).await {
                // A publisher's index that does not come is that publisher's trouble; a root
                // that does not come is not the same as one that is not there.
                Err(error) if !request.path.starts_with("publishers/") => return Err(error),
                Err(_) => None,
                Ok(body) => body,
            };
            update.provide(body)?;
        }
        self.keep(update.finish()?).await
    }

    /// Takes the trusted metadata of an update, unless another process has newer.
    async fn keep(&self, trusted: Trusted) -> Result<Arc<RepositoryView>, ClientError> {
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let kept = inner.state.replace(trusted)?;
            let view = Arc::new(kept.view());
            inner.view.store(Arc::clone(&view));
            Ok(view)
        })
        .await
    }

    /// The newest release in a range that may be installed: asks the registry first.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; [`ClientError::Resolve`] where there is none.
    pub async fn resolve(
        &self,
        range: &PluginRange,
        now: i64,
    ) -> Result<IndexedRelease, ClientError> {
        let view = self.refresh(only(range.name.publisher()), now).await?;
        Ok(view.resolve(range, now)?.clone())
    }

    /// A plugin by its digest: out of the local store, where it was verified before, or out of
    /// the registry.
    ///
    /// # Errors
    ///
    /// [`ClientError`]: what was revoked, whatever is not what its publisher signed, or, of
    /// what is not in the store, a registry that does not answer or whose metadata expired.
    pub async fn fetch(
        &self,
        name: &PluginName,
        digest: Digest,
        now: i64,
    ) -> Result<Arc<VerifiedComponent>, ClientError> {
        if let Some(stored) = self.stored(digest).await? {
            let found = stored.name().clone();
            if found != *name {
                return Err(ResolveError::NotListed { name: name.clone(), digest }.into());
            }
            return Ok(stored);
        }
        let release = match self.view().release(name, digest, now).cloned() {
            Ok(release) => release,
            Err(ResolveError::Refused(refused)) => {
                return Err(ResolveError::Refused(refused).into());
            }
            Err(_) => {
                let view = self.refresh(only(name.publisher()), now).await?;
                view.release(name, digest, now)?.clone()
            }
        };
        let bytes: Arc<[u8]> = self.0.fetcher.blob(name, digest, release.size).await?.into();
        self.admit(release, bytes, now).await
    }

    /// Verifies a new plugin and keeps it.
    async fn admit(
        &self,
        release: IndexedRelease,
        bytes: Arc<[u8]>,
        now: i64,
    ) -> Result<Arc<VerifiedComponent>, ClientError> {
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let verified = inner.view.load().admit(&release, bytes, now)?;
            inner.plugins.keep(&verified, release.signature_file().to_json().as_bytes())?;
            Ok(Arc::new(verified))
        })
        .await
    }

    /// A plugin that was verified before, verified again out of the local store: without the
    /// network and whatever the time.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] where it was revoked since; a disk that fails. A file that was
    /// damaged counts as none.
    pub async fn stored(
        &self,
        digest: Digest,
    ) -> Result<Option<Arc<VerifiedComponent>>, ClientError> {
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let Some((bytes, signatures)) = inner.plugins.read(digest)? else { return Ok(None) };
            let view = inner.view.load();
            let kept = view.readmit(Arc::clone(&bytes), &signatures).or_else(|refused| {
                // A publisher that changed its key signs anew what it published before.
                let listed = listed(&view, digest).ok_or(refused)?;
                view.readmit(bytes, listed.signature_file().to_json().as_bytes())
            });
            Ok(Some(Arc::new(kept.map_err(Box::new)?)))
        })
        .await
    }

    /// Whether a plugin that runs must stop: it, or every key that signed it, was revoked, or
    /// its publisher is approved no more. Asks what is known now; call it after each
    /// [`refresh`](Self::refresh) for everything that is loaded, last good generations too.
    ///
    /// # Errors
    ///
    /// [`TrustError`]: why it must stop.
    pub fn revoked(&self, plugin: &VerifiedComponent) -> Result<(), TrustError> {
        let view = self.view();
        plugin.recheck(view.policy()).or_else(|refused| {
            // A publisher that changed its key signs anew what it published before.
            let listed = listed(&view, plugin.digest());
            listed.filter(|one| view.may_run(one).is_ok()).map(|_| ()).ok_or(refused)
        })
    }

    /// Removes these from the local store, as far as they are there. How many.
    ///
    /// # Errors
    ///
    /// A disk that fails.
    pub async fn forget(&self, gone: BTreeSet<Digest>) -> Result<usize, ClientError> {
        if gone.is_empty() {
            return Ok(0);
        }
        let inner = Arc::clone(&self.0);
        blocking(move || inner.plugins.forget(&gone)).await
    }

    /// Takes an offline bundle: its metadata, where it is no older than what is known, and
    /// every plugin in it that may be installed. Tells what was kept.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; nothing of a bundle is kept that is refused.
    pub async fn install_bundle(
        &self,
        bytes: Vec<u8>,
        now: i64,
    ) -> Result<Vec<IndexedRelease>, ClientError> {
        let _one = self.0.refreshing.lock().await;
        let trusted = self.trusted().await?;
        let bytes: Arc<[u8]> = bytes.into();
        let (newer, releases) = {
            let bytes = Arc::clone(&bytes);
            blocking(move || {
                let bundle = Bundle::read(&bytes, &trusted, now)?;
                bundle::select(&bundle, &trusted, now)
            })
            .await?
        };
        if let Some(newer) = newer {
            self.keep(newer).await?;
        }
        let mut kept = Vec::new();
        for (release, at) in releases {
            self.admit(release.clone(), bytes[at].into(), now).await?;
            kept.push(release);
        }
        Ok(kept)
    }
}

/// The release with a digest, if its publisher's index is known.
fn listed(view: &RepositoryView, digest: Digest) -> Option<&IndexedRelease> {
    view.releases().find(|release| release.digest == digest)
}

/// One publisher, beside those that are known.
fn only(publisher: PublisherName) -> Interest {
    Interest::Only(BTreeSet::from([publisher]))
}

/// Runs what hashes or waits for the disk where it delays nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClientError> + Send + 'static,
) -> Result<T, ClientError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
