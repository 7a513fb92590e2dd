//! One series over one hour. Its times and its values are separate blobs, because all series
//! that were sent together share their times.
//!
//! A column of times:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 1 | 0x10: every difference is the same; 0x11: differences of differences follow |
//! | 1 | 4 | CRC32C of byte 0 and of the rest, u32 |
//! | 5 | … | number of times (varint), the first (varint of zigzag) |
//! | … | … | where there are two or more: the first difference (varint of zigzag) |
//! | … | … | 0x11 only: for each further time, how much its difference differs (varint of zigzag) |
//!
//! A column of values, as many as there are times:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 1 | encoding: see below |
//! | 1 | 4 | CRC32C of byte 0 and of the rest, u32 |
//! | 5 | … | parameters of the encoding |
//! | … | … | the encoded values, compressed with zstd where bit 5 is set (then their length before compression stands before them, varint) |
//!
//! | bits 0 to 3 | encoding | parameters | then |
//! |---|---|---|---|
//! | 0 | all the same | the value, 8 bytes | nothing |
//! | 1 to 4 | decimal: each is an integer divided by 1, 10, 100, 1000 | shift (1 byte), the first integer (varint of zigzag) | for each further value the difference, shifted right (varint of zigzag) |
//! | 9 to 12 | decimal, never falling | the same | the same, varints without zigzag |
//! | 7 | bits XORed with the value before | none | 8 bytes each, transposed as in a stored batch |

use super::batch::{transpose, untranspose};
use super::{Codec, FormatError, Reader, check, put_varint, zigzag};

const TIMES: &str = "a stored column of times";
const VALUES: &str = "a stored column of values";
/// The most samples of one series in one hour: one every 3.4 ms.
pub const MAX_CHUNK: usize = 1 << 20;

const REGULAR: u8 = 0x10;
const IRREGULAR: u8 = 0x11;

const SAME: u8 = 0;
const XOR: u8 = 7;
const NEVER_FALLING: u8 = 8;
const COMPRESSED: u8 = 0x20;
const SCALES: [f64; 4] = [1.0, 10.0, 100.0, 1000.0];
/// Integers up to here are exact in an `f64`, and their differences in an `i64`.
const MAX_INTEGER: f64 = 9.0e15;

/// The checksum goes in after the rest is known.
fn seal(out: &mut [u8]) {
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&out[..1]), &out[5..]);
    out[1..5].copy_from_slice(&checksum.to_le_bytes());
}

/// Encodes strictly increasing times.
///
/// # Panics
/// If there is none, or more than [`MAX_CHUNK`].
#[must_use]
pub fn encode_times(times: &[i64]) -> Vec<u8> {
    assert!(!times.is_empty() && times.len() <= MAX_CHUNK, "{} times", times.len());
    let mut out = vec![REGULAR, 0, 0, 0, 0];
    put_varint(&mut out, times.len() as u64);
    put_varint(&mut out, zigzag(times[0]));
    if let [first, second, ..] = times {
        let mut difference = second.wrapping_sub(*first);
        put_varint(&mut out, zigzag(difference));
        let differences = || times.windows(2).skip(1).map(|w| w[1].wrapping_sub(w[0]));
        if differences().any(|d| d != difference) {
            out[0] = IRREGULAR;
            for d in differences() {
                put_varint(&mut out, zigzag(d.wrapping_sub(difference)));
                difference = d;
            }
        }
    }
    seal(&mut out);
    out
}

fn open<'a>(what: &'static str, bytes: &'a [u8]) -> Result<(u8, Reader<'a>), FormatError> {
    let mut reader = Reader::new(bytes, what);
    let head = reader.u8()?;
    let checksum = reader.u32()?;
    check(what, checksum, [&bytes[..1], &bytes[5..]])?;
    Ok((head, reader))
}

/// Decodes a column of times.
///
/// # Errors
/// Where the bytes are not one.
pub fn decode_times(bytes: &[u8]) -> Result<Vec<i64>, FormatError> {
    let (head, mut reader) = open(TIMES, bytes)?;
    if !matches!(head, REGULAR | IRREGULAR) {
        return Err(FormatError::Version { what: TIMES, found: vec![head] });
    }
    let count = reader.varint()?;
    if count == 0 || count > MAX_CHUNK as u64 {
        return Err(FormatError::TooLarge { what: TIMES, found: count, max: MAX_CHUNK as u64 });
    }
    let mut times = Vec::with_capacity(count as usize);
    let mut time = reader.signed()?;
    times.push(time);
    if count > 1 {
        let mut difference = reader.signed()?;
        for i in 1..count {
            if i > 1 && head == IRREGULAR {
                difference = difference.wrapping_add(reader.signed()?);
            }
            time = time.wrapping_add(difference);
            times.push(time);
        }
    }
    reader.end()?;
    Ok(times)
}

/// The integer that divided by `scale` is exactly this value.
#[inline]
fn integer(value: f64, scale: f64) -> Option<i64> {
    let scaled = (value * scale).round();
    if scaled.abs() >= MAX_INTEGER || scaled.is_nan() {
        return None;
    }
    let integer = scaled as i64;
    // By way of the integer: -0.0 has none.
    (((integer as f64) / scale).to_bits() == value.to_bits()).then_some(integer)
}

/// Encodes values.
///
/// # Panics
/// If there is none, or more than [`MAX_CHUNK`].
#[must_use]
pub fn encode_values(codec: &mut Codec, integers: &mut Vec<i64>, values: &[f64]) -> Vec<u8> {
    assert!(!values.is_empty() && values.len() <= MAX_CHUNK, "{} values", values.len());
    let mut out = vec![SAME, 0, 0, 0, 0];
    let first = values[0].to_bits();
    if values.iter().all(|v| v.to_bits() == first) {
        out.extend_from_slice(&first.to_le_bytes());
        seal(&mut out);
        return out;
    }
    let scale = (0..SCALES.len()).find(|&i| {
        integers.clear();
        values.iter().all(|&v| integer(v, SCALES[i]).inspect(|&n| integers.push(n)).is_some())
    });
    codec.plain.clear();
    match scale {
        Some(scale) => encode_decimal(codec, integers, scale as u8 + 1, &mut out),
        None => {
            out[0] = XOR;
            let mut last = 0;
            let words =
                values.iter().map(|v| v.to_bits() ^ std::mem::replace(&mut last, v.to_bits()));
            transpose(&mut codec.plain, words, values.len());
        }
    }
    let plain = codec.plain.len();
    let packed = codec.compress();
    if packed.len() + 2 < plain {
        out[0] |= COMPRESSED;
        put_varint(&mut out, plain as u64);
        out.extend_from_slice(packed);
    } else {
        out.extend_from_slice(&codec.plain);
    }
    seal(&mut out);
    out
}

fn encode_decimal(codec: &mut Codec, integers: &[i64], scale: u8, out: &mut Vec<u8>) {
    let (mut bits, mut falls) = (0i64, false);
    for pair in integers.windows(2) {
        let difference = pair[1] - pair[0];
        bits |= difference;
        falls |= difference < 0;
    }
    // Not all are the same, so some bit is set.
    let shift = bits.trailing_zeros();
    out[0] = scale | if falls { 0 } else { NEVER_FALLING };
    out.push(shift as u8);
    put_varint(out, zigzag(integers[0]));
    for pair in integers.windows(2) {
        let difference = (pair[1] - pair[0]) >> shift;
        put_varint(&mut codec.plain, if falls { zigzag(difference) } else { difference as u64 });
    }
}

/// Decodes `count` values.
///
/// # Errors
/// Where the bytes are not a column of so many values.
pub fn decode_values(
    codec: &mut Codec,
    bytes: &[u8],
    count: usize,
) -> Result<Vec<f64>, FormatError> {
    if count == 0 || count > MAX_CHUNK {
        let (found, max) = (count as u64, MAX_CHUNK as u64);
        return Err(FormatError::TooLarge { what: VALUES, found, max });
    }
    let (head, mut reader) = open(VALUES, bytes)?;
    let encoding = head & 0x0f;
    let decimal = matches!(encoding, 1..=4 | 9..=12);
    if head & !(0x0f | COMPRESSED) != 0 || !(decimal || head == SAME || encoding == XOR) {
        return Err(FormatError::Version { what: VALUES, found: vec![head] });
    }
    if encoding == SAME {
        let value = u64::from_le_bytes(reader.take(8)?.try_into().expect("eight bytes"));
        reader.end()?;
        return Ok(vec![f64::from_bits(value); count]);
    }
    let (shift, first) = if decimal { (reader.u8()?, reader.signed()?) } else { (0, 0) };
    if shift > 63 {
        return Err(FormatError::Number(VALUES));
    }
    let plain = if head & COMPRESSED != 0 {
        let (length, max) = (reader.varint()?, 10 * count as u64);
        if length > max {
            return Err(FormatError::TooLarge { what: VALUES, found: length, max });
        }
        codec.decompress(VALUES, reader.rest(), length as usize)?;
        &codec.plain[..]
    } else {
        reader.rest()
    };
    if encoding == XOR {
        if plain.len() != count * 8 {
            return Err(FormatError::Length(VALUES));
        }
        let mut last = 0;
        let undo = |word| {
            last ^= word;
            f64::from_bits(last)
        };
        return Ok(untranspose(plain, count).map(undo).collect());
    }
    let mut body = Reader::new(plain, VALUES);
    let scale = SCALES[(encoding & 7) as usize - 1];
    let mut integer = first;
    let mut values = Vec::with_capacity(count);
    values.push(integer as f64 / scale);
    for _ in 1..count {
        let difference =
            if encoding & NEVER_FALLING != 0 { body.varint()? as i64 } else { body.signed()? };
        integer = integer.wrapping_add(difference << shift);
        values.push(integer as f64 / scale);
    }
    body.end()?;
    Ok(values)
}
