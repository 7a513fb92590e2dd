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
    index: SymbolIndex,
    /// For each symbol that came in, the first one with its text; empty where all texts are
    /// distinct, as they should be but need not.
    first: Vec<u32>,
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
        let (index, first) = index_of(&texts);
        Self {
            input: texts.len(),
            texts,
            tail: Tail::of(added),
            index,
            first,
            recent: [Recent { address: 0, symbol: Symbol(0) }; RECENT],
        }
    }

    /// The symbol that stands for a symbol that came in.
    #[inline]
    pub(super) fn first(&self, symbol: u32) -> u32 {
        if self.first.is_empty() { symbol } else { self.first[symbol as usize] }
    }

    /// Whether some symbols stand for others.
    #[inline]
    pub(super) fn has_doubles(&self) -> bool {
        !self.first.is_empty()
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
        let texts = &self.texts;
        let symbol = match self.index.find(hash, |symbol| texts[symbol as usize] == text) {
            Some(symbol) => Symbol(symbol),
            None => {
                let symbol = self.texts.len() as u32;
                self.texts.push(self.tail.push(text));
                self.index.insert(hash, symbol);
                Symbol(symbol)
            }
        };
        self.recent[Self::slot(address, text.len())] = Recent { address, symbol };
        symbol
    }

    /// What was added, in order.
    pub(super) fn added(&self) -> &[&'b str] {
        &self.texts[self.input..]
    }
}

/// The index, and for each symbol the first one of its text where they differ anywhere.
fn index_of(texts: &[&str]) -> (SymbolIndex, Vec<u32>) {
    let mut index = SymbolIndex::with_room(texts.len() + 16);
    let mut first = Vec::new();
    for (symbol, text) in texts.iter().enumerate() {
        let hash = hash(text);
        match index.find(hash, |other| texts[other as usize] == *text) {
            None => {
                index.insert(hash, symbol as u32);
                if !first.is_empty() {
                    first.push(symbol as u32);
                }
            }
            Some(other) => {
                if first.is_empty() {
                    first.extend(0..symbol as u32);
                }
                first.push(other);
            }
        }
    }
    (index, first)
}
