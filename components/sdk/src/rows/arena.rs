//! Texts made during one edit, at addresses that stay: what lets a row hand out strings that
//! do not borrow the row.

use std::cell::OnceCell;

/// Texts of the first block.
const FIRST_BLOCK: usize = 64;

/// A block of texts and the blocks after it, each twice as large.
#[derive(Debug)]
pub(super) struct Block {
    texts: Box<[OnceCell<Box<str>>]>,
    next: OnceCell<Box<Block>>,
}

impl Block {
    pub(super) fn first() -> Self {
        Self::of(FIRST_BLOCK)
    }

    fn of(room: usize) -> Self {
        Self { texts: (0..room).map(|_| OnceCell::new()).collect(), next: OnceCell::new() }
    }
}

/// Where the next text goes.
#[derive(Debug)]
pub(super) struct Tail<'b> {
    block: &'b Block,
    used: usize,
}

impl<'b> Tail<'b> {
    pub(super) fn of(block: &'b Block) -> Self {
        Self { block, used: 0 }
    }

    pub(super) fn push(&mut self, text: &str) -> &'b str {
        if self.used == self.block.texts.len() {
            let room = self.used * 2;
            self.block = self.block.next.get_or_init(|| Box::new(Block::of(room)));
            self.used = 0;
        }
        let text = self.block.texts[self.used].get_or_init(|| text.into());
        self.used += 1;
        text
    }
}
