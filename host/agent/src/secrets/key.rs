//! Where the store's key is.
//!
//! | in this order | where | read |
//! |---|---|---|
//! | systemd credential `sentinel-secrets-key` | given by the operator | always |
//! | `secrets.key` beside the store | made with the first secret where there is nothing better | while it is there |
//! | the secret service | made with the first secret, under the id in `secrets.service` | while that is there |
//!
//! Nothing is made before the first secret is set.

use super::{SecretError, service};
use sentinel_files::{private_or_made, read_private, replace};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The name of the systemd credential.
const CREDENTIAL: &str = "sentinel-secrets-key";
/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 32;
/// The most bytes that are read of a key's file.
const MAX_FILE: usize = 4096;

/// Where to look for keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Surroundings {
    /// The folder of systemd's credentials.
    pub(super) credentials: Option<PathBuf>,
    /// The address of the session bus.
    pub(super) bus: Option<String>,
}

impl Surroundings {
    /// Those of this process.
    pub(super) fn here() -> Self {
        Self {
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            bus: service::session_bus(),
        }
    }
}

/// The key of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoreKey {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// In words, for messages.
    pub(super) from: String,
    /// What is to be said of how it is kept.
    pub(super) warning: Option<String>,
}

/// What there is without asking anybody.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    Key(StoreKey),
    /// The secret service has it, under this id.
    InService(String),
    /// There is none.
    Nowhere,
}

fn key_file(folder: &Path) -> PathBuf {
    folder.join("secrets.key")
}

fn service_file(folder: &Path) -> PathBuf {
    folder.join("secrets.service")
}

/// Looks without asking the secret service.
pub(super) fn known(folder: &Path, around: &Surroundings) -> Result<Known, SecretError> {
    if let Some(credentials) = &around.credentials {
        // systemd's own folder and modes protect it.
        if let Ok(bytes) = std::fs::read(credentials.join(CREDENTIAL)) {
            let from = format!("the credential {CREDENTIAL}");
            return Ok(Known::Key(StoreKey { bytes: Zeroizing::new(bytes), from, warning: None }));
        }
    }
    if let Some(bytes) = read_private(&key_file(folder), MAX_FILE)? {
        return Ok(Known::Key(beside(folder, bytes, None)));
    }
    match read_private(&service_file(folder), MAX_FILE)? {
        Some(id) => match std::str::from_utf8(&id).map(str::trim) {
            Ok(id) if !id.is_empty() => Ok(Known::InService(id.to_owned())),
            _ => Err(SecretError::Unavailable(format!(
                "{} is damaged; restore it, or remove it and secrets.enc and set the secrets again",
                service_file(folder).display()
            ))),
        },
        None => Ok(Known::Nowhere),
    }
}

/// Asks the secret service for a key that it has.
pub(super) fn from_service(around: &Surroundings, id: &str) -> Result<StoreKey, SecretError> {
    let failed = |why: String| {
        SecretError::Unavailable(format!("the key is in the desktop's secret service: {why}"))
    };
    let bus = around.bus.as_ref().ok_or_else(|| failed("there is no session bus here".into()))?;
    let text = service::get(bus, id).map_err(failed)?;
    let bytes = hex::decode(text.as_bytes()).map_err(|_| failed("it is malformed".into()))?;
    let from = "the desktop's secret service".to_owned();
    Ok(StoreKey { bytes: Zeroizing::new(bytes), from, warning: None })
}

/// Makes a key where there is none: in the secret service if it takes one, else beside the
/// store. To be called by one at a time.
pub(super) fn make(folder: &Path, around: &Surroundings) -> Result<StoreKey, SecretError> {
    let mut why = None;
    if let Some(bus) = &around.bus {
        match into_service(folder, bus, around) {
            Ok(key) => return Ok(key),
            Err(error) => {
                tracing::warn!(%error, "the desktop's secret service does not keep the key");
                why = Some(error);
            }
        }
    }
    let fresh = || Zeroizing::new(super::random::<KEY_BYTES>().to_vec());
    let bytes = private_or_made(&key_file(folder), MAX_FILE, fresh)?;
    Ok(beside(folder, bytes, why))
}

fn into_service(folder: &Path, bus: &str, around: &Surroundings) -> Result<StoreKey, String> {
    let id = hex::encode(super::random::<16>());
    let text = Zeroizing::new(hex::encode(super::random::<KEY_BYTES>()));
    service::put(bus, &id, &format!("Key of Sentinel's secrets in {}", folder.display()), &text)?;
    // Kept is what can be had again.
    let key = from_service(around, &id).map_err(|error| error.to_string())?;
    let same = hex::decode(text.as_bytes()).is_ok_and(|bytes| bytes == *key.bytes);
    if !same {
        return Err("it gives back another key than it was given".to_owned());
    }
    replace(&service_file(folder), format!("{id}\n").as_bytes(), 0o600)
        .map_err(|error| format!("{}: {error}", service_file(folder).display()))?;
    Ok(key)
}

fn beside(folder: &Path, bytes: Zeroizing<Vec<u8>>, why: Option<String>) -> StoreKey {
    let path = key_file(folder);
    let why = why.map(|why| format!(" (the desktop's secret service did not take it: {why})"));
    let warning = format!(
        "the secret store's key lies beside it in {}{}: whoever reads the disk reads the secrets; give a systemd credential `{CREDENTIAL}` instead",
        path.display(),
        why.unwrap_or_default(),
    );
    StoreKey { bytes, from: path.display().to_string(), warning: Some(warning) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_credential_goes_before_a_file_and_a_file_before_the_service() {
        let dir = tempfile::tempdir().unwrap();
        let credentials = tempfile::tempdir().unwrap();
        let alone = Surroundings::default();
        assert_eq!(known(dir.path(), &alone).unwrap(), Known::Nowhere);
        replace(&service_file(dir.path()), b"abc\n", 0o600).unwrap();
        assert_eq!(known(dir.path(), &alone).unwrap(), Known::InService("abc".into()));
        let made = make(dir.path(), &alone).unwrap();
        assert!(made.bytes.len() == KEY_BYTES && made.warning.is_some());
        assert_eq!(known(dir.path(), &alone).unwrap(), Known::Key(made));
        fs::write(credentials.path().join(CREDENTIAL), [7; 32]).unwrap();
        let around = Surroundings { credentials: Some(credentials.path().to_owned()), bus: None };
        let Known::Key(key) = known(dir.path(), &around).unwrap() else { panic!("no key") };
        assert_eq!((key.bytes.as_slice(), key.warning), ([7; 32].as_slice(), None));
    }

    #[test]
    fn a_service_that_cannot_be_asked_is_said_and_never_replaced_by_another_key() {
        let dir = tempfile::tempdir().unwrap();
        let error = from_service(&Surroundings::default(), "abc").unwrap_err();
        assert!(error.to_string().contains("no session bus"), "{error}");
        replace(&service_file(dir.path()), b"\n", 0o600).unwrap();
        let error = known(dir.path(), &Surroundings::default()).unwrap_err();
        assert!(error.to_string().contains("secrets.service is damaged"), "{error}");
    }
}
