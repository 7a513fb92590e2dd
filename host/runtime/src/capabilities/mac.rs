//! Message authentication with keys that the guest cannot see.

use std::collections::BTreeSet;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::SecretSource;

/// Most bytes that are authenticated at once (4 MiB).
pub const MAX_DATA_BYTES: usize = 4 << 20;

/// Why there is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MacError {
    /// The key is not granted to this slot.
    #[error("the key is not granted to this slot; name it under `mac.keys`")]
    Denied,
    /// No such key is in the host's secret store, or it is empty.
    #[error("no such key is in the host's secret store")]
    NotFound,
    /// More than [`MAX_DATA_BYTES`]. The contract has no word for it: fail the call.
    #[error("{0} bytes to authenticate; at most {MAX_DATA_BYTES} are allowed")]
    TooLong(usize),
}

/// Signs with the keys that a slot was granted.
#[derive(Clone)]
pub struct MacGate {
    keys: BTreeSet<String>,
    secrets: Arc<dyn SecretSource>,
}

impl MacGate {
    /// A gate for the keys that a slot was granted.
    #[must_use]
    pub fn new(keys: &BTreeSet<String>, secrets: Arc<dyn SecretSource>) -> Self {
        Self { keys: keys.clone(), secrets }
    }

    /// HMAC-SHA256 of `data` with the named key. The key is looked up at each call, so that a
    /// rotated one is used at once, and wiped afterwards.
    ///
    /// # Errors
    /// [`MacError`]; whether a key that is not granted exists is not said.
    pub fn sign(&self, key: &str, data: &[u8]) -> Result<[u8; 32], MacError> {
        if data.len() > MAX_DATA_BYTES {
            return Err(MacError::TooLong(data.len()));
        }
        if !self.keys.contains(key) {
            return Err(MacError::Denied);
        }
        let secret = self.secrets.secret(key).filter(|secret| !secret.is_empty());
        let secret = secret.ok_or(MacError::NotFound)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret).map_err(|_| MacError::NotFound)?;
        mac.update(data);
        Ok(mac.finalize().into_bytes().into())
    }
}

impl std::fmt::Debug for MacGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MacGate").field("keys", &self.keys).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn gate() -> MacGate {
        let secrets = BTreeMap::from([
            ("jefe".to_owned(), b"Jefe".to_vec()),
            ("other".to_owned(), b"other".to_vec()),
            ("empty".to_owned(), Vec::new()),
        ]);
        let keys = ["jefe", "gone", "empty"].map(str::to_owned).into();
        MacGate::new(&keys, Arc::new(secrets))
    }

    #[test]
    fn a_granted_key_signs_as_rfc_4231_says() {
        let code = gate().sign("jefe", b"what do ya want for nothing?").unwrap();
        assert_eq!(
            hex::encode(code),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn keys_that_are_not_granted_or_not_there_do_not_sign() {
        for (key, error) in [
            ("other", MacError::Denied),
            ("never", MacError::Denied),
            ("gone", MacError::NotFound),
            ("empty", MacError::NotFound),
        ] {
            assert_eq!(gate().sign(key, b"x"), Err(error), "{key}");
        }
        let long = vec![0; MAX_DATA_BYTES + 1];
        assert_eq!(gate().sign("jefe", &long), Err(MacError::TooLong(long.len())));
        assert!(gate().sign("jefe", &long[1..]).is_ok());
    }

    #[test]
    fn the_gate_shows_no_secret() {
        assert!(!format!("{:?}", gate()).contains("Jefe"));
    }
}
