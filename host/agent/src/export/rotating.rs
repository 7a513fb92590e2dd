//! Going over to a new key.
//!
//! | killed | the server has | the agent has | then |
//! |---|---|---|---|
//! | before it kept the new key | both keys, both sign | the old one | it is offered the new one again |
//! | after | both keys, both sign | both | it signs with the new one |
//! | the server was set back since | the old one | both | it signs with the old one again |

use super::Exporter;
use crate::enrol::Identity;
use sentinel_wire::rotation::accept;
use sentinel_wire::v1::{KeyOffer, Refusal};

impl Exporter {
    /// Goes over to a key that the server offers; durable before it is used.
    pub(super) fn offered(&mut self, offer: &KeyOffer) {
        let old = &self.identity;
        let key = match accept(&old.id, &old.key, offer) {
            Ok(key) => key,
            Err(error) => {
                return tracing::error!(%error, "a key that the server offers is not taken");
            }
        };
        let next = Identity { id: old.id.clone(), key, before: Some(old.key.clone()) };
        if let Err(error) = next.save(&self.parts.identity_file) {
            return tracing::error!(%error, "the new key cannot be kept; the old one goes on");
        }
        tracing::info!(agent = %next.id, key_id = next.key.id(), "goes over to a new key");
        self.take_over(next);
    }

    /// The server does not know the key: where there was one before, that may be the one it knows. Whether
    /// it is tried.
    pub(super) fn step_back(&mut self, refusal: Refusal) -> bool {
        if refusal != Refusal::Signature {
            return false;
        }
        let Some(other) = self.identity.before.clone() else { return false };
        let (id, key) = (self.identity.id.clone(), self.identity.key.clone());
        let is_older = other.id() < key.id();
        tracing::warn!(
            key_id = key.id(),
            other = other.id(),
            "the server does not know the agent's key; the other one that it has is tried"
        );
        // The file stays as it is: a later start begins with the newer one.
        self.take_over(Identity { id, key: other, before: Some(key) });
        // Where the server knows neither, the two are not tried in a busy loop.
        is_older
    }

    fn take_over(&mut self, identity: Identity) {
        self.identity = identity.clone();
        self.parts.identity.send_replace(Some(identity));
    }
}
