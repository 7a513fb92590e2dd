//! One committed batch, its series known by their ids.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | magic `SSB1` |
//! | 4 | 4 | rows, u32 |
//! | 8 | 4 | length of the body before compression, u32 |
//! | 12 | 4 | CRC32C of bytes 0 to 11 and of the compressed body, u32 |
//! | 16 | … | body, one zstd frame |
//!
//! The body: series ids (varint of the zigzag difference to the row before), times (the same),
//! values (the 8 bytes of each `f64`, transposed: first bytes of all rows, then second …).

use super::{Codec, FormatError, Reader, check, put_varint, zigzag};
use sentinel_model::columns::MAX_ROWS;

const WHAT: &str = "a stored batch";
const MAGIC: [u8; 4] = *b"SSB1";
const HEADER: usize = 16;
/// The most bytes a row may take in a body: two varints and a value.
const MAX_ROW: usize = 10 + 10 + 8;

/// The columns of a batch, each as long as the others.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoredBatch {
    /// Series ids.
    pub ids: Vec<u32>,
    /// Unix milliseconds.
    pub times: Vec<i64>,
    /// Values.
    pub values: Vec<f64>,
}

/// The first part of a body: what rows have in common with the next batch of the same series.
#[must_use]
pub fn encode_ids(ids: &[u32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(ids.len() + 8);
    let mut last = 0;
    for &id in ids {
        put_varint(&mut out, zigzag(i64::from(id) - last));
        last = id.into();
    }
    out
}

/// Encodes a batch, its ids already encoded by [`encode_ids`].
///
/// # Panics
/// If the columns have different lengths or more than [`MAX_ROWS`] rows.
#[must_use]
pub fn encode(codec: &mut Codec, ids: &[u8], times: &[i64], values: &[f64]) -> Vec<u8> {
    let rows = values.len();
    assert!(times.len() == rows && rows <= MAX_ROWS, "{} times, {rows} values", times.len());
    let body = &mut codec.plain;
    body.clear();
    body.extend_from_slice(ids);
    let mut last = 0i64;
    for &time in times {
        put_varint(body, zigzag(time.wrapping_sub(last)));
        last = time;
    }
    transpose(body, values.iter().map(|v| v.to_bits()), rows);
    let length = body.len() as u32;
    let packed = codec.compress();
    let mut out = Vec::with_capacity(HEADER + packed.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&(rows as u32).to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&out), packed);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(packed);
    out
}

/// Appends 64-bit words transposed: all first bytes, then all second bytes …
pub(super) fn transpose(out: &mut Vec<u8>, words: impl Iterator<Item = u64>, rows: usize) {
    let start = out.len();
    out.resize(start + rows * 8, 0);
    let mut planes = out[start..].chunks_exact_mut(rows.max(1));
    let mut planes: [&mut [u8]; 8] =
        std::array::from_fn(|_| planes.next().map_or(&mut [][..], |plane| plane));
    for (row, word) in words.enumerate() {
        for (plane, byte) in planes.iter_mut().zip(word.to_le_bytes()) {
            plane[row] = byte;
        }
    }
}

/// The words again; `bytes` has 8 a row.
pub(super) fn untranspose(bytes: &[u8], rows: usize) -> impl Iterator<Item = u64> + '_ {
    (0..rows)
        .map(move |row| u64::from_le_bytes(std::array::from_fn(|plane| bytes[plane * rows + row])))
}

/// Decodes a batch.
///
/// # Errors
/// Where the bytes are not an encoded batch.
pub fn decode(codec: &mut Codec, bytes: &[u8]) -> Result<StoredBatch, FormatError> {
    let mut reader = Reader::new(bytes, WHAT);
    let magic = reader.take(4)?;
    if magic != MAGIC {
        return Err(FormatError::Version { what: WHAT, found: magic.to_vec() });
    }
    let bound = |found: u32, max: usize| match found as usize <= max {
        true => Ok(found as usize),
        false => Err(FormatError::TooLarge { what: WHAT, found: found.into(), max: max as u64 }),
    };
    let rows = bound(reader.u32()?, MAX_ROWS)?;
    let length = bound(reader.u32()?, rows * MAX_ROW)?;
    let checksum = reader.u32()?;
    let packed = reader.rest();
    check(WHAT, checksum, [&bytes[..12], packed])?;
    codec.decompress(WHAT, packed, length)?;
    let mut body = Reader::new(&codec.plain, WHAT);
    let mut batch = StoredBatch {
        ids: Vec::with_capacity(rows),
        times: Vec::with_capacity(rows),
        values: Vec::with_capacity(rows),
    };
    let mut last = 0i64;
    for _ in 0..rows {
        last = last.wrapping_add(body.signed()?);
        batch.ids.push(u32::try_from(last).map_err(|_| FormatError::Number(WHAT))?);
    }
    let mut last = 0i64;
    for _ in 0..rows {
        last = last.wrapping_add(body.signed()?);
        batch.times.push(last);
    }
    let words = body.take(rows * 8)?;
    body.end()?;
    batch.values.extend(untranspose(words, rows).map(f64::from_bits));
    Ok(batch)
}
