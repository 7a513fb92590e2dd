//! Detached signatures: the `.sig` file beside a component, and the bytes that are signed.
//!
//! The signed message is
//!
//! ```text
//! "sentinel-plugin-v1\0"
//! u32 big endian, length of the name      the name, `publisher/name`
//! u32 big endian, length of the version   the version
//! u32 big endian, 32                      the SHA-256 of the component's bytes
//! ```
//!
//! so that no other thing that a key may ever sign reads as a plugin, and no two different
//! claims give the same bytes.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::component::ComponentError;
use crate::digest::Digest;
use crate::inspect::Unverified;
use crate::keys::{KeyId, PublisherKey};
use crate::name::{PluginName, PublisherName, Release};
use crate::text::{excerpt, message, travels_as_string};

/// What every signed message starts with.
pub const SIGNED_PREFIX: &[u8] = b"sentinel-plugin-v1\0";
/// The format of signature files.
pub const SIGNATURE_FORMAT: u32 = 1;
/// Most bytes of a signature file (64 KiB).
pub const MAX_SIGNATURE_FILE_BYTES: usize = 64 << 10;
/// Most signatures in a file.
pub const MAX_SIGNATURES: usize = 16;

/// What a signature speaks about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The plugin's name and version.
    pub release: Release,
    /// The digest of its bytes.
    pub digest: Digest,
}

impl Claim {
    /// The bytes that are signed.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let version = self.release.version.to_string();
        let mut message = SIGNED_PREFIX.to_vec();
        for field in
            [self.release.name.as_str().as_bytes(), version.as_bytes(), self.digest.as_bytes()]
        {
            let length = u32::try_from(field.len()).expect("names and versions are bounded");
            message.extend_from_slice(&length.to_be_bytes());
            message.extend_from_slice(field);
        }
        message
    }
}

/// The 64 bytes of an Ed25519 signature; as text base64.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SignatureBytes([u8; 64]);

impl SignatureBytes {
    pub(crate) const fn of(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl From<[u8; 64]> for SignatureBytes {
    fn from(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }
}

impl std::str::FromStr for SignatureBytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        STANDARD
            .decode(text)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| format!("`{}` is not base64 of 64 bytes", excerpt(text)))
    }
}

impl fmt::Display for SignatureBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for SignatureBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

travels_as_string!(
    SignatureBytes,
    "Signature",
    "^[A-Za-z0-9+/]{86}==$",
    "Base64 of an Ed25519 signature"
);

/// One signature in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureEntry {
    /// Which key made it.
    pub key_id: KeyId,
    /// Whose key it says it is.
    pub publisher: PublisherName,
    /// The signature.
    pub signature: SignatureBytes,
}

/// The `.sig` file beside a component: what was signed, and by whom. What it says counts
/// only once a signature by a trusted key bears it out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureFile {
    /// [`SIGNATURE_FORMAT`].
    pub format: u32,
    /// The name that was signed.
    pub name: PluginName,
    /// The version that was signed.
    pub version: Version,
    /// The digest that was signed.
    pub digest: Digest,
    /// The signatures.
    pub signatures: Vec<SignatureEntry>,
}

/// Why a signature file could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFileError {
    /// Larger than [`MAX_SIGNATURE_FILE_BYTES`].
    #[error("it has {0} bytes; at most {MAX_SIGNATURE_FILE_BYTES} are allowed")]
    TooBig(usize),
    /// Not JSON of the right shape.
    #[error("{0}")]
    Shape(String),
    /// A format that this crate does not know.
    #[error("its format is {0} and this host knows format {SIGNATURE_FORMAT}: upgrade the host")]
    OtherFormat(u64),
    /// More than [`MAX_SIGNATURES`].
    #[error("it holds {0} signatures; at most {MAX_SIGNATURES} are allowed")]
    TooMany(usize),
}

impl SignatureFile {
    /// Reads a signature file.
    ///
    /// # Errors
    ///
    /// If it is too big, of another format or shape, or holds too many signatures.
    pub fn from_json(json: &[u8]) -> Result<Self, SignatureFileError> {
        #[derive(Deserialize)]
        struct FormatOnly {
            format: u64,
        }

        if json.len() > MAX_SIGNATURE_FILE_BYTES {
            return Err(SignatureFileError::TooBig(json.len()));
        }
        let shape = |error: serde_json::Error| SignatureFileError::Shape(message(&error));
        let FormatOnly { format } = serde_json::from_slice(json).map_err(shape)?;
        if format != u64::from(SIGNATURE_FORMAT) {
            return Err(SignatureFileError::OtherFormat(format));
        }
        let file: Self = serde_json::from_slice(json).map_err(shape)?;
        if file.signatures.len() > MAX_SIGNATURES {
            return Err(SignatureFileError::TooMany(file.signatures.len()));
        }
        Ok(file)
    }

    /// The file's text, indented JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self)
            .expect("a signature file holds only strings and numbers");
        text.push('\n');
        text
    }

    /// What the file says was signed.
    #[must_use]
    pub fn claim(&self) -> Claim {
        Claim {
            release: Release { name: self.name.clone(), version: self.version.clone() },
            digest: self.digest,
        }
    }
}

/// Why a component was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// It is not a component with a manifest.
    #[error("nothing was signed: {0}")]
    Component(ComponentError),
    /// The key belongs to somebody else than the name says.
    #[error(
        "nothing was signed: the plugin is called {name}, but the key {key_id} belongs to publisher `{publisher}`; rename the plugin to `{publisher}/{}` or use a key of `{}`",
        name.plugin(),
        name.publisher()
    )]
    OtherPublisher {
        /// The name in the manifest.
        name: PluginName,
        /// The key.
        key_id: KeyId,
        /// Whose key it is.
        publisher: PublisherName,
    },
    /// The file is full.
    #[error(
        "nothing was signed: the signature file already holds {MAX_SIGNATURES} signatures; start a new one"
    )]
    Full,
}

impl From<ComponentError> for SignError {
    fn from(error: ComponentError) -> Self {
        Self::Component(error)
    }
}

/// Signs a component that has a manifest. Signatures in `existing` are kept if they are for
/// the very same name, version and digest, and dropped otherwise; an earlier one by the same
/// key is replaced.
///
/// # Errors
///
/// [`SignError`].
pub fn sign(
    component: &[u8],
    key: &PublisherKey,
    existing: Option<&SignatureFile>,
) -> Result<SignatureFile, SignError> {
    let unverified = Unverified::read(component)?;
    let manifest = unverified.manifest();
    if manifest.name.publisher() != *key.publisher() {
        return Err(SignError::OtherPublisher {
            name: manifest.name.clone(),
            key_id: key.id(),
            publisher: key.publisher().clone(),
        });
    }
    let claim = unverified.claim();
    let key_id = key.id();
    let mut signatures: Vec<_> = existing
        .filter(|file| file.claim() == claim)
        .map(|file| file.signatures.clone())
        .unwrap_or_default();
    signatures.retain(|entry| entry.key_id != key_id);
    if signatures.len() >= MAX_SIGNATURES {
        return Err(SignError::Full);
    }
    signatures.push(SignatureEntry {
        key_id,
        publisher: key.publisher().clone(),
        signature: SignatureBytes(key.sign(&claim.message())),
    });
    Ok(SignatureFile {
        format: SIGNATURE_FORMAT,
        name: claim.release.name,
        version: claim.release.version,
        digest: claim.digest,
        signatures,
    })
}
