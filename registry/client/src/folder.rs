//! Folders of signed plugins.

use crate::files::{Stamp, io, read_bounded, read_signatures, signature_path};
use crate::policy::load_policies;
use crate::reference::{PluginError, PluginRef};
use parking_lot::Mutex;
use sentinel_trust::repository::PluginRange;
use sentinel_trust::{
    Digest, MAX_COMPONENT_BYTES, PluginName, TrustPolicy, Unverified, VerifiedComponent, verify,
};
use serde::Serialize;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most plugin files that the folders may have together.
const MAX_FILES: usize = 10_000;

/// A plugin file as `sentinel plugin list` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Listing {
    /// `publisher/name`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its kind.
    pub kind: String,
    /// `sha256:…` of the component.
    pub digest: String,
    /// The file.
    pub file: PathBuf,
    /// One line.
    pub description: String,
    /// Why it must not run; absent where it may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// What a folder's files looked like at some time: differs when any was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change(u64);

/// Whoever runs a host may read its plugins: they are no secret.
const FILE_MODE: u32 = 0o644;

/// What a file claims to be.
#[derive(Clone)]
struct Known {
    path: PathBuf,
    stamp: Stamp,
    claim: Option<(PluginName, semver::Version)>,
}

/// Folders of signed plugins under one trust policy. The first is the one that is written to.
pub struct PluginFolder {
    folders: Vec<PathBuf>,
    policies: Vec<PathBuf>,
    known: Mutex<Vec<Known>>,
}

impl PluginFolder {
    /// Folders to look in, the first of which is written to and made if need be, and trust
    /// policies, read anew at every question so that a revocation needs no restart.
    ///
    /// # Errors
    /// A first folder that cannot be made, or a policy that is none.
    pub fn open(folders: Vec<PathBuf>, policies: Vec<PathBuf>) -> Result<Self, PluginError> {
        if let Some(first) = folders.first() {
            fs::create_dir_all(first).map_err(io(first))?;
        }
        load_policies(&policies)?;
        Ok(Self { folders, policies, known: Mutex::default() })
    }

    /// The policy as its files say now.
    ///
    /// # Errors
    /// A policy that cannot be read: then nothing is trusted.
    pub fn policy(&self) -> Result<TrustPolicy, PluginError> {
        Ok(load_policies(&self.policies)?)
    }

    /// Finds and verifies a plugin: of several files the highest version, of one version the
    /// file in the earlier folder.
    ///
    /// # Errors
    /// Where none is there, or the one that is there must not run.
    pub fn resolve(&self, wanted: &PluginRef) -> Result<Arc<VerifiedComponent>, PluginError> {
        let meant =
            |version: &semver::Version| wanted.version.as_ref().is_none_or(|v| v == version);
        self.best(&wanted.name, meant, &wanted.to_string())
    }

    /// As [`PluginFolder::resolve`], of a range of versions.
    ///
    /// # Errors
    /// As [`PluginFolder::resolve`].
    pub fn resolve_range(
        &self,
        wanted: &PluginRange,
    ) -> Result<Arc<VerifiedComponent>, PluginError> {
        let any = wanted.versions == semver::VersionReq::STAR;
        let meant = |version: &semver::Version| any || wanted.versions.matches(version);
        self.best(&wanted.name, meant, &wanted.to_string())
    }

    /// Finds and verifies the plugin with a digest.
    ///
    /// # Errors
    /// As [`PluginFolder::resolve`].
    pub fn by_digest(
        &self,
        name: &PluginName,
        digest: Digest,
    ) -> Result<Arc<VerifiedComponent>, PluginError> {
        let known = self.scan()?;
        let of_name = |one: &&Known| one.claim.as_ref().is_some_and(|claim| claim.0 == *name);
        for one in known.iter().filter(of_name) {
            if Digest::of(&read_bounded(&one.path, MAX_COMPONENT_BYTES)?) == digest {
                return self.verify_file(&one.path);
            }
        }
        Err(self.not_found(name, &format!("{name} with the digest {digest}"), &known))
    }

    fn best(
        &self,
        plugin: &PluginName,
        meant: impl Fn(&semver::Version) -> bool,
        wanted: &str,
    ) -> Result<Arc<VerifiedComponent>, PluginError> {
        let known = self.scan()?;
        let fits = |known: &&Known| {
            known.claim.as_ref().is_some_and(|(name, version)| *name == *plugin && meant(version))
        };
        // `max_by` takes the last of equals, hence the reversal.
        let best = known.iter().rev().filter(fits).max_by(|a, b| {
            let version = |k: &Known| k.claim.as_ref().map(|c| c.1.clone());
            version(a).cmp(&version(b))
        });
        match best {
            Some(best) => self.verify_file(&best.path),
            None => Err(self.not_found(plugin, wanted, &known)),
        }
    }

    fn verify_file(&self, file: &Path) -> Result<Arc<VerifiedComponent>, PluginError> {
        let bytes: Arc<[u8]> = read_bounded(file, MAX_COMPONENT_BYTES)?.into();
        let verified = verify(bytes, &read_signatures(file)?, &self.policy()?)
            .map_err(|source| PluginError::Refused { file: file.to_owned(), source })?;
        Ok(Arc::new(verified))
    }

    fn not_found(&self, plugin: &PluginName, wanted: &str, known: &[Known]) -> PluginError {
        let versions: Vec<String> = known
            .iter()
            .filter_map(|k| k.claim.as_ref())
            .filter(|(name, _)| name == plugin)
            .map(|(_, version)| version.to_string())
            .collect();
        let others = if versions.is_empty() {
            String::new()
        } else {
            format!("; there is version {}", versions.join(", "))
        };
        let folders: Vec<_> = self.folders.iter().map(|f| f.display().to_string()).collect();
        PluginError::NotFound { wanted: wanted.to_owned(), folders: folders.join(", "), others }
    }

    /// Everything in the folders, whether it may run or not, by name and version.
    ///
    /// # Errors
    /// A folder or policy that cannot be read.
    pub fn list(&self) -> Result<Vec<Listing>, PluginError> {
        let policy = self.policy()?;
        let mut out = Vec::new();
        for known in self.scan()? {
            let read = read_bounded(&known.path, MAX_COMPONENT_BYTES)
                .and_then(|bytes| Ok((bytes, read_signatures(&known.path)?)));
            let (bytes, signatures, unread) = match read {
                Ok((bytes, signatures)) => (Arc::<[u8]>::from(bytes), signatures, None),
                Err(error) => (Arc::default(), Vec::new(), Some(error.to_string())),
            };
            let verdict = verify(Arc::clone(&bytes), &signatures, &policy);
            let mut listing = Listing {
                name: String::new(),
                version: String::new(),
                kind: String::new(),
                digest: Digest::of(&bytes).to_string(),
                file: known.path,
                description: String::new(),
                refused: unread.or_else(|| verdict.err().map(|e| e.to_string())),
            };
            if let Ok(unverified) = Unverified::read(&bytes) {
                let manifest = unverified.manifest();
                listing.name = manifest.name.to_string();
                listing.version = manifest.version.to_string();
                listing.kind = manifest.kind.to_string();
                listing.description.clone_from(&manifest.description);
            }
            out.push(listing);
        }
        out.sort_by(|a, b| (&a.name, &a.version, &a.file).cmp(&(&b.name, &b.version, &b.file)));
        Ok(out)
    }

    /// Verifies a plugin and keeps it in the first folder: signature first, component last, so
    /// that whoever looks in between sees a whole plugin or none.
    ///
    /// # Errors
    /// A plugin that must not run, or a folder that cannot be written.
    pub fn install(&self, bytes: Vec<u8>, signatures: &[u8]) -> Result<Listing, PluginError> {
        let component: Arc<[u8]> = bytes.into();
        let verified = verify(Arc::clone(&component), signatures, &self.policy()?)
            .map_err(PluginError::NotInstalled)?;
        let folder = self.folders.first().ok_or_else(|| PluginError::Io {
            path: PathBuf::new(),
            source: std::io::Error::other("there is no folder to install to"),
        })?;
        let manifest = verified.manifest();
        let file = folder.join(format!(
            "{}--{}@{}.wasm",
            manifest.name.publisher(),
            manifest.name.plugin(),
            manifest.version
        ));
        for (path, bytes) in [(signature_path(&file), signatures), (file.clone(), &component[..])] {
            sentinel_files::replace(&path, bytes, FILE_MODE).map_err(io(&path))?;
        }
        Ok(Listing {
            name: manifest.name.to_string(),
            version: manifest.version.to_string(),
            kind: manifest.kind.to_string(),
            digest: verified.digest().to_string(),
            file,
            description: manifest.description.clone(),
            refused: None,
        })
    }

    /// Removes a plugin's files from the first folder; slots that run it go on until they are
    /// configured otherwise. Returns what was removed.
    ///
    /// # Errors
    /// Where none is there, where it lies in another folder, or where it cannot be removed.
    pub fn remove(&self, wanted: &PluginRef) -> Result<Vec<PathBuf>, PluginError> {
        let known = self.scan()?;
        let first = self.folders.first().cloned().unwrap_or_default();
        let (mut removed, mut elsewhere) = (Vec::new(), Vec::new());
        for known in &known {
            let Some((name, version)) = &known.claim else { continue };
            let meant = wanted.version.as_ref().is_none_or(|v| v == version);
            if !meant || *name != wanted.name {
                continue;
            }
            if known.path.parent() != Some(&first) {
                elsewhere.push(known.path.clone());
                continue;
            }
            fs::remove_file(&known.path).map_err(io(&known.path))?;
            let _ = fs::remove_file(signature_path(&known.path));
            removed.push(known.path.clone());
        }
        if !removed.is_empty() {
            return Ok(removed);
        }
        if elsewhere.is_empty() {
            return Err(self.not_found(&wanted.name, &wanted.to_string(), &known));
        }
        let wanted = wanted.to_string();
        Err(PluginError::Elsewhere { wanted, files: elsewhere, folder: first })
    }

    /// What the folders and policies look like now: cheap, no file is opened.
    #[must_use]
    pub fn change(&self) -> Change {
        let mut hasher = DefaultHasher::new();
        let mut eat = |path: &Path| {
            let meta = fs::metadata(path).ok();
            path.hash(&mut hasher);
            meta.as_ref().map(Stamp::of).hash(&mut hasher);
        };
        self.policies.iter().for_each(|p| eat(p));
        for path in self.files().unwrap_or_default() {
            eat(&path);
            eat(&signature_path(&path));
        }
        Change(hasher.finish())
    }

    fn files(&self) -> Result<Vec<PathBuf>, PluginError> {
        let mut files = Vec::new();
        for folder in self.folders.iter().filter(|f| f.exists()) {
            let start = files.len();
            for entry in fs::read_dir(folder).map_err(io(folder))? {
                let path = entry.map_err(io(folder))?.path();
                if path.extension().is_some_and(|e| e == "wasm") {
                    if files.len() == MAX_FILES {
                        return Err(PluginError::TooLarge { path: folder.clone(), max: MAX_FILES });
                    }
                    files.push(path);
                }
            }
            files[start..].sort();
        }
        Ok(files)
    }

    /// What each file claims to be, read again only where the file changed. A claim chooses
    /// which file is verified and nothing else.
    fn scan(&self) -> Result<Vec<Known>, PluginError> {
        let mut known = self.known.lock();
        let mut fresh = Vec::new();
        for path in self.files()? {
            // A file that is gone, or is none, is no plugin and keeps no other from being one.
            let Ok(meta) = fs::metadata(&path) else { continue };
            if !meta.is_file() {
                continue;
            }
            let stamp = Stamp::of(&meta);
            if let Some(same) = known.iter().find(|k| k.path == path && k.stamp == stamp) {
                fresh.push(same.clone());
                continue;
            }
            let claim = read_bounded(&path, MAX_COMPONENT_BYTES)
                .ok()
                .and_then(|bytes| Unverified::read(&bytes).ok())
                .map(|u| (u.manifest().name.clone(), u.manifest().version.clone()));
            fresh.push(Known { path, stamp, claim });
        }
        known.clone_from(&fresh);
        Ok(fresh)
    }
}

#[cfg(test)]
mod tests;
