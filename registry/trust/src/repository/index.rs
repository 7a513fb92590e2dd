//! A publisher's own index: its releases, signed by its key, numbered, append-only.
//!
//! The file is
//!
//! ```text
//! {"signed": {...}, "signatures": [{"key_id": "...", "signature": "..."}]}
//! ```
//!
//! and a signature is over `"sentinel-index-v1\0"` and the bytes of the value of `signed`,
//! exactly as they stand in the file: what was signed is what is read, and there is no second
//! form of it. One good signature of a key that speaks for the publisher suffices.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::release::IndexedRelease;
use crate::keys::{KeyId, PublicKey, PublisherKey};
use crate::name::{PluginName, PublisherName, Release};
use crate::signature::{MAX_SIGNATURES, SignatureBytes};
use crate::text::message;

/// The format of indexes that this crate reads and writes.
pub const INDEX_FORMAT: u32 = 1;
/// Most bytes of one publisher's index (8 MiB).
pub const MAX_INDEX_BYTES: usize = 8 << 20;
/// Most releases of one publisher.
pub const MAX_RELEASES: usize = 10_000;
/// The highest number of an index: what every JSON reader keeps exact.
const MAX_NUMBER: u64 = (1 << 53) - 1;
/// What the signed bytes are preceded by, so that no other thing a key signs reads as an index.
const INDEX_DOMAIN: &[u8] = b"sentinel-index-v1\0";

/// What a publisher says of its releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublisherIndex {
    /// [`INDEX_FORMAT`].
    pub format: u32,
    /// Whose index it is.
    pub publisher: PublisherName,
    /// Its number: each index of a publisher has a higher one than the last.
    pub number: u64,
    /// Its releases, by name and version.
    pub releases: Vec<IndexedRelease>,
}

/// An index and the file it stands in. That it could be read says nothing about who wrote it:
/// ask [`SignedIndex::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIndex {
    index: PublisherIndex,
    bytes: Vec<u8>,
}

/// Why an index is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// More than [`MAX_INDEX_BYTES`].
    #[error("it has {0} bytes; at most {MAX_INDEX_BYTES} are allowed")]
    TooBig(usize),
    /// Not an index.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// A format that this crate does not know.
    #[error("its format is {0} and this host knows format {INDEX_FORMAT}: upgrade the host")]
    OtherFormat(u32),
    /// Something out of its bounds.
    #[error("{0}")]
    OutOfBounds(String),
    /// A release of another publisher.
    #[error("it lists {name}, which is not a plugin of {publisher}")]
    WrongNamespace {
        /// The release's name.
        name: PluginName,
        /// Whose index it is.
        publisher: PublisherName,
    },
    /// Signed by no key that speaks for the publisher.
    #[error(
        "no key that speaks for {publisher} has signed it: publish it again with a key that the registry's owner approved"
    )]
    Unsigned {
        /// Whose index it is.
        publisher: PublisherName,
    },
    /// Another number or other bytes than the registry's index names.
    #[error("it is not the file that the registry's index names: its {0} differs")]
    Mismatch(super::error::Misfit),
    /// An older number than one that was seen.
    #[error("its number is {offered}, and number {known} was seen before")]
    Rollback {
        /// The number that was seen.
        known: u64,
        /// The number that was offered.
        offered: u64,
    },
    /// A release that is gone, or is no longer what it was.
    #[error(
        "it no longer says of {release} what it said before; a release never changes: publish another version"
    )]
    Rewritten {
        /// Which.
        release: Box<Release>,
    },
    /// The registry did not hand it out.
    #[error("the registry did not hand it out")]
    Unavailable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow)]
    signed: &'a RawValue,
    signatures: Vec<IndexSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IndexSignature {
    key_id: KeyId,
    signature: SignatureBytes,
}

impl PublisherIndex {
    /// The first index of a publisher, without releases.
    #[must_use]
    pub const fn empty(publisher: PublisherName) -> Self {
        Self { format: INDEX_FORMAT, publisher, number: 0, releases: Vec::new() }
    }

    /// The index that follows this one: its number one higher, with `release` added or, where
    /// that version is there already, in its place (to yank it, or to sign it anew).
    #[must_use]
    pub fn with(&self, release: IndexedRelease) -> Self {
        let mut next = Self { number: self.number + 1, ..self.clone() };
        let key = |one: &IndexedRelease| (one.name.clone(), one.version.clone());
        match next.releases.binary_search_by_key(&key(&release), key) {
            Ok(at) => next.releases[at] = release,
            Err(at) => next.releases.insert(at, release),
        }
        next
    }

    /// Signs the index.
    ///
    /// # Errors
    ///
    /// An index out of its bounds, or a key of another publisher: [`IndexError`].
    pub fn sign(&self, key: &PublisherKey) -> Result<SignedIndex, IndexError> {
        self.check()?;
        if *key.publisher() != self.publisher {
            return Err(IndexError::Unsigned { publisher: self.publisher.clone() });
        }
        let signed = serde_json::to_string(self).expect("an index holds only strings and numbers");
        let signature = IndexSignature {
            key_id: key.id(),
            signature: SignatureBytes::of(key.sign(&[INDEX_DOMAIN, signed.as_bytes()].concat())),
        };
        let signature = serde_json::to_string(&signature).expect("a signature holds only strings");
        SignedIndex::read(format!("{{\"signed\":{signed},\"signatures\":[{signature}]}}\n").into())
    }

    fn check(&self) -> Result<(), IndexError> {
        let refused = |why: String| Err(IndexError::OutOfBounds(why));
        if self.format != INDEX_FORMAT {
            return Err(IndexError::OtherFormat(self.format));
        }
        if !(1..=MAX_NUMBER).contains(&self.number) {
            return refused(format!("its number {} is not within 1 to {MAX_NUMBER}", self.number));
        }
        if self.releases.len() > MAX_RELEASES {
            return refused(format!("it lists more than {MAX_RELEASES} releases"));
        }
        for release in &self.releases {
            if release.name.publisher() != self.publisher {
                return Err(IndexError::WrongNamespace {
                    name: release.name.clone(),
                    publisher: self.publisher.clone(),
                });
            }
            release
                .check()
                .map_err(|why| IndexError::OutOfBounds(format!("{}: {why}", release.release())))?;
        }
        let order = |pair: &[IndexedRelease]| {
            (&pair[0].name, &pair[0].version) < (&pair[1].name, &pair[1].version)
        };
        if !self.releases.windows(2).all(order) {
            return refused(
                "its releases are not in the order of name and version, each once".into(),
            );
        }
        Ok(())
    }
}

impl SignedIndex {
    /// Reads an index of whoever it may be.
    ///
    /// # Errors
    ///
    /// What is not an index within its bounds.
    pub fn read(bytes: Vec<u8>) -> Result<Self, IndexError> {
        let index = envelope(&bytes)?.0;
        Ok(Self { index, bytes })
    }

    /// Checks that a key of `keys`, which speak for the publisher, signed it.
    ///
    /// # Errors
    ///
    /// [`IndexError::Unsigned`].
    pub fn verify(&self, keys: &[PublicKey]) -> Result<(), IndexError> {
        let (_, envelope) = envelope(&self.bytes)?;
        let signed = [INDEX_DOMAIN, envelope.signed.get().as_bytes()].concat();
        let good = |one: &IndexSignature| {
            let mut named = keys.iter().filter(|key| key.id() == one.key_id);
            named.any(|key| key.verifies(&signed, one.signature.as_bytes()))
        };
        if envelope.signatures.iter().any(good) {
            return Ok(());
        }
        Err(IndexError::Unsigned { publisher: self.index.publisher.clone() })
    }

    /// Checks that this index may follow `known`, both of one publisher: its number is higher,
    /// and every release is there still and is what it was.
    ///
    /// # Errors
    ///
    /// [`IndexError::Rollback`] or [`IndexError::Rewritten`].
    pub fn follows(&self, known: &Self) -> Result<(), IndexError> {
        if self.index.number <= known.index.number {
            return Err(IndexError::Rollback {
                known: known.index.number,
                offered: self.index.number,
            });
        }
        let now: BTreeMap<_, _> =
            self.index.releases.iter().map(|one| ((&one.name, &one.version), one)).collect();
        for was in &known.index.releases {
            let is = now.get(&(&was.name, &was.version));
            if !is.is_some_and(|is| is.is_same_component(was)) {
                return Err(IndexError::Rewritten { release: Box::new(was.release()) });
            }
        }
        Ok(())
    }

    /// What the publisher says.
    #[must_use]
    pub const fn index(&self) -> &PublisherIndex {
        &self.index
    }

    /// The file, exactly as it is signed and served.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn envelope(bytes: &[u8]) -> Result<(PublisherIndex, Envelope<'_>), IndexError> {
    #[derive(Deserialize)]
    struct FormatOnly {
        format: u32,
    }

    if bytes.len() > MAX_INDEX_BYTES {
        return Err(IndexError::TooBig(bytes.len()));
    }
    let unreadable = |error: serde_json::Error| IndexError::Unreadable(message(&error));
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(unreadable)?;
    if envelope.signatures.len() > MAX_SIGNATURES {
        return Err(IndexError::OutOfBounds(format!(
            "it has more than {MAX_SIGNATURES} signatures"
        )));
    }
    let text = envelope.signed.get();
    let FormatOnly { format } = serde_json::from_str(text).map_err(unreadable)?;
    if format != INDEX_FORMAT {
        return Err(IndexError::OtherFormat(format));
    }
    let index: PublisherIndex = serde_json::from_str(text).map_err(unreadable)?;
    index.check()?;
    Ok((index, envelope))
}
