//! What a slot holds at a moment: a generation that takes calls, or nothing and why.

use std::sync::Arc;

use sentinel_model::ids::SlotName;
use sentinel_trust::{Digest, PluginName, VerifiedComponent};

use super::SlotSpec;
use crate::error::{CallError, Cause};
use crate::generation::Generation;
use crate::status::Emptied;

/// What a slot holds.
pub(crate) enum Content {
    /// Takes calls.
    Running(Arc<Generation>),
    /// Takes none.
    Empty(Vacancy),
}

/// A slot without a plugin, and which one was there, or is about to come, so that errors and
/// the status have a name to say.
pub(crate) struct Vacancy {
    pub(crate) plugin: Identity,
    /// The last generation; 0 where there was none.
    pub(crate) number: u64,
    pub(crate) emptied: Emptied,
    /// In words.
    pub(crate) reason: String,
    /// Since when, unix milliseconds.
    pub(crate) since: i64,
}

/// A plugin without its bytes.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) name: PluginName,
    pub(crate) version: semver::Version,
    pub(crate) digest: Digest,
}

impl From<&VerifiedComponent> for Identity {
    fn from(component: &VerifiedComponent) -> Self {
        Self {
            name: component.name().clone(),
            version: component.version().clone(),
            digest: component.digest(),
        }
    }
}

impl Content {
    /// A slot that was not started yet.
    pub(super) fn not_started(spec: &SlotSpec, now: i64) -> Self {
        Self::Empty(Vacancy {
            plugin: Identity::from(&*spec.component),
            number: 0,
            emptied: Emptied::NotStarted,
            reason: "it was not started yet".into(),
            since: now,
        })
    }

    pub(super) fn generation(&self) -> Option<&Arc<Generation>> {
        match self {
            Self::Running(generation) => Some(generation),
            Self::Empty(_) => None,
        }
    }

    pub(super) fn number(&self) -> u64 {
        match self {
            Self::Running(generation) => generation.number(),
            Self::Empty(vacancy) => vacancy.number,
        }
    }

    pub(super) fn plugin(&self) -> Identity {
        match self {
            Self::Running(generation) => Identity::from(&*generation.spec.component),
            Self::Empty(vacancy) => vacancy.plugin.clone(),
        }
    }

    /// An error of a call of what is here.
    pub(super) fn error(&self, slot: &SlotName, export: &'static str, cause: Cause) -> CallError {
        let Identity { name, version, .. } = self.plugin();
        CallError { slot: slot.clone(), plugin: name, version: Box::new(version), export, cause }
    }
}
