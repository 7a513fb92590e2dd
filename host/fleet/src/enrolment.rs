//! What a host is given once, and what of it was promised beforehand.
//!
//! ```text
//! token        SECRET.FLEET.HASH      from an operator, over a way that is trusted
//! enrolment    {"format": 1, "registry": URL, "fleet": ID, "enrolment": {...}}    from a server
//! ```
//!
//! The secret lets a host enrol; the rest are [`Pins`]: the fleet it will belong to and the
//! SHA-256 of the enrolment without the registry's address, which is of the registry's root
//! metadata, the least versions and the operators. So a server that lies about any of it is
//! found out before anything of it is kept. Where the registry is, the server says: a registry
//! is believed nothing that the root's keys did not sign, so another address can withhold and
//! no more, and a token outlives a registry that moves.

use sentinel_files::{PrivateError, read_private};
use sentinel_trust::Digest;
use sentinel_trust::fleet::{FleetId, Operators};
use sentinel_trust::repository::{Enrolment, MAX_ENROLMENT_BYTES};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fmt;
use std::path::Path;

/// The format of enrolments of hosts.
const FORMAT: u32 = 1;
/// Most bytes of one.
pub const MAX_HOST_ENROLMENT: usize = MAX_ENROLMENT_BYTES + (8 << 10);
/// Longest address of a registry.
const MAX_URL: usize = 2048;
/// Mode of its file.
const MODE: u32 = 0o600;

/// Why an enrolment counts for nothing.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// The token has parts, and they are no pins.
    #[error("the enrolment token is malformed; copy it whole: three parts with dots between them")]
    Token,
    /// It is not what was promised.
    #[error(
        "the server gives another enrolment than the token promises ({why}): somebody is between this host and the fleet's server, or the fleet's registry or operators are others since the token was made; make a new token"
    )]
    NotPromised {
        /// What differs.
        why: String,
    },
    /// It is not one.
    #[error("this is no enrolment of a host: {0}")]
    Unreadable(String),
    /// Its file cannot be read or written.
    #[error("the enrolment of this host: {0}")]
    File(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    registry: String,
    fleet: FleetId,
    enrolment: Box<RawValue>,
}

/// Everything a host begins with: where plugins come from, whom to trust for them, and who
/// decides what runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEnrolment {
    registry: String,
    fleet: FleetId,
    enrolment: Enrolment,
    /// SHA-256 of all but the registry's address.
    promise: Digest,
    bytes: Vec<u8>,
}

impl HostEnrolment {
    /// For the hosts of a fleet, whose plugins come from the registry at this address.
    ///
    /// # Errors
    /// [`EnrolmentError::Unreadable`] where the address is too long.
    pub fn new(
        registry: &str,
        fleet: FleetId,
        enrolment: &Enrolment,
    ) -> Result<Self, EnrolmentError> {
        let json = enrolment.to_json().trim().to_owned();
        let document = Document {
            format: FORMAT,
            registry: registry.to_owned(),
            fleet,
            enrolment: RawValue::from_string(json).map_err(unreadable)?,
        };
        Self::from_bytes(&serde_json::to_vec(&document).map_err(unreadable)?)
    }

    /// Reads one. Whoever gives it is believed: see [`Pins::check`].
    ///
    /// # Errors
    /// [`EnrolmentError::Unreadable`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EnrolmentError> {
        if bytes.len() > MAX_HOST_ENROLMENT {
            return Err(unreadable(format!("more than {MAX_HOST_ENROLMENT} bytes")));
        }
        let document: Document = serde_json::from_slice(bytes).map_err(unreadable)?;
        if document.format != FORMAT {
            return Err(unreadable(format!("its format is {}", document.format)));
        }
        if document.registry.is_empty() || document.registry.len() > MAX_URL {
            return Err(unreadable("the registry's address is not one"));
        }
        let enrolment = Enrolment::from_json(document.enrolment.get().as_bytes());
        let enrolment = enrolment.map_err(unreadable)?;
        let (registry, fleet) = (document.registry.clone(), document.fleet);
        let anywhere = Document { registry: String::new(), ..document };
        let promise = Digest::of(&serde_json::to_vec(&anywhere).map_err(unreadable)?);
        Ok(Self { registry, fleet, enrolment, promise, bytes: bytes.to_vec() })
    }

    /// As it was given.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where plugins come from.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Whom to trust for plugins.
    #[must_use]
    pub const fn enrolment(&self) -> &Enrolment {
        &self.enrolment
    }

    /// Who decides what runs.
    #[must_use]
    pub fn operators(&self) -> Operators {
        Operators { fleet: self.fleet, keys: self.enrolment.operators.clone() }
    }

    /// What a token promises of it.
    #[must_use]
    pub fn pins(&self) -> Pins {
        Pins { fleet: self.fleet, hash: self.promise }
    }

    /// What a host kept; `None` where it kept none.
    ///
    /// # Errors
    /// A file that cannot be read, that others may read, or that is damaged.
    pub fn load(path: &Path) -> Result<Option<Self>, EnrolmentError> {
        let file = |error: PrivateError| EnrolmentError::File(error.to_string());
        match read_private(path, MAX_HOST_ENROLMENT).map_err(file)? {
            None => Ok(None),
            Some(bytes) => Self::from_bytes(&bytes).map(Some).map_err(|error| {
                EnrolmentError::File(format!("{} is damaged: {error}", path.display()))
            }),
        }
    }

    /// Keeps it; durable when this returns.
    ///
    /// # Errors
    /// The disk's.
    pub fn save(&self, path: &Path) -> Result<(), EnrolmentError> {
        sentinel_files::replace(path, &self.bytes, MODE)
            .map_err(|error| EnrolmentError::File(format!("{}: {error}", path.display())))
    }
}

fn unreadable(why: impl fmt::Display) -> EnrolmentError {
    EnrolmentError::Unreadable(why.to_string())
}

/// What a token promises of the enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pins {
    /// The fleet that the host will belong to.
    pub fleet: FleetId,
    /// SHA-256 of the enrolment but for the registry's address.
    pub hash: Digest,
}

impl Pins {
    /// The enrolment that a server gave, if it is the one that was promised.
    ///
    /// # Errors
    /// [`EnrolmentError::NotPromised`] and [`EnrolmentError::Unreadable`]; nothing of it may be
    /// kept then.
    pub fn check(&self, given: &[u8]) -> Result<HostEnrolment, EnrolmentError> {
        let differs = |why: String| EnrolmentError::NotPromised { why };
        if given.is_empty() {
            return Err(differs("it gives none".to_owned()));
        }
        let enrolment = HostEnrolment::from_bytes(given)?;
        if enrolment.promise != self.hash {
            return Err(differs("its content is not the one that was pinned".to_owned()));
        }
        if enrolment.fleet != self.fleet {
            return Err(differs(format!("it is for fleet {}", enrolment.fleet)));
        }
        Ok(enrolment)
    }

    /// The token of which these are the pins.
    #[must_use]
    pub fn token(&self, secret: &str) -> String {
        format!("{secret}.{}.{}", self.fleet, self.hash.to_hex())
    }

    /// The secret of a token, for the server, and what it promises; a token without parts
    /// promises nothing.
    ///
    /// # Errors
    /// [`EnrolmentError::Token`].
    pub fn split(token: &str) -> Result<(&str, Option<Self>), EnrolmentError> {
        let parts: Vec<&str> = token.split('.').collect();
        match parts[..] {
            [secret] => Ok((secret, None)),
            [secret, fleet, hash] => {
                let fleet = fleet.parse().map_err(|_| EnrolmentError::Token)?;
                let hash = format!("sha256:{hash}").parse().map_err(|_| EnrolmentError::Token)?;
                Ok((secret, Some(Self { fleet, hash })))
            }
            _ => Err(EnrolmentError::Token),
        }
    }
}
