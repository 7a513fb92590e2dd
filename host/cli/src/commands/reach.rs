//! How a command reaches a registry, and what this user knows of it.

use std::path::PathBuf;

use clap::Args;
use sentinel_files::read_private;
use sentinel_registry_client::{FetchLimits, RegistryClient, RegistryOptions};
use sentinel_trust::repository::{Enrolment, KeyPurpose, MAX_ENROLMENT_BYTES, RoleKey};
use sentinel_trust::{Digest, MAX_KEY_FILE_BYTES, PublisherKey};
use tokio::runtime::Builder;
use url::Url;

use crate::failure::Failure;
use crate::files;
use crate::roles::data::default_folder;

/// Most bytes of a file of certificates.
const MAX_CA_BYTES: usize = 1 << 20;
/// Most bytes of a token's file.
const MAX_TOKEN_BYTES: usize = 4096;
/// Digits of the address's digest that name the folder of what is known.
const FOLDER_DIGITS: usize = 16;

/// Which registry, and where to begin with it.
#[derive(Debug, Args)]
pub(crate) struct Reach {
    /// The registry, such as https://registry.example.com
    #[arg(long, value_name = "URL", env = "SENTINEL_REGISTRY", hide_env_values = true)]
    registry: Url,
    /// What `sentinel registry enrolment` printed; needed the first time only
    #[arg(long, value_name = "FILE", env = "SENTINEL_ENROLMENT", hide_env_values = true)]
    enrolment: Option<PathBuf>,
    /// Folder for what is known of the registry [default: the user's data folder]
    #[arg(long, value_name = "DIR")]
    known: Option<PathBuf>,
    /// Certificates (PEM) that are trusted beside the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Reach {
    /// What this user knows of the registry, and the way to it.
    pub(crate) fn open(&self) -> Result<RegistryClient, Failure> {
        let enrolment = match &self.enrolment {
            None => None,
            Some(file) => {
                let json = files::read(file, MAX_ENROLMENT_BYTES)?;
                Some(Enrolment::from_json(&json).map_err(|error| {
                    Failure::new(format!("{}: not an enrolment: {error}", file.display()))
                })?)
            }
        };
        let folder = self.known.clone().unwrap_or_else(|| {
            let name = Digest::of(self.registry.as_str().as_bytes()).to_hex();
            default_folder().join("registries").join(&name[..FOLDER_DIGITS])
        });
        let ca = self.ca.as_deref().map(|file| files::read(file, MAX_CA_BYTES)).transpose()?;
        let url = self.registry.clone();
        let limits = FetchLimits::default();
        let options = RegistryOptions { url, folder, ca, limits };
        Ok(RegistryClient::open(options, enrolment.as_ref())?)
    }
}

/// Runs what asks a registry.
pub(crate) fn wait<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// A publisher's secret key, which only its owner may read.
pub(crate) fn publisher_key(file: &std::path::Path) -> Result<PublisherKey, Failure> {
    let text = private(file, MAX_KEY_FILE_BYTES)?;
    PublisherKey::from_file_text(&text)
        .map_err(|error| Failure::new(format!("{}: {error}", file.display())))
}

/// A role's or operator's secret key, which only its owner may read.
pub(crate) fn role_key(file: &std::path::Path, purpose: KeyPurpose) -> Result<RoleKey, Failure> {
    let text = private(file, MAX_KEY_FILE_BYTES)?;
    let key = RoleKey::from_file_text(&text)
        .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
    if key.purpose() != purpose {
        return Err(Failure::new(format!(
            "{} is a key for {}, and one for {purpose} is needed",
            file.display(),
            key.purpose()
        )));
    }
    Ok(key)
}

/// A token out of its file.
pub(crate) fn token(file: &std::path::Path) -> Result<zeroize::Zeroizing<String>, Failure> {
    let text = private(file, MAX_TOKEN_BYTES)?;
    let text = std::str::from_utf8(&text)
        .map_err(|_| Failure::new(format!("{} is not a token", file.display())))?;
    Ok(text.trim().to_owned().into())
}

fn private(file: &std::path::Path, max: usize) -> Result<zeroize::Zeroizing<Vec<u8>>, Failure> {
    read_private(file, max)?.ok_or_else(|| Failure::new(format!("{} is not there", file.display())))
}
