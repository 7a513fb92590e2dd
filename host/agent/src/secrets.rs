//! The secret store: names and values in one file (0600), encrypted with AES-256-GCM.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | magic `SSS1` |
//! | 12 | nonce, new at every write |
//! | … | ciphertext of a JSON object of names to base64 values, and the tag |
//!
//! The key comes from a systemd credential (`sentinel-secrets-key`, 32 bytes) where there is
//! one. Otherwise it is made beside the store; then whoever reads the disk reads the secrets,
//! and [`SecretStore::warning`] says so.

use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::{Mutex, MutexGuard};
use sentinel_runtime::SecretSource;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use zeroize::Zeroizing;

const MAGIC: &[u8; 4] = b"SSS1";
const CREDENTIAL: &str = "sentinel-secrets-key";
/// The most bytes of one secret.
pub const MAX_SECRET: usize = 16 << 10;
/// The most secrets.
const MAX_SECRETS: usize = 1000;

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
    /// Others may read a file that only its owner may.
    #[error("{path} can be read by others; `chmod 600` it and replace the secrets in it", path = path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
    },
    /// The key does not open the store.
    #[error("the secret store {path} does not open with the key from {key_from}; restore the key, or remove the store and set the secrets again", path = path.display())]
    Sealed {
        /// The store.
        path: PathBuf,
        /// Where the key is from.
        key_from: String,
    },
    /// The key has another length.
    #[error("the key from {0} has {1} bytes, 32 are needed")]
    KeyLength(String, usize),
    /// A bound is passed.
    #[error("{0}")]
    Bound(String),
}

type Secrets = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// Secrets by name. What another process sets in the same file is seen at the next look-up.
pub struct SecretStore {
    path: PathBuf,
    key_from: String,
    cipher: Aes256Gcm,
    warning: Option<String>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    secrets: Secrets,
    /// How the file looked when it was read; it is replaced as a whole at every change.
    stamp: Option<Stamp>,
}

/// Inode, length and time of change of a file.
type Stamp = (u64, u64, Option<SystemTime>);

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.ino(), meta.len(), meta.modified().ok()))
}

fn private(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, SecretError> {
    let io = |source| SecretError::Io { path: path.to_owned(), source };
    let bytes = match fs::read(path) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io(e)),
    };
    if fs::metadata(path).map_err(io)?.permissions().mode() & 0o077 != 0 {
        return Err(SecretError::Exposed { path: path.to_owned() });
    }
    Ok(Some(bytes))
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), SecretError> {
    let io = |source| SecretError::Io { path: path.to_owned(), source };
    let part = path.with_extension("part");
    let write = || -> std::io::Result<()> {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().map_err(io)
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

/// The key of a store.
struct KeySource {
    bytes: Zeroizing<Vec<u8>>,
    /// In words, for messages.
    from: String,
    /// What is to be said of how it is kept.
    warning: Option<String>,
}

fn key(folder: &Path) -> Result<KeySource, SecretError> {
    if let Some(credentials) = std::env::var_os("CREDENTIALS_DIRECTORY") {
        let path = Path::new(&credentials).join(CREDENTIAL);
        // systemd's own folder and modes protect it.
        if let Ok(bytes) = fs::read(&path) {
            let from = format!("the credential {CREDENTIAL}");
            return Ok(KeySource { bytes: Zeroizing::new(bytes), from, warning: None });
        }
    }
    let path = folder.join("secrets.key");
    let bytes = match private(&path)? {
        Some(bytes) => bytes,
        None => {
            let fresh = Zeroizing::new(random::<32>().to_vec());
            write_private(&path, &fresh)?;
            fresh
        }
    };
    let warning = format!(
        "the secret store's key lies beside it in {}: whoever reads the disk reads the secrets; give a systemd credential `{CREDENTIAL}` instead",
        path.display()
    );
    Ok(KeySource { bytes, from: path.display().to_string(), warning: Some(warning) })
}

impl SecretStore {
    /// Opens the store in a folder; there need not be one yet.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn open(folder: &Path) -> Result<Self, SecretError> {
        let KeySource { bytes, from: key_from, warning } = key(folder)?;
        let key = Key::<Aes256Gcm>::try_from(bytes.as_slice())
            .map_err(|_| SecretError::KeyLength(key_from.clone(), bytes.len()))?;
        let cipher = Aes256Gcm::new(&key);
        let path = folder.join("secrets.enc");
        let store = Self { path, key_from, cipher, warning, held: Mutex::default() };
        store.read(&mut store.held.lock())?;
        Ok(store)
    }

    /// Reads the file if it is not the one that was read last.
    fn read(&self, held: &mut Held) -> Result<(), SecretError> {
        let stamp = stamp(&self.path);
        if stamp == held.stamp && stamp.is_some() {
            return Ok(());
        }
        held.secrets = match private(&self.path)? {
            Some(bytes) => decrypt(&self.cipher, &bytes).ok_or_else(|| SecretError::Sealed {
                path: self.path.clone(),
                key_from: self.key_from.clone(),
            })?,
            None => Secrets::new(),
        };
        held.stamp = stamp;
        Ok(())
    }

    /// What is in the file now; what was in it before where it cannot be read.
    fn current(&self) -> MutexGuard<'_, Held> {
        let mut held = self.held.lock();
        if let Err(error) = self.read(&mut held) {
            tracing::error!(%error, "secrets are as they were");
        }
        held
    }

    /// What an operator should know of how the store is kept, while it holds something.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        if self.current().secrets.is_empty() { None } else { self.warning.clone() }
    }

    /// Names, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.current().secrets.keys().cloned().collect()
    }

    /// Sets a secret; durable when this returns.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn set(&self, name: &str, value: &[u8]) -> Result<(), SecretError> {
        if name.is_empty() || name.len() > 100 || name.chars().any(|c| c.is_control() || c == '}') {
            return Err(SecretError::Bound(format!(
                "{name:?} is not a secret's name: 1 to 100 characters, none of them '}}'"
            )));
        }
        let mut held = self.held.lock();
        self.read(&mut held)?;
        let full = held.secrets.len() >= MAX_SECRETS && !held.secrets.contains_key(name);
        if value.len() > MAX_SECRET || full {
            return Err(SecretError::Bound(format!(
                "a store has at most {MAX_SECRETS} secrets of {MAX_SECRET} bytes"
            )));
        }
        let mut next = held.secrets.clone();
        next.insert(name.to_owned(), Zeroizing::new(value.to_vec()));
        self.save(&next)?;
        held.stamp = None;
        self.read(&mut held)
    }

    /// Removes a secret; whether there was one.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn remove(&self, name: &str) -> Result<bool, SecretError> {
        let mut held = self.held.lock();
        self.read(&mut held)?;
        let mut next = held.secrets.clone();
        let was = next.remove(name).is_some();
        if was {
            self.save(&next)?;
            held.stamp = None;
            self.read(&mut held)?;
        }
        Ok(was)
    }

    fn save(&self, secrets: &Secrets) -> Result<(), SecretError> {
        let texts: BTreeMap<&str, String> =
            secrets.iter().map(|(name, value)| (name.as_str(), STANDARD.encode(value))).collect();
        let plain = Zeroizing::new(serde_json::to_vec(&texts).expect("texts serialise"));
        for (_, text) in texts {
            drop(Zeroizing::new(text));
        }
        let nonce = random::<12>();
        let body = self.cipher.encrypt(&Nonce::from(nonce), plain.as_slice()).expect("it encrypts");
        write_private(&self.path, &[&MAGIC[..], &nonce, &body].concat())
    }
}

fn decrypt(cipher: &Aes256Gcm, bytes: &[u8]) -> Option<Secrets> {
    let body = bytes.strip_prefix(MAGIC)?;
    let (nonce, body) = body.split_at_checked(12)?;
    let nonce: [u8; 12] = nonce.try_into().ok()?;
    let plain = Zeroizing::new(cipher.decrypt(&Nonce::from(nonce), body).ok()?);
    let texts: BTreeMap<String, String> = serde_json::from_slice(&plain).ok()?;
    let value = |text: String| STANDARD.decode(Zeroizing::new(text).as_bytes()).ok();
    texts.into_iter().map(|(name, text)| Some((name, Zeroizing::new(value(text)?)))).collect()
}

impl SecretSource for SecretStore {
    fn secret(&self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        self.current().secrets.get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_survive_and_lie_encrypted() {
        let dir = tempfile::tempdir().unwrap();
        let store = SecretStore::open(dir.path()).unwrap();
        assert_eq!(store.warning(), None);
        store.set("slack", b"a-very-secret-value").unwrap();
        let raw = fs::read(dir.path().join("secrets.enc")).unwrap();
        assert!(!raw.windows(5).any(|w| w == b"slack" || w == b"a-ver"));
        let again = SecretStore::open(dir.path()).unwrap();
        assert_eq!(again.secret("slack").unwrap().as_slice(), b"a-very-secret-value");
        assert!(again.warning().unwrap().contains("secrets.key"));
        assert!(again.remove("slack").unwrap());
        assert!(store.names().is_empty(), "what another process does is seen");
    }

    #[test]
    fn a_changed_byte_another_key_or_an_open_mode_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        SecretStore::open(dir.path()).unwrap().set("a", b"b").unwrap();
        let path = dir.path().join("secrets.enc");
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, bad).unwrap();
            assert!(SecretStore::open(dir.path()).is_err(), "byte {at}");
        }
        fs::write(&path, &good).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(SecretStore::open(dir.path()), Err(SecretError::Exposed { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(dir.path().join("secrets.key")).unwrap();
        assert!(matches!(SecretStore::open(dir.path()), Err(SecretError::Sealed { .. })));
    }
}
