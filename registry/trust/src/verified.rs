//! The one way to a component that may be run.

use std::fmt;
use std::sync::Arc;

use semver::Version;

use crate::component::{ComponentShape, MAX_COMPONENT_BYTES};
use crate::digest::Digest;
use crate::error::TrustError;
use crate::fit;
use crate::keys::PublicKey;
use crate::manifest::Manifest;
use crate::name::{PluginName, PublisherName};
use crate::policy::{PublisherTrust, TrustPolicy};
use crate::signature::{Claim, SignatureEntry, SignatureFile};

/// A component whose bytes a trusted key of its publisher signed, and that is what its
/// manifest says. Only [`verify`] makes it (a [`RepositoryView`](crate::repository::RepositoryView)
/// calls it); a host runs nothing else.
#[derive(Clone)]
pub struct VerifiedComponent {
    /// None where they were let go of.
    bytes: Option<Arc<[u8]>>,
    digest: Digest,
    manifest: Arc<Manifest>,
    signers: Arc<[PublicKey]>,
}

/// Verifies a component: size, then the signatures over its digest, and only then what is
/// inside. `signatures` is the content of the `.sig` file, empty if there is none.
///
/// One good signature by a key that the policy names for the plugin's publisher, and that is
/// not revoked, suffices; the others are ignored.
///
/// # Errors
///
/// [`TrustError`], one variant for each reason.
pub fn verify(
    bytes: Arc<[u8]>,
    signatures: &[u8],
    policy: &TrustPolicy,
) -> Result<VerifiedComponent, TrustError> {
    if bytes.len() > MAX_COMPONENT_BYTES {
        return Err(TrustError::TooBig { bytes: bytes.len() });
    }
    if signatures.is_empty() {
        return Err(TrustError::Unsigned);
    }
    let file = SignatureFile::from_json(signatures).map_err(TrustError::BadSignatureFile)?;
    let digest = Digest::of(&bytes);
    if policy.revoked_digests.contains(&digest) {
        return Err(TrustError::DigestRevoked { digest });
    }
    let claim = file.claim();
    let signers = signers(&claim, &file.signatures, policy)?;
    if claim.digest != digest {
        return Err(TrustError::Tampered {
            release: Box::new(claim.release),
            signed: claim.digest,
            found: digest,
        });
    }
    // From here on the publisher vouches for every byte.
    let shape = ComponentShape::read(&bytes)?;
    let manifest = shape.manifest(&bytes)?;
    if manifest.release() != claim.release {
        return Err(TrustError::OtherName {
            signed: Box::new(claim.release),
            release: Box::new(manifest.release()),
        });
    }
    fit::check(&manifest, &shape)?;
    let bytes = Some(bytes);
    Ok(VerifiedComponent { bytes, digest, manifest: Arc::new(manifest), signers: signers.into() })
}

/// The trusted keys whose signature fits the claim; if there is none, the reason that says
/// most.
pub(crate) fn signers(
    claim: &Claim,
    entries: &[SignatureEntry],
    policy: &TrustPolicy,
) -> Result<Vec<PublicKey>, TrustError> {
    let publisher = claim.release.name.publisher();
    let Some(first) = entries.first() else {
        return Err(TrustError::Unsigned);
    };
    let Some(trust) = policy.publishers.get(&publisher) else {
        return Err(TrustError::UnknownPublisher {
            name: claim.release.name.clone(),
            publisher,
            key_id: first.key_id,
        });
    };
    let message = claim.message();
    let mut good: Vec<PublicKey> = Vec::new();
    let mut worst: Option<(u8, TrustError)> = None;
    for entry in entries {
        match judge(claim, &message, entry, &publisher, trust, policy) {
            Ok(key) if good.contains(&key) => {}
            Ok(key) => good.push(key),
            Err(reason) => {
                let weight = weight(&reason);
                if worst.as_ref().is_none_or(|(known, _)| weight > *known) {
                    worst = Some((weight, reason));
                }
            }
        }
    }
    match worst {
        Some((_, reason)) if good.is_empty() => Err(reason),
        _ => Ok(good),
    }
}

/// Which of several reasons is told: the one nearest to a signature that would have done.
const fn weight(reason: &TrustError) -> u8 {
    match reason {
        TrustError::WrongSignature { .. } => 3,
        TrustError::KeyRevoked { .. } => 2,
        TrustError::WrongPublisher { .. } => 1,
        _ => 0,
    }
}

fn judge(
    claim: &Claim,
    message: &[u8],
    entry: &SignatureEntry,
    publisher: &PublisherName,
    trust: &PublisherTrust,
    policy: &TrustPolicy,
) -> Result<PublicKey, TrustError> {
    let name = claim.release.name.clone();
    let publisher = publisher.clone();
    let key_id = entry.key_id;
    if policy.is_revoked(key_id) {
        return Err(TrustError::KeyRevoked { name, publisher, key_id });
    }
    // The id only picks; two keys may share it, and each is tried.
    let mut named = trust.keys.iter().filter(|key| key.id() == key_id).peekable();
    if named.peek().is_none() {
        return Err(match policy.owner(key_id, &publisher) {
            Some(owner) => {
                TrustError::WrongPublisher { name, publisher, key_id, owner: owner.clone() }
            }
            None => TrustError::UnknownKey { name, publisher, key_id },
        });
    }
    named.find(|key| key.verifies(message, entry.signature.as_bytes())).cloned().ok_or_else(|| {
        TrustError::WrongSignature { release: Box::new(claim.release.clone()), key_id }
    })
}

impl VerifiedComponent {
    /// The component's bytes, exactly those that were verified; none after
    /// [`VerifiedComponent::without_bytes`].
    #[must_use]
    pub const fn bytes(&self) -> Option<&Arc<[u8]>> {
        self.bytes.as_ref()
    }

    /// The same without its bytes: for a holder of its compiled code, who needs no more of it
    /// than what it is called and what its publisher vouched for.
    #[must_use]
    pub fn without_bytes(&self) -> Self {
        Self { bytes: None, ..self.clone() }
    }

    /// The digest of the bytes: the plugin's identity.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// What the plugin says of itself, its publisher vouching.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The plugin's name.
    #[must_use]
    pub fn name(&self) -> &PluginName {
        &self.manifest.name
    }

    /// The plugin's version.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.manifest.version
    }

    /// The trusted keys that signed it, at least one.
    #[must_use]
    pub fn signers(&self) -> &[PublicKey] {
        &self.signers
    }

    /// Whether it may still run under a policy that may have changed since: not revoked, and
    /// at least one of its signers still speaks for its publisher.
    ///
    /// # Errors
    ///
    /// [`TrustError::DigestRevoked`], [`TrustError::UnknownPublisher`],
    /// [`TrustError::KeyRevoked`] or [`TrustError::UnknownKey`].
    pub fn recheck(&self, policy: &TrustPolicy) -> Result<(), TrustError> {
        if policy.revoked_digests.contains(&self.digest) {
            return Err(TrustError::DigestRevoked { digest: self.digest });
        }
        let name = self.name().clone();
        let publisher = name.publisher();
        let key_id = self.signers[0].id();
        let Some(trust) = policy.publishers.get(&publisher) else {
            return Err(TrustError::UnknownPublisher { name, publisher, key_id });
        };
        let speaks = |key: &PublicKey| trust.keys.contains(key) && !policy.is_revoked(key.id());
        if self.signers.iter().any(speaks) {
            return Ok(());
        }
        match self.signers.iter().find(|key| policy.is_revoked(key.id())) {
            Some(revoked) => Err(TrustError::KeyRevoked { name, publisher, key_id: revoked.id() }),
            None => Err(TrustError::UnknownKey { name, publisher, key_id }),
        }
    }
}

impl fmt::Debug for VerifiedComponent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedComponent")
            .field("name", self.name())
            .field("version", &self.version().to_string())
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}
