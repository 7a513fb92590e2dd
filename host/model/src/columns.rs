//! The columns of a batch as they come from outside, and the check that makes them a
//! [`Batch`](crate::batch::Batch).

use hashbrown::HashMap;
use std::fmt;

/// The most rows a batch may have.
pub const MAX_ROWS: usize = 10_000;
/// The most labels a row may have.
pub const MAX_LABELS: usize = 64;
/// The most bytes that all symbols of a batch may have together.
pub const MAX_SYMBOL_BYTES: usize = 4 << 20;
/// The most bytes one symbol may have.
pub const MAX_SYMBOL: usize = 1024;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A value that goes up and down.
    Gauge = 0,
    /// A value that only grows, until it starts again from zero.
    Counter = 1,
    /// A cumulative histogram bucket, with the label `le`.
    Bucket = 2,
    /// The sum of a histogram's observations.
    Sum = 3,
    /// The number of a histogram's observations.
    Count = 4,
}

impl Kind {
    /// The kind of a byte.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Gauge,
            1 => Self::Counter,
            2 => Self::Bucket,
            3 => Self::Sum,
            4 => Self::Count,
            _ => return None,
        })
    }
}

/// Many samples in columns, unchecked. The meaning of each column is in the WIT of
/// `sentinel:plugin/types.batch`, which has the same fields.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Columns {
    /// All distinct strings, one after the other.
    pub symbols: String,
    /// End offset in bytes of each string.
    pub symbol_ends: Vec<u32>,
    /// For each row, the symbol that is its name.
    pub name: Vec<u32>,
    /// For each row, where its labels start; one more at the end.
    pub label_offsets: Vec<u32>,
    /// Symbols: key, value, key, value.
    pub labels: Vec<u32>,
    /// For each row, a [`Kind`].
    pub kind: Vec<u8>,
    /// For each row, its value.
    pub value: Vec<f64>,
    /// For each row, unix milliseconds.
    pub time: Vec<i64>,
}

/// Why columns are not a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// A size passes its bound.
    #[error("{what} is {found}, more than the {max} that a batch may have")]
    TooLarge {
        /// Which size.
        what: &'static str,
        /// What was found.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// A column has another length than the rows need.
    #[error("column `{column}` has {found} elements, {expected} are needed")]
    Length {
        /// Which column.
        column: &'static str,
        /// What was found.
        found: usize,
        /// What is needed.
        expected: usize,
    },
    /// An offset or index is out of bounds, falls back, or cuts a character.
    #[error("column `{column}` at {at}: {value} is {why}")]
    Element {
        /// Which column.
        column: &'static str,
        /// Which element.
        at: usize,
        /// What was found.
        value: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A metric name or label key is not of the allowed form.
    #[error("{what} {text:?} is not allowed: {why}")]
    Text {
        /// Name or key.
        what: &'static str,
        /// The text, cut to 80 characters.
        text: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// A row has the same label key twice.
    #[error("row {row} has the label {key:?} twice")]
    DuplicateLabel {
        /// Which row.
        row: usize,
        /// The key.
        key: String,
    },
}

/// A text cut for a message.
pub(crate) struct Cut<'a>(pub(crate) &'a str);

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().take(80).try_for_each(|c| write!(f, "{c}"))
    }
}

fn bound(what: &'static str, found: usize, max: usize) -> Result<(), BatchError> {
    if found > max { Err(BatchError::TooLarge { what, found, max }) } else { Ok(()) }
}

fn length(column: &'static str, found: usize, expected: usize) -> Result<(), BatchError> {
    if found == expected { Ok(()) } else { Err(BatchError::Length { column, found, expected }) }
}

impl Columns {
    /// The text of a symbol of checked columns.
    pub(crate) fn symbol(&self, index: u32) -> &str {
        let index = index as usize;
        let start = if index == 0 { 0 } else { self.symbol_ends[index - 1] as usize };
        &self.symbols[start..self.symbol_ends[index] as usize]
    }

    /// Checks everything that the contract says of a batch, in one pass over each column.
    pub(crate) fn check(&self) -> Result<(), BatchError> {
        let rows = self.name.len();
        bound("the number of rows", rows, MAX_ROWS)?;
        bound("the length of all symbols", self.symbols.len(), MAX_SYMBOL_BYTES)?;
        bound("the number of labels", self.labels.len(), rows * MAX_LABELS * 2)?;
        bound("the number of symbols", self.symbol_ends.len(), rows * (2 * MAX_LABELS + 1) + 1024)?;
        length("kind", self.kind.len(), rows)?;
        length("value", self.value.len(), rows)?;
        length("time", self.time.len(), rows)?;
        length("label-offsets", self.label_offsets.len(), rows + 1)?;
        self.check_symbols()?;
        self.check_names()?;
        self.check_labels()
    }

    fn check_symbols(&self) -> Result<(), BatchError> {
        let element = |at: usize, value: u32, why| {
            Err(BatchError::Element { column: "symbol-ends", at, value: value.into(), why })
        };
        let mut last = 0u32;
        for (at, &end) in self.symbol_ends.iter().enumerate() {
            if end < last {
                return element(at, end, "less than the one before");
            }
            if !self.symbols.is_char_boundary(end as usize) {
                return element(at, end, "past the symbols or inside a character");
            }
            bound("the length of a symbol", (end - last) as usize, MAX_SYMBOL)?;
            last = end;
        }
        length("symbols (bytes up to the last end)", last as usize, self.symbols.len())
    }

    fn check_names(&self) -> Result<(), BatchError> {
        let mut checked = vec![false; self.symbol_ends.len()];
        for (at, &name) in self.name.iter().enumerate() {
            match checked.get_mut(name as usize) {
                Some(true) => {}
                Some(checked) => {
                    check_name(self.symbol(name))?;
                    *checked = true;
                }
                None => return Err(out_of_symbols("name", at, name)),
            }
        }
        for (at, &kind) in self.kind.iter().enumerate() {
            if Kind::from_byte(kind).is_none() {
                let value = kind.into();
                return Err(BatchError::Element { column: "kind", at, value, why: "not a kind" });
            }
        }
        Ok(())
    }

    fn check_labels(&self) -> Result<(), BatchError> {
        let mut keys = Keys::new(self.symbol_ends.len());
        let element = |at: usize, value: u32, why| {
            Err(BatchError::Element { column: "label-offsets", at, value: value.into(), why })
        };
        if self.label_offsets[0] != 0 {
            return element(0, self.label_offsets[0], "not 0");
        }
        let symbols = self.symbol_ends.len() as u32;
        let mut before: &[[u32; 2]] = &[];
        for (row, pair) in self.label_offsets.windows(2).enumerate() {
            let (start, end) = (pair[0], pair[1]);
            if end < start {
                return element(row + 1, end, "less than the one before");
            }
            if end % 2 != 0 {
                return element(row + 1, end, "odd");
            }
            if end as usize > self.labels.len() {
                return element(row + 1, end, "past the labels");
            }
            bound("the number of labels of a row", (end - start) as usize / 2, MAX_LABELS)?;
            let labels = self.labels[start as usize..end as usize].as_chunks::<2>().0;
            // Most rows have the keys of the row before, whose keys were checked.
            let known = same_keys_and_values_below(before, labels, symbols);
            before = labels;
            if known {
                continue;
            }
            for (i, &[key, value]) in labels.iter().enumerate() {
                if key >= symbols || value >= symbols {
                    return Err(out_of_symbols("labels", start as usize + 2 * i, key.max(value)));
                }
                keys.take(self, row, key)?;
            }
        }
        length("labels", self.labels.len(), self.label_offsets[self.name.len()] as usize)
    }
}

/// Whether two rows have the same keys in the same order, and every value of the second is less
/// than `bound`: without branches, since it is asked for every row.
fn same_keys_and_values_below(before: &[[u32; 2]], labels: &[[u32; 2]], bound: u32) -> bool {
    before.len() == labels.len()
        && before
            .iter()
            .zip(labels)
            .fold(true, |all, (before, label)| all & (before[0] == label[0]) & (label[1] < bound))
}

/// Label keys as they are met: each symbol's form is checked once, and what each row has is
/// told by a number rather than by its text, since a text may stand in the symbols twice.
struct Keys<'a> {
    /// For each symbol: the number of its text among the keys, from 1; 0 where it was not met.
    number: Vec<u32>,
    /// For each number: the last row, from 1, that has the key.
    last_row: Vec<u32>,
    by_text: HashMap<&'a str, u32>,
}

impl<'a> Keys<'a> {
    fn new(symbols: usize) -> Self {
        Self { number: vec![0; symbols], last_row: vec![0], by_text: HashMap::new() }
    }

    fn take(&mut self, columns: &'a Columns, row: usize, key: u32) -> Result<(), BatchError> {
        if self.number[key as usize] == 0 {
            let text = columns.symbol(key);
            check_label_key(text)?;
            let next = self.last_row.len() as u32;
            let number = *self.by_text.entry(text).or_insert(next);
            if number == next {
                self.last_row.push(0);
            }
            self.number[key as usize] = number;
        }
        let last = &mut self.last_row[self.number[key as usize] as usize];
        let row = row as u32 + 1;
        if *last == row {
            let key = Cut(columns.symbol(key)).to_string();
            return Err(BatchError::DuplicateLabel { row: row as usize - 1, key });
        }
        *last = row;
        Ok(())
    }
}

fn out_of_symbols(column: &'static str, at: usize, value: u32) -> BatchError {
    BatchError::Element { column, at, value: value.into(), why: "not the index of a symbol" }
}

/// Checks the form of a metric name: `[a-zA-Z_:][a-zA-Z0-9_:]*`.
///
/// # Errors
/// [`BatchError::Text`].
pub fn check_name(text: &str) -> Result<(), BatchError> {
    let bytes = text.as_bytes();
    let head = |b: &u8| b.is_ascii_alphabetic() || matches!(b, b'_' | b':');
    if bytes.first().is_some_and(head) && bytes.iter().all(|b| head(b) || b.is_ascii_digit()) {
        return Ok(());
    }
    let why = "use letters, digits, '_' and ':', and no digit first";
    Err(BatchError::Text { what: "metric name", text: Cut(text).to_string(), why })
}

/// Checks the form of a label key: `[a-zA-Z_][a-zA-Z0-9_]*`, not starting with `__`.
///
/// # Errors
/// [`BatchError::Text`].
pub fn check_label_key(text: &str) -> Result<(), BatchError> {
    let bytes = text.as_bytes();
    let head = |b: &u8| b.is_ascii_alphabetic() || *b == b'_';
    let why = if bytes.starts_with(b"__") {
        "keys that start with two underscores are the host's"
    } else if bytes.first().is_some_and(head) && bytes.iter().all(|b| head(b) || b.is_ascii_digit())
    {
        return Ok(());
    } else {
        "use letters, digits and '_', and no digit first"
    };
    Err(BatchError::Text { what: "label key", text: Cut(text).to_string(), why })
}
