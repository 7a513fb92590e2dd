//! The store's file.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | magic `SSS1` |
//! | 12 | nonce, new at every write |
//! | … | ciphertext of a JSON object of names to base64 values, and the tag |

use super::Secrets;
use aes_gcm::aead::Aead;
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

const MAGIC: &[u8; 4] = b"SSS1";
const NONCE: usize = 12;
/// The most bytes of the file: as many and as large secrets as there may be, in base64.
pub(super) const MAX_FILE: usize = 32 << 20;

/// Which writing of the file it is: its nonce, with what stands before.
pub(super) type Version = [u8; MAGIC.len() + NONCE];

/// The version of a file, from its first bytes.
pub(super) fn version(bytes: &[u8]) -> Option<Version> {
    bytes.get(..MAGIC.len() + NONCE)?.try_into().ok()
}

pub(super) fn encrypt(cipher: &Aes256Gcm, secrets: &Secrets) -> Vec<u8> {
    let texts: BTreeMap<&str, Zeroizing<String>> = secrets
        .iter()
        .map(|(name, value)| (name.as_str(), Zeroizing::new(STANDARD.encode(value))))
        .collect();
    let borrowed: BTreeMap<&str, &str> = texts.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let plain = Zeroizing::new(serde_json::to_vec(&borrowed).expect("texts serialise"));
    let nonce = super::random::<NONCE>();
    let body = cipher.encrypt(&Nonce::from(nonce), plain.as_slice()).expect("it encrypts");
    [&MAGIC[..], &nonce, &body].concat()
}

pub(super) fn decrypt(cipher: &Aes256Gcm, bytes: &[u8]) -> Option<Secrets> {
    let body = bytes.strip_prefix(MAGIC)?;
    let (nonce, body) = body.split_at_checked(NONCE)?;
    let nonce: [u8; NONCE] = nonce.try_into().ok()?;
    let plain = Zeroizing::new(cipher.decrypt(&Nonce::from(nonce), body).ok()?);
    let texts: BTreeMap<String, String> = serde_json::from_slice(&plain).ok()?;
    let value = |text: String| STANDARD.decode(Zeroizing::new(text).as_bytes()).ok();
    texts.into_iter().map(|(name, text)| Some((name, Zeroizing::new(value(text)?)))).collect()
}
