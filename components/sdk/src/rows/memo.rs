//! Decisions remembered by symbol.

use super::Symbol;

/// A value for each symbol of one edit, worked out at the first time it is asked for. Belongs
/// to one edit: the next batch numbers its symbols anew.
#[derive(Clone, Debug)]
pub struct Memo<V> {
    known: Vec<Option<V>>,
}

impl<V> Default for Memo<V> {
    fn default() -> Self {
        Self { known: Vec::new() }
    }
}

impl<V: Copy> Memo<V> {
    /// Nothing known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is known for a symbol, or what `decide` says, which is then known.
    #[inline]
    pub fn get(&mut self, symbol: Symbol, decide: impl FnOnce() -> V) -> V {
        if let Some(Some(value)) = self.known.get(symbol.0 as usize) {
            return *value;
        }
        let value = decide();
        self.set(symbol, value);
        value
    }

    /// What is known for a symbol.
    #[inline]
    pub fn known(&self, symbol: Symbol) -> Option<V> {
        self.known.get(symbol.0 as usize).copied().flatten()
    }

    /// Says what is to be known for a symbol.
    #[cold]
    pub fn set(&mut self, symbol: Symbol, value: V) {
        let at = symbol.0 as usize;
        if at >= self.known.len() {
            self.known.resize((at + 1).next_power_of_two(), None);
        }
        self.known[at] = Some(value);
    }
}
