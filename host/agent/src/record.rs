//! One record of the agent's log: what one call of a collector returned.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | magic `SAR1` |
//! | 1 + n | length and bytes of the slot's name |
//! | 4 | number of state writes, u32 |
//! | each | key: u16 length and bytes; 1 byte: 0 removed, 1 set; if set: u32 length and bytes |
//! | 4 + n | length and bytes of the encoded batch |
//!
//! Integers are little-endian. The log checks the bytes (CRC32C), so a record that does not
//! read was written by another version or a bug. Only the encoded batch leaves the machine.

use bytes::Bytes;
use sentinel_model::ids::SlotName;
use sentinel_runtime::KvWrite;
use sentinel_runtime::capabilities::kv::{MAX_KEY_BYTES, MAX_VALUE_BYTES};

const MAGIC: &[u8; 4] = b"SAR1";
/// The most state writes of one call.
const MAX_WRITES: usize = 100_000;

/// What one call returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Which slot.
    pub slot: SlotName,
    /// What it changed in its state.
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
        out.extend_from_slice(MAGIC);
        out.push(slot.len() as u8);
        out.extend_from_slice(slot);
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
        if reader.take(4, "magic")? != MAGIC {
            return Err(RecordError("magic"));
        }
        let length = reader.number::<1>("slot")?;
        let slot = SlotName::new(reader.text(length, "slot")?).map_err(|_| RecordError("slot"))?;
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
        Ok(Self { slot, writes, batch })
    }
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
    fn a_cut_or_lengthened_record_is_refused() {
        let bytes = record().encode();
        for n in 0..bytes.len() {
            assert!(LogRecord::decode(&bytes[..n]).is_err(), "{n} bytes");
        }
        assert!(LogRecord::decode(&[&bytes[..], &[0]].concat()).is_err());
    }
}
