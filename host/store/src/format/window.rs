//! The windows of some series as they were at one position of the tail.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | magic `SWP1` |
//! | 4 | 4 | CRC32C of the magic and of the body, u32 |
//! | 8 | … | body |
//!
//! The body:
//!
//! | bytes | what |
//! |---|---|
//! | 16 | digest of what rules read: [`needs_digest`] |
//! | … | position: its length (varint), text |
//! | … | number of columns of times (varint); each: its length (varint), bytes as in [`chunk`](super::chunk) |
//! | … | number of series (varint), in order of their ids |
//! | … | each series: id (varint of the difference to the one before), digest of its key (8 bytes), which column of times (varint), length of its values (varint), values as in [`chunk`](super::chunk) |
//!
//! Nothing decodes to more than [`MAX_SAMPLES`] samples, however few bytes say so.

use super::chunk::{MAX_CHUNK, decode_times, decode_values, encode_times, encode_values};
use super::{Codec, FormatError, Reader, check, put_varint};
use crate::tail::MAX_POSITION;
use hashbrown::HashMap;
use sentinel_model::series::SeriesKey;
use sha2::{Digest, Sha256};
use std::sync::Arc;

const WHAT: &str = "a stored part of windows";
const MAGIC: [u8; 4] = *b"SWP1";
/// The most series of a part.
pub const MAX_SERIES: usize = 1_024;
/// The most samples of a part.
pub const MAX_SAMPLES: usize = 8 << 20;

/// Windows of some series.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowColumns {
    /// Of what rules read when this was made: [`needs_digest`].
    pub needs: [u8; 16],
    /// Position of the tail, as text.
    pub position: String,
    /// In order of their ids.
    pub series: Vec<WindowSeries>,
}

/// The samples of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowSeries {
    /// Its id.
    pub id: u32,
    /// [`key_digest`] of its name and labels: ids are given again.
    pub key: u64,
    /// Strictly increasing, at least one.
    pub times: Arc<[i64]>,
    /// As many.
    pub values: Vec<f64>,
}

/// A digest of selectors, their windows in milliseconds, and whether they take more series than may be answered, in
/// the order of the selectors' texts.
pub fn needs_digest<'a>(needs: impl IntoIterator<Item = (&'a str, u64, bool)>) -> [u8; 16] {
    let mut hash = Sha256::new();
    for (selector, window, is_refused) in needs {
        hash.update((selector.len() as u64).to_le_bytes());
        hash.update(selector);
        hash.update(window.to_le_bytes());
        hash.update([u8::from(is_refused)]);
    }
    let digest: [u8; 32] = hash.finalize().into();
    std::array::from_fn(|at| digest[at])
}

/// A digest of a series' name and labels.
#[must_use]
pub fn key_digest(key: &SeriesKey) -> u64 {
    let mut hash = Sha256::new();
    let mut text = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    text(&key.name);
    key.labels.iter().for_each(|(label, value)| {
        text(label);
        text(value);
    });
    let digest: [u8; 32] = hash.finalize().into();
    u64::from_le_bytes(std::array::from_fn(|at| digest[at]))
}

/// Encodes windows.
///
/// # Errors
/// [`FormatError::TooLarge`] where they have too many series or samples, [`FormatError::Number`] where they are not in
/// order.
pub fn encode(codec: &mut Codec, columns: &WindowColumns) -> Result<Vec<u8>, FormatError> {
    let samples: usize = columns.series.iter().map(|series| series.values.len()).sum();
    bound(columns.series.len() as u64, MAX_SERIES)?;
    bound(samples as u64, MAX_SAMPLES)?;
    bound(columns.position.len() as u64, MAX_POSITION)?;
    let is_sound = |series: &WindowSeries| {
        let count = series.values.len();
        (1..=MAX_CHUNK).contains(&count) && series.times.len() == count
    };
    if !columns.series.iter().all(is_sound) || !columns.series.is_sorted_by(|a, b| a.id < b.id) {
        return Err(FormatError::Number(WHAT));
    }
    let mut known: HashMap<Vec<u8>, u64> = HashMap::new();
    let mut encoded = Vec::new();
    let mut at = Vec::with_capacity(columns.series.len());
    let mut before: Option<(&Arc<[i64]>, u64)> = None;
    for series in &columns.series {
        let number = match before {
            Some((times, number)) if *times == series.times => number,
            Some(_) | None => {
                let next = known.len() as u64;
                *known.entry(encode_times(&series.times)).or_insert_with_key(|bytes| {
                    encoded.push(bytes.clone());
                    next
                })
            }
        };
        before = Some((&series.times, number));
        at.push(number);
    }
    let mut out = Vec::new();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&columns.needs);
    put_bytes(&mut out, columns.position.as_bytes());
    put_varint(&mut out, encoded.len() as u64);
    encoded.iter().for_each(|times| put_bytes(&mut out, times));
    put_varint(&mut out, columns.series.len() as u64);
    let (mut last, mut integers) = (0, Vec::new());
    for (series, times) in columns.series.iter().zip(at) {
        put_varint(&mut out, u64::from(series.id - last));
        last = series.id;
        out.extend_from_slice(&series.key.to_le_bytes());
        put_varint(&mut out, times);
        put_bytes(&mut out, &encode_values(codec, &mut integers, &series.values));
    }
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&out[..4]), &out[8..]);
    out[4..8].copy_from_slice(&checksum.to_le_bytes());
    Ok(out)
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn bound(found: u64, max: usize) -> Result<usize, FormatError> {
    let max = max as u64;
    if found > max {
        Err(FormatError::TooLarge { what: WHAT, found, max })
    } else {
        Ok(found as usize)
    }
}

fn bytes<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], FormatError> {
    let length = usize::try_from(reader.varint()?).map_err(|_| FormatError::Length(WHAT))?;
    reader.take(length)
}

/// Decodes windows.
///
/// # Errors
/// Where the bytes are not encoded windows.
pub fn decode(codec: &mut Codec, encoded: &[u8]) -> Result<WindowColumns, FormatError> {
    let mut reader = Reader::new(encoded, WHAT);
    let magic = reader.take(4)?;
    if magic != MAGIC {
        return Err(FormatError::Version { what: WHAT, found: magic.to_vec() });
    }
    let checksum = reader.u32()?;
    check(WHAT, checksum, [&encoded[..4], &encoded[8..]])?;
    let needs = reader.take(16)?.try_into().expect("sixteen bytes");
    let position = std::str::from_utf8(bytes(&mut reader)?);
    let position = position.map_err(|_| FormatError::Number(WHAT))?.to_owned();
    bound(position.len() as u64, MAX_POSITION)?;
    let (columns, mut left) = (bound(reader.varint()?, MAX_SERIES)?, MAX_SAMPLES);
    let mut times: Vec<Arc<[i64]>> = Vec::with_capacity(columns);
    for _ in 0..columns {
        let column = decode_times(bytes(&mut reader)?)?;
        left = spent(left, column.len())?;
        if !column.is_sorted_by(|a, b| a < b) {
            return Err(FormatError::Number(WHAT));
        }
        times.push(column.into());
    }
    let (count, mut left) = (bound(reader.varint()?, MAX_SERIES)?, MAX_SAMPLES);
    let mut series = Vec::with_capacity(count);
    let mut id = 0u64;
    for at in 0..count {
        let step = reader.varint()?;
        id = id.saturating_add(step);
        if at > 0 && step == 0 {
            return Err(FormatError::Number(WHAT));
        }
        let id = u32::try_from(id).map_err(|_| FormatError::Number(WHAT))?;
        let key = u64::from_le_bytes(reader.take(8)?.try_into().expect("eight bytes"));
        let column = usize::try_from(reader.varint()?).ok().and_then(|column| times.get(column));
        let times = Arc::clone(column.ok_or(FormatError::Number(WHAT))?);
        left = spent(left, times.len())?;
        let values = decode_values(codec, bytes(&mut reader)?, times.len())?;
        series.push(WindowSeries { id, key, times, values });
    }
    reader.end()?;
    Ok(WindowColumns { needs, position, series })
}

/// What is left of the samples that may be.
fn spent(left: usize, samples: usize) -> Result<usize, FormatError> {
    let (found, max) = ((MAX_SAMPLES - left + samples) as u64, MAX_SAMPLES as u64);
    left.checked_sub(samples).ok_or(FormatError::TooLarge { what: WHAT, found, max })
}
