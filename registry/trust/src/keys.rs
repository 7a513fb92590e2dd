//! Ed25519 keys of publishers.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::name::PublisherName;
use crate::text::{excerpt, travels_as_string};

/// The `format` of a secret key file.
pub const SECRET_KEY_FORMAT: &str = "sentinel-secret-key-v1";
/// Most bytes of a secret key file.
pub const MAX_KEY_FILE_BYTES: usize = 4096;
/// Bytes of a key id.
pub const KEY_ID_BYTES: usize = 8;
/// What a public key's text starts with.
const PUBLIC_PREFIX: &str = "ed25519:";

/// The first 8 bytes of the SHA-256 of a public key, as 16 hex digits: how people and files
/// name a key. It picks keys out of a policy; what counts is always the key itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; KEY_ID_BYTES]);

/// A publisher's public key; as text `ed25519:` and base64.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// A publisher's secret key. Wiped from memory when dropped; never printed.
pub struct PublisherKey {
    publisher: PublisherName,
    signing: SigningKey,
}

/// Why a key could not be read or made. Never repeats anything secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not 16 hex digits.
    #[error(
        "`{0}` is not a key id: write 16 lower-case hex digits, or the public key `ed25519:...` itself"
    )]
    NotAKeyId(String),
    /// Not `ed25519:` and 32 bytes of base64.
    #[error(
        "`{0}` is not a public key: write `ed25519:` and 44 characters of base64, as `sentinel plugin keygen` prints it"
    )]
    NotAPublicKey(String),
    /// A point that would let one signature fit many messages.
    #[error(
        "`{0}` is a weak public key, which proves nothing: make a new pair with `sentinel plugin keygen`"
    )]
    WeakPublicKey(String),
    /// Not a secret key file.
    #[error("this is not a secret key file: {0}; make one with `sentinel plugin keygen`")]
    NotASecretKey(&'static str),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes, so no key was made: {0}")]
    NoRandomness(String),
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut bytes = [0; KEY_ID_BYTES];
        let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) if lower => Ok(Self(bytes)),
            _ => Err(KeyError::NotAKeyId(excerpt(text))),
        }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

travels_as_string!(
    KeyId,
    "KeyId",
    "^[0-9a-f]{16}$",
    "First 16 hex digits of the SHA-256 of a public key"
);

impl PublicKey {
    /// A key from its 32 raw bytes; none where they are no key, or a weak one.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let key = VerifyingKey::from_bytes(bytes.try_into().ok()?).ok()?;
        (!key.is_weak()).then_some(Self(key))
    }

    /// The public half of a secret key.
    pub(crate) fn of(signing: &SigningKey) -> Self {
        Self(signing.verifying_key())
    }

    /// Whether `signature` is this key's over `domain ‖ content`: see
    /// [`RoleKey::sign`](crate::repository::RoleKey::sign). The strict rules of Ed25519 apply.
    #[must_use]
    pub fn verifies_content(&self, domain: &[u8], content: &[u8], signature: &[u8; 64]) -> bool {
        self.verifies(&[domain, content].concat(), signature)
    }

    /// The key's id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let digest: [u8; 32] = Sha256::digest(self.0.as_bytes()).into();
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&digest[..KEY_ID_BYTES]);
        KeyId(id)
    }

    /// The 32 raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Whether `signature` is this key's over `message`, by the strict rules: canonical
    /// encodings only, no points of small order.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let refused = || KeyError::NotAPublicKey(excerpt(text));
        let encoded = text.strip_prefix(PUBLIC_PREFIX).ok_or_else(refused)?;
        let bytes: [u8; 32] = STANDARD
            .decode(encoded)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(refused)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| refused())?;
        if key.is_weak() {
            return Err(KeyError::WeakPublicKey(excerpt(text)));
        }
        Ok(Self(key))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC_PREFIX}{}", STANDARD.encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

travels_as_string!(
    PublicKey,
    "PublicKey",
    "^ed25519:[A-Za-z0-9+/]{43}=$",
    "A publisher's public key, as `sentinel plugin keygen` prints it"
);

impl PublisherKey {
    /// Makes a new key for a publisher out of the system's randomness.
    ///
    /// # Errors
    ///
    /// [`KeyError::NoRandomness`].
    pub fn generate(publisher: PublisherName) -> Result<Self, KeyError> {
        Ok(Self::from_secret(publisher, &*random_secret()?))
    }

    /// A key from its 32 secret bytes (the seed of RFC 8032).
    #[must_use]
    pub fn from_secret(publisher: PublisherName, secret: &[u8; 32]) -> Self {
        Self { publisher, signing: SigningKey::from_bytes(secret) }
    }

    /// Whose key it is: it signs only plugins of this publisher.
    #[must_use]
    pub const fn publisher(&self) -> &PublisherName {
        &self.publisher
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey::of(&self.signing)
    }

    /// The key's id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.public().id()
    }

    /// The secret key file: JSON, to be written with mode 0600. Wiped when dropped.
    #[must_use]
    pub fn to_file_text(&self) -> Zeroizing<String> {
        write_secret(SECRET_KEY_FORMAT, ("publisher", self.publisher.as_str()), &self.signing)
    }

    /// Reads a secret key file. The caller keeps the bytes in a buffer that is wiped.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotASecretKey`], which never repeats what was read.
    pub fn from_file_text(text: &[u8]) -> Result<Self, KeyError> {
        let file = KeyFile::parse(text)?;
        if file.format != SECRET_KEY_FORMAT {
            return Err(KeyError::NotASecretKey("its format is not `sentinel-secret-key-v1`"));
        }
        let publisher = file
            .owner
            .parse()
            .map_err(|_| KeyError::NotASecretKey("its publisher is not a publisher's name"))?;
        Ok(Self { publisher, signing: file.pair()? })
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }
}

impl fmt::Debug for PublisherKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublisherKey")
            .field("publisher", &self.publisher)
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

/// A secret key file: its format, whose or what for, and the pair. Reserved in one piece, so
/// that no half-grown copy of the secret stays behind.
pub(crate) fn write_secret(
    format: &str,
    (owner_field, owner): (&str, &str),
    signing: &SigningKey,
) -> Zeroizing<String> {
    let public = PublicKey::of(signing).to_string();
    let mut text = Zeroizing::new(String::with_capacity(512));
    for (before, value) in [
        ("{\n  \"format\": \"", format),
        ("\",\n  \"", owner_field),
        ("\": \"", owner),
        ("\",\n  \"public\": \"", &public),
    ] {
        text.push_str(before);
        text.push_str(value);
    }
    text.push_str("\",\n  \"secret\": \"");
    STANDARD.encode_string(signing.as_bytes(), &mut text);
    text.push_str("\"\n}\n");
    text
}

/// The fields of a secret key file, still in the caller's buffer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyFile<'a> {
    pub(crate) format: &'a str,
    /// Whose the key is or what it is for; the format says which.
    #[serde(alias = "publisher", alias = "purpose")]
    pub(crate) owner: &'a str,
    public: &'a str,
    secret: &'a str,
}

impl<'a> KeyFile<'a> {
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, KeyError> {
        if text.len() > MAX_KEY_FILE_BYTES {
            return Err(KeyError::NotASecretKey("it is too long"));
        }
        serde_json::from_slice(text)
            .map_err(|_| KeyError::NotASecretKey("it is not JSON of the right shape"))
    }

    /// The secret, checked against the public half beside it.
    pub(crate) fn pair(&self) -> Result<SigningKey, KeyError> {
        let no_secret = KeyError::NotASecretKey("its secret is not base64 of 32 bytes");
        // Room for what 44 characters of base64 may decode to before the padding is seen.
        let mut decoded = Zeroizing::new([0_u8; 48]);
        let Ok(32) = STANDARD.decode_slice(self.secret, &mut *decoded) else {
            return Err(no_secret);
        };
        let mut seed = Zeroizing::new([0; 32]);
        seed.copy_from_slice(&decoded[..32]);
        let signing = SigningKey::from_bytes(&seed);
        if PublicKey::of(&signing).to_string() != self.public {
            return Err(KeyError::NotASecretKey(
                "its public key does not belong to its secret; the file is damaged",
            ));
        }
        Ok(signing)
    }
}

/// 32 bytes for a new key.
pub(crate) fn random_secret() -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *secret).map_err(|error| KeyError::NoRandomness(error.to_string()))?;
    Ok(secret)
}

/// The public half as a file beside the secret key: what goes into a trust policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicKeyFile {
    /// Whose key it is.
    pub publisher: PublisherName,
    /// The key's id.
    pub key_id: KeyId,
    /// The key.
    pub public: PublicKey,
}

impl From<&PublisherKey> for PublicKeyFile {
    fn from(key: &PublisherKey) -> Self {
        Self { publisher: key.publisher.clone(), key_id: key.id(), public: key.public() }
    }
}
