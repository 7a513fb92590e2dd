//! Tokens of an identity provider (JWT): whose are believed, and what their holders may do.

use super::{Caller, Role};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// The most bytes of a key's file.
const MAX_KEY: u64 = 64 << 10;
/// The fewest bytes of a shared secret: those of the hash.
const MIN_SECRET: usize = 32;
/// The most bytes of a token that is looked at.
const MAX_TOKEN: usize = 16 << 10;
/// The most characters of a name that are kept.
const MAX_NAME: usize = 128;
/// How far a provider's clock may be from ours, in seconds.
const LEEWAY: u64 = 60;
/// The most providers.
pub const MAX_PROVIDERS: usize = 16;

/// How tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Signing {
    /// HMAC with SHA-256: the key is a shared secret.
    HS256,
    /// RSA with SHA-256: the key is a public key.
    RS256,
    /// Ed25519: the key is a public key.
    EdDSA,
}

/// Somebody whose tokens are believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtProvider {
    /// What `iss` must say.
    pub issuer: String,
    /// What `aud` must have.
    pub audience: String,
    /// How its tokens are signed.
    pub algorithm: Signing,
    /// File of the key: the public key (PEM), or the bytes of the shared secret for HS256.
    pub key: PathBuf,
    /// The claim that says what the holder may do: one name, or a list of them.
    #[serde(default = "role_claim")]
    pub role_claim: String,
    /// Which role each of these names has; without them the names are the roles' own.
    #[serde(default)]
    pub roles: BTreeMap<String, Role>,
}

fn role_claim() -> String {
    "role".to_owned()
}

/// Why a provider's tokens cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    /// Too many.
    #[error("{0} providers of JWT; at most {MAX_PROVIDERS}")]
    TooMany(usize),
    /// The key cannot be read, or is none.
    #[error("the key {file} of {issuer:?} cannot be used: {why}", file = file.display())]
    Key {
        /// The provider.
        issuer: String,
        /// The key's file.
        file: PathBuf,
        /// Why.
        why: String,
    },
}

struct Provider {
    key: DecodingKey,
    validation: Validation,
    role_claim: String,
    roles: BTreeMap<String, Role>,
}

/// Everybody whose tokens are believed.
pub struct Jwt(Vec<Provider>);

#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(flatten)]
    others: BTreeMap<String, serde_json::Value>,
}

fn read(provider: &JwtProvider) -> Result<Provider, JwtError> {
    let JwtProvider { issuer, audience, algorithm, key: file, role_claim, roles } = provider;
    let failed = |why: String| JwtError::Key { issuer: issuer.clone(), file: file.clone(), why };
    let opened = File::open(file).map_err(|e| failed(e.to_string()))?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_KEY as usize + 1));
    opened.take(MAX_KEY + 1).read_to_end(&mut bytes).map_err(|e| failed(e.to_string()))?;
    if bytes.len() as u64 > MAX_KEY {
        return Err(failed(format!("it has more than {MAX_KEY} bytes")));
    }
    let wrong = |e: jsonwebtoken::errors::Error| failed(e.to_string());
    let (algorithm, key) = match algorithm {
        Signing::HS256 => {
            let secret = bytes.trim_ascii();
            if secret.len() < MIN_SECRET {
                return Err(failed(format!("a secret has at least {MIN_SECRET} bytes")));
            }
            (Algorithm::HS256, DecodingKey::from_secret(secret))
        }
        Signing::RS256 => (Algorithm::RS256, DecodingKey::from_rsa_pem(&bytes).map_err(wrong)?),
        Signing::EdDSA => (Algorithm::EdDSA, DecodingKey::from_ed_pem(&bytes).map_err(wrong)?),
    };
    let mut validation = Validation::new(algorithm);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.validate_nbf = true;
    validation.leeway = LEEWAY;
    Ok(Provider { key, validation, role_claim: role_claim.clone(), roles: roles.clone() })
}

impl Provider {
    /// The highest role that a claim names.
    fn role(&self, claim: &serde_json::Value) -> Option<Role> {
        let names: Vec<&str> = match claim {
            serde_json::Value::String(one) => vec![one],
            serde_json::Value::Array(many) => many.iter().filter_map(|one| one.as_str()).collect(),
            _ => Vec::new(),
        };
        let role = |name: &&str| {
            if self.roles.is_empty() { name.parse().ok() } else { self.roles.get(*name).copied() }
        };
        names.iter().filter_map(role).max()
    }
}

/// Why a token is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Untaken {
    /// Nobody who is believed signed it for us, or not for this time.
    #[error("the token is not taken: {0}")]
    Invalid(String),
    /// It is good, and says nothing of a role.
    #[error("the token names no role in its claim {0:?}")]
    NoRole(String),
}

impl Jwt {
    /// Reads the keys.
    ///
    /// # Errors
    /// A key that cannot be read or is of another kind.
    pub fn open(providers: &[JwtProvider]) -> Result<Self, JwtError> {
        if providers.len() > MAX_PROVIDERS {
            return Err(JwtError::TooMany(providers.len()));
        }
        Ok(Self(providers.iter().map(read).collect::<Result<_, _>>()?))
    }

    /// Whether a text is one that is looked at as a JWT at all.
    pub(crate) fn looks_like(&self, token: &str) -> bool {
        !self.0.is_empty()
            && token.len() <= MAX_TOKEN
            && token.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// Who holds a token.
    pub(crate) fn caller(&self, token: &str) -> Result<Caller, Untaken> {
        let invalid = |e: jsonwebtoken::errors::Error| Untaken::Invalid(e.to_string());
        let algorithm = decode_header(token).map_err(invalid)?.alg;
        let mut last = Untaken::Invalid("nobody who is believed signs like that".to_owned());
        for one in self.0.iter().filter(|one| one.validation.algorithms.contains(&algorithm)) {
            match decode::<Claims>(token, &one.key, &one.validation) {
                Err(error) => last = invalid(error),
                Ok(found) => {
                    let claim = found.claims.others.get(&one.role_claim);
                    let role = claim.and_then(|claim| one.role(claim));
                    let role = role.ok_or_else(|| Untaken::NoRole(one.role_claim.clone()))?;
                    let name = found.claims.sub.chars().filter(|c| !c.is_control());
                    let name = name.take(MAX_NAME).collect();
                    return Ok(Caller { name, role });
                }
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};
    use std::path::Path;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn provider(file: &Path, algorithm: Signing) -> JwtProvider {
        JwtProvider {
            issuer: "https://idp.example".into(),
            audience: "sentinel".into(),
            algorithm,
            key: file.to_owned(),
            role_claim: "groups".into(),
            roles: [("ops".to_owned(), Role::Operator), ("look".to_owned(), Role::Viewer)].into(),
        }
    }

    fn claims(change: Value) -> Value {
        let mut claims = json!({
            "iss": "https://idp.example", "aud": ["other", "sentinel"], "sub": "ann\u{7}",
            "exp": 4_000_000_000_u64, "groups": ["look", "ops", "root"],
        });
        for (key, value) in change.as_object().unwrap() {
            claims[key] = value.clone();
        }
        claims
    }

    fn signed(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
        encode(&Header::new(algorithm), claims, key).unwrap()
    }

    #[test]
    fn a_token_counts_for_us_in_its_time_with_the_highest_role_that_it_names() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, SECRET).unwrap();
        let jwt = Jwt::open(&[provider(&file, Signing::HS256)]).unwrap();
        let key = EncodingKey::from_secret(SECRET);
        let ask = |change| jwt.caller(&signed(Algorithm::HS256, &key, &claims(change)));
        let ann = Caller { name: "ann".into(), role: Role::Operator };
        assert_eq!(ask(json!({})), Ok(ann));
        assert_eq!(ask(json!({"groups": "look"})).unwrap().role, Role::Viewer);
        for change in [
            json!({"iss": "https://other.example"}),
            json!({"iss": null}),
            json!({"aud": "other"}),
            json!({"aud": null}),
            json!({"exp": 1_000_000_000}),
            json!({"exp": null}),
            json!({"nbf": 4_000_000_000_u64}),
            json!({"sub": null}),
        ] {
            assert!(matches!(ask(change.clone()), Err(Untaken::Invalid(_))), "{change}");
        }
        for change in [json!({"groups": ["root", "admin"]}), json!({"groups": 3})] {
            assert_eq!(ask(change), Err(Untaken::NoRole("groups".into())));
        }
        let other = EncodingKey::from_secret(&[7; 32]);
        assert!(jwt.caller(&signed(Algorithm::HS256, &other, &claims(json!({})))).is_err());
        assert!(jwt.caller(&signed(Algorithm::HS384, &key, &claims(json!({})))).is_err());
        let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.";
        assert!(jwt.looks_like(unsigned) && jwt.caller(unsigned).is_err());
        assert!(!jwt.looks_like("sat_0123"));
    }

    #[test]
    fn public_keys_check_what_their_secret_keys_signed_and_are_no_shared_secrets() {
        let dir = tempfile::tempdir().unwrap();
        for (signing, algorithm, pair) in [
            (Signing::EdDSA, Algorithm::EdDSA, rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)),
            (
                Signing::RS256,
                Algorithm::RS256,
                rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256),
            ),
        ] {
            let pair = pair.unwrap();
            let file = dir.path().join("key.pem");
            std::fs::write(&file, pair.public_key_pem()).unwrap();
            let jwt = Jwt::open(&[provider(&file, signing)]).unwrap();
            let secret = pair.serialize_pem();
            let key = match signing {
                Signing::EdDSA => EncodingKey::from_ed_pem(secret.as_bytes()),
                _ => EncodingKey::from_rsa_pem(secret.as_bytes()),
            };
            let token = signed(algorithm, &key.unwrap(), &claims(json!({})));
            assert_eq!(jwt.caller(&token).unwrap().role, Role::Operator);
            let confused = EncodingKey::from_secret(pair.public_key_pem().as_bytes());
            let token = signed(Algorithm::HS256, &confused, &claims(json!({})));
            assert!(jwt.caller(&token).is_err(), "{signing:?}");
        }
        std::fs::write(dir.path().join("short"), "short").unwrap();
        let short = Jwt::open(&[provider(&dir.path().join("short"), Signing::HS256)]);
        assert!(short.err().unwrap().to_string().contains("at least 32 bytes"));
    }
}
