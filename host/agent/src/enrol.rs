//! Who an agent is: its id and its key, got once from the server.

use crate::agent::IDENTITY;
use crate::config::AgentConfig;
use crate::fleet::labels;
use crate::link::{LinkError, LinkTls};
use crate::servers::{ServerAddress, Servers};
use async_trait::async_trait;
use sentinel_files::{PrivateError, private_or_made, read_private};
use sentinel_fleet::{EnrolmentError, Pins};
use sentinel_model::ids::AgentId;
use sentinel_wire::key::AgentKey;
use sentinel_wire::v1::{RegisterRequest, RegisterResponse};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, Zeroizing};

/// The file of what the agent was given at its enrolment, beside its identity.
pub const ENROLMENT: &str = "enrolment.json";
/// The most bytes of an identity's file.
const MAX_FILE: usize = 64 << 10;
/// Bytes of an enrolment's nonce.
const NONCE: usize = 16;

/// Why an agent has no identity.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The file cannot be read or written.
    #[error("the agent's identity {path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not one.
    #[error("the agent's identity {path} {why}; restore it, or remove it and enrol again", path = path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        why: String,
    },
    /// There is none, and no token to get one.
    #[error(
        "this agent is not enrolled and there is no token; make one with `sentinel token create` on the server and give it with --token"
    )]
    NoToken,
    /// The server refused or is not reachable.
    #[error("enrolment at {server}: {source}")]
    Server {
        /// Which.
        server: String,
        /// Why.
        source: LinkError,
    },
    /// The token or the enrolment is not what it should be; nothing of it was kept.
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
    /// There is none now.
    #[error("no token for the enrolment: {0}")]
    Token(String),
    /// Whoever approves could not be asked.
    #[error("the enrolment is not approved yet: {0}")]
    Approval(String),
    /// No id was given, and the host's name does not serve as one.
    #[error("the host's name {0:?} cannot be the agent's id; set `agent.id` in the configuration")]
    HostName(String),
}

impl From<PrivateError> for EnrolError {
    fn from(error: PrivateError) -> Self {
        match error {
            PrivateError::Io { path, source } => Self::Io { path, source },
            PrivateError::Exposed { path } => {
                Self::Damaged { path, why: "can be read by others".to_owned() }
            }
            PrivateError::TooLarge { path, .. } => {
                Self::Damaged { path, why: "is too large".to_owned() }
            }
        }
    }
}

/// An agent's id and key.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its id.
    pub id: AgentId,
    /// Its key.
    pub key: AgentKey,
    /// The key before it, in case that the server was set back behind the change.
    pub before: Option<AgentKey>,
}

/// An agent that the server took and does not let push yet.
#[derive(Debug, Clone, Copy)]
pub struct Waiting<'a> {
    /// Its id.
    pub id: &'a AgentId,
    /// The key that was made for it.
    pub key_id: u32,
    /// Its machine, as the server was told.
    pub hw_id: &'a str,
}

/// What becomes of an agent that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Approval {
    /// It may push.
    Given,
    /// An operator decides, since …
    Awaited(String),
}

/// How an agent without an identity gets one.
#[async_trait]
pub trait Enrolment: Send + Sync {
    /// Whether there may be a token; asked once, at the start.
    fn is_possible(&self) -> bool;

    /// A token, asked for anew at each attempt.
    ///
    /// # Errors
    /// Why there is none now; asked again later.
    async fn token(&self) -> Result<Zeroizing<String>, String>;

    /// The server took the agent, and wants it approved, since its id or machine was enrolled
    /// before. Nothing is kept yet: after an error the agent enrols again.
    ///
    /// # Errors
    /// Why it could not be decided now.
    async fn waiting(&self, agent: Waiting<'_>) -> Result<Approval, String>;
}

/// With the token that an operator gave; an operator approves.
pub struct GivenToken(pub Option<Zeroizing<String>>);

#[async_trait]
impl Enrolment for GivenToken {
    fn is_possible(&self) -> bool {
        self.0.is_some()
    }

    async fn token(&self) -> Result<Zeroizing<String>, String> {
        self.0.clone().ok_or_else(|| EnrolError::NoToken.to_string())
    }

    async fn waiting(&self, _: Waiting<'_>) -> Result<Approval, String> {
        Ok(Approval::Awaited("its id or this machine was enrolled before".to_owned()))
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    id: AgentId,
    key_id: u32,
    /// Hexadecimal.
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<StoredKey>,
}

#[derive(Serialize, Deserialize)]
struct StoredKey {
    key_id: u32,
    /// Hexadecimal.
    key: String,
}

impl StoredKey {
    fn of(key: &AgentKey) -> Self {
        Self { key_id: key.id(), key: hex::encode(key.expose()) }
    }

    fn key(&self) -> Result<AgentKey, String> {
        let secret = hex::decode(&self.key).map(Zeroizing::new);
        let secret = secret.map_err(|_| "has a malformed key".to_owned())?;
        AgentKey::new(self.key_id, &secret).map_err(|error| error.to_string())
    }
}

impl Drop for StoredKey {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl Identity {
    /// Reads the file; `None` where there is none.
    ///
    /// # Errors
    /// A file that others may read, or that is not an identity.
    pub fn load(path: &Path) -> Result<Option<Self>, EnrolError> {
        let damaged =
            |why: &str| EnrolError::Damaged { path: path.to_owned(), why: why.to_owned() };
        let bytes = read_private(path, MAX_FILE).map_err(EnrolError::from)?;
        let Some(bytes) = bytes else { return Ok(None) };
        let stored: Stored = serde_json::from_slice(&bytes).map_err(|e| damaged(&e.to_string()))?;
        let now = StoredKey { key_id: stored.key_id, key: stored.key };
        let key = now.key().map_err(|e| damaged(&e))?;
        let before = stored.before.map(|before| before.key()).transpose();
        Ok(Some(Self { id: stored.id, key, before: before.map_err(|e| damaged(&e))? }))
    }

    /// Writes the file (0600), in place of what is there; durable when this returns.
    ///
    /// # Errors
    /// [`EnrolError::Io`].
    pub fn save(&self, path: &Path) -> Result<(), EnrolError> {
        let key = hex::encode(self.key.expose());
        let (id, key_id) = (self.id.clone(), self.key.id());
        let before = self.before.as_ref().map(StoredKey::of);
        let mut stored = Stored { version: 1, id, key_id, key, before };
        let bytes = Zeroizing::new(serde_json::to_vec(&stored).expect("texts serialise"));
        stored.key.zeroize();
        sentinel_files::replace(path, &bytes, 0o600)
            .map_err(|source| EnrolError::Io { path: path.to_owned(), source })
    }

    /// The stored identity, or a new one from the server. It is kept when it may push, or when
    /// somebody else has to decide that; until then the next attempt asks for the same enrolment,
    /// also after a restart, so that an answer that was lost costs no other use of the token.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub async fn obtain(
        path: &Path,
        wished: Option<&AgentId>,
        labels: &BTreeMap<String, String>,
        enrolment: &dyn Enrolment,
        link: &Servers,
    ) -> Result<Self, EnrolError> {
        if let Some(known) = Self::load(path)? {
            return Ok(known);
        }
        let hostname = sysinfo::System::host_name().unwrap_or_default();
        let id = match wished {
            Some(id) => id.clone(),
            None => default_id(&hostname)?,
        };
        can_keep(path)?;
        let attempt = path.with_extension("enrolling");
        let nonce = nonce(&attempt)?;
        let token = enrolment.token().await.map_err(EnrolError::Token)?;
        let (secret, pins) = Pins::split(&token)?;
        let hw_id = hardware_id(&hostname);
        let request = RegisterRequest {
            token: secret.to_owned(),
            agent_id: id.to_string(),
            hw_id: hw_id.clone(),
            hostname,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            labels: labels.clone().into_iter().collect(),
            nonce,
        };
        let server = |source| EnrolError::Server { server: link.shown(), source };
        let mut answer = registered(link, &request).await.map_err(server)?;
        let key = AgentKey::new(answer.key_id, &answer.key);
        answer.key.zeroize();
        let key = key.map_err(|e| server(LinkError::Answer(e.to_string())))?;
        if let Some(pins) = pins {
            let promised = pins.check(&answer.enrolment)?;
            promised.save(&path.with_file_name(ENROLMENT))?;
        }
        let identity = Self { id, key, before: None };
        if !answer.approved {
            let asked = Waiting { id: &identity.id, key_id: answer.key_id, hw_id: &hw_id };
            match enrolment.waiting(asked).await.map_err(EnrolError::Approval)? {
                Approval::Given => {}
                Approval::Awaited(why) => {
                    tracing::warn!(agent = %identity.id, "enrolled, {why}: an operator must approve it (`sentinel agents approve`)");
                }
            }
        }
        identity.save(path)?;
        // One that stays behind is good for nothing but the enrolment that is over.
        let _ = fs::remove_file(&attempt);
        Ok(identity)
    }
}

/// Asks one server after the other, each way once.
async fn registered(
    link: &Servers,
    request: &RegisterRequest,
) -> Result<RegisterResponse, LinkError> {
    loop {
        match link.register(request.clone()).await {
            Err(LinkError::Elsewhere { wait, .. }) => tokio::time::sleep(wait).await,
            done => return done,
        }
    }
}

/// Enrols an agent before it is started, unless it is enrolled: one attempt. What its token
/// promises is kept beside its identity, in [`ENROLMENT`].
///
/// # Errors
/// [`EnrolError`]; [`EnrolError::Server`] may be otherwise later.
pub async fn join(
    folder: &Path,
    config: &AgentConfig,
    servers: &[ServerAddress],
    tls: &LinkTls,
    enrolment: &dyn Enrolment,
) -> Result<Identity, EnrolError> {
    let named = servers.first().map(|one| one.grpc.clone()).unwrap_or_default();
    let failed = |source| EnrolError::Server { server: named, source };
    let link = Servers::new(servers, tls).map_err(failed)?;
    let labels = labels(config, None);
    Identity::obtain(&folder.join(IDENTITY), config.id.as_ref(), &labels, enrolment, &link).await
}

/// The nonce of the enrolment that is under way, durable before it is used.
fn nonce(path: &Path) -> Result<Vec<u8>, EnrolError> {
    let fresh = || {
        let mut bytes = Zeroizing::new(vec![0; NONCE]);
        getrandom::fill(&mut bytes).expect("the system gives random bytes");
        bytes
    };
    let bytes = private_or_made(path, NONCE, fresh)?;
    if bytes.len() != NONCE {
        let why = format!("has {} bytes, {NONCE} are needed", bytes.len());
        return Err(EnrolError::Damaged { path: path.to_owned(), why });
    }
    Ok(bytes.to_vec())
}

/// A token is not spent on an identity that could not be kept.
fn can_keep(path: &Path) -> Result<(), EnrolError> {
    let probe = path.with_extension("probe");
    let io = |source| EnrolError::Io { path: path.to_owned(), source };
    sentinel_files::replace(&probe, b"", 0o600).map_err(io)?;
    fs::remove_file(&probe).map_err(io)
}

/// The host's name in the form of an id.
fn default_id(hostname: &str) -> Result<AgentId, EnrolError> {
    let text: String = hostname.to_ascii_lowercase().chars().take(64).collect();
    AgentId::new(&text).map_err(|_| EnrolError::HostName(hostname.to_owned()))
}

/// A hash of what identifies the machine, so that its raw id leaves it in no form that means
/// anything elsewhere.
fn hardware_id(hostname: &str) -> String {
    let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let machine = machine.trim();
    let source = if machine.is_empty() { hostname } else { machine };
    hex::encode(Sha256::new().chain_update(b"sentinel-hw-id-v1\0").chain_update(source).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_identity_survives_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.json");
        assert!(Identity::load(&path).unwrap().is_none());
        let before = Some(AgentKey::random(2));
        let id = AgentId::new("a").unwrap();
        let identity = Identity { id, key: AgentKey::random(3), before };
        identity.save(&path).unwrap();
        let back = Identity::load(&path).unwrap().unwrap();
        assert_eq!((&back.id, back.key.id()), (&identity.id, 3));
        assert_eq!(back.key.expose(), identity.key.expose());
        let before =
            |it: &Identity| it.before.as_ref().map(|key| (key.id(), key.expose().to_vec()));
        assert_eq!(before(&back), before(&identity));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Identity::load(&path).is_err());
    }

    #[test]
    fn a_hardware_id_has_64_digits_and_an_id_is_lower_case() {
        assert_eq!(hardware_id("x").len(), 64);
        assert_eq!(default_id("Web-01").unwrap().as_str(), "web-01");
        assert!(default_id("").is_err());
    }
}
