//! Tokens: who may push, kept as hashes in the store.
//!
//! A token is `srt_`, 16 hex digits that name it, `_`, and 64 hex digits: 256 random bits. Of
//! these the store keeps the SHA-256 alone. A slow password hash would add nothing: it is
//! for secrets that can be guessed, nobody guesses 256 random bits, and what is slow to
//! check is an offer to whoever wants to keep the service busy. The hashes are compared in
//! constant time; the id, which is no secret, picks which.

use bytes::Bytes;
use sentinel_trust::PublisherName;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::store::{Store, StoreError, path};

const PREFIX: &str = "srt_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;
const ID_CHARS: usize = 2 * ID_BYTES;
const SECRET_CHARS: usize = 2 * SECRET_BYTES;

/// What a token allows, as it is kept. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Names the token; no secret.
    pub id: String,
    /// The namespace that it may push to; nothing where it may only pull.
    pub namespace: Option<PublisherName>,
    /// When it was made, unix milliseconds.
    pub created: i64,
    /// SHA-256 of the secret, in hex.
    hash: String,
}

/// Why a token could not be made or looked up.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The system gives no randomness.
    #[error("the system gives no randomness: {0}")]
    NoRandomness(String),
    /// The store fails.
    #[error("the tokens cannot be read or written: {0}")]
    Store(#[from] StoreError),
}

/// Id and secret of a token's text; nothing where it is no token.
fn parts(text: &str) -> Option<(&str, &str)> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (id.len() == ID_CHARS && secret.len() == SECRET_CHARS && hex(id) && hex(secret))
        .then_some((id, secret))
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

impl Store {
    /// Makes a token at `now` (unix milliseconds): for pushing to a namespace, or for pulling
    /// alone. The text is nowhere but in what is returned.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn create_token(
        &self,
        namespace: Option<PublisherName>,
        now: i64,
    ) -> Result<(Token, Zeroizing<String>), TokenError> {
        let mut random = Zeroizing::new([0_u8; ID_BYTES + SECRET_BYTES]);
        getrandom::fill(&mut *random)
            .map_err(|error| TokenError::NoRandomness(error.to_string()))?;
        let (id, secret) = random.split_at(ID_BYTES);
        let id = hex::encode(id);
        let secret = Zeroizing::new(hex::encode(secret));
        // In one piece, so that no half-grown copy of the secret stays behind.
        let mut text =
            Zeroizing::new(String::with_capacity(PREFIX.len() + ID_CHARS + 1 + SECRET_CHARS));
        for part in [PREFIX, &id, "_", &secret] {
            text.push_str(part);
        }
        let token = Token { id, namespace, created: now, hash: hex::encode(hash(&secret)) };
        let json = serde_json::to_vec(&token).map_err(|error| damaged(&token.id, &error))?;
        self.write(&path(&["auth", "tokens", &token.id]), json.into()).await?;
        Ok((token, text))
    }

    /// Every token, by when it was made.
    ///
    /// # Errors
    /// [`TokenError::Store`].
    pub async fn tokens(&self) -> Result<Vec<Token>, TokenError> {
        let mut tokens = Vec::new();
        for meta in self.list(&path(&["auth", "tokens"])).await? {
            if let Some(json) = self.read(&meta.location).await? {
                tokens.push(read(meta.location.filename().unwrap_or_default(), &json)?);
            }
        }
        tokens.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(tokens)
    }

    /// Removes a token, which counts from the next request on; false where there is none.
    ///
    /// # Errors
    /// [`TokenError::Store`].
    pub async fn remove_token(&self, id: &str) -> Result<bool, TokenError> {
        if id.len() != ID_CHARS || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(false);
        }
        Ok(self.remove(&path(&["auth", "tokens", id])).await?)
    }

    /// The token of this text; nothing where it is none of ours.
    ///
    /// # Errors
    /// [`TokenError::Store`].
    pub async fn token(&self, text: &str) -> Result<Option<Token>, TokenError> {
        let Some((id, secret)) = parts(text) else { return Ok(None) };
        let Some(json) = self.read(&path(&["auth", "tokens", id])).await? else { return Ok(None) };
        let token = read(id, &json)?;
        let mut kept = [0; 32];
        let whole = hex::decode_to_slice(&token.hash, &mut kept).is_ok();
        let same: bool = kept.ct_eq(&hash(secret)).into();
        Ok((whole && same && token.id == id).then_some(token))
    }
}

fn read(id: &str, json: &Bytes) -> Result<Token, StoreError> {
    serde_json::from_slice(json).map_err(|error| damaged(id, &error))
}

fn damaged(id: &str, error: &serde_json::Error) -> StoreError {
    StoreError::Damaged { object: format!("auth/tokens/{id}"), why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_token_is_known_by_its_whole_text_alone_and_its_secret_is_not_kept() {
        let objects = Arc::new(InMemory::new());
        let store = Store::new(objects);
        let (token, text) = store.create_token(Some("acme".parse().unwrap()), 5).await.unwrap();
        assert_eq!(store.token(&text).await.unwrap(), Some(token.clone()));
        let (other, other_text) = store.create_token(None, 6).await.unwrap();
        let swapped = format!("{}{}", &text[..20], &other_text[20..]);
        let longer = format!("{}0", *text);
        let last = if text.ends_with('0') { "1" } else { "0" };
        let changed = format!("{}{last}", &text[..text.len() - 1]);
        for wrong in ["", "srt_", "srt_../../x_00", &swapped, &longer, &changed, &token.hash] {
            assert_eq!(store.token(wrong).await.unwrap(), None, "{wrong:?} was accepted");
        }
        let secret = &text[text.len() - SECRET_CHARS..];
        for meta in store.list(&path(&["auth"])).await.unwrap() {
            let kept = store.read(&meta.location).await.unwrap().unwrap();
            assert!(!String::from_utf8_lossy(&kept).contains(secret));
        }
        assert_eq!(store.tokens().await.unwrap(), [token.clone(), other]);
        assert!(store.remove_token(&token.id).await.unwrap());
        assert!(!store.remove_token(&token.id).await.unwrap());
        assert!(!store.remove_token("../tokens").await.unwrap());
        assert_eq!(store.token(&text).await.unwrap(), None);
    }
}
