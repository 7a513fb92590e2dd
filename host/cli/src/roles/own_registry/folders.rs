//! Folders of built plugins, published to the registry of an `up` by its owner.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sentinel_registry_client::{PublishError, Publisher, RegistryClient};
use sentinel_trust::repository::{IndexedRelease, Interest};
use sentinel_trust::{Digest, MAX_COMPONENT_BYTES, PublisherKey, PublisherName, Unverified};
use zeroize::Zeroizing;

use super::{Approved, OwnRegistry};
use crate::commands::now;
use crate::commands::reach::publisher_key;
use crate::files;

/// The most plugin files that the folders may have together.
const MAX_FILES: usize = 10_000;

/// What a file looked like: inode, length, and when it was written.
type Stamp = (u64, u64, i64, i64);

/// Folders of plugins, and the keys with which they are published.
pub(crate) struct Folders {
    folders: Vec<PathBuf>,
    keys: BTreeMap<PublisherName, PublisherKey>,
    /// Files as they were when they were last dealt with.
    done: BTreeMap<PathBuf, Stamp>,
    /// Files that looked otherwise at the last look: they may still be written.
    changing: BTreeMap<PathBuf, Stamp>,
}

impl Folders {
    /// Reads the keys.
    ///
    /// # Errors
    /// A folder that is none, a key that cannot be read, two keys of one publisher.
    pub(crate) fn new(folders: &[PathBuf], key_files: &[PathBuf]) -> Result<Self> {
        for folder in folders {
            ensure!(folder.is_dir(), "there is no folder of plugins {}", folder.display());
        }
        let mut keys = BTreeMap::new();
        for file in key_files {
            let key = publisher_key(file).map_err(super::told)?;
            let publisher = key.publisher().clone();
            ensure!(
                keys.insert(publisher.clone(), key).is_none(),
                "{} is a second --publisher-key of {publisher}: give one",
                file.display()
            );
        }
        let (done, changing) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { folders: folders.to_vec(), keys, done, changing })
    }

    /// Who is to be approved.
    pub(crate) fn approved(&self) -> Vec<Approved> {
        self.keys.iter().map(|(name, key)| (name.clone(), key.public())).collect()
    }

    /// Publishes what is new or changed: at the start everything, later what has stopped
    /// changing. Returns what is published now of those files. A file that cannot be published
    /// is warned of, and keeps nothing else from being published.
    pub(crate) async fn publish(
        &mut self,
        own: &OwnRegistry,
        client: &RegistryClient,
        at_start: bool,
    ) -> Vec<IndexedRelease> {
        let files = match self.changed(at_start) {
            Ok(files) => files,
            Err(error) => {
                tracing::warn!("no plugins are published: {error:#}");
                return Vec::new();
            }
        };
        if files.is_empty() {
            return Vec::new();
        }
        let publishers: BTreeSet<_> = self.keys.keys().cloned().collect();
        if let Err(error) = client.refresh(Interest::Only(publishers), now()).await {
            tracing::warn!("the registry was not asked for what is published: {error}");
        }
        let mut published = Vec::new();
        for (file, stamp) in files {
            match self.publish_file(own, client, &file).await {
                Ok(release) => published.push(release),
                Err(error) => {
                    tracing::warn!("{} is not published: {error:#}", file.display());
                }
            }
            self.done.insert(file, stamp);
        }
        published
    }

    async fn publish_file(
        &self,
        own: &OwnRegistry,
        client: &RegistryClient,
        file: &Path,
    ) -> Result<IndexedRelease> {
        let path = file.to_owned();
        let read = tokio::task::spawn_blocking(move || files::read(&path, MAX_COMPONENT_BYTES));
        let component = read.await?.map_err(super::told)?;
        let publisher = Unverified::read(&component)?.manifest().name.publisher();
        let key = self.keys.get(&publisher).with_context(|| {
            format!("it is of `{publisher}`, of which no key was given: start with --publisher-key FILE, or use `sentinel plugin install {} --publisher-key KEY`", file.display())
        })?;
        let view = client.view();
        let digest = Digest::of(&component);
        let is_there = |one: &&IndexedRelease| {
            let signed = one.signatures.iter().any(|signature| signature.key_id == key.id());
            one.digest == digest && signed && !one.yanked
        };
        if let Some(there) = view.releases().find(is_there) {
            view.may_run(there)?;
            return Ok(there.clone());
        }
        let token: Zeroizing<String> = own.token(&publisher).await?;
        let published = Publisher { client, key, token }.publish(&component, now()).await;
        let release = published.map_err(older_build)?.release;
        tracing::info!(plugin = %release.name, version = %release.version, digest = %release.digest, "published");
        Ok(release)
    }

    /// Files that are new or changed, in order.
    fn changed(&mut self, at_start: bool) -> Result<Vec<(PathBuf, Stamp)>> {
        let all = self.files()?;
        self.done.retain(|file, _| all.contains_key(file));
        let differs = |(file, stamp): &(&PathBuf, &Stamp)| self.done.get(*file) != Some(stamp);
        let now: BTreeMap<PathBuf, Stamp> =
            all.iter().filter(differs).map(|(file, stamp)| (file.clone(), *stamp)).collect();
        let before = std::mem::replace(&mut self.changing, now.clone());
        let at_rest =
            |(file, stamp): &(PathBuf, Stamp)| at_start || before.get(file) == Some(stamp);
        Ok(now.into_iter().filter(at_rest).collect())
    }

    fn files(&self) -> Result<BTreeMap<PathBuf, Stamp>> {
        let mut files = BTreeMap::new();
        for folder in &self.folders {
            let unread = || format!("the folder {} cannot be read", folder.display());
            for entry in fs::read_dir(folder).with_context(unread)? {
                let path = entry.with_context(unread)?.path();
                // A file that is gone again, or is none, is no plugin.
                let Ok(meta) = fs::metadata(&path) else { continue };
                if !meta.is_file() || path.extension().is_none_or(|extension| extension != "wasm") {
                    continue;
                }
                ensure!(files.len() < MAX_FILES, "the folders hold more than {MAX_FILES} plugins");
                files.insert(path, (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()));
            }
        }
        Ok(files)
    }
}

/// Says the way out where a build since forgotten was published under the same version.
fn older_build(error: PublishError) -> anyhow::Error {
    let same_version = matches!(error, PublishError::OtherBytes { .. });
    let error = anyhow::Error::from(error);
    if !same_version {
        return error;
    }
    error.context(
        "the data folder has another build of this version, and that one goes on running; raise `version` in its plugin.yaml and build it again, or start with another data folder (--data)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_build_under_the_same_version_is_told_with_a_way_out() {
        let release = sentinel_trust::Release {
            name: "acme/toy".parse().unwrap(),
            version: "1.2.3".parse().unwrap(),
        };
        let (release, digest) = (Box::new(release), Digest::of(b"x"));
        let told = format!("{:#}", older_build(PublishError::OtherBytes { release, digest }));
        for part in ["acme/toy", "raise `version`", "--data", "goes on running"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}
