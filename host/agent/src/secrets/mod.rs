//! The secret store: names and values in one file (0600), encrypted with AES-256-GCM.
//!
//! The key comes from a systemd credential, or from the desktop's secret service, or lies
//! beside the store (`key`); in the last case whoever reads the disk reads the secrets, and
//! [`SecretStore::warning`] says so. A service that does not answer keeps nothing from
//! starting: the secrets are then not there, which is said, and it is asked again.
//!
//! Several processes may use one store. Changes are made under a lock, on what the file says
//! then; what another process changed is seen at the next look-up.

mod key;
mod sealed;
mod service;

use aes_gcm::aead::KeyInit;
use aes_gcm::{Aes256Gcm, Key};
use key::{Known, StoreKey, Surroundings};
use parking_lot::{Mutex, MutexGuard};
use sealed::Version;
use sentinel_files::{Lock, PrivateError, read_private, replace};
use sentinel_runtime::SecretSource;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// The most bytes of one secret.
pub const MAX_SECRET: usize = 16 << 10;
/// The most secrets.
const MAX_SECRETS: usize = 1000;
/// The most characters of a secret's name.
const MAX_NAME: usize = 100;
/// How long a secret service that did not give the key is left alone.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// Why a secret cannot be had or kept.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// A file cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that only its owner may read cannot be used.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// The key does not open the store.
    #[error("the secret store {path} does not open with the key from {key_from}; restore the key, or remove the store and set the secrets again", path = path.display())]
    Sealed {
        /// The store.
        path: PathBuf,
        /// Where the key is from.
        key_from: String,
    },
    /// The key cannot be had now.
    #[error("secrets are not available: {0}")]
    Unavailable(String),
    /// The key has another length.
    #[error("the key from {0} has {1} bytes, 32 are needed")]
    KeyLength(String, usize),
    /// A bound is passed.
    #[error("{0}")]
    Bound(String),
}

/// Another content of the file than was read last, and which it is.
type Fresh = (Option<Version>, Zeroizing<Vec<u8>>);

type Secrets = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// Secrets by name.
pub struct SecretStore(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    path: PathBuf,
    around: Surroundings,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    secrets: Secrets,
    /// Which writing of the file they are from.
    version: Option<Version>,
    key: Option<OpenKey>,
    /// Why the key is not there, and when it was asked for.
    missing: Option<(String, Instant)>,
    /// Whether it is being asked for.
    asking: bool,
}

struct OpenKey {
    cipher: Aes256Gcm,
    from: String,
    warning: Option<String>,
}

impl OpenKey {
    fn new(key: StoreKey) -> Result<Self, SecretError> {
        let bytes = Key::<Aes256Gcm>::try_from(key.bytes.as_slice())
            .map_err(|_| SecretError::KeyLength(key.from.clone(), key.bytes.len()))?;
        Ok(Self { cipher: Aes256Gcm::new(&bytes), from: key.from, warning: key.warning })
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

impl SecretStore {
    /// Opens the store in a folder; there need not be one yet. Where a secret service has the
    /// key, this takes as long as `service::LIMIT` at most.
    ///
    /// # Errors
    /// [`SecretError`]; a service that does not give the key is none.
    pub fn open(folder: &Path) -> Result<Self, SecretError> {
        Self::open_in(folder, Surroundings::here())
    }

    fn open_in(folder: &Path, around: Surroundings) -> Result<Self, SecretError> {
        let (folder, path) = (folder.to_owned(), folder.join("secrets.enc"));
        let store = Self(Arc::new(Inner { folder, path, around, held: Mutex::default() }));
        let mut held = store.0.held.lock();
        match store.0.read_now(&mut held) {
            Err(SecretError::Unavailable(why)) => {
                tracing::warn!(why, "secrets are not available; they are tried again");
            }
            other => other?,
        }
        drop(held);
        Ok(store)
    }

    /// What an operator should know of how the store is kept, while it holds something.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let held = self.0.current();
        if let Some((why, _)) = &held.missing {
            return Some(SecretError::Unavailable(why.clone()).to_string());
        }
        let warning = held.key.as_ref().and_then(|key| key.warning.clone());
        if held.secrets.is_empty() { None } else { warning }
    }

    /// Names, sorted.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn names(&self) -> Result<Vec<String>, SecretError> {
        let mut held = self.0.held.lock();
        self.0.read_now(&mut held)?;
        Ok(held.secrets.keys().cloned().collect())
    }

    /// Sets a secret; durable when this returns. Waits for another process that changes the
    /// store.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn set(&self, name: &str, value: &[u8]) -> Result<(), SecretError> {
        let unfit = |c: char| c.is_control() || c == '}';
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(unfit) {
            return Err(SecretError::Bound(format!(
                "{name:?} is not a secret's name: 1 to {MAX_NAME} characters, none of them '}}'"
            )));
        }
        self.0.change(|secrets| {
            let full = secrets.len() >= MAX_SECRETS && !secrets.contains_key(name);
            if value.len() > MAX_SECRET || full {
                return Err(SecretError::Bound(format!(
                    "a store has at most {MAX_SECRETS} secrets of {MAX_SECRET} bytes"
                )));
            }
            secrets.insert(name.to_owned(), Zeroizing::new(value.to_vec()));
            Ok(true)
        })?;
        Ok(())
    }

    /// Removes a secret; whether there was one.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn remove(&self, name: &str) -> Result<bool, SecretError> {
        self.0.change(|secrets| Ok(secrets.remove(name).is_some()))
    }
}

impl SecretSource for SecretStore {
    fn secret(&self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        self.0.current().secrets.get(name).cloned()
    }
}

impl Inner {
    /// Changes what the file says now, under the lock; whether anything changed.
    fn change(
        &self,
        change: impl FnOnce(&mut Secrets) -> Result<bool, SecretError>,
    ) -> Result<bool, SecretError> {
        let lock_file = self.folder.join("secrets.lock");
        let _lock = Lock::wait(&lock_file)
            .map_err(|source| SecretError::Io { path: lock_file.clone(), source })?;
        let mut held = self.held.lock();
        self.read_now(&mut held)?;
        let mut next = held.secrets.clone();
        if !change(&mut next)? {
            return Ok(false);
        }
        let bytes = match &held.key {
            Some(key) => sealed::encrypt(&key.cipher, &next),
            None => {
                let key = OpenKey::new(match key::known(&self.folder, &self.around)? {
                    Known::Key(key) => key,
                    Known::InService(id) => key::from_service(&self.around, &id)?,
                    Known::Nowhere => key::make(&self.folder, &self.around)?,
                })?;
                sealed::encrypt(&held.key.insert(key).cipher, &next)
            }
        };
        replace(&self.path, &bytes, 0o600)
            .map_err(|source| SecretError::Io { path: self.path.clone(), source })?;
        (held.version, held.secrets) = (sealed::version(&bytes), next);
        Ok(true)
    }

    /// Reads the file if it is another than was read last, and asks for the key if need be.
    fn read_now(self: &Inner, held: &mut Held) -> Result<(), SecretError> {
        let Some((version, bytes)) = self.fresh(held)? else { return Ok(()) };
        if held.key.is_some() && self.unseal(held, version, &bytes).is_ok() {
            return Ok(());
        }
        if held.key.is_none() {
            let key = match key::known(&self.folder, &self.around)? {
                Known::Key(key) => Ok(key),
                Known::InService(id) => key::from_service(&self.around, &id),
                Known::Nowhere => Err(self.no_key()),
            };
            self.got(held, key)?;
        }
        self.unseal(held, version, &bytes)
    }

    /// The file's content, where it is another than was read last.
    fn fresh(&self, held: &mut Held) -> Result<Option<Fresh>, SecretError> {
        let mut head = Version::default();
        let same = match File::open(&self.path) {
            Ok(mut file) => file.read_exact(&mut head).is_ok() && held.version == Some(head),
            Err(_) => false,
        };
        if same {
            return Ok(None);
        }
        let Some(bytes) = read_private(&self.path, sealed::MAX_FILE)? else {
            // The next store may have another key.
            *held = Held { asking: held.asking, ..Held::default() };
            return Ok(None);
        };
        Ok(Some((sealed::version(&bytes), bytes)))
    }

    fn no_key(&self) -> SecretError {
        SecretError::Sealed { path: self.path.clone(), key_from: "nowhere: there is none".into() }
    }

    fn got(&self, held: &mut Held, key: Result<StoreKey, SecretError>) -> Result<(), SecretError> {
        match key {
            Ok(key) => {
                held.key = Some(OpenKey::new(key)?);
                held.missing = None;
                Ok(())
            }
            Err(error) => {
                if let SecretError::Unavailable(why) = &error {
                    held.missing = Some((why.clone(), Instant::now()));
                }
                Err(error)
            }
        }
    }

    fn unseal(
        &self,
        held: &mut Held,
        version: Option<Version>,
        bytes: &[u8],
    ) -> Result<(), SecretError> {
        let Some(key) = &held.key else { return Err(self.no_key()) };
        let Some(secrets) = sealed::decrypt(&key.cipher, bytes) else {
            let (path, key_from) = (self.path.clone(), key.from.clone());
            // It may be another store with another key: looked for anew the next time.
            held.key = None;
            return Err(SecretError::Sealed { path, key_from });
        };
        (held.secrets, held.version) = (secrets, version);
        Ok(())
    }

    /// What is in the file now; what was in it before where it cannot be read. Waits for
    /// nobody: a secret service is asked behind the back of whoever looks something up.
    fn current(self: &Arc<Self>) -> MutexGuard<'_, Held> {
        let mut held = self.held.lock();
        if let Err(error) = self.read_soon(&mut held) {
            tracing::error!(%error, "secrets are as they were");
        }
        held
    }

    fn read_soon(self: &Arc<Self>, held: &mut Held) -> Result<(), SecretError> {
        let Some((version, bytes)) = self.fresh(held)? else { return Ok(()) };
        if held.key.is_some() {
            return self.unseal(held, version, &bytes);
        }
        match key::known(&self.folder, &self.around)? {
            Known::Key(key) => {
                self.got(held, Ok(key))?;
                self.unseal(held, version, &bytes)
            }
            Known::InService(id) => {
                let lately = held.missing.as_ref().is_some_and(|(_, at)| at.elapsed() < ASK_AGAIN);
                if !held.asking && !lately {
                    held.asking = self.ask_behind(id);
                }
                Ok(())
            }
            Known::Nowhere => Err(self.no_key()),
        }
    }

    /// Whether there is a thread that asks.
    fn ask_behind(self: &Arc<Self>, id: String) -> bool {
        let inner = Arc::clone(self);
        let work = move || {
            let key = key::from_service(&inner.around, &id);
            let mut held = inner.held.lock();
            held.asking = false;
            match inner.got(&mut held, key) {
                Ok(()) => tracing::info!("secrets are available"),
                Err(error) => tracing::warn!(%error),
            }
        };
        std::thread::Builder::new().name("secrets".to_owned()).spawn(work).is_ok()
    }
}

#[cfg(test)]
mod tests;
