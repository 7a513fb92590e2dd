//! Looking at a plugin without trusting it: for `inspect`, `pack` and `sign`.

use crate::component::{ComponentError, ComponentShape};
use crate::digest::Digest;
use crate::error::TrustError;
use crate::fit;
use crate::manifest::Manifest;
use crate::signature::Claim;

/// A plugin that nobody vouched for. It can be looked at and signed; nothing in a host runs
/// it, and there is no way from it to a [`VerifiedComponent`](crate::VerifiedComponent) but
/// through [`verify`](crate::verify).
#[derive(Debug, Clone)]
pub struct Unverified {
    digest: Digest,
    manifest: Manifest,
    shape: ComponentShape,
}

impl Unverified {
    /// Reads a component and its manifest.
    ///
    /// # Errors
    ///
    /// If it is not a component, or has no manifest or a bad one.
    pub fn read(bytes: &[u8]) -> Result<Self, ComponentError> {
        let shape = ComponentShape::read(bytes)?;
        let manifest = shape.manifest(bytes)?;
        Ok(Self { digest: Digest::of(bytes), manifest, shape })
    }

    /// The digest of its bytes.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// What it says of itself.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its imports, exports and custom sections.
    #[must_use]
    pub const fn shape(&self) -> &ComponentShape {
        &self.shape
    }

    /// What a signature of it would speak about.
    #[must_use]
    pub fn claim(&self) -> Claim {
        Claim { release: self.manifest.release(), digest: self.digest }
    }

    /// Everything for which a host would refuse it whatever its signatures, so that an
    /// author hears of it when packing.
    #[must_use]
    pub fn problems(&self) -> Vec<TrustError> {
        fit::problems(&self.manifest, &self.shape)
    }
}
