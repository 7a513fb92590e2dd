//! Rows over columns: how a transform reads and edits a batch.
//!
//! ```
//! use sentinel_sdk::{Batch, rows};
//!
//! fn reshape(input: Batch) -> Batch {
//!     rows::edit(input, |row| {
//!         if row.name().starts_with("go_") {
//!             row.drop();
//!             return;
//!         }
//!         row.set_label("env", "prod");
//!         if let Some(base) = row.name().strip_suffix("_milliseconds") {
//!             row.rename(&format!("{base}_seconds"));
//!             row.set_value(row.value() / 1000.0);
//!         }
//!     })
//! }
//! # let _ = reshape;
//! ```
//!
//! Texts are numbers inside: a text given to a row is looked up once and then recognised by its
//! address, and a decision that depends on a name or a label value alone is made once a symbol
//! with [`Memo`] instead of once a row:
//!
//! ```
//! use sentinel_sdk::{Batch, rows::{self, Memo}};
//!
//! fn reshape(input: Batch) -> Batch {
//!     let mut internal = Memo::new();
//!     rows::edit(input, |row| {
//!         if internal.get(row.name_symbol(), || row.name().contains("internal")) {
//!             row.drop();
//!         }
//!     })
//! }
//! # let _ = reshape;
//! ```

mod arena;
mod memo;
mod symbols;

use std::mem::take;

use crate::{Batch, Kind};
use arena::Block;
pub use memo::Memo;
use symbols::Symbols;

/// A text of the batch under edit. Two symbols of one edit are equal if and only if their texts
/// are. Means nothing in another batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Symbol(u32);

/// Something that stands for a text in an edit: a string, or a symbol of this edit.
pub trait Text {
    /// The symbol in `row`'s edit.
    fn symbol_in(self, row: &mut Row<'_>) -> Symbol;
}

impl Text for Symbol {
    #[inline]
    fn symbol_in(self, _: &mut Row<'_>) -> Symbol {
        self
    }
}

impl Text for &str {
    #[inline]
    fn symbol_in(self, row: &mut Row<'_>) -> Symbol {
        row.intern(self)
    }
}

impl Text for &String {
    #[inline]
    fn symbol_in(self, row: &mut Row<'_>) -> Symbol {
        row.intern(self)
    }
}

/// Shows each row of a batch to `each` in order and returns the batch with what it did.
///
/// Strings that a row hands out live as long as the edit, not as the row's borrow: they may be
/// given back to it.
pub fn edit(mut batch: Batch, mut each: impl FnMut(&mut Row<'_>)) -> Batch {
    let mut blob = take(&mut batch.symbols);
    let mut ends = take(&mut batch.symbol_ends);
    let added = {
        let texts = Block::first();
        let mut row = Row::new(&blob, &ends, &texts, &batch);
        for at in 0..batch.name.len() {
            row.load(&batch, at);
            each(&mut row);
            row.store(&mut batch);
        }
        row.finish(&mut batch);
        row.symbols.added().iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()
    };
    for text in added {
        blob.push_str(&text);
        ends.push(blob.len() as u32);
    }
    batch.symbols = blob;
    batch.symbol_ends = ends;
    batch
}

/// One row of a batch under edit.
pub struct Row<'b> {
    symbols: Symbols<'b>,
    name: u32,
    kind: u8,
    value: f64,
    time: i64,
    dropped: bool,
    /// Labels of all rows kept so far, then those of this row.
    labels: Vec<u32>,
    /// Where this row's labels start in `labels`.
    start: usize,
    /// Rows kept so far.
    kept: usize,
    offsets: Vec<u32>,
}

impl<'b> Row<'b> {
    fn new(blob: &'b str, ends: &[u32], texts: &'b Block, batch: &Batch) -> Self {
        let rows = batch.rows();
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self {
            symbols: Symbols::new(blob, ends, texts),
            name: 0,
            kind: 0,
            value: 0.0,
            time: 0,
            dropped: false,
            // Room for one label more a row: the usual edit.
            labels: Vec::with_capacity(batch.labels.len() + rows * 2),
            start: 0,
            kept: 0,
            offsets,
        }
    }

    #[inline]
    fn load(&mut self, batch: &Batch, at: usize) {
        self.name = batch.name[at];
        self.kind = batch.kind[at];
        self.value = batch.value[at];
        self.time = batch.time[at];
        self.dropped = false;
        let labels = batch.label_offsets[at] as usize..batch.label_offsets[at + 1] as usize;
        self.labels.extend_from_slice(&batch.labels[labels]);
        if self.symbols.has_doubles() {
            self.name = self.symbols.first(self.name);
            for symbol in &mut self.labels[self.start..] {
                *symbol = self.symbols.first(*symbol);
            }
        }
    }

    /// Kept rows move up in the batch's own columns: `kept` never passes the row being read.
    #[inline]
    fn store(&mut self, batch: &mut Batch) {
        if self.dropped {
            self.labels.truncate(self.start);
            return;
        }
        let at = self.kept;
        batch.name[at] = self.name;
        batch.kind[at] = self.kind;
        batch.value[at] = self.value;
        batch.time[at] = self.time;
        self.kept += 1;
        self.start = self.labels.len();
        self.offsets.push(self.start as u32);
    }

    fn finish(&mut self, batch: &mut Batch) {
        batch.name.truncate(self.kept);
        batch.kind.truncate(self.kept);
        batch.value.truncate(self.kept);
        batch.time.truncate(self.kept);
        batch.labels = take(&mut self.labels);
        batch.label_offsets = take(&mut self.offsets);
    }

    /// The metric's name.
    #[inline]
    pub fn name(&self) -> &'b str {
        self.symbols.text(Symbol(self.name))
    }

    /// The symbol of the metric's name.
    #[inline]
    pub fn name_symbol(&self) -> Symbol {
        Symbol(self.name)
    }

    /// Gives the metric another name.
    #[inline]
    pub fn rename(&mut self, name: impl Text) {
        self.name = name.symbol_in(self).0;
    }

    /// What the value is.
    #[inline]
    pub fn kind(&self) -> Kind {
        Kind::from_column(self.kind)
    }

    /// Says what the value is.
    #[inline]
    pub fn set_kind(&mut self, kind: Kind) {
        self.kind = kind as u8;
    }

    /// The value.
    #[inline]
    pub fn value(&self) -> f64 {
        self.value
    }

    /// Sets the value.
    #[inline]
    pub fn set_value(&mut self, value: f64) {
        self.value = value;
    }

    /// Unix time in milliseconds.
    #[inline]
    pub fn time(&self) -> i64 {
        self.time
    }

    /// Sets the unix time in milliseconds.
    #[inline]
    pub fn set_time(&mut self, time: i64) {
        self.time = time;
    }

    /// Takes the row out of the batch.
    #[expect(clippy::should_implement_trait, reason = "the word that authors look for")]
    #[inline]
    pub fn drop(&mut self) {
        self.dropped = true;
    }

    /// Whether the row has been taken out.
    #[inline]
    pub fn is_dropped(&self) -> bool {
        self.dropped
    }

    /// Labels, key and value, in order.
    pub fn labels(&self) -> impl Iterator<Item = (&'b str, &'b str)> {
        self.label_symbols().map(|(key, value)| (self.text(key), self.text(value)))
    }

    /// Labels as symbols, key and value, in order.
    #[inline]
    pub fn label_symbols(&self) -> impl Iterator<Item = (Symbol, Symbol)> {
        self.labels[self.start..]
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[key, value]| (Symbol(*key), Symbol(*value)))
    }

    /// The value of a label.
    #[inline]
    pub fn label(&mut self, key: impl Text) -> Option<&'b str> {
        let value = self.label_symbol(key)?;
        Some(self.text(value))
    }

    /// The symbol of a label's value.
    #[inline]
    pub fn label_symbol(&mut self, key: impl Text) -> Option<Symbol> {
        let key = key.symbol_in(self);
        self.position(key).map(|at| Symbol(self.labels[at + 1]))
    }

    /// Sets a label, whether or not the row has it.
    #[inline]
    pub fn set_label(&mut self, key: impl Text, value: impl Text) {
        let key = key.symbol_in(self);
        let value = value.symbol_in(self);
        match self.position(key) {
            Some(at) => self.labels[at + 1] = value.0,
            None => self.labels.extend_from_slice(&[key.0, value.0]),
        }
    }

    /// Takes a label away; nothing happens where there is none.
    #[inline]
    pub fn drop_label(&mut self, key: impl Text) {
        let key = key.symbol_in(self);
        if let Some(at) = self.position(key) {
            self.labels.drain(at..at + 2);
        }
    }

    /// Gives a label another key; a label that already has that key gives way. Nothing happens
    /// where there is no label `from`.
    #[inline]
    pub fn rename_label(&mut self, from: impl Text, to: impl Text) {
        let from = from.symbol_in(self);
        let to = to.symbol_in(self);
        if from == to || self.position(from).is_none() {
            return;
        }
        self.drop_label(to);
        if let Some(at) = self.position(from) {
            self.labels[at] = to.0;
        }
    }

    /// The text of a symbol of this edit.
    #[inline]
    pub fn text(&self, symbol: Symbol) -> &'b str {
        self.symbols.text(symbol)
    }

    /// The symbol of a text, added to the batch if it is new.
    #[inline]
    pub fn intern(&mut self, text: &str) -> Symbol {
        self.symbols.intern(text)
    }

    /// Where a key stands in `labels`.
    #[inline]
    fn position(&self, key: Symbol) -> Option<usize> {
        self.labels[self.start..]
            .as_chunks::<2>()
            .0
            .iter()
            .position(|[found, _]| *found == key.0)
            .map(|at| self.start + at * 2)
    }
}

#[cfg(test)]
mod tests;
