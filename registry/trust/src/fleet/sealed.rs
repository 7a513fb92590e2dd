//! The signature around a desired set.
//!
//! A sealed set is JSON: `{"format": 1, "set": BASE64, "signatures": [{"key_id",
//! "signature"}]}`, where `set` is the base64 of the set's JSON. The signed message is
//!
//! ```text
//! "sentinel-fleet-set-v1\0"
//! u64 big endian, length of the set's JSON      the set's JSON
//! ```
//!
//! so that what was signed is the very bytes that are read, and no signature over a plugin
//! or an index passes for one over a set.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::set::{DesiredSet, FleetId, MAX_SET_BYTES, SET_FORMAT};
use crate::keys::{KeyId, PublicKey};
use crate::repository::{KeyPurpose, RoleKey};
use crate::signature::{MAX_SIGNATURES, SignatureBytes};
use crate::text::message;

/// What every signed message starts with.
pub const FLEET_SIGNED_PREFIX: &[u8] = b"sentinel-fleet-set-v1\0";
/// Most bytes of a sealed set: base64 of [`MAX_SET_BYTES`] and the signatures.
pub const MAX_SEALED_BYTES: usize = MAX_SET_BYTES / 3 * 4 + (16 << 10);

/// Whose word counts on a host: pinned at enrolment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operators {
    /// Which fleet the host belongs to.
    pub fleet: FleetId,
    /// Keys of which any one decides.
    pub keys: Vec<PublicKey>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    key_id: KeyId,
    signature: SignatureBytes,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    format: u32,
    set: String,
    signatures: Vec<Entry>,
}

/// A set whose signature was verified against pinned keys.
#[derive(Debug, Clone, PartialEq)]
pub struct SealedSet {
    set: DesiredSet,
    signer: PublicKey,
}

impl SealedSet {
    /// What it says.
    #[must_use]
    pub const fn set(&self) -> &DesiredSet {
        &self.set
    }

    /// The key that signed it.
    #[must_use]
    pub const fn signer(&self) -> &PublicKey {
        &self.signer
    }
}

/// Why a set was not signed.
#[derive(Debug, thiserror::Error)]
#[error("the set was not signed:\n  {}", .0.join("\n  "))]
pub struct SealError(pub Vec<String>);

/// Why a sealed set counts for nothing on this host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unopened {
    /// Larger than [`MAX_SEALED_BYTES`].
    #[error("the desired set has {0} bytes; at most {MAX_SEALED_BYTES} are read")]
    TooBig(usize),
    /// Not what a sealed set looks like.
    #[error("this is not a desired set: {0}")]
    Shape(String),
    /// Of a later format.
    #[error("the desired set has format {0} and this host knows {SET_FORMAT}: upgrade the host")]
    OtherFormat(u32),
    /// No pinned key signed it.
    #[error(
        "no operator of this fleet signed the desired set (signed by {signed_by}; pinned here: {pinned}); whoever sent it is not who decides"
    )]
    Forged {
        /// Key ids that it names.
        signed_by: String,
        /// Key ids that count here.
        pinned: String,
    },
    /// Of another fleet.
    #[error("the desired set is for fleet {found} and this host belongs to {pinned}")]
    OtherFleet {
        /// Of the set.
        found: FleetId,
        /// Of the host.
        pinned: FleetId,
    },
    /// Not above what was applied before.
    #[error(
        "the desired set has number {found} and this host already has {have}; a set that was replaced never comes back under its number"
    )]
    NotNewer {
        /// Of the set.
        found: u64,
        /// Of the host.
        have: u64,
    },
    /// Signed, and still not to be applied.
    #[error("the desired set {number} cannot be meant:\n  {}", .problems.join("\n  "))]
    Problems {
        /// Its number.
        number: u64,
        /// Each with its path.
        problems: Vec<String>,
    },
}

/// What follows the prefix in the signed message.
fn content(set: &[u8]) -> Vec<u8> {
    [&(set.len() as u64).to_be_bytes(), set].concat()
}

/// Signs a set; the text is what travels.
///
/// # Errors
/// A set with problems, all of them.
pub fn seal(set: &DesiredSet, key: &RoleKey) -> Result<String, SealError> {
    let mut problems = set.problems();
    let json = serde_json::to_vec(set).map_err(|error| SealError(vec![error.to_string()]))?;
    if json.len() > MAX_SET_BYTES {
        problems.push(format!("it has {} bytes; at most {MAX_SET_BYTES} are allowed", json.len()));
    }
    if set.format != SET_FORMAT {
        problems.push(format!("format: {} instead of {SET_FORMAT}", set.format));
    }
    if key.purpose() != KeyPurpose::Operator {
        problems.push("the key is not an operator's; make one with `sentinel fleet init`".into());
    }
    if !problems.is_empty() {
        return Err(SealError(problems));
    }
    let entry = Entry {
        key_id: key.id(),
        signature: SignatureBytes::from(key.sign(FLEET_SIGNED_PREFIX, &content(&json))),
    };
    let envelope =
        Envelope { format: SET_FORMAT, set: STANDARD.encode(&json), signatures: vec![entry] };
    Ok(serde_json::to_string(&envelope).expect("strings and numbers"))
}

/// Opens a sealed set: signature first, and only then what is inside. `have` is the number
/// that the host applied before, 0 for none; a set must be newer.
///
/// # Errors
/// [`Unopened`], one variant for each reason; then the host goes on with what it has.
pub fn open(sealed: &[u8], operators: &Operators, have: u64) -> Result<SealedSet, Unopened> {
    if sealed.len() > MAX_SEALED_BYTES {
        return Err(Unopened::TooBig(sealed.len()));
    }
    let shape = |error: serde_json::Error| Unopened::Shape(message(&error));
    let envelope: Envelope = serde_json::from_slice(sealed).map_err(shape)?;
    if envelope.format != SET_FORMAT {
        return Err(Unopened::OtherFormat(envelope.format));
    }
    if envelope.signatures.len() > MAX_SIGNATURES {
        return Err(Unopened::Shape(format!("more than {MAX_SIGNATURES} signatures")));
    }
    let json =
        STANDARD.decode(&envelope.set).map_err(|_| Unopened::Shape("set: not base64".into()))?;
    let signer = signer(&content(&json), &envelope.signatures, operators)?;
    let set: DesiredSet = serde_json::from_slice(&json).map_err(shape)?;
    if set.format != SET_FORMAT {
        return Err(Unopened::OtherFormat(set.format));
    }
    if set.fleet != operators.fleet {
        return Err(Unopened::OtherFleet { found: set.fleet, pinned: operators.fleet });
    }
    let problems = set.problems();
    if !problems.is_empty() {
        return Err(Unopened::Problems { number: set.number, problems });
    }
    if set.number <= have {
        return Err(Unopened::NotNewer { found: set.number, have });
    }
    Ok(SealedSet { set, signer })
}

fn signer(content: &[u8], entries: &[Entry], pins: &Operators) -> Result<PublicKey, Unopened> {
    let fits = |key: &&PublicKey| {
        entries
            .iter()
            .filter(|entry| entry.key_id == key.id())
            .any(|e| key.verifies_content(FLEET_SIGNED_PREFIX, content, e.signature.as_bytes()))
    };
    let ids = |ids: Vec<String>| if ids.is_empty() { "nobody".to_owned() } else { ids.join(", ") };
    pins.keys.iter().find(fits).cloned().ok_or_else(|| Unopened::Forged {
        signed_by: ids(entries.iter().map(|entry| entry.key_id.to_string()).collect()),
        pinned: ids(pins.keys.iter().map(|key| key.id().to_string()).collect()),
    })
}
