//! The bytes that the store keeps of samples, the same in every engine: a batch as it was
//! committed ([`batch`]), the columns of one series over one hour ([`chunk`]), and the windows of
//! some series ([`window`]).
//!
//! All integers are little-endian; a *varint* is LEB128 of at most 10 bytes; *zigzag* maps
//! signed to unsigned (0, -1, 1, -2 …). Every decoder takes arbitrary bytes, is bounded by the
//! constants beside it, and answers with a [`FormatError`].

pub mod batch;
pub mod chunk;
pub mod window;

/// Why bytes are not what the store wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// They begin with something else.
    #[error("{what} begins with {found:02x?}, which no version of it does")]
    Version {
        /// Which format.
        what: &'static str,
        /// The first bytes.
        found: Vec<u8>,
    },
    /// They end too early, or have more than was announced.
    #[error("{0} has too few or too many bytes")]
    Length(&'static str),
    /// A size passes its bound.
    #[error("{what} announces {found}, more than the {max} it may have")]
    TooLarge {
        /// Which format.
        what: &'static str,
        /// What was announced.
        found: u64,
        /// The bound.
        max: u64,
    },
    /// The checksum differs.
    #[error("{what} is damaged: checksum {found:08x}, expected {expected:08x}")]
    Checksum {
        /// Which format.
        what: &'static str,
        /// Of the bytes.
        found: u32,
        /// As it is stored.
        expected: u32,
    },
    /// The compressed part does not decompress to what was announced.
    #[error("{0} does not decompress")]
    Compressed(&'static str),
    /// A number does not fit what it stands for.
    #[error("{0} has a number that cannot be")]
    Number(&'static str),
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(crate) const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Bytes being read; `what` names the format in errors.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { bytes, what }
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], FormatError> {
        let (head, rest) = self.bytes.split_at_checked(n).ok_or(FormatError::Length(self.what))?;
        self.bytes = rest;
        Ok(head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes")))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, FormatError> {
        if let Some((&byte, rest)) = self.bytes.split_first()
            && byte < 0x80
        {
            self.bytes = rest;
            return Ok(byte.into());
        }
        let mut value = 0u64;
        for (i, &byte) in self.bytes.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.bytes = &self.bytes[i + 1..];
                return Ok(value);
            }
        }
        Err(FormatError::Length(self.what))
    }

    pub(crate) fn signed(&mut self) -> Result<i64, FormatError> {
        Ok(unzigzag(self.varint()?))
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    pub(crate) fn end(&self) -> Result<(), FormatError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(FormatError::Length(self.what)) }
    }
}

/// Compares a checksum with that of `parts`.
pub(crate) fn check(
    what: &'static str,
    expected: u32,
    parts: [&[u8]; 2],
) -> Result<(), FormatError> {
    let found = crc32c::crc32c_append(crc32c::crc32c(parts[0]), parts[1]);
    if found == expected { Ok(()) } else { Err(FormatError::Checksum { what, found, expected }) }
}

/// zstd's level: measured best for a column of this size; higher levels cost more than they save.
const LEVEL: i32 = 1;

/// Contexts and buffers of zstd, made once and used for many blobs.
pub struct Codec {
    compressor: zstd::bulk::Compressor<'static>,
    decompressor: zstd::bulk::Decompressor<'static>,
    pub(crate) plain: Vec<u8>,
    packed: Vec<u8>,
}

impl Default for Codec {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Codec").finish_non_exhaustive()
    }
}

impl Codec {
    /// Makes one.
    ///
    /// # Panics
    /// Where there is no memory for zstd's tables.
    #[must_use]
    pub fn new() -> Self {
        let mut compressor = zstd::bulk::Compressor::new(LEVEL).expect("memory for zstd");
        // Every blob has a CRC32C and its sizes of its own.
        compressor.include_checksum(false).expect("a known parameter");
        let decompressor = zstd::bulk::Decompressor::new().expect("memory for zstd");
        Self { compressor, decompressor, plain: Vec::new(), packed: Vec::new() }
    }

    /// Compresses `self.plain`.
    pub(crate) fn compress(&mut self) -> &[u8] {
        let bound = zstd::zstd_safe::compress_bound(self.plain.len());
        if self.packed.len() < bound {
            self.packed.resize(bound, 0);
        }
        let length = self
            .compressor
            .compress_to_buffer(&self.plain, &mut self.packed[..])
            .expect("the buffer has the bound that zstd asks for");
        &self.packed[..length]
    }

    /// Decompresses into `self.plain`, to exactly `length` bytes.
    pub(crate) fn decompress(
        &mut self,
        what: &'static str,
        bytes: &[u8],
        length: usize,
    ) -> Result<(), FormatError> {
        self.plain.clear();
        self.plain.reserve(length);
        let found = self
            .decompressor
            .decompress_to_buffer(bytes, &mut self.plain)
            .map_err(|_| FormatError::Compressed(what))?;
        if found == length { Ok(()) } else { Err(FormatError::Length(what)) }
    }
}

/// Runs with this thread's codec.
pub(crate) fn with_codec<R>(run: impl FnOnce(&mut Codec) -> R) -> R {
    thread_local! {
        static CODEC: std::cell::RefCell<Codec> = std::cell::RefCell::new(Codec::new());
    }
    CODEC.with_borrow_mut(run)
}
