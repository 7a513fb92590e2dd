//! The texts of one batch under edit: those that came in and those that were added.

use super::Symbol;
use super::arena::{Block, Tail};
use crate::symbol_index::{SymbolIndex, hash};

/// Slots of the cache from a text's address to its symbol.
const RECENT: usize = 64;

/// A text seen before: its address and length are the key, and it is compared again because
/// another text may have come to lie there.
#[derive(Clone, Copy)]
struct Recent {
    address: usize,
    symbol: Symbol,
}

/// The symbol table of an edit.
pub(super) struct Symbols<'b> {
    texts: Vec<&'b str>,
    /// Symbols below this came in.
    input: usize,
    tail: Tail<'b>,
    /// Built at the first text that is looked up.
    index: Option<SymbolIndex>,
    recent: [Recent; RECENT],
}

impl<'b> Symbols<'b> {
    pub(super) fn new(blob: &'b str, ends: &[u32], added: &'b Block) -> Self {
        let mut texts = Vec::with_capacity(ends.len() + 16);
        let mut start = 0;
        for end in ends {
            let end = *end as usize;
            texts.push(&blob[start..end]);
            start = end;
        }
        Self {
            input: texts.len(),
            texts,
            tail: Tail::of(added),
            index: None,
            recent: [Recent { address: 0, symbol: Symbol(0) }; RECENT],
        }
    }

    #[inline]
    pub(super) fn text(&self, symbol: Symbol) -> &'b str {
        self.texts[symbol.0 as usize]
    }

    /// The symbol of a text, added if it is new.
    #[inline]
    pub(super) fn intern(&mut self, text: &str) -> Symbol {
        let address = text.as_ptr() as usize;
        let recent = self.recent[Self::slot(address, text.len())];
        if recent.address == address && self.text(recent.symbol) == text {
            return recent.symbol;
        }
        self.intern_slowly(text, address)
    }

    #[inline]
    fn slot(address: usize, length: usize) -> usize {
        (address ^ (address >> 6) ^ length) % RECENT
    }

    #[cold]
    fn intern_slowly(&mut self, text: &str, address: usize) -> Symbol {
        let hash = hash(text);
        let index = self.index.get_or_insert_with(|| Self::index_of(&self.texts));
        let texts = &self.texts;
        let symbol = match index.find(hash, |symbol| texts[symbol as usize] == text) {
            Some(symbol) => Symbol(symbol),
            None => {
                let symbol = self.texts.len() as u32;
                self.texts.push(self.tail.push(text));
                index.insert(hash, symbol);
                Symbol(symbol)
            }
        };
        self.recent[Self::slot(address, text.len())] = Recent { address, symbol };
        symbol
    }

    fn index_of(texts: &[&str]) -> SymbolIndex {
        let mut index = SymbolIndex::with_room(texts.len() + 16);
        for (symbol, text) in texts.iter().enumerate() {
            let hash = hash(text);
            // A batch may hold a text twice: the first stands for it.
            if index.find(hash, |other| texts[other as usize] == *text).is_none() {
                index.insert(hash, symbol as u32);
            }
        }
        index
    }

    /// What was added, in order.
    pub(super) fn added(&self) -> &[&'b str] {
        &self.texts[self.input..]
    }
}
