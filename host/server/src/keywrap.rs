//! Wrapping of agent keys: what lies in the database is useless without a file beside it.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use sentinel_files::{PrivateError, private_or_made};
use sentinel_model::ids::AgentId;
use sentinel_wire::key::{AgentKey, KEY_LEN};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const NONCE_LEN: usize = 12;
/// The most bytes that are read of a key file.
const MAX_FILE: usize = 4096;

/// Why keys cannot be wrapped or unwrapped.
#[derive(Debug, thiserror::Error)]
pub enum KeyWrapError {
    /// The file cannot be read or made.
    #[error("the server's key file {path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not 32 bytes, or others may read it.
    #[error("the server's key file {path} {why}", path = path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
    /// What is stored was wrapped with another key or for another agent.
    #[error(
        "the stored key of agent {0} does not open with the server's key file; restore the file that belongs to this database, or enrol the agent again"
    )]
    Foreign(AgentId),
}

fn fresh() -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(vec![0; KEY_LEN]);
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

/// Wraps agent keys with AES-256-GCM, bound to the agent's id.
pub struct KeyWrap(Aes256Gcm);

impl KeyWrap {
    /// Reads the key file, or makes it (0600) where there is none.
    ///
    /// # Errors
    /// A file that cannot be used.
    ///
    /// # Panics
    /// If the system has no randomness.
    pub fn open(path: &Path) -> Result<Self, KeyWrapError> {
        let unusable = |why: String| KeyWrapError::Unusable { path: path.to_owned(), why };
        let bytes = private_or_made(path, MAX_FILE, fresh).map_err(|error| match error {
            PrivateError::Io { path, source } => KeyWrapError::Io { path, source },
            PrivateError::Exposed { .. } => {
                unusable("can be read by others; `chmod 600` it".to_owned())
            }
            PrivateError::TooLarge { max, .. } => unusable(format!(
                "has more than {max} bytes, {KEY_LEN} are needed; restore it from a backup"
            )),
        })?;
        let key = Key::<Aes256Gcm>::try_from(bytes.as_slice()).map_err(|_| {
            unusable(format!(
                "has {} bytes, {KEY_LEN} are needed; restore it from a backup",
                bytes.len()
            ))
        })?;
        Ok(Self(Aes256Gcm::new(&key)))
    }

    /// Wraps a key for one agent: nonce, then ciphertext.
    ///
    /// # Panics
    /// If the system has no randomness.
    #[must_use]
    pub fn wrap(&self, agent: &AgentId, secret: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).expect("the system gives random bytes");
        let payload = Payload { msg: secret, aad: agent.as_str().as_bytes() };
        let sealed = self.0.encrypt(&Nonce::from(nonce), payload).expect("32 bytes encrypt");
        [&nonce[..], &sealed].concat()
    }

    /// Unwraps a key.
    ///
    /// # Errors
    /// [`KeyWrapError::Foreign`].
    pub fn unwrap(
        &self,
        agent: &AgentId,
        id: u32,
        wrapped: &[u8],
    ) -> Result<AgentKey, KeyWrapError> {
        let foreign = || KeyWrapError::Foreign(agent.clone());
        let (nonce, sealed) = wrapped.split_at_checked(NONCE_LEN).ok_or_else(foreign)?;
        let nonce: [u8; NONCE_LEN] = nonce.try_into().map_err(|_| foreign())?;
        let payload = Payload { msg: sealed, aad: agent.as_str().as_bytes() };
        let plain = self.0.decrypt(&Nonce::from(nonce), payload).map_err(|_| foreign())?;
        AgentKey::new(id, &Zeroizing::new(plain)).map_err(|_| foreign())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_opens_for_its_agent_and_with_its_file_only() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (AgentId::new("a").unwrap(), AgentId::new("b").unwrap());
        let wrap = KeyWrap::open(&dir.path().join("key")).unwrap();
        let wrapped = wrap.wrap(&a, &[7; 32]);
        assert_eq!(wrap.unwrap(&a, 1, &wrapped).unwrap().expose(), [7; 32]);
        assert!(wrap.unwrap(&b, 1, &wrapped).is_err());
        assert!(wrap.unwrap(&a, 1, &wrapped[..20]).is_err());
        let again = KeyWrap::open(&dir.path().join("key")).unwrap();
        assert!(again.unwrap(&a, 1, &wrapped).is_ok());
        let other = KeyWrap::open(&dir.path().join("other")).unwrap();
        assert!(other.unwrap(&a, 1, &wrapped).is_err());
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        KeyWrap::open(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(KeyWrap::open(&path), Err(KeyWrapError::Unusable { .. })));
    }
}
