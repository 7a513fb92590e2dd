//! Why a plugin is refused: one variant for each reason, saying what to do.

use crate::capability::{CONTRACT, Capability, Kind};
use crate::component::{ComponentError, MAX_COMPONENT_BYTES};
use crate::digest::Digest;
use crate::keys::KeyId;
use crate::manifest::{ManifestError, list};
use crate::name::{PluginName, PublisherName, Release};
use crate::signature::SignatureFileError;

/// Why a plugin is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// Larger than [`MAX_COMPONENT_BYTES`].
    #[error(
        "the plugin is too big: {bytes} bytes where at most {MAX_COMPONENT_BYTES} are allowed; strip debug information and data from it"
    )]
    TooBig {
        /// Its size in bytes.
        bytes: usize,
    },
    /// No signature at all.
    #[error(
        "the plugin is not signed: put its `.sig` file beside it, as its publisher gives it, or sign your own with `sentinel plugin sign`"
    )]
    Unsigned,
    /// The signature file cannot be read.
    #[error(
        "the signature file cannot be read: {0}; get it again from the publisher, or sign again with `sentinel plugin sign`"
    )]
    BadSignatureFile(SignatureFileError),
    /// The digest is on the policy's list of revoked ones.
    #[error(
        "the plugin was revoked: {digest} is under `revoked_digests` of the trust policy; install another version"
    )]
    DigestRevoked {
        /// The digest.
        digest: Digest,
    },
    /// The policy does not name the publisher.
    #[error(
        "the publisher `{publisher}` of {name} is not trusted here: if you trust it, add it with its public key (its key id is {key_id}) under `publishers` of the trust policy"
    )]
    UnknownPublisher {
        /// The plugin's name.
        name: PluginName,
        /// Its publisher.
        publisher: PublisherName,
        /// The key that the signature names.
        key_id: KeyId,
    },
    /// The policy names the publisher, but not this key.
    #[error(
        "{name} is signed with the key {key_id}, which the trust policy does not name for `{publisher}`: if the publisher has a new key, add it under `publishers.{publisher}.keys`"
    )]
    UnknownKey {
        /// The plugin's name.
        name: PluginName,
        /// Its publisher.
        publisher: PublisherName,
        /// The key that the signature names.
        key_id: KeyId,
    },
    /// The key belongs to another publisher than the name's.
    #[error(
        "{name} is signed with the key {key_id}, which belongs to `{owner}`: only keys of `{publisher}` may sign it; get the plugin from `{publisher}`"
    )]
    WrongPublisher {
        /// The plugin's name.
        name: PluginName,
        /// The publisher in the name.
        publisher: PublisherName,
        /// The key that signed.
        key_id: KeyId,
        /// Whose key it is.
        owner: PublisherName,
    },
    /// The key was revoked.
    #[error(
        "{name} is signed with the key {key_id}, which was revoked: get a version that is signed with a valid key of `{publisher}`"
    )]
    KeyRevoked {
        /// The plugin's name.
        name: PluginName,
        /// Its publisher.
        publisher: PublisherName,
        /// The key that signed.
        key_id: KeyId,
    },
    /// The signature does not fit what it is said to sign.
    #[error("the signature of {release} is wrong: it was not made with the key {key_id} over this name, version and digest; get the plugin and its `.sig` again from `{}`", release.name.publisher())]
    WrongSignature {
        /// Name and version, as the signature file has it.
        release: Box<Release>,
        /// The key that the signature names.
        key_id: KeyId,
    },
    /// A good signature, but for other bytes.
    #[error("the plugin was changed after it was signed: {release} was signed as {signed}, and these bytes are {found}; get it again from `{}`", release.name.publisher())]
    Tampered {
        /// Name and version.
        release: Box<Release>,
        /// The digest that was signed.
        signed: Digest,
        /// The digest of the bytes at hand.
        found: Digest,
    },
    /// The manifest calls itself otherwise than what was signed.
    #[error(
        "the signature is for {signed}, but the manifest inside says {release}: sign it again under its own name"
    )]
    OtherName {
        /// Name and version that were signed.
        signed: Box<Release>,
        /// Name and version in the manifest.
        release: Box<Release>,
    },
    /// The bytes are not a component.
    #[error("{0}")]
    NotAComponent(ComponentError),
    /// No manifest, or more than one.
    #[error("{0}")]
    NoManifest(ComponentError),
    /// The manifest was refused.
    #[error("the manifest was refused: {0}")]
    BadManifest(ManifestError),
    /// Built for a version of the contract that this host does not speak.
    #[error("{release} was built for the contract {}, and this host speaks {CONTRACT}: install a version of the plugin for {CONTRACT}, or a host for its contract", .found.join(", "))]
    WrongContract {
        /// Name and version.
        release: Box<Release>,
        /// The contract versions that its manifest, imports and exports name and that the
        /// host does not speak.
        found: Vec<String>,
    },
    /// The exports are not those of the kind.
    #[error("{release} is not the {kind} that its manifest says:\n{}", list(.problems))]
    KindMismatch {
        /// Name and version.
        release: Box<Release>,
        /// The kind in the manifest.
        kind: Kind,
        /// Each export that is missing or does not belong.
        problems: Vec<String>,
    },
    /// The component imports what its manifest does not request or what no host has.
    #[error("{release} asks too much: it imports what its manifest does not request\n{}", excess_lines(.excess))]
    AsksTooMuch {
        /// Name and version.
        release: Box<Release>,
        /// Each import that is too much.
        excess: Vec<ExcessImport>,
    },
}

/// One import beyond what a manifest requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExcessImport {
    /// The import's name, made safe to print.
    pub import: String,
    /// The capability that it needs; nothing where no host has such an import.
    pub capability: Option<Capability>,
}

impl std::fmt::Display for ExcessImport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.capability {
            Some(capability) => write!(
                f,
                "`{}` needs `{capability}`: request it in the manifest, or build without it",
                self.import
            ),
            None => write!(f, "`{}` is nothing that this host has: build without it", self.import),
        }
    }
}

fn excess_lines(excess: &[ExcessImport]) -> String {
    let lines: Vec<_> = excess.iter().map(ToString::to_string).collect();
    list(&lines)
}

impl From<ComponentError> for TrustError {
    fn from(error: ComponentError) -> Self {
        match error {
            ComponentError::TooBig { bytes } => Self::TooBig { bytes },
            ComponentError::Manifest(error) => Self::BadManifest(error),
            error @ (ComponentError::NoManifest | ComponentError::ManyManifests(_)) => {
                Self::NoManifest(error)
            }
            error => Self::NotAComponent(error),
        }
    }
}
