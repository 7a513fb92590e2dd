//! What the owner of a runtime says may run. Asked when a plugin is taken into a slot, when a
//! slot goes back to an older one, and of everything that runs when the answer may have changed.

use std::fmt;

use sentinel_model::ids::SlotName;
use sentinel_trust::{Digest, PluginName, TrustPolicy, VerifiedComponent};

/// Decides which verified plugins may run now.
///
/// A component was verified once, when it was read; a key or a digest that was revoked since
/// is known only to whoever keeps the policy.
pub trait Admission: Send + Sync {
    /// Whether a plugin may run. Must answer at once and from memory: it is asked in the midst
    /// of a swap.
    ///
    /// # Errors
    /// Why it may not, and what to do.
    fn admit(&self, component: &VerifiedComponent) -> Result<(), Refusal>;
}

/// Why a plugin may not run any more, in words for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

impl Admission for TrustPolicy {
    fn admit(&self, component: &VerifiedComponent) -> Result<(), Refusal> {
        component.recheck(self).map_err(|error| Refusal(error.to_string()))
    }
}

/// Admits whatever was verified: what a runtime does until it is told otherwise.
pub(crate) struct Verified;

impl Admission for Verified {
    fn admit(&self, _: &VerifiedComponent) -> Result<(), Refusal> {
        Ok(())
    }
}

/// A plugin that was taken out of a slot because it may not run any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawn {
    /// The slot, now empty.
    pub slot: SlotName,
    /// The plugin that ran there.
    pub plugin: PluginName,
    /// Its version.
    pub version: semver::Version,
    /// Its digest.
    pub digest: Digest,
    /// Why it may not run.
    pub why: Refusal,
}

impl fmt::Display for Withdrawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slot, plugin, version, why, .. } = self;
        write!(f, "slot {slot}: {plugin} {version} was stopped: {why}")
    }
}
