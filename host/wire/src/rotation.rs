//! A new key on its way to its agent, under the key that the agent has.
//!
//! What is sealed is the new key XORed with a pad: HMAC-SHA256 with the old key over
//! `sentinel-key-pad-v1`, and what follows. The code of the offer is HMAC-SHA256 with the old key over
//! `sentinel-key-offer-v1`, and what follows, and the sealed bytes. Integers are little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 1 + n | length and bytes of the agent id |
//! | 4 | number of the old key |
//! | 4 | number of the new key |
//! | 16 | nonce |
//!
//! So nobody without the old key reads the new one or puts another in its place, and an offer is good
//! for one agent and one step.

use crate::key::{AgentKey, KEY_LEN};
use crate::v1::KeyOffer;
use sentinel_model::ids::AgentId;
use zeroize::Zeroizing;

const PAD: &[u8] = b"sentinel-key-pad-v1";
const OFFER: &[u8] = b"sentinel-key-offer-v1";
const NONCE: usize = 16;

/// Why an offer is not one. Nothing of it may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// Its nonce or its sealed key has another length than it must have.
    #[error("the offered key is malformed")]
    Malformed,
    /// Its number is not higher than that of the key in use.
    #[error("the offered key has the number {offered}, and key {current} is in use")]
    Old {
        /// Of the offer.
        offered: u32,
        /// In use.
        current: u32,
    },
    /// Whoever offers it does not have the agent's key.
    #[error("the code of the offered key {0} does not fit the key in use")]
    Code(u32),
}

fn header(agent: &AgentId, old: u32, new: u32, nonce: &[u8]) -> Vec<u8> {
    let id = agent.as_str().as_bytes();
    let mut out = Vec::with_capacity(25 + id.len());
    out.push(id.len() as u8);
    out.extend_from_slice(id);
    out.extend_from_slice(&old.to_le_bytes());
    out.extend_from_slice(&new.to_le_bytes());
    out.extend_from_slice(nonce);
    out
}

/// The other one of a key and its sealed bytes.
fn padded(key: &AgentKey, header: &[u8], bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let pad = Zeroizing::new(key.sign(&[PAD, header]));
    Zeroizing::new(bytes.iter().zip(pad.iter()).map(|(byte, pad)| byte ^ pad).collect())
}

/// Offers `new` to an agent that signs with `old`, under a nonce that was never used.
#[must_use]
pub fn offer(agent: &AgentId, old: &AgentKey, new: &AgentKey, nonce: [u8; 16]) -> KeyOffer {
    let header = header(agent, old.id(), new.id(), &nonce);
    let sealed = padded(old, &header, new.expose()).to_vec();
    let mac = old.sign(&[OFFER, &header, &sealed]);
    KeyOffer { key_id: new.id(), nonce: nonce.to_vec(), sealed, mac }
}

/// The key that is offered to an agent whose key is `old`.
///
/// # Errors
/// [`OfferError`]; then the agent goes on with the key that it has.
pub fn accept(agent: &AgentId, old: &AgentKey, offer: &KeyOffer) -> Result<AgentKey, OfferError> {
    if offer.nonce.len() != NONCE || offer.sealed.len() != KEY_LEN {
        return Err(OfferError::Malformed);
    }
    if offer.key_id <= old.id() {
        return Err(OfferError::Old { offered: offer.key_id, current: old.id() });
    }
    let header = header(agent, old.id(), offer.key_id, &offer.nonce);
    if !old.fits(&[OFFER, &header, &offer.sealed], &offer.mac) {
        return Err(OfferError::Code(offer.key_id));
    }
    let secret = padded(old, &header, &offer.sealed);
    AgentKey::new(offer.key_id, &secret).map_err(|_| OfferError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> AgentId {
        AgentId::new("web-1").unwrap()
    }

    #[test]
    fn an_offered_key_reaches_the_agent_and_is_not_readable_on_the_way() {
        let (old, new) = (AgentKey::random(3), AgentKey::random(4));
        let first = offer(&agent(), &old, &new, [1; 16]);
        let got = accept(&agent(), &old, &first).unwrap();
        assert_eq!((got.id(), got.expose()), (4, new.expose()));
        assert_ne!(first.sealed, new.expose());
        let again = offer(&agent(), &old, &new, [2; 16]);
        assert_ne!(again.sealed, first.sealed, "each offer has a pad of its own");
    }

    #[test]
    fn whatever_is_changed_or_meant_for_another_is_refused() {
        let (old, new) = (AgentKey::random(3), AgentKey::random(4));
        let good = offer(&agent(), &old, &new, [1; 16]);
        type Change = fn(&mut KeyOffer);
        let changes: &[(&str, Change)] = &[
            ("number", |o| o.key_id = 5),
            ("nonce", |o| o.nonce[0] ^= 1),
            ("sealed", |o| o.sealed[31] ^= 1),
            ("mac", |o| o.mac[0] ^= 1),
            ("no mac", |o| o.mac.clear()),
            ("short nonce", |o| o.nonce.truncate(15)),
            ("long key", |o| o.sealed.push(0)),
            ("an old number", |o| o.key_id = 3),
        ];
        for (what, change) in changes {
            let mut offer = good.clone();
            change(&mut offer);
            assert!(accept(&agent(), &old, &offer).is_err(), "{what}");
        }
        let other = AgentId::new("web-2").unwrap();
        assert_eq!(accept(&other, &old, &good).unwrap_err(), OfferError::Code(4));
        assert!(accept(&agent(), &AgentKey::random(3), &good).is_err());
        let used = AgentKey::new(4, new.expose()).unwrap();
        let expected = OfferError::Old { offered: 4, current: 4 };
        assert_eq!(accept(&agent(), &used, &good).unwrap_err(), expected);
    }
}
