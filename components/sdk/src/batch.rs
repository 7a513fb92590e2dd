//! The columnar batch as it crosses the boundary, and how to read it.
//!
//! Most authors need none of this: collectors build a batch with
//! [`BatchBuilder`](crate::BatchBuilder), transforms edit it with
//! [`rows::edit`](crate::rows::edit). Where every nanosecond counts, there is
//! [`columns::edit`](crate::columns::edit), and the columns are public.

pub use crate::bindings::host::sentinel::plugin::types::{Batch, Failure};

/// What the value of a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A value that goes up and down.
    Gauge = 0,
    /// A total that only grows, until its process starts again.
    Counter = 1,
    /// A cumulative bucket of a histogram, with the label `le`.
    HistogramBucket = 2,
    /// The sum of all observations of a histogram.
    HistogramSum = 3,
    /// The number of all observations of a histogram.
    HistogramCount = 4,
}

impl Kind {
    /// The kind of a number in the column `kind`; a number that the contract does not know
    /// counts as gauge.
    pub fn from_column(kind: u8) -> Self {
        match kind {
            1 => Self::Counter,
            2 => Self::HistogramBucket,
            3 => Self::HistogramSum,
            4 => Self::HistogramCount,
            _ => Self::Gauge,
        }
    }
}

/// One row of a batch, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'b> {
    /// Metric name.
    pub name: &'b str,
    /// Labels in the order of the columns.
    pub labels: Vec<(&'b str, &'b str)>,
    /// What the value is.
    pub kind: Kind,
    /// The value.
    pub value: f64,
    /// Unix time in milliseconds.
    pub time: i64,
}

impl<'b> Sample<'b> {
    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&'b str> {
        self.labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
    }
}

impl std::fmt::Display for Sample<'_> {
    /// `name{key="value"} value`, labels sorted: for messages and tests.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)?;
        let mut labels = self.labels.clone();
        labels.sort_unstable();
        if !labels.is_empty() {
            f.write_str("{")?;
            for (i, (key, value)) in labels.iter().enumerate() {
                let comma = if i == 0 { "" } else { "," };
                write!(f, "{comma}{key}={value:?}")?;
            }
            f.write_str("}")?;
        }
        write!(f, " {}", self.value)
    }
}

impl Batch {
    /// A valid batch without rows.
    pub fn empty() -> Self {
        Self {
            symbols: String::new(),
            symbol_ends: Vec::new(),
            name: Vec::new(),
            label_offsets: vec![0],
            labels: Vec::new(),
            kind: Vec::new(),
            value: Vec::new(),
            time: Vec::new(),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.name.len()
    }

    /// The text of a symbol.
    ///
    /// # Panics
    ///
    /// If the batch has no such symbol.
    pub fn symbol(&self, index: u32) -> &str {
        let index = index as usize;
        let start = match index {
            0 => 0,
            _ => self.symbol_ends[index - 1] as usize,
        };
        &self.symbols[start..self.symbol_ends[index] as usize]
    }

    /// Asks `what` about the text of each symbol, in order: a decision that rows share.
    pub fn each_symbol<T>(&self, mut what: impl FnMut(&str) -> T) -> Vec<T> {
        let mut start = 0;
        let ends = self.symbol_ends.iter().map(|end| *end as usize);
        ends.map(|end| what(&self.symbols[std::mem::replace(&mut start, end)..end])).collect()
    }

    /// The symbol with this text, found by looking at all of them; a batch may hold a text twice.
    pub fn find_symbol(&self, text: &str) -> Option<u32> {
        let mut start = 0;
        for (index, end) in self.symbol_ends.iter().enumerate() {
            let end = *end as usize;
            if end - start == text.len() && &self.symbols.as_bytes()[start..end] == text.as_bytes()
            {
                return Some(index as u32);
            }
            start = end;
        }
        None
    }

    /// Appends a text to the symbols, whether or not it is there already.
    pub fn add_symbol(&mut self, text: &str) -> u32 {
        self.symbols.push_str(text);
        self.symbol_ends.push(self.symbols.len() as u32);
        self.symbol_ends.len() as u32 - 1
    }

    /// The symbol with this text, appended if it is not there.
    pub fn intern(&mut self, text: &str) -> u32 {
        self.find_symbol(text).unwrap_or_else(|| self.add_symbol(text))
    }

    /// Reads one row.
    ///
    /// # Panics
    ///
    /// If there is no such row, or the batch is malformed.
    pub fn sample(&self, row: usize) -> Sample<'_> {
        let labels = self.label_offsets[row] as usize..self.label_offsets[row + 1] as usize;
        Sample {
            name: self.symbol(self.name[row]),
            labels: self.labels[labels]
                .as_chunks::<2>()
                .0
                .iter()
                .map(|[key, value]| (self.symbol(*key), self.symbol(*value)))
                .collect(),
            kind: Kind::from_column(self.kind[row]),
            value: self.value[row],
            time: self.time[row],
        }
    }

    /// Reads all rows in order.
    pub fn samples(&self) -> impl Iterator<Item = Sample<'_>> {
        (0..self.rows()).map(|row| self.sample(row))
    }
}
