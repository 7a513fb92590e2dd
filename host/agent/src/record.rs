//! One record of the agent's log: what one call of a collector returned.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | magic `SAR1`, or `SAR2` for a part of a collection |
//! | 1 + n | length and bytes of the slot's name |
//! | 2 + 2 | of a part only: its number from 1, and of how many, u16 each |
//! | 4 | number of state writes, u32 |
//! | each | key: u16 length and bytes; 1 byte: 0 removed, 1 set; if set: u32 length and bytes |
//! | 4 + n | length and bytes of the encoded batch |
//!
//! Integers are little-endian. The log checks the bytes (CRC32C), so a record that does not
//! read was written by another version or a bug. Only the encoded batch leaves the machine.
//!
//! A collection that is too large for one record, or that came in several batches, is written
//! as parts that follow each other in the log. Samples and state writes of all of them count
//! when the last part is there: before that it is as if nothing had been collected.

use bytes::Bytes;
use sentinel_model::ids::SlotName;
use sentinel_runtime::KvWrite;
use sentinel_runtime::capabilities::kv::{MAX_KEY_BYTES, MAX_VALUE_BYTES};

const MAGIC: &[u8; 4] = b"SAR1";
const PART_MAGIC: &[u8; 4] = b"SAR2";
/// The most state writes of one record.
pub(crate) const MAX_WRITES: usize = 100_000;

/// Which part of a collection a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub number: u16,
    /// Of how many, at least 1.
    pub of: u16,
}

impl Part {
    /// A collection in one record.
    pub const WHOLE: Self = Self { number: 1, of: 1 };

    /// Whether it is the last, with which the collection counts.
    #[must_use]
    pub const fn is_last(self) -> bool {
        self.number == self.of
    }

    /// Which collection it is of, in its epoch, where it is record number `seq`: no two have the
    /// same, since parts follow each other in the log.
    #[must_use]
    pub const fn collection(self, seq: u64) -> (u64, u16) {
        ((seq + 1).saturating_sub(self.number as u64), self.of)
    }
}

/// What one call returned, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Which slot.
    pub slot: SlotName,
    /// Which part of the call's samples it has.
    pub part: Part,
    /// What the call changed in the slot's state, or a part of that.
    pub writes: Vec<KvWrite>,
    /// Its samples, encoded; never encoded again.
    pub batch: Bytes,
}

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record of the agent's log is malformed at its {0}; it was written by another version")]
pub struct RecordError(&'static str);

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], RecordError> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(RecordError(what))?;
        self.0 = rest;
        Ok(head)
    }

    fn number<const N: usize>(&mut self, what: &'static str) -> Result<usize, RecordError> {
        let mut bytes = [0; 8];
        bytes[..N].copy_from_slice(self.take(N, what)?);
        Ok(u64::from_le_bytes(bytes) as usize)
    }

    fn text(&mut self, n: usize, what: &'static str) -> Result<&'a str, RecordError> {
        std::str::from_utf8(self.take(n, what)?).map_err(|_| RecordError(what))
    }
}

impl LogRecord {
    /// The bytes to append.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let slot = self.slot.as_str().as_bytes();
        let mut out = Vec::with_capacity(32 + slot.len() + self.batch.len());
        out.extend_from_slice(if self.part.of == 1 { MAGIC } else { PART_MAGIC });
        out.push(slot.len() as u8);
        out.extend_from_slice(slot);
        if self.part.of != 1 {
            out.extend_from_slice(&self.part.number.to_le_bytes());
            out.extend_from_slice(&self.part.of.to_le_bytes());
        }
        out.extend_from_slice(&(self.writes.len() as u32).to_le_bytes());
        for write in &self.writes {
            out.extend_from_slice(&(write.key.len() as u16).to_le_bytes());
            out.extend_from_slice(write.key.as_bytes());
            out.push(u8::from(write.value.is_some()));
            if let Some(value) = &write.value {
                out.extend_from_slice(&(value.len() as u32).to_le_bytes());
                out.extend_from_slice(value);
            }
        }
        out.extend_from_slice(&(self.batch.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.batch);
        out
    }

    /// Reads a record.
    ///
    /// # Errors
    /// Where the bytes are not one.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader(bytes);
        let magic = reader.take(4, "magic")?;
        if magic != MAGIC && magic != PART_MAGIC {
            return Err(RecordError("magic"));
        }
        let length = reader.number::<1>("slot")?;
        let slot = SlotName::new(reader.text(length, "slot")?).map_err(|_| RecordError("slot"))?;
        let part = if magic == PART_MAGIC { part(&mut reader)? } else { Part::WHOLE };
        let count = reader.number::<4>("writes")?;
        if count > MAX_WRITES {
            return Err(RecordError("writes"));
        }
        let mut writes = Vec::new();
        for _ in 0..count {
            writes.push(write(&mut reader)?);
        }
        let length = reader.number::<4>("batch")?;
        let batch = Bytes::copy_from_slice(reader.take(length, "batch")?);
        if !reader.0.is_empty() {
            return Err(RecordError("end"));
        }
        Ok(Self { slot, part, writes, batch })
    }
}

fn part(reader: &mut Reader<'_>) -> Result<Part, RecordError> {
    let number = reader.number::<2>("part")? as u16;
    let of = reader.number::<2>("part")? as u16;
    // One of one is written without: bytes mean one thing, and a thing has one form.
    if of < 2 || number == 0 || number > of {
        return Err(RecordError("part"));
    }
    Ok(Part { number, of })
}

fn write(reader: &mut Reader<'_>) -> Result<KvWrite, RecordError> {
    let length = reader.number::<2>("key")?;
    if length > MAX_KEY_BYTES {
        return Err(RecordError("key"));
    }
    let key = reader.text(length, "key")?.to_owned();
    let value = match reader.number::<1>("value")? {
        0 => None,
        1 => {
            let length = reader.number::<4>("value")?;
            if length > MAX_VALUE_BYTES {
                return Err(RecordError("value"));
            }
            Some(reader.take(length, "value")?.to_vec())
        }
        _ => return Err(RecordError("value")),
    };
    Ok(KvWrite { key, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> LogRecord {
        LogRecord {
            slot: SlotName::new("system").unwrap(),
            part: Part::WHOLE,
            writes: vec![
                KvWrite { key: "a".into(), value: Some(vec![1, 2]) },
                KvWrite { key: "b".into(), value: None },
            ],
            batch: Bytes::from_static(b"batch"),
        }
    }

    #[test]
    fn a_record_survives_and_its_bytes_never_change() {
        let bytes = record().encode();
        assert_eq!(LogRecord::decode(&bytes), Ok(record()));
        let golden = "534152310673797374656d0200000001006101020000000102010062000500\
                      00006261746368";
        assert_eq!(hex::encode(bytes), golden);
    }

    #[test]
    fn a_part_of_a_collection_says_which() {
        let last = LogRecord { part: Part { number: 3, of: 3 }, ..record() };
        assert_eq!(LogRecord::decode(&last.encode()), Ok(last.clone()));
        let golden = "534152320673797374656d030003000200000001006101020000000102010062000500\
                      00006261746368";
        assert_eq!(hex::encode(last.encode()), golden);
        for part in [(0, 3), (4, 3), (0, 0), (1, 1)] {
            let bad = LogRecord { part: Part { number: part.0, of: part.1 }, ..record() };
            let mut bytes = bad.encode();
            if part.1 == 1 {
                bytes[..4].copy_from_slice(PART_MAGIC);
                bytes.splice(11..11, [1u8, 0, 1, 0]);
            }
            assert!(LogRecord::decode(&bytes).is_err(), "{part:?}");
        }
    }

    #[test]
    fn a_cut_or_lengthened_record_is_refused() {
        let bytes = record().encode();
        for n in 0..bytes.len() {
            assert!(LogRecord::decode(&bytes[..n]).is_err(), "{n} bytes");
        }
        assert!(LogRecord::decode(&[&bytes[..], &[0]].concat()).is_err());
    }
}
