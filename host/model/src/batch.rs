//! The columnar batch: many samples whose columns were checked once.

use crate::columns::{BatchError, Columns, Kind};
use hashbrown::HashMap;
use std::ops::Deref;

/// Columns that obey the contract. Only [`Batch::new`] makes one, so whoever holds a batch
/// may index its columns without looking again.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch(Columns);

impl Batch {
    /// Checks columns.
    ///
    /// # Errors
    /// The first rule of the contract that they break.
    pub fn new(columns: Columns) -> Result<Self, BatchError> {
        columns.check()?;
        Ok(Self(columns))
    }

    /// A batch without rows.
    #[must_use]
    pub fn empty() -> Self {
        Self(Columns { label_offsets: vec![0], ..Columns::default() })
    }

    /// The number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.name.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.name.is_empty()
    }

    /// The text of a symbol.
    ///
    /// # Panics
    /// If `index` is not one of this batch's symbols.
    #[must_use]
    pub fn symbol(&self, index: u32) -> &str {
        self.0.symbol(index)
    }

    /// One row.
    ///
    /// # Panics
    /// If `index` is not less than [`Batch::len`].
    #[must_use]
    pub fn row(&self, index: usize) -> Row<'_> {
        assert!(index < self.len(), "row {index} of {}", self.len());
        Row { batch: self, index }
    }

    /// All rows, in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        (0..self.len()).map(|index| Row { batch: self, index })
    }

    /// The symbols of a row's labels: key, value, key, value.
    #[must_use]
    pub fn label_symbols(&self, row: usize) -> &[u32] {
        &self.labels[self.label_offsets[row] as usize..self.label_offsets[row + 1] as usize]
    }

    /// The columns again.
    #[must_use]
    pub fn into_columns(self) -> Columns {
        self.0
    }
}

impl Deref for Batch {
    type Target = Columns;
    fn deref(&self) -> &Columns {
        &self.0
    }
}

/// One row of a batch, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    batch: &'a Batch,
    index: usize,
}

impl<'a> Row<'a> {
    /// The metric name.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.batch.symbol(self.batch.name[self.index])
    }

    /// Labels in the order they were given.
    pub fn labels(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let batch = self.batch;
        batch
            .label_symbols(self.index)
            .chunks_exact(2)
            .map(|pair| (batch.symbol(pair[0]), batch.symbol(pair[1])))
    }

    /// The value of a label.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&'a str> {
        self.labels().find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// What the value is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::from_byte(self.batch.kind[self.index]).expect("a batch's kinds were checked")
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.batch.value[self.index]
    }

    /// Unix milliseconds.
    #[must_use]
    pub fn time(&self) -> i64 {
        self.batch.time[self.index]
    }
}

/// Makes a batch row by row; for tests, tools and whatever is not hot.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    columns: Columns,
    interned: HashMap<String, u32>,
}

impl BatchBuilder {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn intern(&mut self, text: &str) -> u32 {
        if let Some(&index) = self.interned.get(text) {
            return index;
        }
        let index = self.columns.symbol_ends.len() as u32;
        self.columns.symbols.push_str(text);
        self.columns.symbol_ends.push(self.columns.symbols.len() as u32);
        self.interned.insert(text.to_owned(), index);
        index
    }

    /// Adds a row.
    pub fn push<'l>(
        &mut self,
        name: &str,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
        kind: Kind,
        value: f64,
        time: i64,
    ) -> &mut Self {
        let start = self.columns.labels.len() as u32;
        self.columns.label_offsets.push(start);
        let name = self.intern(name);
        self.columns.name.push(name);
        for (key, value) in labels {
            let (key, value) = (self.intern(key), self.intern(value));
            self.columns.labels.extend([key, value]);
        }
        self.columns.kind.push(kind as u8);
        self.columns.value.push(value);
        self.columns.time.push(time);
        self
    }

    /// Checks and gives the batch.
    ///
    /// # Errors
    /// As [`Batch::new`].
    pub fn build(mut self) -> Result<Batch, BatchError> {
        self.columns.label_offsets.push(self.columns.labels.len() as u32);
        Batch::new(self.columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_rows() -> Columns {
        let mut builder = BatchBuilder::new();
        builder
            .push("up", [("job", "a"), ("zoé", "x")].into_iter().take(1), Kind::Gauge, 1.0, 5)
            .push("up", [("job", "é")], Kind::Counter, 2.0, 6);
        builder.build().unwrap().into_columns()
    }

    #[test]
    fn rows_read_back_what_was_pushed() {
        let batch = Batch::new(two_rows()).unwrap();
        assert_eq!(batch.len(), 2);
        let row = batch.row(1);
        assert_eq!((row.name(), row.label("job"), row.label("no")), ("up", Some("é"), None));
        assert_eq!((row.kind(), row.value(), row.time()), (Kind::Counter, 2.0, 6));
    }

    #[test]
    fn every_rule_of_the_contract_is_checked() {
        type Break = fn(&mut Columns);
        let cases: &[(&str, Break)] = &[
            ("kind is short", |c| c.kind.truncate(1)),
            ("value is long", |c| c.value.push(0.0)),
            ("time is short", |c| c.time.clear()),
            ("offsets are short", |c| c.label_offsets.truncate(2)),
            ("offsets start late", |c| c.label_offsets[0] = 2),
            ("offsets fall", |c| c.label_offsets[1] = 6),
            ("offsets are odd", |c| c.label_offsets[1] = 1),
            ("offsets pass the labels", |c| c.label_offsets[2] = 400),
            ("offsets stop early", |c| c.label_offsets[2] = 2),
            ("a name is no symbol", |c| c.name[0] = 99),
            ("a label is no symbol", |c| c.labels[1] = u32::MAX),
            ("a label of a row with the keys of the one before is no symbol", |c| c.labels[3] = 99),
            ("a key of a row with as many labels as the one before is no symbol", |c| {
                c.labels[2] = 99;
            }),
            ("a name is malformed", |c| c.name[0] = c.labels[3]),
            ("a key is malformed", |c| c.labels[0] = c.labels[3]),
            ("a kind is unknown", |c| c.kind[0] = 9),
            ("an end is inside a character", |c| {
                let last = c.symbol_ends.len() - 1;
                c.symbol_ends.insert(last, c.symbol_ends[last] - 1);
            }),
            ("an end is past the symbols", |c| *c.symbol_ends.last_mut().unwrap() += 1),
            ("an end falls", |c| c.symbol_ends[1] = 0),
            ("symbols are longer than their ends", |c| c.symbols.push('x')),
            ("a symbol is too long", |c| {
                c.symbols.push_str(&"x".repeat(2000));
                c.symbol_ends.push(c.symbols.len() as u32);
            }),
            ("a key stands twice", |c| {
                c.labels.extend([c.labels[0], c.labels[1]]);
                c.label_offsets[2] += 2;
            }),
        ];
        for (what, spoil) in cases {
            let mut columns = two_rows();
            spoil(&mut columns);
            assert!(Batch::new(columns).is_err(), "{what}");
        }
    }

    #[test]
    fn a_row_with_the_keys_of_the_one_before_but_one_is_checked_whole() {
        let mut builder = BatchBuilder::new();
        for _ in 0..3 {
            builder.push("up", [("job", "a"), ("zone", "b")], Kind::Gauge, 1.0, 5);
        }
        let mut columns = builder.build().unwrap().into_columns();
        // The last row's second key becomes its first.
        columns.labels[10] = columns.labels[8];
        let error = Batch::new(columns).unwrap_err();
        assert_eq!(error.to_string(), "row 2 has the label \"job\" twice");
    }

    #[test]
    fn a_key_under_two_symbols_is_still_the_same_key() {
        let mut columns = two_rows();
        columns.symbols.push_str("job");
        columns.symbol_ends.push(columns.symbols.len() as u32);
        let again = columns.symbol_ends.len() as u32 - 1;
        columns.labels.extend([again, columns.labels[1]]);
        columns.label_offsets[2] += 2;
        let error = Batch::new(columns).unwrap_err();
        assert_eq!(error.to_string(), "row 1 has the label \"job\" twice");
    }
}
