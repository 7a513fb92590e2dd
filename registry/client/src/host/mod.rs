//! The plugins of one host: out of a registry, and out of what the host keeps of it.
//!
//! A slot names a range of versions. The first time, the newest release in it is chosen, and
//! pinned: from then on the slot gets that release, with or without a network, until an
//! operator moves the pin ([`HostPlugins::upgrade`], [`HostPlugins::follow`]). Nothing moves by
//! itself, also no release that was revoked: that is an error, and says so.
//!
//! | on disk, below one folder | what |
//! |---|---|
//! | `pins.json`, `pins.lock` | which release each range means |
//! | `needed.json` | what is needed now and was before, so that the rest can go |
//! | the rest | what the [`RegistryClient`] keeps |
//!
//! Several processes may have one folder open: the role that runs the plugins, and commands.

mod fresh;
mod needed;
mod pins;
mod upgrade;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use sentinel_trust::repository::{
    Enrolment, IndexedRelease, Interest, PluginRange, RepositoryView, Versions,
};
use sentinel_trust::{Digest, PluginName, TrustPolicy, VerifiedComponent};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::registry::{ClientError, RegistryClient, RegistryOptions};
use crate::source::{PluginSource, SourceError};
pub use fresh::Freshness;
use pins::Pins;
pub use pins::{Pin, PinsError};
pub use upgrade::{Moved, Upgrade};

/// Unix milliseconds.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What was learnt from the registry so short ago that it is not asked again, in milliseconds:
/// slots are looked up one after the other.
const RECENT_MS: i64 = 5_000;
/// How long a registry that did not answer is left alone.
const REST: Duration = Duration::from_secs(5);

/// How a host comes by its plugins.
#[derive(Clone)]
pub struct HostOptions {
    /// Its registry, and the folder of the host.
    pub registry: RegistryOptions,
    /// How often the registry is asked for what is new, and above all for what was revoked.
    /// An hour is the most that the trust model allows.
    pub refresh: Duration,
    /// The time.
    pub clock: Clock,
}

/// The most between two looks at the registry.
pub const REFRESH: Duration = Duration::from_secs(3600);

/// The plugins of one host.
pub struct HostPlugins {
    client: RegistryClient,
    folder: PathBuf,
    pins: Pins,
    refresh: Duration,
    clock: Clock,
    changes: watch::Sender<u64>,
    /// What `changes` last told of.
    told: Mutex<Told>,
    /// Held while the registry is asked; when it last failed, and how.
    asking: tokio::sync::Mutex<Option<(Instant, SourceError)>>,
    /// As in the file, once it was read.
    needed: tokio::sync::Mutex<Option<needed::Known>>,
}

/// What makes one state of the registry's metadata another, to a host.
type Told = (u64, u64, u64, TrustPolicy);

fn told(view: &RepositoryView) -> Told {
    let Versions { root, targets, index, .. } = view.versions();
    (root, targets, index, view.policy().clone())
}

impl HostPlugins {
    /// Opens what the host keeps. Where it keeps nothing yet, `enrolment` is where it begins.
    /// Asks the registry nothing.
    ///
    /// # Errors
    /// A host that is enrolled nowhere; state or pins that cannot be read.
    pub fn open(options: HostOptions, enrolment: Option<&Enrolment>) -> Result<Self, SourceError> {
        let folder = options.registry.folder.clone();
        let client = RegistryClient::open(options.registry, enrolment)?;
        let pins = Pins::open(&folder)?;
        let told = Mutex::new(told(&client.view()));
        Ok(Self {
            client,
            folder,
            pins,
            refresh: options.refresh.min(REFRESH),
            clock: options.clock,
            changes: watch::channel(0).0,
            told,
            asking: tokio::sync::Mutex::default(),
            needed: tokio::sync::Mutex::default(),
        })
    }

    /// The registry, as this host knows it.
    #[must_use]
    pub const fn client(&self) -> &RegistryClient {
        &self.client
    }

    /// Every pin, by its range's text. Reads a small file.
    ///
    /// # Errors
    /// Pins that cannot be read.
    pub fn pins(&self) -> Result<Vec<Pin>, SourceError> {
        Ok(self.pins.read()?.into_values().collect())
    }

    fn now(&self) -> i64 {
        (self.clock)()
    }

    /// The newest release in a range, pinned or not.
    async fn newest(&self, wanted: &PluginRange) -> Result<IndexedRelease, SourceError> {
        let mut failed = self.asking.lock().await;
        let now = self.now();
        let view = self.client.view();
        let age = now.saturating_sub(view.refreshed_at());
        let known = view.resolve(wanted, now).cloned().map_err(ClientError::from);
        if (0..RECENT_MS).contains(&age)
            && let Ok(known) = known
        {
            return Ok(known);
        }
        let rests = failed.as_ref().filter(|(at, _)| at.elapsed() < REST);
        let asked = match rests {
            Some((_, error)) => Err(error.clone()),
            None => {
                let publisher = BTreeSet::from([wanted.name.publisher()]);
                let asked = self.client.refresh(Interest::Only(publisher), now).await;
                asked.map_err(SourceError::from)
            }
        };
        match asked {
            Ok(view) => {
                *failed = None;
                Ok(view.resolve(wanted, now).map_err(ClientError::from)?.clone())
            }
            Err(error) => {
                if rests.is_none() {
                    *failed = Some((Instant::now(), error.clone()));
                }
                // A host without a network goes by what it was brought.
                known.map_err(|_| error)
            }
        }
    }

    /// Tells of a change.
    fn tell(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

#[async_trait]
impl PluginSource for HostPlugins {
    async fn resolve(&self, wanted: &PluginRange) -> Result<Arc<VerifiedComponent>, SourceError> {
        let text = wanted.to_string();
        if let Some(pin) = self.pins.read()?.remove(&text) {
            return self.pinned(pin).await;
        }
        let release = self.newest(wanted).await?;
        // Pinned once it could be had: a release that is broken ties no host to itself.
        let plugin = self.client.fetch(&release.name, release.digest, self.now()).await?;
        let (version, digest) = (release.version, release.digest);
        let pin = Pin { range: wanted.clone(), version, digest };
        let pinned = self.pins.change(|pins| pins.entry(text).or_insert(pin).clone())?;
        if pinned.digest == plugin.digest() {
            tracing::info!(range = %wanted, version = %pinned.version, digest = %pinned.digest, "pinned");
            return Ok(plugin);
        }
        self.pinned(pinned).await
    }

    async fn fetch(
        &self,
        name: &PluginName,
        digest: Digest,
    ) -> Result<Arc<VerifiedComponent>, SourceError> {
        Ok(self.client.fetch(name, digest, self.now()).await?)
    }

    fn policy(&self) -> Result<Arc<TrustPolicy>, SourceError> {
        Ok(Arc::new(self.client.view().policy().clone()))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl HostPlugins {
    async fn pinned(&self, pin: Pin) -> Result<Arc<VerifiedComponent>, SourceError> {
        let plugin = self.client.fetch(&pin.range.name, pin.digest, self.now()).await;
        plugin
            .map_err(|source| SourceError::Pinned { pin: Box::new(pin), source: Arc::new(source) })
    }
}

impl std::fmt::Debug for HostPlugins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostPlugins").field("folder", &self.folder).finish_non_exhaustive()
    }
}
