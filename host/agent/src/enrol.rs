//! Who an agent is: its id and its key, got once from the server.

use crate::link::{Link, LinkError};
use sentinel_model::ids::AgentId;
use sentinel_wire::key::AgentKey;
use sentinel_wire::v1::RegisterRequest;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, Zeroizing};

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
    /// No id was given, and the host's name does not serve as one.
    #[error("the host's name {0:?} cannot be the agent's id; set `agent.id` in the configuration")]
    HostName(String),
}

/// An agent's id and key.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its id.
    pub id: AgentId,
    /// Its key.
    pub key: AgentKey,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    id: AgentId,
    key_id: u32,
    /// Hexadecimal.
    key: String,
}

impl Identity {
    /// Reads the file; `None` where there is none.
    ///
    /// # Errors
    /// A file that others may read, or that is not an identity.
    pub fn load(path: &Path) -> Result<Option<Self>, EnrolError> {
        let io = |source| EnrolError::Io { path: path.to_owned(), source };
        let damaged =
            |why: &str| EnrolError::Damaged { path: path.to_owned(), why: why.to_owned() };
        let bytes = match fs::read(path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io(e)),
        };
        if fs::metadata(path).map_err(io)?.permissions().mode() & 0o077 != 0 {
            return Err(damaged("can be read by others"));
        }
        let mut stored: Stored =
            serde_json::from_slice(&bytes).map_err(|e| damaged(&e.to_string()))?;
        let secret = hex::decode(&stored.key).map(Zeroizing::new);
        stored.key.zeroize();
        let secret = secret.map_err(|_| damaged("has a malformed key"))?;
        let key = AgentKey::new(stored.key_id, &secret).map_err(|e| damaged(&e.to_string()))?;
        Ok(Some(Self { id: stored.id, key }))
    }

    fn save(&self, path: &Path) -> Result<(), EnrolError> {
        let key = hex::encode(self.key.expose());
        let mut stored = Stored { version: 1, id: self.id.clone(), key_id: self.key.id(), key };
        let bytes = Zeroizing::new(serde_json::to_vec(&stored).expect("texts serialise"));
        stored.key.zeroize();
        let part = path.with_extension("part");
        let write = || -> std::io::Result<()> {
            let mut options = fs::OpenOptions::new();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&part, path)
        };
        write().map_err(|source| EnrolError::Io { path: path.to_owned(), source })
    }

    /// The stored identity, or a new one from the server for a token.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub async fn obtain(
        path: &Path,
        wished: Option<&AgentId>,
        token: Option<&str>,
        link: &mut Link,
    ) -> Result<Self, EnrolError> {
        if let Some(known) = Self::load(path)? {
            return Ok(known);
        }
        let token = token.ok_or(EnrolError::NoToken)?;
        let hostname = sysinfo::System::host_name().unwrap_or_default();
        let id = match wished {
            Some(id) => id.clone(),
            None => default_id(&hostname)?,
        };
        let request = RegisterRequest {
            token: token.to_owned(),
            agent_id: id.to_string(),
            hw_id: hardware_id(&hostname),
            hostname,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            labels: Default::default(),
        };
        let server = |source| EnrolError::Server { server: link.server().to_owned(), source };
        let mut answer = link.clone().register(request).await.map_err(server)?;
        let key = AgentKey::new(answer.key_id, &answer.key);
        answer.key.zeroize();
        let key = key.map_err(|e| server(LinkError::Answer(e.to_string())))?;
        let identity = Self { id, key };
        identity.save(path)?;
        if !answer.approved {
            tracing::warn!(agent = %identity.id, "enrolled before: an operator must approve it (`sentinel agents approve`)");
        }
        Ok(identity)
    }
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

    #[test]
    fn an_identity_survives_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.json");
        assert!(Identity::load(&path).unwrap().is_none());
        let identity = Identity { id: AgentId::new("a").unwrap(), key: AgentKey::random(3) };
        identity.save(&path).unwrap();
        let back = Identity::load(&path).unwrap().unwrap();
        assert_eq!((back.id, back.key.id()), (identity.id, 3));
        assert_eq!(back.key.expose(), identity.key.expose());
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
