//! The bytes of segments and records: encoding and checking of headers. The layout is in the crate's documentation.

use crate::Epoch;

/// First bytes of a segment file.
pub const SEGMENT_MAGIC: [u8; 8] = *b"SNTLSEG\n";
/// First bytes of a record.
pub const RECORD_MAGIC: u32 = u32::from_le_bytes(*b"\xa5REC");
/// The newest version of the segment format read: that of a segment in a file that held another one before. All others are
/// written as version 1.
pub const SEGMENT_VERSION: u16 = 2;
/// Version of a segment in a new file.
const NEW_FILE_VERSION: u16 = 1;
/// Bytes of a segment header.
pub const SEGMENT_HEADER_BYTES: usize = 64;
/// Bytes of a record header.
pub const RECORD_HEADER_BYTES: usize = 40;
/// Largest sequence number, and largest number of a segment. None is ever reached; a larger one is damage, and no sum of
/// two of them overflows.
pub const MAX_NUMBER: u64 = 1 << 62;
/// Records begin at multiples of this.
pub const ALIGN: u64 = 8;

/// What a segment file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The epoch of every record in it.
    pub epoch: Epoch,
    /// Number of the segment, also its file name.
    pub number: u64,
    /// Sequence number of its first record.
    pub first: u64,
    /// The file held an earlier segment of the same epoch: behind the last record may lie old ones, with numbers below `first`.
    pub reused: bool,
}

/// Why a segment header cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadHeader {
    /// Wrong magic or checksum: damaged, or never written.
    Damaged,
    /// Intact, but of a newer format version.
    Version(u16),
}

impl SegmentHeader {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = [0u8; SEGMENT_HEADER_BYTES];
        out[0..8].copy_from_slice(&SEGMENT_MAGIC);
        let version = if self.reused { SEGMENT_VERSION } else { NEW_FILE_VERSION };
        out[8..10].copy_from_slice(&version.to_le_bytes());
        out[12..16].copy_from_slice(&(SEGMENT_HEADER_BYTES as u32).to_le_bytes());
        out[16..32].copy_from_slice(&self.epoch.0);
        out[32..40].copy_from_slice(&self.number.to_le_bytes());
        out[40..48].copy_from_slice(&self.first.to_le_bytes());
        let crc = crc32c::crc32c(&out[..60]);
        out[60..64].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header back.
    ///
    /// # Errors
    /// [`BadHeader`] when the bytes are too few, damaged, or of a newer version.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, BadHeader> {
        let Some(bytes) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else {
            return Err(BadHeader::Damaged);
        };
        if bytes[0..8] != SEGMENT_MAGIC || crc32c::crc32c(&bytes[..60]) != u32_at(bytes, 60) {
            return Err(BadHeader::Damaged);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if !(NEW_FILE_VERSION..=SEGMENT_VERSION).contains(&version) {
            return Err(BadHeader::Version(version));
        }
        let header = SegmentHeader {
            reused: version == SEGMENT_VERSION,
            epoch: Epoch(epoch_at(bytes, 16)),
            number: u64_at(bytes, 32),
            first: u64_at(bytes, 40),
        };
        if (1..=MAX_NUMBER).contains(&header.first) { Ok(header) } else { Err(BadHeader::Damaged) }
    }
}

/// What a record's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// Its epoch: repeated in each record, so that a damaged segment header loses none of them.
    pub epoch: Epoch,
    /// Its sequence number.
    pub seq: u64,
    /// Bytes of its payload.
    pub length: u32,
    /// CRC32C of the payload.
    pub payload_crc: u32,
}

impl RecordHeader {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; RECORD_HEADER_BYTES] {
        let mut out = [0u8; RECORD_HEADER_BYTES];
        out[0..4].copy_from_slice(&RECORD_MAGIC.to_le_bytes());
        out[4..8].copy_from_slice(&self.length.to_le_bytes());
        out[8..16].copy_from_slice(&self.seq.to_le_bytes());
        out[16..32].copy_from_slice(&self.epoch.0);
        out[32..36].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32c::crc32c(&out[..36]);
        out[36..40].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header back; `None` unless it is intact and within the bounds of a record.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<RecordHeader> {
        let bytes = bytes.first_chunk::<RECORD_HEADER_BYTES>()?;
        if u32_at(bytes, 0) != RECORD_MAGIC || crc32c::crc32c(&bytes[..36]) != u32_at(bytes, 36) {
            return None;
        }
        let header = RecordHeader {
            epoch: Epoch(epoch_at(bytes, 16)),
            seq: u64_at(bytes, 8),
            length: u32_at(bytes, 4),
            payload_crc: u32_at(bytes, 32),
        };
        let in_bounds = (1..=MAX_NUMBER).contains(&header.seq)
            && (1..=crate::MAX_RECORD_BYTES).contains(&(header.length as usize));
        in_bounds.then_some(header)
    }

    /// Bytes the whole record takes: header, payload and padding.
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        frame_bytes(self.length as usize)
    }
}

/// Bytes a record with a payload of `length` takes: header, payload and zeros up to [`ALIGN`].
#[must_use]
pub fn frame_bytes(length: usize) -> u64 {
    ((RECORD_HEADER_BYTES + length) as u64).next_multiple_of(ALIGN)
}

/// Appends one record to `out`.
pub fn push_record(out: &mut Vec<u8>, epoch: Epoch, seq: u64, payload: &[u8], payload_crc: u32) {
    let header = RecordHeader { epoch, seq, length: payload.len() as u32, payload_crc };
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(payload);
    let padding = header.frame_bytes() as usize - RECORD_HEADER_BYTES - payload.len();
    out.extend_from_slice(&[0u8; ALIGN as usize][..padding]);
}

/// The file name of a segment.
#[must_use]
pub fn segment_name(number: u64) -> String {
    format!("{number:020}.seg")
}

/// The number in a segment's file name; `None` for any other file.
#[must_use]
pub fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let number = (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())?;
    number.filter(|number| *number <= MAX_NUMBER)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut out = [0; 4];
    out.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(out)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(out)
}

pub(crate) fn epoch_at(bytes: &[u8], at: usize) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&bytes[at..at + 16]);
    out
}
