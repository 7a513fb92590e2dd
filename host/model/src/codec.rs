//! The encoded batch: made once, at the agent, and never again on its way.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | magic `SNB1` |
//! | 4 | 4 | rows, u32 |
//! | 8 | 4 | symbols, u32 |
//! | 12 | 4 | length of the body before compression, u32 |
//! | 16 | 4 | CRC32C of the compressed body, u32 |
//! | 20 | … | body, one zstd frame |
//!
//! All integers are little-endian. The body is, one after the other: the length of each symbol
//! (varint); the symbols; the name of each row (varint of the zigzag difference to the row
//! before); the number of labels of each row (varint); all label keys, then all label values
//! (varint of the zigzag difference to the one before); kinds (a byte each); times (varint of
//! the zigzag difference to the row before); values (the 8 bytes of each `f64`, transposed:
//! first bytes of all rows, then second bytes …, which is what lets zstd find the likeness).

use crate::batch::Batch;
use crate::columns::{BatchError, Columns, MAX_LABELS, MAX_ROWS, MAX_SYMBOL_BYTES};

const MAGIC: [u8; 4] = *b"SNB1";
const HEADER: usize = 20;
/// The most bytes an encoded batch may have.
pub const MAX_ENCODED: usize = 8 << 20;
/// The most bytes a body may have before compression.
const MAX_BODY: usize = 32 << 20;
/// zstd's level 1: measured best for columns of a batch's size; higher levels cost more than
/// they save.
const LEVEL: i32 = 1;

/// Why bytes are not an encoded batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes do not begin as an encoded batch of a known version.
    #[error("not an encoded batch: it begins with {0:02x?}, not with \"SNB1\"")]
    Magic(Vec<u8>),
    /// There are fewer bytes than announced.
    #[error("the encoded batch ends inside its {0}")]
    Truncated(&'static str),
    /// A size passes its bound.
    #[error("{what} is {found}, more than the {max} that an encoded batch may have")]
    TooLarge {
        /// Which size.
        what: &'static str,
        /// What was announced.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// The checksum differs.
    #[error("the encoded batch is damaged: checksum {found:08x}, expected {expected:08x}")]
    Checksum {
        /// Of the bytes.
        found: u32,
        /// In the header.
        expected: u32,
    },
    /// The body is not what the header announces.
    #[error("the body of the encoded batch is malformed: {0}")]
    Body(&'static str),
    /// The columns are not a batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn put_deltas(out: &mut Vec<u8>, values: impl Iterator<Item = i64>) {
    let mut last = 0i64;
    for value in values {
        put_varint(out, zigzag(value.wrapping_sub(last)));
        last = value;
    }
}

/// Encodes a batch.
///
/// # Panics
/// Never: the bounds of a [`Batch`] are inside those of the encoding.
#[must_use]
pub fn encode(batch: &Batch) -> Vec<u8> {
    let rows = batch.len();
    let mut body = Vec::with_capacity(batch.symbols.len() + batch.labels.len() * 2 + rows * 14);
    let mut last = 0;
    for &end in &batch.symbol_ends {
        put_varint(&mut body, (end - last).into());
        last = end;
    }
    body.extend_from_slice(batch.symbols.as_bytes());
    put_deltas(&mut body, batch.name.iter().map(|&n| n.into()));
    for pair in batch.label_offsets.windows(2) {
        put_varint(&mut body, ((pair[1] - pair[0]) / 2).into());
    }
    put_deltas(&mut body, batch.labels.iter().step_by(2).map(|&k| k.into()));
    put_deltas(&mut body, batch.labels.iter().skip(1).step_by(2).map(|&v| v.into()));
    body.extend_from_slice(&batch.kind);
    put_deltas(&mut body, batch.time.iter().copied());
    let start = body.len();
    body.resize(start + rows * 8, 0);
    let transposed = &mut body[start..];
    for (row, value) in batch.value.iter().enumerate() {
        for (i, byte) in value.to_bits().to_le_bytes().into_iter().enumerate() {
            transposed[i * rows + row] = byte;
        }
    }
    seal(batch, &body)
}

fn seal(batch: &Batch, body: &[u8]) -> Vec<u8> {
    let packed = zstd::bulk::compress(body, LEVEL).expect("zstd compresses into memory");
    let mut out = Vec::with_capacity(HEADER + packed.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&(batch.len() as u32).to_le_bytes());
    out.extend_from_slice(&(batch.symbol_ends.len() as u32).to_le_bytes());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(&packed).to_le_bytes());
    out.extend_from_slice(&packed);
    out
}

struct Header {
    rows: usize,
    symbols: usize,
    body: usize,
    checksum: u32,
}

fn header(bytes: &[u8]) -> Result<Header, CodecError> {
    if !bytes.starts_with(&MAGIC) {
        return Err(CodecError::Magic(bytes.iter().take(4).copied().collect()));
    }
    let at = |i: usize| -> Result<u32, CodecError> {
        let four = bytes.get(i..i + 4).ok_or(CodecError::Truncated("header"))?;
        Ok(u32::from_le_bytes(four.try_into().expect("four bytes")))
    };
    let header = Header {
        rows: at(4)? as usize,
        symbols: at(8)? as usize,
        body: at(12)? as usize,
        checksum: at(16)?,
    };
    let bound = |what, found, max| {
        if found > max { Err(CodecError::TooLarge { what, found, max }) } else { Ok(()) }
    };
    bound("the length", bytes.len(), MAX_ENCODED)?;
    bound("the number of rows", header.rows, MAX_ROWS)?;
    bound("the number of symbols", header.symbols, header.rows * (2 * MAX_LABELS + 1) + 1024)?;
    bound("the length of the body", header.body, MAX_BODY)?;
    Ok(header)
}

/// The number of rows that encoded bytes announce, without decoding them.
///
/// # Errors
/// Where the header is malformed.
pub fn rows(bytes: &[u8]) -> Result<usize, CodecError> {
    Ok(header(bytes)?.rows)
}

struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], CodecError> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(CodecError::Truncated("body"))?;
        self.0 = rest;
        Ok(head)
    }

    fn varint(&mut self) -> Result<u64, CodecError> {
        let mut value = 0u64;
        for (i, &byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.0 = &self.0[i + 1..];
                return Ok(value);
            }
        }
        Err(CodecError::Body("a number does not end"))
    }

    fn deltas(&mut self, n: usize, mut each: impl FnMut(i64)) -> Result<(), CodecError> {
        let mut last = 0i64;
        for _ in 0..n {
            last = last.wrapping_add(unzigzag(self.varint()?));
            each(last);
        }
        Ok(())
    }

    /// Indexes out of `u32` become `u32::MAX`, which is no symbol, and fail the batch's check.
    fn indexes(&mut self, n: usize) -> Result<Vec<u32>, CodecError> {
        let mut out = Vec::with_capacity(n);
        self.deltas(n, |v| out.push(u32::try_from(v).unwrap_or(u32::MAX)))?;
        Ok(out)
    }
}

/// Decodes untrusted bytes.
///
/// # Errors
/// The first thing that is wrong with them. Memory is bounded by the announced sizes, which
/// are bounded themselves.
pub fn decode(bytes: &[u8]) -> Result<Batch, CodecError> {
    let head = header(bytes)?;
    let packed = &bytes[HEADER..];
    let found = crc32c::crc32c(packed);
    if found != head.checksum {
        return Err(CodecError::Checksum { found, expected: head.checksum });
    }
    let plain = zstd::bulk::decompress(packed, head.body)
        .map_err(|_| CodecError::Body("zstd refuses it"))?;
    if plain.len() != head.body {
        return Err(CodecError::Truncated("body"));
    }
    let mut body = Body(&plain);
    let columns = columns(&mut body, &head)?;
    if !body.0.is_empty() {
        return Err(CodecError::Body("bytes are left over"));
    }
    Ok(Batch::new(columns)?)
}

fn columns(body: &mut Body<'_>, head: &Header) -> Result<Columns, CodecError> {
    let mut symbol_ends = Vec::with_capacity(head.symbols);
    let mut end = 0u64;
    for _ in 0..head.symbols {
        end = end.saturating_add(body.varint()?);
        if end > MAX_SYMBOL_BYTES as u64 {
            return Err(CodecError::Body("the symbols are too long"));
        }
        symbol_ends.push(end as u32);
    }
    let symbols = std::str::from_utf8(body.take(end as usize)?)
        .map_err(|_| CodecError::Body("the symbols are not UTF-8"))?
        .to_owned();
    let name = body.indexes(head.rows)?;
    let mut label_offsets = Vec::with_capacity(head.rows + 1);
    label_offsets.push(0);
    let mut labels_end = 0u32;
    for _ in 0..head.rows {
        let count = body.varint()?;
        if count > MAX_LABELS as u64 {
            return Err(CodecError::Body("a row has too many labels"));
        }
        labels_end += 2 * count as u32;
        label_offsets.push(labels_end);
    }
    let pairs = labels_end as usize / 2;
    let mut labels = vec![0; pairs * 2];
    for half in 0..2 {
        let column = body.indexes(pairs)?;
        for (slot, index) in labels.iter_mut().skip(half).step_by(2).zip(column) {
            *slot = index;
        }
    }
    let kind = body.take(head.rows)?.to_vec();
    let mut time = Vec::with_capacity(head.rows);
    body.deltas(head.rows, |t| time.push(t))?;
    let bytes = body.take(head.rows * 8)?;
    let value = (0..head.rows)
        .map(|row| {
            let bits = std::array::from_fn(|i| bytes[i * head.rows + row]);
            f64::from_bits(u64::from_le_bytes(bits))
        })
        .collect();
    Ok(Columns { symbols, symbol_ends, name, label_offsets, labels, kind, value, time })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::columns::Kind;
    use proptest::prelude::*;

    fn sample() -> Batch {
        let mut builder = BatchBuilder::new();
        builder.push("up", [("job", "a")], Kind::Gauge, 1.0, 1_700_000_000_000).push(
            "up",
            [("job", "b"), ("x", "")],
            Kind::Counter,
            f64::INFINITY,
            -5,
        );
        builder.build().unwrap()
    }

    #[test]
    fn the_encoding_of_version_one_never_changes() {
        // zstd's output may differ between its versions, so the golden bytes are decoded only.
        let golden = include_bytes!("../testdata/batch-v1.bin");
        assert_eq!(decode(golden).unwrap(), sample());
        assert_eq!(&encode(&sample())[..16], &golden[..16]);
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = encode(&sample());
        for n in 0..bytes.len() {
            assert!(decode(&bytes[..n]).is_err(), "{n} bytes");
        }
    }

    #[test]
    fn a_body_that_unpacks_to_more_than_announced_is_refused() {
        let mut bytes = encode(&sample());
        let packed = zstd::bulk::compress(&vec![0; MAX_BODY + 1], LEVEL).unwrap();
        bytes.truncate(16);
        bytes.extend_from_slice(&crc32c::crc32c(&packed).to_le_bytes());
        bytes.extend_from_slice(&packed);
        assert!(matches!(decode(&bytes), Err(CodecError::Body(_))));
    }

    fn any_batch() -> impl Strategy<Value = Batch> {
        let label = ("[a-c]{1,3}", "\\PC{0,6}");
        let row = (
            "[a-z_:]{1,8}",
            prop::collection::btree_map(label.0, label.1, 0..5),
            0u8..5,
            any::<u64>(),
            any::<i64>(),
        );
        prop::collection::vec(row, 0..40).prop_map(|rows| {
            let mut builder = BatchBuilder::new();
            for (name, labels, kind, bits, time) in &rows {
                let labels = labels.iter().map(|(k, v)| (k.as_str(), v.as_str()));
                let kind = Kind::from_byte(*kind).unwrap();
                builder.push(name, labels, kind, f64::from_bits(*bits), *time);
            }
            builder.build().unwrap()
        })
    }

    proptest! {
        #[test]
        fn any_batch_survives_to_the_bit(batch in any_batch()) {
            let back = decode(&encode(&batch)).unwrap();
            let bits = |b: &Batch| b.value.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&back), bits(&batch));
            let (mut a, mut b) = (back.into_columns(), batch.into_columns());
            a.value.clear();
            b.value.clear();
            prop_assert_eq!(a, b);
        }

        #[test]
        fn damaged_bytes_never_panic(
            batch in any_batch(), at in any::<prop::sample::Index>(), flip in 1u8..,
        ) {
            let mut bytes = encode(&batch);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            // Behind the checksum too: it is no defence against a malicious agent.
            let sum = crc32c::crc32c(&bytes[HEADER..]);
            bytes[16..20].copy_from_slice(&sum.to_le_bytes());
            let _ = decode(&bytes);
        }

        #[test]
        fn a_malformed_body_never_panics(
            rows in 0u32..50, symbols in 0u32..50, body in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let mut bytes = MAGIC.to_vec();
            let packed = zstd::bulk::compress(&body, LEVEL).unwrap();
            for field in [rows, symbols, body.len() as u32, crc32c::crc32c(&packed)] {
                bytes.extend_from_slice(&field.to_le_bytes());
            }
            bytes.extend_from_slice(&packed);
            let _ = decode(&bytes);
        }
    }
}
