//! Enrolment tokens: who holds one may enrol an agent, so often and so long as it says.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use subtle::ConstantTimeEq;

/// The most tokens that are kept.
const MAX_TOKENS: usize = 10_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Token {
    /// SHA-256 of the token, hexadecimal: the file gives no token away.
    hash: String,
    uses_left: u32,
    expires_at: i64,
}

/// Tokens in a file (0600).
pub struct EnrolmentTokens {
    path: PathBuf,
    tokens: Mutex<Vec<Token>>,
}

/// Why a token does not serve. Whoever holds a wrong one learns nothing more than this.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// Unknown, used up or expired.
    #[error(
        "the enrolment token is unknown, used up or expired; ask the operator for a new one (`sentinel token create`)"
    )]
    Refused,
    /// The file cannot be read or written.
    #[error("the file of enrolment tokens {path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

fn hash(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

impl EnrolmentTokens {
    /// Reads the file; there need not be one.
    ///
    /// # Errors
    /// A file that cannot be read or is malformed.
    pub fn open(path: &Path) -> Result<Self, EnrolmentError> {
        let io = |source| EnrolmentError::Io { path: path.to_owned(), source };
        let tokens = match fs::read(path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|e| io(std::io::Error::other(e)))?
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(io(e)),
        };
        Ok(Self { path: path.to_owned(), tokens: Mutex::new(tokens) })
    }

    /// Makes a token. It is shown once, here.
    ///
    /// # Errors
    /// A file that cannot be written, or too many tokens.
    ///
    /// # Panics
    /// If the system has no randomness.
    pub fn create(&self, uses: u32, expires_at: i64, now: i64) -> Result<String, EnrolmentError> {
        let mut bytes = [0; 24];
        getrandom::fill(&mut bytes).expect("the system gives random bytes");
        let token = format!("set_{}", URL_SAFE_NO_PAD.encode(bytes));
        let mut tokens = self.tokens.lock();
        tokens.retain(|t| t.uses_left > 0 && t.expires_at > now);
        if tokens.len() >= MAX_TOKENS {
            return Err(self.io(std::io::Error::other("10,000 tokens are open already")));
        }
        tokens.push(Token { hash: hash(&token), uses_left: uses, expires_at });
        self.save(&tokens)?;
        Ok(token)
    }

    /// Uses a token once. Every stored hash is compared, in constant time.
    ///
    /// # Errors
    /// [`EnrolmentError::Refused`], or a file that cannot be written: then it is not used.
    pub fn spend(&self, token: &str, now: i64) -> Result<(), EnrolmentError> {
        let wanted = hash(token);
        let mut tokens = self.tokens.lock();
        let mut found = None;
        for (i, one) in tokens.iter().enumerate() {
            let same: bool = one.hash.as_bytes().ct_eq(wanted.as_bytes()).into();
            if same && one.uses_left > 0 && one.expires_at > now {
                found = Some(i);
            }
        }
        let at = found.ok_or(EnrolmentError::Refused)?;
        tokens[at].uses_left -= 1;
        let saved = self.save(&tokens);
        if saved.is_err() {
            tokens[at].uses_left += 1;
        }
        saved
    }

    /// Makes a use undone, where the enrolment failed for no fault of the agent's.
    ///
    /// # Errors
    /// A file that cannot be written: then the use stays spent.
    pub fn give_back(&self, token: &str) -> Result<(), EnrolmentError> {
        let wanted = hash(token);
        let mut tokens = self.tokens.lock();
        if let Some(one) = tokens.iter_mut().find(|one| one.hash == wanted) {
            one.uses_left += 1;
        }
        self.save(&tokens)
    }

    fn io(&self, source: std::io::Error) -> EnrolmentError {
        EnrolmentError::Io { path: self.path.clone(), source }
    }

    fn save(&self, tokens: &[Token]) -> Result<(), EnrolmentError> {
        let bytes = serde_json::to_vec_pretty(tokens).map_err(|e| self.io(e.into()))?;
        sentinel_files::replace(&self.path, &bytes, 0o600).map_err(|e| self.io(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_serves_as_often_and_as_long_as_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.json");
        let tokens = EnrolmentTokens::open(&path).unwrap();
        let twice = tokens.create(2, 1000, 0).unwrap();
        let short = tokens.create(9, 10, 0).unwrap();
        assert!(tokens.spend("set_wrong", 1).is_err());
        assert!(tokens.spend(&twice, 1).is_ok());
        let tokens = EnrolmentTokens::open(&path).unwrap();
        assert!(tokens.spend(&twice, 1).is_ok(), "a restart changes nothing");
        assert!(tokens.spend(&twice, 1).is_err(), "used up");
        assert!(tokens.spend(&short, 10).is_err(), "expired");
        assert!(!fs::read_to_string(&path).unwrap().contains(&twice[4..]));
    }
}
