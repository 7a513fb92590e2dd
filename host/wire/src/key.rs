//! The key with which an agent signs.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The length of a key and of a code, in bytes.
pub const KEY_LEN: usize = 32;

/// An agent's HMAC-SHA256 key with its number. Never shown; wiped when dropped.
#[derive(Clone)]
pub struct AgentKey {
    id: u32,
    secret: Zeroizing<[u8; KEY_LEN]>,
}

/// Why bytes are not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an agent key has {KEY_LEN} bytes, this one has {0}; enrol the agent again")]
pub struct KeyLength(pub usize);

impl AgentKey {
    /// A key from its bytes.
    ///
    /// # Errors
    /// Where there are not [`KEY_LEN`] of them.
    pub fn new(id: u32, secret: &[u8]) -> Result<Self, KeyLength> {
        let secret = secret.try_into().map_err(|_| KeyLength(secret.len()))?;
        Ok(Self { id, secret: Zeroizing::new(secret) })
    }

    /// A fresh key.
    ///
    /// # Panics
    /// If the system has no randomness.
    #[must_use]
    pub fn random(id: u32) -> Self {
        let mut secret = Zeroizing::new([0; KEY_LEN]);
        getrandom::fill(secret.as_mut()).expect("the system gives random bytes");
        Self { id, secret }
    }

    /// Its number, from 1.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its bytes, for storing it wrapped.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.secret.as_slice()
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.expose()).expect("any length serves");
        parts.iter().for_each(|part| mac.update(part));
        mac
    }

    /// The code of the concatenated parts.
    pub(crate) fn sign(&self, parts: &[&[u8]]) -> Vec<u8> {
        self.mac(parts).finalize().into_bytes().to_vec()
    }

    /// Whether a code fits, in constant time.
    pub(crate) fn fits(&self, parts: &[&[u8]], code: &[u8]) -> bool {
        self.mac(parts).verify_slice(code).is_ok()
    }
}

impl std::fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AgentKey({})", self.id)
    }
}
