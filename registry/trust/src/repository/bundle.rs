//! Offline bundles: a registry's metadata and some of its plugins in one file, for hosts
//! without a network, sealed by an operator with an expiry of its own.
//!
//! The file is a container with the entries `bundle.json`, `root/N` for every root from the
//! first that a host may trust, `timestamp`, `snapshot`, `targets`, `index`,
//! `publishers/NAME`, `blobs/HEX`, and `seal`: the operator's signature over
//! `"sentinel-bundle-v1\0"` and the SHA-256 of the JSON object of every other entry's name and
//! SHA-256.
//!
//! What is in it is verified as what comes over the network is. The seal says only that the
//! metadata was fresh when an operator made the bundle, and until when it may be used: short
//! lifetimes of metadata would otherwise make a bundle useless after a day.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use ed25519_dalek::SIGNATURE_LENGTH;
use serde::{Deserialize, Serialize};

use super::container::{Container, ContainerError, ContainerKind};
use super::error::{MetadataError, at};
use super::metadata::MetadataFile;
use super::role::Role;
use super::role_key::{KeyPurpose, RoleKey};
use super::trusted::Trusted;
use super::update::{Request, Update};
use crate::digest::Digest;
use crate::keys::PublicKey;
use crate::text::message;

/// Most bytes of a bundle (1 GiB).
pub const MAX_BUNDLE_BYTES: usize = 1 << 30;
/// Longest that a bundle may be used, in milliseconds: a year.
pub const MAX_BUNDLE_LIFETIME_MS: i64 = 366 * 24 * 60 * 60 * 1000;

const FORMAT: u32 = 1;
const ABOUT: &str = "bundle.json";
const SEAL: &str = "seal";
const ROOTS: &str = "root/";
const PUBLISHERS: &str = "publishers/";
const BLOBS: &str = "blobs/";
const DOMAIN: &[u8] = b"sentinel-bundle-v1\0";

/// What goes into a bundle.
#[derive(Debug)]
pub struct BundleParts<'a> {
    /// The metadata, as a host has it that was just brought up to date.
    pub trusted: &'a Trusted,
    /// The roots before the trusted one, for hosts that still trust an older.
    pub older_roots: Vec<MetadataFile>,
    /// The plugins.
    pub blobs: Vec<Arc<[u8]>>,
    /// Now, unix milliseconds.
    pub sealed_at: i64,
    /// Until when it may be used, unix milliseconds.
    pub expires_at: i64,
}

/// A bundle whose seal is good. What is in it is still to be verified.
#[derive(Debug)]
pub struct Bundle<'a> {
    bytes: &'a [u8],
    container: Container<'a>,
    sealed_at: i64,
    expires_at: i64,
}

/// Why a bundle is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Not a bundle, or damaged.
    #[error("this is not a bundle: {0}")]
    Container(#[from] ContainerError),
    /// Not a bundle inside.
    #[error("the bundle cannot be read: {0}")]
    Unreadable(String),
    /// Sealed by nobody that this host believes.
    #[error(
        "the bundle is not sealed by an operator of this host: make it with the key of one that the host was enrolled with"
    )]
    Unsealed,
    /// Past its own expiry.
    #[error("the bundle was made {} and could be used until {}: make a new one", at(*.sealed_at), at(*.expires_at))]
    Expired {
        /// From when, unix milliseconds.
        sealed_at: i64,
        /// Until when, unix milliseconds.
        expires_at: i64,
    },
    /// It would last too long, or not at all.
    #[error("a bundle lasts at least a moment and at most {} days", MAX_BUNDLE_LIFETIME_MS / 86_400_000)]
    Lifetime,
    /// A key that is no operator's.
    #[error("a bundle is sealed with an operator's key, and this one is for {0}")]
    OtherKey(KeyPurpose),
    /// Its metadata is refused.
    #[error("the metadata in the bundle is refused: {0}")]
    Metadata(#[from] MetadataError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    format: u32,
    sealed_at: i64,
    expires_at: i64,
}

impl BundleParts<'_> {
    /// Seals a bundle with an operator's key, the same with which desired sets are signed.
    ///
    /// # Errors
    ///
    /// [`BundleError::Lifetime`] or [`BundleError::OtherKey`].
    pub fn seal(&self, key: &RoleKey) -> Result<Vec<u8>, BundleError> {
        check_lifetime(self.sealed_at, self.expires_at)?;
        if key.purpose() != KeyPurpose::Operator {
            return Err(BundleError::OtherKey(key.purpose()));
        }
        let about =
            About { format: FORMAT, sealed_at: self.sealed_at, expires_at: self.expires_at };
        let about = serde_json::to_vec(&about).expect("it holds only numbers");
        let mut container = Container::new(ContainerKind::Bundle);
        container.push(ABOUT, about);
        for file in self.older_roots.iter().chain(self.trusted.files()) {
            let name = match file.role() {
                Role::Root => format!("{ROOTS}{}", file.version()),
                role => role.as_str().to_owned(),
            };
            container.push(&name, file.bytes().to_vec());
        }
        for (name, index) in self.trusted.indexes() {
            container.push(&format!("{PUBLISHERS}{name}"), index.bytes().to_vec());
        }
        for blob in &self.blobs {
            container.push(&format!("{BLOBS}{}", Digest::of(blob).to_hex()), blob.to_vec());
        }
        let seal = key.sign(DOMAIN, message_of(&container).as_bytes());
        container.push(SEAL, seal.to_vec());
        Ok(container.to_bytes())
    }
}

impl<'a> Bundle<'a> {
    /// Reads a bundle that an operator of this host sealed and that may be used at `now`.
    ///
    /// # Errors
    ///
    /// [`BundleError`].
    pub fn read(bytes: &'a [u8], trusted: &Trusted, now: i64) -> Result<Self, BundleError> {
        let container = Container::read(ContainerKind::Bundle, bytes)?;
        let entry = |name: &str| {
            let missing = || BundleError::Unreadable(format!("`{name}` is missing"));
            container.get(name).ok_or_else(missing)
        };
        let seal: &[u8; SIGNATURE_LENGTH] =
            entry(SEAL)?.try_into().map_err(|_| BundleError::Unsealed)?;
        let content = message_of(&container);
        let sealed = |key: &PublicKey| key.verifies_content(DOMAIN, content.as_bytes(), seal);
        if !trusted.operators().iter().any(sealed) {
            return Err(BundleError::Unsealed);
        }
        let about: About = serde_json::from_slice(entry(ABOUT)?)
            .map_err(|error| BundleError::Unreadable(message(&error)))?;
        let About { format, sealed_at, expires_at } = about;
        if format != FORMAT {
            return Err(BundleError::Unreadable(format!(
                "its format is {format} and this host knows format {FORMAT}"
            )));
        }
        check_lifetime(sealed_at, expires_at)?;
        if now >= expires_at {
            return Err(BundleError::Expired { sealed_at, expires_at });
        }
        Ok(Self { bytes, container, sealed_at, expires_at })
    }

    /// Until when it may be used, unix milliseconds.
    #[must_use]
    pub const fn expires_at(&self) -> i64 {
        self.expires_at
    }

    /// Brings what a host trusts forward to what the bundle has.
    ///
    /// # Errors
    ///
    /// [`MetadataError`]; [`MetadataError::Rollback`] where the host knows newer metadata.
    pub fn update(&self, trusted: &Trusted) -> Result<Trusted, MetadataError> {
        let mut update = Update::sealed(trusted, self.sealed_at, self.expires_at);
        while let Some(request) = update.next() {
            update.provide(self.file(&request))?;
        }
        update.finish()
    }

    /// A plugin's bytes, which are to be verified.
    #[must_use]
    pub fn blob(&self, digest: Digest) -> Option<&[u8]> {
        self.container.get(&format!("{BLOBS}{}", digest.to_hex()))
    }

    /// The whole file.
    #[must_use]
    pub const fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// Where in the file a plugin's bytes are.
    #[must_use]
    pub fn place(&self, digest: Digest) -> Option<Range<usize>> {
        let blob = self.blob(digest)?;
        // The container borrows from the file, so this is a place within it.
        let start = blob.as_ptr().addr().checked_sub(self.bytes.as_ptr().addr())?;
        Some(start..start + blob.len())
    }

    /// The plugins in it, by the digests that they are said to have.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        let names = self.container.entries().filter_map(|(name, _)| name.strip_prefix(BLOBS));
        names.filter_map(|hex| format!("sha256:{hex}").parse().ok())
    }

    fn file(&self, request: &Request) -> Option<Vec<u8>> {
        let path = request.path.strip_suffix(".json")?;
        let name = match (path.strip_prefix(PUBLISHERS), path.split_once('.')) {
            (Some(index), _) => format!("{PUBLISHERS}{}", index.split_once('/')?.0),
            (None, Some((version, "root"))) => format!("{ROOTS}{version}"),
            (None, Some((_, role))) => role.to_owned(),
            (None, None) => path.to_owned(),
        };
        self.container.get(&name).map(<[u8]>::to_vec)
    }
}

/// What is signed: everything but the seal.
fn message_of(container: &Container<'_>) -> Digest {
    let entries = container.entries().filter(|(name, _)| *name != SEAL);
    let digests: BTreeMap<&str, String> =
        entries.map(|(name, data)| (name, Digest::of(data).to_hex())).collect();
    Digest::of(&serde_json::to_vec(&digests).expect("it holds only strings"))
}

fn check_lifetime(sealed_at: i64, expires_at: i64) -> Result<(), BundleError> {
    let lifetime = expires_at.checked_sub(sealed_at);
    match lifetime {
        Some(1..=MAX_BUNDLE_LIFETIME_MS) => Ok(()),
        _ => Err(BundleError::Lifetime),
    }
}
