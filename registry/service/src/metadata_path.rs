//! Addresses below `/metadata/`, and which object each is. Pure.

use object_store::path::Path;
use sentinel_trust::repository::Role;
use sentinel_trust::{Digest, PublisherName};

use crate::store::path;

/// What an address below `/metadata/` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MetadataPath {
    /// A root of a version.
    Root(u64),
    /// A file of the other roles, of a version; none for the timestamp, which has one place.
    Role(Role, u64),
    /// A publisher's index: its number and its digest.
    Publisher(PublisherName, u64, Digest),
}

fn number(text: &str) -> Option<u64> {
    // One text for each number.
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

impl MetadataPath {
    /// Reads an address; nothing where it means nothing.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text == Role::Timestamp.path(0) {
            return Some(Self::Role(Role::Timestamp, 0));
        }
        if let Some(rest) = text.strip_prefix("publishers/") {
            let (publisher, file) = rest.split_once('/')?;
            let (count, hex) = file.strip_suffix(".json")?.split_once('.')?;
            let digest = format!("sha256:{hex}").parse().ok()?;
            return Some(Self::Publisher(publisher.parse().ok()?, number(count)?, digest));
        }
        let (version, _) = text.split_once('.')?;
        let version = number(version)?;
        let role = Role::ALL.into_iter().find(|role| role.path(version) == text)?;
        Some(if role == Role::Root { Self::Root(version) } else { Self::Role(role, version) })
    }
}

/// The object that holds a file by itself; nothing for those that only commits hold.
pub(crate) fn object_of(at: &MetadataPath) -> Option<Path> {
    match at {
        MetadataPath::Root(version) => Some(path(&["metadata", "roots", &version.to_string()])),
        MetadataPath::Role(..) => None,
        MetadataPath::Publisher(publisher, number, digest) => {
            let file = format!("{number}.{}", digest.to_hex());
            Some(path(&["metadata", "publishers", publisher.as_str(), &file]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_a_registry_has_are_addresses() {
        let hex = "0".repeat(64);
        let digest = Digest::from_bytes([0; 32]);
        for (text, expected) in [
            ("timestamp.json", Some(MetadataPath::Role(Role::Timestamp, 0))),
            ("1.root.json", Some(MetadataPath::Root(1))),
            ("12.index.json", Some(MetadataPath::Role(Role::Index, 12))),
            (
                &format!("publishers/acme/3.{hex}.json"),
                Some(MetadataPath::Publisher("acme".parse().unwrap(), 3, digest)),
            ),
            ("", None),
            ("root.json", None),
            ("01.root.json", None),
            ("+1.root.json", None),
            ("1.root.json/..", None),
            ("../auth/tokens/x", None),
            ("1.other.json", None),
            ("1.timestamp.json", None),
            (&format!("publishers/../3.{hex}.json"), None),
            (&format!("publishers/acme/../3.{hex}.json"), None),
            (&format!("publishers/acme/3.{hex}"), None),
            ("publishers/acme/3.json", None),
        ] {
            assert_eq!(MetadataPath::parse(text), expected, "{text}");
        }
    }
}
