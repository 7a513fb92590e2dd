//! Plugins out of a folder, each with its signatures beside it: for checkouts and CI, where no
//! host keeps any.

use async_trait::async_trait;
use sentinel_registry_client::{ClientError, PluginSource, SourceError};
use sentinel_trust::repository::{PluginRange, ResolveError};
use sentinel_trust::{
    Digest, MAX_COMPONENT_BYTES, MAX_SIGNATURE_FILE_BYTES, PluginName, TrustPolicy, Unverified,
    VerifiedComponent, verify,
};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// The most plugin files of a folder.
const MAX_FILES: usize = 1_000;

/// Why a folder gives no plugins.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file or the folder cannot be read.
    #[error("{} cannot be read: {source}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are too many.
    #[error("{} holds more than {MAX_FILES} plugins", .0.display())]
    TooMany(PathBuf),
}

/// The plugins of a folder that a policy trusts: of several of one name the newest.
pub struct SignedFolder {
    policy: Arc<TrustPolicy>,
    plugins: Vec<Arc<VerifiedComponent>>,
    /// What is there and may not run: name, and why.
    refused: Vec<(PluginName, String)>,
}

impl SignedFolder {
    /// Reads and verifies all of it. What is not trusted is as if it were not there, but for the
    /// words with which it is missed.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn open(folder: &Path, policy: TrustPolicy) -> Result<Self, FolderError> {
        let unread = |path: &Path| {
            let path = path.to_owned();
            |source| FolderError::Read { path, source }
        };
        let (mut plugins, mut refused) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(folder).map_err(unread(folder))? {
            let path = entry.map_err(unread(folder))?.path();
            if path.extension().is_none_or(|end| end != "wasm") {
                continue;
            }
            if plugins.len() + refused.len() >= MAX_FILES {
                return Err(FolderError::TooMany(folder.to_owned()));
            }
            let bytes = read(&path, MAX_COMPONENT_BYTES).map_err(unread(&path))?;
            let Ok(unverified) = Unverified::read(&bytes) else { continue };
            let name = unverified.manifest().name.clone();
            let mut signatures = path.clone().into_os_string();
            signatures.push(".sig");
            let signatures = match read(Path::new(&signatures), MAX_SIGNATURE_FILE_BYTES) {
                Ok(signatures) => signatures,
                Err(error) => {
                    refused.push((name, format!("{}: {error}", signatures.display())));
                    continue;
                }
            };
            match verify(bytes.into(), &signatures, &policy) {
                Ok(verified) => plugins.push(Arc::new(verified)),
                Err(error) => refused.push((name, error.to_string())),
            }
        }
        plugins.sort_by(|a, b| b.version().cmp(a.version()));
        Ok(Self { policy: Arc::new(policy), plugins, refused })
    }

    /// Plugins that are there and may not run, with why.
    pub fn refused(&self) -> impl Iterator<Item = (&PluginName, &str)> {
        self.refused.iter().map(|(name, why)| (name, why.as_str()))
    }
}

fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let file: File = OpenOptions::new().read(true).open(path)?;
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::Error::other(format!("more than {most} bytes")));
    }
    Ok(bytes)
}

#[async_trait]
impl PluginSource for SignedFolder {
    async fn resolve(&self, wanted: &PluginRange) -> Result<Arc<VerifiedComponent>, SourceError> {
        let fits = |one: &&Arc<VerifiedComponent>| *one.name() == wanted.name;
        let unknown = ResolveError::UnknownPublisher { publisher: wanted.name.publisher() };
        self.plugins.iter().find(fits).cloned().ok_or_else(|| ClientError::from(unknown).into())
    }

    async fn fetch(
        &self,
        name: &PluginName,
        digest: Digest,
    ) -> Result<Arc<VerifiedComponent>, SourceError> {
        let none = ResolveError::NotListed { name: name.clone(), digest };
        let found = self.plugins.iter().find(|one| one.digest() == digest).cloned();
        found.ok_or_else(|| ClientError::from(none).into())
    }

    fn policy(&self) -> Result<Arc<TrustPolicy>, SourceError> {
        Ok(Arc::clone(&self.policy))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}
