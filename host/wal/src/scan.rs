//! Reading records out of a segment file, whatever state its bytes are in.

use std::io;
use std::sync::Arc;

use crate::StorageFile;
use crate::format::{ALIGN, RECORD_HEADER_BYTES, RECORD_MAGIC, RecordHeader, u32_at};

/// Bytes read at once; records larger than this get a window of their own size.
const WINDOW_BYTES: usize = 256 << 10;
/// After a read error, blocks of this size are tried one by one; those that fail count as damaged.
const BLOCK_BYTES: usize = 4 << 10;

/// A record found by a [`Scan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Its header, intact.
    pub header: RecordHeader,
    /// Where its header begins.
    pub offset: u64,
}

/// Walks a segment's records in file order. Damaged bytes are skipped: the scan goes on at the next intact record,
/// which it looks for at every multiple of [`ALIGN`]. Reading never fails: blocks that cannot be read count as damaged.
pub struct Scan {
    file: Arc<dyn StorageFile>,
    window: Vec<u8>,
    window_start: u64,
    offset: u64,
    end: u64,
    good_end: u64,
    nonzero_end: u64,
    /// What the file held before ended below this number; 0 where it held nothing.
    remains_below: u64,
}

impl Scan {
    /// A scan of `file` from `offset` (a multiple of [`ALIGN`]) up to `end`.
    #[must_use]
    pub fn new(file: Arc<dyn StorageFile>, offset: u64, end: u64) -> Scan {
        Scan {
            file,
            window: Vec::new(),
            window_start: 0,
            offset,
            end,
            good_end: offset,
            nonzero_end: offset,
            remains_below: 0,
        }
    }

    /// The file held records with numbers below `first` before: what is left of them behind the last record, whole or not,
    /// is no damage.
    pub fn expect_remains_below(&mut self, first: u64) {
        self.remains_below = first;
    }

    /// Moves the end forward, after more was written.
    pub fn extend(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    /// Goes on at `offset`, a frame's place.
    pub fn resume_at(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// The end of the last intact record that was accepted, or the start.
    #[must_use]
    pub fn good_end(&self) -> u64 {
        self.good_end
    }

    /// After the scan ended: bytes behind the last accepted record up to the last one that is not zero; where the file
    /// held other records before, up to the last one of a record that is not one of those.
    #[must_use]
    pub fn trailing_bytes(&self) -> u64 {
        self.nonzero_end.saturating_sub(self.good_end)
    }

    /// The next intact record that `accept` wants; `None` at the end.
    pub fn next(&mut self, accept: impl Fn(&RecordHeader) -> bool) -> Option<Frame> {
        while self.offset + RECORD_HEADER_BYTES as u64 <= self.end {
            let offset = self.offset;
            let Some(header) = RecordHeader::decode(self.bytes(offset, RECORD_HEADER_BYTES)) else {
                self.offset = self.seek_magic(offset);
                continue;
            };
            let frame_end = offset + header.frame_bytes();
            if frame_end > self.end {
                self.note_damage(&header, offset + RECORD_HEADER_BYTES as u64);
                self.offset = self.seek_magic(offset);
                continue;
            }
            // The header is intact, so its length can be trusted even where the payload is not.
            self.offset = frame_end;
            let frame = Frame { header, offset };
            if accept(&header) && crc32c::crc32c(self.payload(&frame)) == header.payload_crc {
                self.good_end = frame_end;
                return Some(frame);
            }
            self.note_damage(&header, frame_end);
        }
        None
    }

    fn note_damage(&mut self, header: &RecordHeader, end: u64) {
        if header.seq >= self.remains_below {
            self.nonzero_end = self.nonzero_end.max(end);
        }
    }

    /// The payload of a frame that this scan returned.
    pub fn payload(&mut self, frame: &Frame) -> &[u8] {
        self.bytes(frame.offset + RECORD_HEADER_BYTES as u64, frame.header.length as usize)
    }

    /// The first multiple of [`ALIGN`] behind `offset` where a record may begin, or the end.
    fn seek_magic(&mut self, offset: u64) -> u64 {
        let mut at = offset + ALIGN;
        let mut nonzero_end = self.nonzero_end;
        let before = (self.remains_below > 0).then_some(nonzero_end);
        if self.bytes(offset, ALIGN as usize).iter().any(|b| *b != 0) {
            nonzero_end = nonzero_end.max(at);
        }
        while at + RECORD_HEADER_BYTES as u64 <= self.end {
            let len = WINDOW_BYTES.min((self.end - at) as usize);
            let chunk = self.bytes(at, len);
            for (index, word) in chunk.chunks_exact(ALIGN as usize).enumerate() {
                let word_at = at + index as u64 * ALIGN;
                if u32_at(word, 0) == RECORD_MAGIC {
                    self.nonzero_end = before.unwrap_or(nonzero_end);
                    return word_at;
                }
                if word != [0; ALIGN as usize] {
                    nonzero_end = word_at + ALIGN;
                }
            }
            at += (len as u64 / ALIGN).max(1) * ALIGN;
        }
        self.nonzero_end = before.unwrap_or(nonzero_end);
        self.end
    }

    /// `len` bytes from `offset`; both lie within the end.
    fn bytes(&mut self, offset: u64, len: usize) -> &[u8] {
        let window_end = self.window_start + self.window.len() as u64;
        if offset < self.window_start || offset + len as u64 > window_end {
            let want = len.max(WINDOW_BYTES.min((self.end - offset) as usize));
            self.window.resize(want, 0);
            self.window_start = offset;
            fill(self.file.as_ref(), &mut self.window, offset);
        }
        let from = (offset - self.window_start) as usize;
        &self.window[from..from + len]
    }
}

/// Reads what can be read; the rest is zero, which no checksum takes for a record.
fn fill(file: &dyn StorageFile, buf: &mut [u8], offset: u64) {
    if let Ok(read) = file.read_at(buf, offset) {
        buf[read..].fill(0);
        return;
    }
    for (index, block) in buf.chunks_mut(BLOCK_BYTES).enumerate() {
        let read: io::Result<usize> = file.read_at(block, offset + (index * BLOCK_BYTES) as u64);
        block[read.unwrap_or(0)..].fill(0);
    }
}
