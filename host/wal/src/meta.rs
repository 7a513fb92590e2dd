//! The meta file (offsets and the owner's tag) and the marker of a clean shutdown: their bytes and their replacement.

use std::collections::BTreeSet;
use std::io;

use crate::format::{MAX_NUMBER, epoch_at, u32_at, u64_at};
use crate::{Epoch, Error, MAX_EPOCHS, MAX_META_BYTES, MAX_TAG_BYTES, Result, Storage};

pub(crate) const META_FILE: &str = "meta";
const META_SPARE: &str = "meta.next";
pub(crate) const CLEAN_FILE: &str = "clean";
const CLEAN_SPARE: &str = "clean.next";
const META_MAGIC: [u8; 8] = *b"SNTLMETA";
const CLEAN_MAGIC: [u8; 8] = *b"SNTLCLN\n";
pub(crate) const META_VERSION: u16 = 1;
const HEAD_BYTES: usize = 16;
const EPOCH_BYTES: usize = 64;
const CLEAN_BYTES: usize = 40;
const FLAG_SEALED: u64 = 1;
/// Room reserved for the next meta file ahead of time, so that a full disk does not stop committed segments from
/// being removed. More is reserved when more is needed.
const SPARE_BYTES: u64 = 4 << 10;

/// What the meta file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) dropped_records: u64,
    pub(crate) tag: Vec<u8>,
    pub(crate) epochs: Vec<EpochMeta>,
}

/// What the meta file says of one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EpochMeta {
    pub(crate) epoch: Epoch,
    pub(crate) synced: u64,
    pub(crate) accepted: u64,
    pub(crate) committed: u64,
    pub(crate) dropped_through: u64,
    /// Number of its last segment; 0 when it had none any more.
    pub(crate) last_segment: u64,
    /// Nothing was written after `synced`, and all of it was checked.
    pub(crate) sealed: bool,
}

impl EpochMeta {
    /// An epoch that began after the meta file was written.
    pub(crate) fn new(epoch: Epoch) -> EpochMeta {
        EpochMeta {
            epoch,
            synced: 0,
            accepted: 0,
            committed: 0,
            dropped_through: 0,
            last_segment: 0,
            sealed: false,
        }
    }

    /// Whether a log can have written it.
    fn is_sound(&self) -> bool {
        self.committed <= self.accepted
            && self.accepted <= self.synced
            && [self.synced, self.dropped_through, self.last_segment]
                .iter()
                .all(|n| *n <= MAX_NUMBER)
    }
}

/// What was found in place of a meta file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MetaFound {
    Intact(Meta),
    Missing,
    Damaged,
}

impl Meta {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.tag.len() + self.epochs.len() * EPOCH_BYTES);
        out.extend_from_slice(&META_MAGIC);
        out.extend_from_slice(&META_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.dropped_records.to_le_bytes());
        out.extend_from_slice(&(self.tag.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.epochs.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.tag);
        for e in &self.epochs {
            out.extend_from_slice(&e.epoch.0);
            let flags = u64::from(e.sealed) * FLAG_SEALED;
            for value in
                [e.synced, e.accepted, e.committed, e.dropped_through, e.last_segment, flags]
            {
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
        let length = (out.len() - HEAD_BYTES) as u32;
        out[12..16].copy_from_slice(&length.to_le_bytes());
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// `Ok(None)` when damaged, `Err(version)` when intact and newer. Bytes behind the checksum are ignored: they
    /// are room reserved ahead of time.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Meta>, u16> {
        if bytes.len() < HEAD_BYTES || bytes[0..8] != META_MAGIC {
            return Ok(None);
        }
        let end = HEAD_BYTES + u32_at(bytes, 12) as usize;
        if bytes.len() < end + 4 || crc32c::crc32c(&bytes[..end]) != u32_at(bytes, end) {
            return Ok(None);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != META_VERSION {
            return Err(version);
        }
        Ok(Meta::decode_body(&bytes[HEAD_BYTES..end]))
    }

    fn decode_body(body: &[u8]) -> Option<Meta> {
        if body.len() < 16 {
            return None;
        }
        let (tag_len, count) = (u32_at(body, 8) as usize, u32_at(body, 12) as usize);
        if tag_len > MAX_TAG_BYTES
            || count > MAX_EPOCHS
            || body.len() != 16 + tag_len + count * EPOCH_BYTES
        {
            return None;
        }
        let epochs = body[16 + tag_len..].chunks_exact(EPOCH_BYTES).map(|e| EpochMeta {
            epoch: Epoch(epoch_at(e, 0)),
            synced: u64_at(e, 16),
            accepted: u64_at(e, 24),
            committed: u64_at(e, 32),
            dropped_through: u64_at(e, 40),
            last_segment: u64_at(e, 48),
            sealed: u64_at(e, 56) & FLAG_SEALED != 0,
        });
        let epochs: Vec<EpochMeta> = epochs.collect();
        let once: BTreeSet<Epoch> = epochs.iter().map(|e| e.epoch).collect();
        if once.len() < epochs.len() || !epochs.iter().all(EpochMeta::is_sound) {
            return None;
        }
        Some(Meta {
            dropped_records: u64_at(body, 0),
            tag: body[16..16 + tag_len].to_vec(),
            epochs,
        })
    }

    pub(crate) fn load(storage: &dyn Storage) -> Result<MetaFound> {
        let Some(bytes) = read_small(storage, META_FILE)? else {
            return Ok(MetaFound::Missing);
        };
        match Meta::decode(&bytes) {
            Ok(Some(meta)) => Ok(MetaFound::Intact(meta)),
            Ok(None) => Ok(MetaFound::Damaged),
            Err(found) => Err(newer(META_FILE, found, META_VERSION)),
        }
    }

    /// Replaces the meta file: after a crash at any point either the old or the new one is there, whole.
    pub(crate) fn replace(&self, storage: &dyn Storage) -> Result<()> {
        let bytes = self.encode();
        replace(storage, META_SPARE, META_FILE, &bytes)?;
        // The old file's blocks are free now: claim them for the next replacement. Without room it goes without.
        if let Ok(file) = storage.create(META_SPARE) {
            let _ = file.preallocate((bytes.len() as u64).max(SPARE_BYTES));
        }
        Ok(())
    }
}

/// The marker that a log was closed with everything synced: the epoch then current, and its last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CleanMarker {
    pub(crate) epoch: Epoch,
    pub(crate) last: u64,
}

impl CleanMarker {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(CLEAN_BYTES);
        out.extend_from_slice(&CLEAN_MAGIC);
        out.extend_from_slice(&META_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.epoch.0);
        out.extend_from_slice(&self.last.to_le_bytes());
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<CleanMarker> {
        let intact = bytes.len() == CLEAN_BYTES
            && bytes[0..8] == CLEAN_MAGIC
            && bytes[8..10] == META_VERSION.to_le_bytes()
            && crc32c::crc32c(&bytes[..36]) == u32_at(bytes, 36);
        let marker = intact
            .then(|| CleanMarker { epoch: Epoch(epoch_at(bytes, 12)), last: u64_at(bytes, 28) });
        marker.filter(|m| m.last <= MAX_NUMBER)
    }

    pub(crate) fn write(self, storage: &dyn Storage) -> Result<()> {
        replace(storage, CLEAN_SPARE, CLEAN_FILE, &self.encode())
    }

    /// Reads the marker and removes it durably, so that it speaks for one shutdown only.
    pub(crate) fn take(storage: &dyn Storage) -> Result<Option<CleanMarker>> {
        let Some(bytes) = read_small(storage, CLEAN_FILE)? else {
            return Ok(None);
        };
        storage.remove(CLEAN_FILE).map_err(|e| Error::io("remove", CLEAN_FILE, e))?;
        storage
            .sync_dir()
            .map_err(|e| Error::io("sync the folder after removing", CLEAN_FILE, e))?;
        Ok(CleanMarker::decode(&bytes))
    }
}

/// Temporary, sync, rename, sync of the folder.
fn replace(storage: &dyn Storage, spare: &str, name: &str, bytes: &[u8]) -> Result<()> {
    let file = match storage.open(spare) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => storage.create(spare),
        other => other,
    };
    let file = file.map_err(|e| Error::io("create", spare, e))?;
    let written = file.write_at(bytes, 0).and_then(|()| file.truncate(bytes.len() as u64));
    written.map_err(|e| Error::io("write", spare, e))?;
    file.sync_data().map_err(|e| {
        // Its pages may be marked clean without being on the disk: never to be used again.
        let _ = storage.remove(spare);
        Error::io("sync", spare, e)
    })?;
    storage.rename(spare, name).map_err(|e| Error::io("rename to", name, e))?;
    storage.sync_dir().map_err(|e| Error::io("sync the folder after renaming to", name, e))
}

fn read_small(storage: &dyn Storage, name: &str) -> Result<Option<Vec<u8>>> {
    let file = match storage.open(name) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("open", name, e)),
    };
    let len = file.len().map_err(|e| Error::io("measure", name, e))?.min(MAX_META_BYTES);
    let mut bytes = vec![0; len as usize];
    // What cannot be read is as good as damaged.
    let read = file.read_at(&mut bytes, 0).unwrap_or(0);
    bytes.truncate(read);
    Ok(Some(bytes))
}

pub(crate) fn newer(file: &str, found: u16, known: u16) -> Error {
    Error::Version { file: file.to_owned(), found, known }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Epoch = Epoch([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);

    #[test]
    fn golden_bytes_of_a_meta_file() {
        let entry = EpochMeta {
            epoch: EPOCH,
            synced: 9,
            accepted: 8,
            committed: 7,
            dropped_through: 6,
            last_segment: 5,
            sealed: true,
        };
        let meta = Meta { dropped_records: 4, tag: b"tag".to_vec(), epochs: vec![entry] };
        let mut bytes = meta.encode();
        assert_eq!(hex::encode(&bytes), GOLDEN_META);
        bytes.extend_from_slice(&[0; 100]);
        assert_eq!(Meta::decode(&bytes), Ok(Some(meta)), "reserved room behind it is ignored");
        for bit in 0..(bytes.len() - 100) * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Meta::decode(&damaged), Ok(None), "bit {bit}");
        }
    }

    #[test]
    fn offsets_that_no_log_writes_are_damage() {
        let sound = EpochMeta {
            epoch: EPOCH,
            synced: 9,
            accepted: 8,
            committed: 7,
            dropped_through: 12,
            last_segment: 5,
            sealed: false,
        };
        let decode = |epochs: &[EpochMeta]| {
            let meta = Meta { epochs: epochs.to_vec(), ..Meta::default() };
            Meta::decode(&meta.encode()).expect("its version is known").is_some()
        };
        assert!(decode(&[sound, EpochMeta { epoch: Epoch([9; 16]), ..sound }]));
        assert!(!decode(&[sound, sound]), "an epoch twice");
        for unsound in [
            EpochMeta { committed: 9, ..sound },
            EpochMeta { accepted: 10, ..sound },
            EpochMeta { synced: MAX_NUMBER + 1, ..sound },
            EpochMeta { dropped_through: u64::MAX, ..sound },
            EpochMeta { last_segment: u64::MAX, ..sound },
        ] {
            assert!(!decode(&[unsound]), "{unsound:?}");
        }
    }

    #[test]
    fn golden_bytes_of_the_marker_of_a_clean_shutdown() {
        let marker = CleanMarker { epoch: EPOCH, last: 9 };
        let bytes = marker.encode();
        assert_eq!(hex::encode(&bytes), GOLDEN_CLEAN);
        assert_eq!(CleanMarker::decode(&bytes), Some(marker));
        assert_eq!(CleanMarker::decode(&bytes[..39]), None);
    }

    const GOLDEN_META: &str = "534e544c4d455441010000005300000004000000000000000300000001000000746167000102030405060708090a0b0c0d0e0f090000000000000008000000000000000700000000000000060000000000000005000000000000000100000000000000cf380980";
    const GOLDEN_CLEAN: &str =
        "534e544c434c4e0a01000000000102030405060708090a0b0c0d0e0f0900000000000000d6b4e513";
}
