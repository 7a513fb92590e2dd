//! The windows of rules as they were at some position of the tail, kept so that whoever evaluates next need not read
//! what they are made of. In parts that are written one by one: each says in itself at which position it stands.

use crate::lease::Fence;

/// The most bytes of a part.
pub const MAX_PART_BYTES: usize = 16 << 20;
/// The most parts in one answer.
pub const PARTS_AT_ONCE: u32 = 64;

/// A part, of which only whoever keeps windows knows what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowPart {
    /// Which.
    pub part: u32,
    /// When it was made, unix milliseconds.
    pub made_at: i64,
    /// At most [`MAX_PART_BYTES`].
    pub data: Vec<u8>,
}

/// Parts that are written together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WindowChange {
    /// Each in place of what its part was.
    pub parts: Vec<WindowPart>,
    /// Parts made before it are removed: when, unix milliseconds.
    pub older: Option<i64>,
    /// Under which lease it is written; none where one process is alone.
    pub fence: Option<Fence>,
}
