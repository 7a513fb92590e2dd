//! Enrolment tokens: who holds one may enrol an agent, so often and so long as it says.
//!
//! A use belongs to a [`Claim`]: the same one again, since its answer was lost, is no other use.
//! That holds for a token that is used up, until it expires.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use sentinel_model::ids::AgentId;
use sentinel_store::agents::Claim;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use subtle::ConstantTimeEq;

/// The most tokens that are kept. Those that are used up make room for new ones.
const MAX_TOKENS: usize = 10_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Token {
    /// SHA-256 of the token, hexadecimal: the file gives no token away.
    hash: String,
    uses_left: u32,
    expires_at: i64,
    /// Whom it was used for.
    #[serde(default)]
    claims: Vec<Claim>,
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

/// The claim of an enrolment: whoever says the same of all of them enrols the same agent again.
#[must_use]
pub fn claim(token: &str, agent: &AgentId, hw_id: &str, nonce: &[u8; 16]) -> Claim {
    let digest = Sha256::new()
        .chain_update(b"sentinel-enrolment-v1\0")
        .chain_update(Sha256::digest(token.as_bytes()))
        .chain_update(nonce)
        .chain_update(Sha256::digest(hw_id.as_bytes()))
        .chain_update(agent.as_str())
        .finalize();
    Claim(digest.into())
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
        tokens.retain(|t| t.expires_at > now);
        if tokens.len() >= MAX_TOKENS {
            tokens.retain(|t| t.uses_left > 0);
        }
        if tokens.len() >= MAX_TOKENS {
            return Err(self.io(std::io::Error::other("10,000 tokens are open already")));
        }
        tokens.push(Token { hash: hash(&token), uses_left: uses, expires_at, claims: Vec::new() });
        self.save(&tokens)?;
        Ok(token)
    }

    /// Uses a token once for a claim, however often it is said. Every stored hash is compared,
    /// in constant time.
    ///
    /// # Errors
    /// [`EnrolmentError::Refused`], or a file that cannot be written: then it is not used.
    pub fn spend(&self, token: &str, claim: Claim, now: i64) -> Result<(), EnrolmentError> {
        let wanted = hash(token);
        let mut tokens = self.tokens.lock();
        let mut found = None;
        for (i, one) in tokens.iter().enumerate() {
            let same: bool = one.hash.as_bytes().ct_eq(wanted.as_bytes()).into();
            let serves = one.uses_left > 0 || one.claims.contains(&claim);
            if same && serves && one.expires_at > now {
                found = Some(i);
            }
        }
        let at = found.ok_or(EnrolmentError::Refused)?;
        if tokens[at].claims.contains(&claim) {
            return Ok(());
        }
        let before = tokens[at].clone();
        tokens[at].uses_left -= 1;
        tokens[at].claims.push(claim);
        let saved = self.save(&tokens);
        if saved.is_err() {
            tokens[at] = before;
        }
        saved
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
        let one = |n| Claim([n; 32]);
        assert!(tokens.spend("set_wrong", one(1), 1).is_err());
        assert!(tokens.spend(&twice, one(1), 1).is_ok());
        let tokens = EnrolmentTokens::open(&path).unwrap();
        assert!(tokens.spend(&twice, one(2), 1).is_ok(), "a restart changes nothing");
        assert!(tokens.spend(&twice, one(3), 1).is_err(), "used up");
        assert!(tokens.spend(&short, one(1), 10).is_err(), "expired");
        assert!(!fs::read_to_string(&path).unwrap().contains(&twice[4..]));
    }

    #[test]
    fn the_same_claim_again_is_no_other_use_until_the_token_expires() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.json");
        let tokens = EnrolmentTokens::open(&path).unwrap();
        let token = tokens.create(1, 1000, 0).unwrap();
        let (mine, other) = (Claim([1; 32]), Claim([2; 32]));
        assert!(tokens.spend(&token, mine, 1).is_ok());
        let other_token = tokens.create(1, 1000, 2).unwrap();
        let tokens = EnrolmentTokens::open(&path).unwrap();
        assert!(tokens.spend(&token, mine, 999).is_ok(), "its answer was lost");
        assert!(tokens.spend(&token, other, 999).is_err(), "somebody else's");
        assert!(tokens.spend(&token, mine, 1000).is_err(), "expired");
        assert!(tokens.spend(&other_token, mine, 3).is_ok());
        assert!(tokens.spend(&other_token, other, 3).is_err(), "a use of each token of its own");
    }

    #[test]
    fn a_use_that_cannot_be_kept_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.json");
        let tokens = EnrolmentTokens::open(&path).unwrap();
        let token = tokens.create(1, 1000, 0).unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir_all(path.join("in the way")).unwrap();
        assert!(matches!(tokens.spend(&token, Claim([1; 32]), 1), Err(EnrolmentError::Io { .. })));
        fs::remove_dir_all(&path).unwrap();
        assert!(tokens.spend(&token, Claim([2; 32]), 1).is_ok());
    }

    #[test]
    fn a_claim_is_of_everything_that_is_said() {
        let agent = |id| AgentId::new(id).unwrap();
        let all = [
            claim("t", &agent("a"), "h", &[1; 16]),
            claim("u", &agent("a"), "h", &[1; 16]),
            claim("t", &agent("b"), "h", &[1; 16]),
            claim("t", &agent("a"), "i", &[1; 16]),
            claim("t", &agent("a"), "h", &[2; 16]),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(!all[i + 1..].contains(one));
        }
        assert_eq!(all[0], claim("t", &agent("a"), "h", &[1; 16]));
    }
}
