//! An open-addressing hash table from texts to symbol numbers that holds no text itself.

/// Slots that hold nothing.
const EMPTY: u32 = u32::MAX;

/// Finds symbol numbers by the hash of their text; the caller compares texts.
#[derive(Debug, Default)]
pub(crate) struct SymbolIndex {
    /// (hash, symbol); the length is a power of two, at most half of it is full.
    slots: Vec<(u32, u32)>,
    full: usize,
}

impl SymbolIndex {
    /// Room for `symbols` without growing.
    pub(crate) fn with_room(symbols: usize) -> Self {
        Self { slots: vec![(0, EMPTY); (symbols * 2).next_power_of_two().max(16)], full: 0 }
    }

    /// The symbol of that hash for which `same` holds.
    pub(crate) fn find(&self, hash: u32, mut same: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let (found, symbol) = self.slots[at];
            if symbol == EMPTY {
                return None;
            }
            if found == hash && same(symbol) {
                return Some(symbol);
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds a symbol that `find` did not find.
    pub(crate) fn insert(&mut self, hash: u32, symbol: u32) {
        if (self.full + 1) * 2 > self.slots.len() {
            self.grow();
        }
        self.place(hash, symbol);
        self.full += 1;
    }

    fn place(&mut self, hash: u32, symbol: u32) {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at].1 != EMPTY {
            at = (at + 1) & mask;
        }
        self.slots[at] = (hash, symbol);
    }

    fn grow(&mut self) {
        let room = (self.slots.len() * 2).max(16);
        let old = std::mem::replace(&mut self.slots, vec![(0, EMPTY); room]);
        for (hash, symbol) in old {
            if symbol != EMPTY {
                self.place(hash, symbol);
            }
        }
    }
}

/// A quick hash of a short text: eight bytes a step, spread by multiplication.
pub(crate) fn hash(text: &str) -> u32 {
    const K: u64 = 0x9E37_79B9_7F4A_7C15;
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    let mut state = text.len() as u64;
    for word in words {
        state = (state.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(K);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    state = (state.rotate_left(5) ^ u64::from_le_bytes(last)).wrapping_mul(K);
    (state >> 32) as u32
}
