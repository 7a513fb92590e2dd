//! One release in a publisher's index.

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::capability::Kind;
use crate::component::MAX_COMPONENT_BYTES;
use crate::digest::Digest;
use crate::inspect::Unverified;
use crate::manifest::{MAX_DESCRIPTION_CHARS, MAX_VERSION_CHARS};
use crate::name::{PluginName, Release};
use crate::requests::Requests;
use crate::signature::{MAX_SIGNATURES, SIGNATURE_FORMAT, SignatureEntry, SignatureFile};

/// One release as its publisher lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexedRelease {
    /// `publisher/name`.
    pub name: PluginName,
    /// Its version.
    pub version: Version,
    /// The SHA-256 of the component: its identity, and where its blob lies.
    pub digest: Digest,
    /// The component's size in bytes.
    pub size: u64,
    /// Its kind.
    pub kind: Kind,
    /// The version of the contract that it was built for.
    pub contract: Version,
    /// What its manifest says it is.
    pub description: String,
    /// What it asks for.
    #[serde(default)]
    pub requests: Requests,
    /// The publisher's signatures over name, version and digest.
    pub signatures: Vec<SignatureEntry>,
    /// Whether its publisher wishes that nobody installs it anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub yanked: bool,
    /// When it was published, unix milliseconds, by the publisher's clock.
    pub published_at: i64,
}

impl IndexedRelease {
    /// What a publisher lists of a component of `size` bytes: what its manifest says, beside the
    /// signatures over it.
    #[must_use]
    pub fn of(
        component: &Unverified,
        size: u64,
        signatures: Vec<SignatureEntry>,
        published_at: i64,
    ) -> Self {
        let manifest = component.manifest();
        Self {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            digest: component.digest(),
            size,
            kind: manifest.kind,
            contract: manifest.contract.clone(),
            description: manifest.description.clone(),
            requests: manifest.requests.clone(),
            signatures,
            yanked: false,
            published_at,
        }
    }

    /// Name and version.
    #[must_use]
    pub fn release(&self) -> Release {
        Release { name: self.name.clone(), version: self.version.clone() }
    }

    /// The `.sig` file that belongs beside the component.
    #[must_use]
    pub fn signature_file(&self) -> SignatureFile {
        SignatureFile {
            format: SIGNATURE_FORMAT,
            name: self.name.clone(),
            version: self.version.clone(),
            digest: self.digest,
            signatures: self.signatures.clone(),
        }
    }

    /// Whether both say the same of the component; its signatures and whether it was yanked
    /// may differ.
    pub(super) fn is_same_component(&self, other: &Self) -> bool {
        let plain = |one: &Self| Self { yanked: false, signatures: Vec::new(), ..one.clone() };
        plain(self) == plain(other)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.size == 0 || self.size > MAX_COMPONENT_BYTES as u64 {
            return Err(format!("its size {} is not within 1 to {MAX_COMPONENT_BYTES}", self.size));
        }
        if self.signatures.is_empty() || self.signatures.len() > MAX_SIGNATURES {
            return Err(format!(
                "it has {} signatures where 1 to {MAX_SIGNATURES} are allowed",
                self.signatures.len()
            ));
        }
        for version in [&self.version, &self.contract] {
            if version.to_string().len() > MAX_VERSION_CHARS {
                return Err(format!("a version has more than {MAX_VERSION_CHARS} characters"));
            }
        }
        if self.description.chars().count() > MAX_DESCRIPTION_CHARS {
            return Err(format!(
                "its description has more than {MAX_DESCRIPTION_CHARS} characters"
            ));
        }
        let mut problems = Vec::new();
        self.requests.problems(self.kind, &mut problems);
        problems.into_iter().next().map_or(Ok(()), Err)
    }
}
