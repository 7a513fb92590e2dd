//! `keys` of the configuration: how the keys of agents are replaced.

use schemars::JsonSchema;
use sentinel_model::document::{Document, Problem};
use sentinel_model::duration::Millis;
use sentinel_server::rotation::RotationOptions;
use serde::{Deserialize, Serialize};

/// Bounds of `keys`: what is on its way must not be signed by a key that is over.
const SHORTEST_ROTATION: Millis = Millis(60_000);
const SHORTEST_GRACE: Millis = Millis(10_000);

/// How the keys of agents are replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KeysConfig {
    /// The age at which a key is replaced by itself; only `sentinel key rotate` does it where this is
    /// absent.
    pub(crate) rotate_every: Option<Millis>,
    /// How long the key before is good, once the agent has signed with the new one.
    pub(crate) grace: Millis,
}

impl Default for KeysConfig {
    fn default() -> Self {
        let RotationOptions { grace, every } = RotationOptions::default();
        Self { rotate_every: every, grace }
    }
}

impl KeysConfig {
    pub(super) fn options(&self) -> RotationOptions {
        RotationOptions { grace: self.grace, every: self.rotate_every }
    }

    pub(super) fn problems(&self, document: &Document) -> Vec<Problem> {
        let mut out = Vec::new();
        if self.rotate_every.is_some_and(|every| every < SHORTEST_ROTATION) {
            let text = format!("shorter than {SHORTEST_ROTATION}");
            out.push(document.problem("/keys/rotate_every", text));
        }
        if self.grace < SHORTEST_GRACE {
            out.push(document.problem("/keys/grace", format!("shorter than {SHORTEST_GRACE}")));
        }
        out
    }
}
