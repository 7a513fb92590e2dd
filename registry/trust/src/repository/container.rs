//! Many named byte strings in one file: what a host trusts, and offline bundles.
//!
//! Little-endian:
//!
//! ```text
//! 0   8   magic, "SNTLSET\0"
//! 8   2   version of the format, 1
//! 10  2   kind: 1 what a host trusts, 2 a bundle
//! 12  4   number of entries
//!         each entry, by name, every name once:
//!     2     length of the name
//!     8     length of the data
//!     n     name, ASCII letters a-z, digits and `. / -`
//!     m     data
//! -32 32  SHA-256 of everything before it
//! ```
//!
//! Names are never file names: nothing of a container is unpacked.

use std::collections::BTreeMap;

use crate::digest::{DIGEST_BYTES, Digest};

const MAGIC: &[u8; 8] = b"SNTLSET\0";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 10;
/// Most entries: a registry's publishers and their plugins many times over.
const MAX_ENTRIES: usize = 100_000;
/// Most bytes of a name.
const MAX_NAME_BYTES: usize = 200;

/// What a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContainerKind {
    /// What a host trusts.
    State,
    /// An offline bundle.
    Bundle,
}

impl ContainerKind {
    const fn number(self) -> u16 {
        match self {
            Self::State => 1,
            Self::Bundle => 2,
        }
    }
}

/// Why bytes are not a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContainerError {
    /// Neither a state nor a bundle.
    #[error("it does not start as one")]
    OtherFile,
    /// A version that this crate does not know.
    #[error("its format is {0} and this host knows format {VERSION}: upgrade the host")]
    OtherVersion(u16),
    /// Its checksum does not fit.
    #[error("it was cut short or changed: its SHA-256 does not fit")]
    Checksum,
    /// Its checksum fits, its entries do not.
    #[error("it is malformed at byte {0}")]
    Malformed(usize),
}

/// Named byte strings.
#[derive(Debug)]
pub(super) struct Container<'a> {
    kind: ContainerKind,
    entries: BTreeMap<String, Data<'a>>,
}

#[derive(Debug)]
enum Data<'a> {
    Owned(Vec<u8>),
    Borrowed(&'a [u8]),
}

impl AsRef<[u8]> for Data<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Borrowed(bytes) => bytes,
        }
    }
}

impl<'a> Container<'a> {
    pub(super) const fn new(kind: ContainerKind) -> Self {
        Self { kind, entries: BTreeMap::new() }
    }

    /// Adds an entry, in place of one of the same name.
    pub(super) fn push(&mut self, name: &str, data: Vec<u8>) {
        debug_assert!(is_name(name.as_bytes()), "{name}");
        self.entries.insert(name.to_owned(), Data::Owned(data));
    }

    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        self.entries.get(name).map(AsRef::as_ref)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries.iter().map(|(name, data)| (name.as_str(), data.as_ref()))
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let size = |(name, data): (&str, &[u8])| ENTRY_BYTES + name.len() + data.len();
        let total = HEADER_BYTES + self.entries().map(size).sum::<usize>() + DIGEST_BYTES;
        let mut out = Vec::with_capacity(total);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.kind.number().to_le_bytes());
        let count = u32::try_from(self.entries.len()).expect("entries are bounded");
        out.extend_from_slice(&count.to_le_bytes());
        for (name, data) in self.entries() {
            let length = u16::try_from(name.len()).expect("names are bounded");
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(&(data.len() as u64).to_le_bytes());
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(data);
        }
        let digest = Digest::of(&out);
        out.extend_from_slice(digest.as_bytes());
        out
    }

    pub(super) fn read(kind: ContainerKind, bytes: &'a [u8]) -> Result<Self, ContainerError> {
        if bytes.len() < HEADER_BYTES + DIGEST_BYTES || bytes[..8] != MAGIC[..] {
            return Err(ContainerError::OtherFile);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(ContainerError::OtherVersion(version));
        }
        let (body, digest) = bytes.split_at(bytes.len() - DIGEST_BYTES);
        if Digest::of(body).as_bytes()[..] != *digest {
            return Err(ContainerError::Checksum);
        }
        if u16::from_le_bytes([bytes[10], bytes[11]]) != kind.number() {
            return Err(ContainerError::OtherFile);
        }
        let count = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        let mut container = Self::new(kind);
        let mut at = HEADER_BYTES;
        for _ in 0..count {
            let (name, data, next) = entry(body, at).ok_or(ContainerError::Malformed(at))?;
            let last = container.entries.last_key_value().map(|(last, _)| last.as_str());
            if last.is_some_and(|last| last >= name) || container.entries.len() == MAX_ENTRIES {
                return Err(ContainerError::Malformed(at));
            }
            container.entries.insert(name.to_owned(), Data::Borrowed(data));
            at = next;
        }
        if at != body.len() {
            return Err(ContainerError::Malformed(at));
        }
        Ok(container)
    }
}

/// The entry at `at`, and where the next begins.
fn entry(body: &[u8], at: usize) -> Option<(&str, &[u8], usize)> {
    let header = body.get(at..at.checked_add(ENTRY_BYTES)?)?;
    let name_bytes = usize::from(u16::from_le_bytes(header[..2].try_into().ok()?));
    let data_bytes = usize::try_from(u64::from_le_bytes(header[2..].try_into().ok()?)).ok()?;
    let name_at = at + ENTRY_BYTES;
    let data_at = name_at.checked_add(name_bytes)?;
    let end = data_at.checked_add(data_bytes)?;
    let name = body.get(name_at..data_at).filter(|name| is_name(name))?;
    let data = body.get(data_at..end)?;
    Some((std::str::from_utf8(name).ok()?, data, end))
}

fn is_name(name: &[u8]) -> bool {
    let allowed = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"./-".contains(b);
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.iter().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn container(entries: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
        let mut container = Container::new(ContainerKind::State);
        for (name, data) in entries {
            container.push(name, data.clone());
        }
        container.to_bytes()
    }

    fn read(bytes: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, ContainerError> {
        let container = Container::read(ContainerKind::State, bytes)?;
        Ok(container.entries().map(|(name, data)| (name.to_owned(), data.to_vec())).collect())
    }

    #[test]
    fn the_bytes_of_the_format_stay_what_they_are() {
        let bytes = container(&BTreeMap::from([("a".to_owned(), b"xyz".to_vec())]));
        assert_eq!(
            hex::encode(&bytes[..bytes.len() - DIGEST_BYTES]),
            "534e544c53455400010001000100000001000300000000000000617879 7a".replace(' ', "")
        );
        assert_eq!(bytes[bytes.len() - DIGEST_BYTES..], *Digest::of(&bytes[..30]).as_bytes());
    }

    #[test]
    fn a_container_of_another_kind_or_version_is_refused() {
        let bytes = container(&BTreeMap::new());
        assert!(matches!(
            Container::read(ContainerKind::Bundle, &bytes),
            Err(ContainerError::OtherFile)
        ));
        let mut newer = bytes;
        newer[8] = 2;
        assert_eq!(read(&newer), Err(ContainerError::OtherVersion(2)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_cut_or_changed_anywhere_it_is_refused(
            entries in prop::collection::btree_map("[a-z0-9./-]{1,12}", prop::collection::vec(any::<u8>(), 0..40), 0..6),
            at in any::<prop::sample::Index>(), mask in 1..=255_u8,
        ) {
            let bytes = container(&entries);
            prop_assert_eq!(read(&bytes), Ok(entries));
            let at = at.index(bytes.len());
            prop_assert!(read(&bytes[..at]).is_err());
            let mut changed = bytes;
            changed[at] ^= mask;
            prop_assert!(read(&changed).is_err());
        }

        #[test]
        fn entries_of_arbitrary_bytes_are_an_error_or_an_answer(body in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = container(&BTreeMap::new());
            bytes.truncate(12);
            bytes.extend_from_slice(&body);
            let digest = Digest::of(&bytes);
            bytes.extend_from_slice(digest.as_bytes());
            if let Ok(entries) = read(&bytes) {
                prop_assert_eq!(container(&entries), bytes);
            }
        }
    }
}
