//! The registry inside `sentinel up`: begun with the first start, of one owner, over the same
//! code as any other registry.
//!
//! | below the data folder | what |
//! |---|---|
//! | `registry/owner/` | the keys that decide: root, targets, operator; tokens for publishing |
//! | `registry/keys/` | the registry's own keys |
//! | `registry/store/` | all that was pushed and published |
//! | `registry/enrolment.json` | what a host is given once |
//!
//! Whoever can read `registry/owner` owns this installation. That is so of the folder as a
//! whole, and it is why nothing of it may leave the machine; a registry of one's own, whose
//! keys lie elsewhere, is what `sentinel registry init` begins.

mod folders;
mod founding;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use sentinel_files::{read_private, replace};
use sentinel_registry_client::RegistryClient;
use sentinel_registry_service::{
    Listener, Options, Place, Registry, Store, install_metadata, metadata_in_force, serve_on,
};
use sentinel_trust::fleet::Operators;
use sentinel_trust::repository::{
    Enrolment, KeyPurpose, MAX_ENROLMENT_BYTES, MetadataFile, Role, RoleKey, RootSpec, TargetsSpec,
    root_file, targets_file,
};
use sentinel_trust::{PublicKey, PublisherName};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use crate::commands::fleet::operator::Operator;
use crate::commands::now;
use crate::commands::reach::role_key;
use crate::commands::registry::keys;
use crate::failure::Failure;
use crate::files;
pub(crate) use folders::Folders;

/// The folder of the registry in the data folder of `up`.
const REGISTRY: &str = "registry";
/// Parts of the registry's folder.
const OWNER: &str = "owner";
const KEYS: &str = "keys";
const STORE: &str = "store";
const ENROLMENT: &str = "enrolment.json";
/// Most bytes of a token's file.
const MAX_TOKEN_BYTES: usize = 4096;
/// How often it is looked whether something is to be renewed.
const TEND: Duration = Duration::from_secs(6 * 3600);

/// A publisher and its public key.
pub(crate) type Approved = (PublisherName, PublicKey);

/// What the owner of a registry has at hand.
pub(crate) struct OwnRegistry {
    folder: PathBuf,
    store: Store,
}

fn told(failure: Failure) -> anyhow::Error {
    match failure.hint {
        Some(hint) => anyhow::anyhow!("{}; {hint}", failure.message),
        None => anyhow::Error::msg(failure.message),
    }
}

impl OwnRegistry {
    /// The registry in the data folder of an `up`, begun where there is none.
    ///
    /// # Errors
    /// A folder that cannot be written, or a registry whose owner is elsewhere.
    pub(crate) async fn open_or_found(data: &Path) -> Result<Self> {
        let folder = data.join(REGISTRY);
        if !folder.exists() {
            founding::found(data, &folder).await?;
        }
        Self::open(data)
    }

    /// The registry of an `up`, which was begun.
    ///
    /// # Errors
    /// There is none, or its owner is elsewhere.
    pub(crate) fn open(data: &Path) -> Result<Self> {
        let folder = data.join(REGISTRY);
        anyhow::ensure!(
            folder.join(OWNER).is_dir(),
            "{} is not the registry of a `sentinel up`: its owner's keys are not in it; move it, or choose another data folder with --data",
            folder.display()
        );
        let store = Store::open(&Place::Folder(folder.join(STORE)))?;
        Ok(Self { folder, store })
    }

    fn owner(&self) -> PathBuf {
        self.folder.join(OWNER)
    }

    fn role(&self, purpose: KeyPurpose) -> Result<RoleKey> {
        role_key(&keys::path(&self.owner(), purpose), purpose).map_err(told)
    }

    /// Where what hosts are given lies.
    pub(crate) fn enrolment_file(&self) -> PathBuf {
        self.folder.join(ENROLMENT)
    }

    /// What hosts are given.
    ///
    /// # Errors
    /// A file that is damaged or missing.
    pub(crate) fn enrolment(&self) -> Result<Enrolment> {
        let file = self.enrolment_file();
        let json = files::read(&file, MAX_ENROLMENT_BYTES).map_err(told)?;
        Enrolment::from_json(&json).with_context(|| file.display().to_string())
    }

    /// The fleet of this `up`, and whose sets count in it.
    ///
    /// # Errors
    /// A file that is damaged or missing.
    pub(crate) fn operators(&self) -> Result<Operators> {
        let key = keys::path(&self.owner(), KeyPurpose::Operator);
        Ok(Operator::open(&key).map_err(told)?.pins())
    }

    /// How its metadata looked last, to tell whether anybody changed it: cheap.
    pub(crate) fn change(&self) -> Option<std::time::SystemTime> {
        let commits = self.folder.join(STORE).join("metadata/commits");
        std::fs::metadata(commits).and_then(|meta| meta.modified()).ok()
    }

    /// Signs anew what has half of its time behind it, and lets these publish too.
    ///
    /// # Errors
    /// Keys that are not to be had, a publisher that may not be approved.
    pub(crate) async fn tend(&self, approved: &[Approved], now: i64) -> Result<()> {
        let begun = metadata_in_force(&self.store, now).await?;
        let (root, targets) = begun.context("the registry was never begun")?;
        let next_root = match half_over(&root, now) {
            false => None,
            true => {
                let key = self.role(KeyPurpose::Root)?;
                let until = now + Role::Root.lifetime_ms();
                Some(root_file(Some(&root), &RootSpec::read(&root)?, &[&key], until)?)
            }
        };
        let root = next_root.as_ref().unwrap_or(&root);
        let next_targets = self.next_targets(root, &targets, approved, now)?;
        if next_root.is_none() && next_targets.is_none() {
            return Ok(());
        }
        let online = keys::read_online(&self.folder.join(KEYS)).map_err(told)?;
        let (root, targets) = (next_root.as_ref(), next_targets.as_ref());
        install_metadata(&self.store, online, root, targets, now).await?;
        tracing::info!(renewed = ?[root, targets].into_iter().flatten().map(MetadataFile::path).collect::<Vec<_>>(), "the registry's metadata is signed anew");
        Ok(())
    }

    /// The targets after these, unless they may stay.
    fn next_targets(
        &self,
        root: &MetadataFile,
        targets: &MetadataFile,
        approved: &[Approved],
        now: i64,
    ) -> Result<Option<MetadataFile>> {
        let before = TargetsSpec::read(targets)?;
        let mut spec = before.clone();
        for (publisher, key) in approved {
            spec.publishers.approve(publisher, key.clone())?;
        }
        if spec == before && !half_over(targets, now) {
            return Ok(None);
        }
        let key = self.role(KeyPurpose::Targets)?;
        let until = now + Role::Targets.lifetime_ms();
        Ok(Some(targets_file(root, Some(targets), &spec, &[&key], until)?))
    }

    /// Lets one more publish, in a registry that is served.
    ///
    /// # Errors
    /// As [`OwnRegistry::tend`]; a registry that does not answer.
    pub(crate) async fn approve(&self, client: &RegistryClient, approved: Approved) -> Result<()> {
        let now = now();
        let begun = metadata_in_force(&self.store, now).await?;
        let (root, targets) = begun.context("the registry was never begun")?;
        if let Some(next) = self.next_targets(&root, &targets, &[approved], now)? {
            client.offer(&next).await?;
        }
        Ok(())
    }

    /// The token with which the owner publishes for a publisher: kept, so that starts leave no
    /// tokens behind.
    ///
    /// # Errors
    /// A store or folder that cannot be written.
    pub(crate) async fn token(&self, publisher: &PublisherName) -> Result<Zeroizing<String>> {
        let file = self.owner().join(format!("{publisher}.token"));
        if let Some(kept) = read_private(&file, MAX_TOKEN_BYTES)? {
            let kept = Zeroizing::new(String::from_utf8_lossy(&kept).trim().to_owned());
            let known = self.store.token(&kept).await?;
            if known.is_some_and(|known| known.namespace.as_ref() == Some(publisher)) {
                return Ok(kept);
            }
        }
        let (_, token) = self.store.create_token(Some(publisher.clone()), now()).await?;
        replace(&file, token.as_bytes(), 0o600)
            .with_context(|| format!("{} cannot be written", file.display()))?;
        Ok(token)
    }

    /// Serves it, and renews what is to be renewed, until [`Serving::shutdown`].
    ///
    /// # Errors
    /// Keys that are not to be had.
    pub(crate) fn serve(self: &Arc<Self>, listener: Listener, options: Options) -> Result<Serving> {
        let online = keys::read_online(&self.folder.join(KEYS)).map_err(told)?;
        let registry = serve_on(listener, options, self.store.clone(), Some(online))?;
        let (stop, stopped) = watch::channel(false);
        let tending = tokio::spawn(tend_now_and_then(Arc::clone(self), stopped));
        Ok(Serving { registry, stop, tending })
    }
}

/// Whether a file has half of its role's time behind it.
fn half_over(file: &MetadataFile, now: i64) -> bool {
    file.expires_at() - now < file.role().lifetime_ms() / 2
}

async fn tend_now_and_then(own: Arc<OwnRegistry>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            // An error means that nobody is left who could stop it.
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(TEND) => {}
        }
        if let Err(error) = own.tend(&[], now()).await {
            tracing::error!("the registry's metadata was not renewed: {error:#}");
        }
    }
}

/// The registry while it is served.
pub(crate) struct Serving {
    registry: Registry,
    stop: watch::Sender<bool>,
    tending: JoinHandle<()>,
}

impl Serving {
    /// Its address.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.registry.address())
    }

    /// Takes no more requests, and waits a few seconds for those under way.
    pub(crate) async fn shutdown(self) {
        self.stop.send_replace(true);
        // It ends by itself, between two renewals.
        let _ = self.tending.await;
        self.registry.shutdown().await;
    }
}

#[cfg(test)]
mod tests;
