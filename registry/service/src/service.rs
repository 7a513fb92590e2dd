//! The running service: what its handlers share, its addresses, its chores.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get, put};
use http::request::Parts;
use sentinel_trust::repository::{MetadataFile, OnlineKeys};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::access::Access;
use crate::api;
use crate::cache::{BlobCache, Links};
use crate::catalogue::Catalogue;
use crate::downloads::{self, Downloads, Totals};
use crate::health::{self, Readiness};
use crate::held::Room;
use crate::listener::{self, ListenError, Listener};
use crate::metrics::{self, Metrics};
use crate::oci;
use crate::options::Options;
use crate::refusal::Refusal;
use crate::releases::Releases;
use crate::sending::Places;
use crate::store::Store;

/// Components that are examined at once: each is held in memory whole.
const EXAMINATIONS: usize = 2;

/// What every handler works with.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) store: Store,
    pub(crate) access: Access,
    pub(crate) blobs: BlobCache,
    pub(crate) links: Links,
    pub(crate) releases: Releases,
    pub(crate) catalogue: Catalogue,
    pub(crate) downloads: Downloads,
    /// What was counted, and when it was added up (unix milliseconds).
    totals: tokio::sync::Mutex<(i64, Arc<Totals>)>,
    /// Uploads that send bytes.
    pub(crate) uploads: Places,
    /// Bodies that are held whole.
    pub(crate) room: Room,
    /// Components that are held whole.
    pub(crate) examinations: Semaphore,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
}

/// How old added-up counts may be, in milliseconds.
const TOTALS_MS: i64 = 30_000;

impl Shared {
    /// What was pulled, as it was a little ago.
    pub(crate) async fn totals(&self) -> Result<Arc<Totals>, Refusal> {
        let now = (self.options.clock)();
        let mut totals = self.totals.lock().await;
        if totals.0 == 0 || now.saturating_sub(totals.0) >= TOTALS_MS {
            let read = Totals::read(&self.store).await.map_err(oci::store_failed)?;
            *totals = (now.max(1), Arc::new(read));
        }
        Ok(Arc::clone(&totals.1))
    }
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // The listener puts it there; without one, everybody is the same stranger.
        let nobody = Self(SocketAddr::from(([0, 0, 0, 0], 0)));
        Ok(parts.extensions.get::<Self>().copied().unwrap_or(nobody))
    }
}

/// Why a registry does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The system gives no randomness.
    #[error("the system gives no randomness: {0}")]
    NoRandomness(String),
    /// What it counts cannot be registered.
    #[error("the registry's metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A running registry.
pub struct Registry {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/metadata/{*at}", get(api::metadata))
        .route("/api/v1/plugins", get(api::search))
        .route("/api/v1/plugins/{publisher}/{plugin}", get(api::detail))
        .route("/api/v1/indexes/{publisher}", get(api::index).put(api::put_index))
        .route("/api/v1/metadata/{role}", put(api::put_metadata))
        .route("/v2", any(oci::handle))
        .route("/v2/", any(oci::handle))
        .route("/v2/{*rest}", any(oci::handle))
        .layer(from_fn_with_state(Arc::clone(&shared), metrics::count))
        .with_state(shared)
}

/// Serves a store until [`Registry::shutdown`].
///
/// # Errors
/// [`ServeError`].
pub async fn serve(
    options: Options,
    store: Store,
    keys: Option<OnlineKeys>,
) -> Result<Registry, ServeError> {
    let listener = Listener::bind(&options).await?;
    serve_on(listener, options, store, keys)
}

/// The same where the address is taken already. Needs a runtime of tokio.
///
/// # Errors
/// [`ServeError`].
pub fn serve_on(
    listener: Listener,
    options: Options,
    store: Store,
    keys: Option<OnlineKeys>,
) -> Result<Registry, ServeError> {
    let shared = Arc::new(Shared {
        access: Access::new(options.anonymous_pull, options.rates),
        blobs: BlobCache::default(),
        links: Links::default(),
        releases: Releases::new(store.clone()),
        catalogue: Catalogue::new(store.clone(), keys),
        downloads: Downloads::new(),
        totals: tokio::sync::Mutex::default(),
        uploads: Places::new(options.limits.uploads),
        room: Room::new(options.limits.held_bytes),
        examinations: Semaphore::new(EXAMINATIONS),
        metrics: Metrics::new()?,
        readiness: Readiness::default(),
        store,
        options,
    });
    let (stop, stopped) = watch::channel(false);
    let limits = shared.options.limits;
    let (address, listening) =
        listener::listen(listener, limits, router(Arc::clone(&shared)), stopped.clone())?;
    let chores = tokio::spawn(chores(Arc::clone(&shared), stopped));
    Ok(Registry { address, stop, tasks: vec![listening, chores], shared })
}

/// Begins a registry, or brings a root or targets that the offline keys signed into force:
/// what `PUT /api/v1/metadata/…` does, for who has the store at hand. The first time both are
/// needed.
///
/// # Errors
/// What hosts would refuse, or a store that fails, in words.
pub async fn install_metadata(
    store: &Store,
    keys: OnlineKeys,
    root: Option<&MetadataFile>,
    targets: Option<&MetadataFile>,
    now: i64,
) -> Result<(), InstallError> {
    let catalogue = Catalogue::new(store.clone(), Some(keys));
    catalogue.install(root, targets, now).await.map_err(|refusal| InstallError(refusal.message))
}

/// The root and the targets in force at `now`, for who has the store at hand; nothing where
/// the registry was never begun.
///
/// # Errors
/// A store that fails, in words.
pub async fn metadata_in_force(
    store: &Store,
    now: i64,
) -> Result<Option<(MetadataFile, MetadataFile)>, InstallError> {
    let catalogue = Catalogue::new(store.clone(), None);
    let state = catalogue.current(now).await.map_err(|refusal| InstallError(refusal.message))?;
    Ok(state.map(|state| state.offline()))
}

/// Why metadata was not brought into force.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InstallError(String);

/// Writes what was counted and removes what was abandoned, now and then.
async fn chores(shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let mut flush = tokio::time::interval(shared.options.limits.renew_every);
    let mut collect = tokio::time::interval(shared.options.limits.collect_every);
    loop {
        tokio::select! {
            () = listener::until(&mut stopped) => return,
            _ = flush.tick() => {
                if let Err(error) = shared.catalogue.renew((shared.options.clock)()).await {
                    tracing::error!(%error, "the metadata could not be renewed");
                }
                if let Err(error) = shared.downloads.flush(&shared.store).await {
                    tracing::warn!(%error, "what was pulled could not be noted");
                }
            }
            _ = collect.tick() => collect_abandoned(&shared).await,
        }
    }
}

async fn collect_abandoned(shared: &Shared) {
    let age = i64::try_from(shared.options.limits.abandoned.as_millis()).unwrap_or(i64::MAX);
    let before = (shared.options.clock)().saturating_sub(age);
    match shared.store.collect_uploads(before).await {
        Ok(0) => {}
        Ok(uploads) => tracing::info!(uploads, "removed uploads that were abandoned"),
        Err(error) => tracing::warn!(%error, "abandoned uploads could not be removed"),
    }
    match shared.store.collect_parts(before).await {
        Ok(0) => {}
        Ok(parts) => tracing::info!(parts, "removed parts of files that were never finished"),
        Err(error) => tracing::warn!(%error, "unfinished files could not be removed"),
    }
    match downloads::fold(&shared.store, before).await {
        Ok(0) => {}
        Ok(instances) => tracing::info!(instances, "folded what instances counted"),
        Err(error) => tracing::warn!(%error, "what instances counted could not be folded"),
    }
    match shared.store.collect_blobs(before).await {
        Ok(0) => {}
        Ok(blobs) => tracing::info!(blobs, "removed blobs that no repository has"),
        Err(error) => tracing::warn!(%error, "blobs that no repository has could not be removed"),
    }
}

impl Registry {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, waits a few seconds for those under way, and writes what was
    /// counted.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            // Both end by themselves, the listener after its connections.
            drop(task.await);
        }
        if let Err(error) = self.shared.downloads.flush(&self.shared.store).await {
            tracing::warn!(%error, "what was pulled could not be noted");
        }
    }
}
