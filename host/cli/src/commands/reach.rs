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
use crate::running;

/// Most bytes of a file of certificates.
pub(crate) const MAX_CA_BYTES: usize = 1 << 20;
/// Most bytes of a token's file.
const MAX_TOKEN_BYTES: usize = 4096;
/// Where the owner of a `sentinel up` keeps the keys that decide, below its data folder.
const OWNER: &str = "registry/owner";
/// What is known of its registry, in there.
const KNOWN_BY_OWNER: &str = "known";
/// Digits of the address's digest that name the folder of what is known.
const FOLDER_DIGITS: usize = 16;

/// Which registry, and where to begin with it.
#[derive(Debug, Args)]
pub(crate) struct Reach {
    /// The registry, such as `https://registry.example.com`; else that of the `sentinel up` of this
    /// user
    #[arg(long, value_name = "URL", env = "SENTINEL_REGISTRY", hide_env_values = true)]
    registry: Option<Url>,
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

/// A registry, and where to begin with it.
struct Place {
    url: Url,
    enrolment: Option<PathBuf>,
    known: PathBuf,
}

impl Reach {
    /// What this user knows of the registry, and the way to it.
    pub(crate) fn open(&self) -> Result<RegistryClient, Failure> {
        let Place { url, enrolment, known } = self.place()?;
        let enrolment = match enrolment {
            None => None,
            Some(file) => {
                let json = files::read(&file, MAX_ENROLMENT_BYTES)?;
                Some(Enrolment::from_json(&json).map_err(|error| {
                    Failure::new(format!("{}: not an enrolment: {error}", file.display()))
                })?)
            }
        };
        let ca = self.ca.as_deref().map(|file| files::read(file, MAX_CA_BYTES)).transpose()?;
        let limits = FetchLimits::default();
        let options = RegistryOptions { url, folder: known, ca, limits };
        Ok(RegistryClient::open(options, enrolment.as_ref())?)
    }

    /// The folder of the keys that decide in the registry of this user's `sentinel up`, where it is
    /// the one that is asked and has them.
    pub(crate) fn owner(&self) -> Result<Option<PathBuf>, Failure> {
        if self.registry.is_some() {
            return Ok(None);
        }
        let folder = running::read()?.map(|running| running.data.join(OWNER));
        Ok(folder.filter(|folder| folder.is_dir()))
    }

    /// The registry that was named, else that of the `sentinel up` of this user.
    fn place(&self) -> Result<Place, Failure> {
        let enrolment = self.enrolment.clone();
        if let Some(url) = self.registry.clone() {
            let known = self.known.clone().unwrap_or_else(|| {
                let name = Digest::of(url.as_str().as_bytes()).to_hex();
                default_folder().join("registries").join(&name[..FOLDER_DIGITS])
            });
            return Ok(Place { url, enrolment, known });
        }
        let running =
            running::read()?.and_then(|running| Some((running.registry.clone()?, running)));
        let Some((url, running)) = running else {
            return Err(Failure::new(
                "no registry was named, and no `sentinel up` of this user has one",
            )
            .hint(
                "name one with --registry or SENTINEL_REGISTRY, and --enrolment the first time",
            ));
        };
        let url = url.parse()?;
        // What is known of it lies with it: another data folder is another registry, though its
        // address may be the same.
        let known =
            self.known.clone().unwrap_or_else(|| running.data.join(OWNER).join(KNOWN_BY_OWNER));
        Ok(Place { url, enrolment: enrolment.or(running.enrolment), known })
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
