//! What a host is given once, over a way that it trusts: the root to start from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::MetadataError;
use super::metadata::MetadataFile;
use super::publishers::MAX_PUBLISHER_KEYS;
use super::role::Role;
use crate::keys::PublicKey;
use crate::name::PublisherName;
use crate::text::message;

/// The format of enrolments that this crate reads and writes.
pub const ENROLMENT_FORMAT: u32 = 1;
/// Most bytes of an enrolment.
pub const MAX_ENROLMENT_BYTES: usize = 1 << 20;

/// The least versions that a new host accepts, so that nobody shows it a registry of long ago.
/// Zero asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MinimumVersions {
    /// Of targets.
    pub targets: u64,
    /// Of the index.
    pub index: u64,
    /// Of the snapshot.
    pub snapshot: u64,
    /// Of the timestamp.
    pub timestamp: u64,
    /// The least number of a publisher's own index.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub publishers: BTreeMap<PublisherName, u64>,
}

/// What a host starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// The root that it trusts, whatever its version.
    pub root: MetadataFile,
    /// The least versions that it accepts.
    pub minimum: MinimumVersions,
    /// Keys of the operators whose bundles it believes.
    pub operators: Vec<PublicKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    root: Box<RawValue>,
    #[serde(default)]
    minimum: MinimumVersions,
    #[serde(default)]
    operators: Vec<PublicKey>,
}

impl Enrolment {
    /// The enrolment as a file.
    #[must_use]
    pub fn to_json(&self) -> String {
        let root = String::from_utf8_lossy(self.root.bytes()).trim().to_owned();
        let file = File {
            format: ENROLMENT_FORMAT,
            root: RawValue::from_string(root).expect("a root that was read is JSON"),
            minimum: self.minimum.clone(),
            operators: self.operators.clone(),
        };
        let mut text = serde_json::to_string(&file).expect("it holds only strings and numbers");
        text.push('\n');
        text
    }

    /// Reads an enrolment. Whoever gives it is believed; that its root was signed by its own
    /// keys is checked when it is used.
    ///
    /// # Errors
    ///
    /// [`MetadataError::Unreadable`] or [`MetadataError::TooBig`].
    pub fn from_json(json: &[u8]) -> Result<Self, MetadataError> {
        let refused = |why: String| MetadataError::Unreadable { role: Role::Root, why };
        if json.len() > MAX_ENROLMENT_BYTES {
            return Err(refused(format!("an enrolment has at most {MAX_ENROLMENT_BYTES} bytes")));
        }
        let file: File = serde_json::from_slice(json).map_err(|error| refused(message(&error)))?;
        if file.format != ENROLMENT_FORMAT {
            return Err(refused(format!(
                "the enrolment's format is {} and this host knows format {ENROLMENT_FORMAT}",
                file.format
            )));
        }
        if file.operators.len() > MAX_PUBLISHER_KEYS {
            return Err(refused(format!("more than {MAX_PUBLISHER_KEYS} operators")));
        }
        let root = MetadataFile::read(Role::Root, file.root.get().as_bytes().to_vec())?;
        Ok(Self { root, minimum: file.minimum, operators: file.operators })
    }
}
