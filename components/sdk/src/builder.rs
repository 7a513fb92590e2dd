//! Building batches: what a collector returns.

use std::collections::VecDeque;

use crate::symbol_index::{SymbolIndex, hash};
use crate::{Batch, Kind};

/// Rows of one part: larger ones only make linear memory grow, which never shrinks.
pub const ROWS_PER_PART: usize = 2_000;
/// Parts that the host fetches of one collection.
pub const MAX_PARTS: usize = 64;
/// Labels of one row.
pub const MAX_LABELS: usize = 64;
/// Bytes of one name, label key or label value.
pub const MAX_SYMBOL_BYTES: usize = 1_024;

/// What one collection returned: batches in the order in which the host fetches them.
#[derive(Debug, Default)]
pub struct Collected {
    parts: VecDeque<Batch>,
    more: bool,
}

impl Collected {
    /// Nothing.
    pub const fn none() -> Self {
        Self { parts: VecDeque::new(), more: false }
    }

    /// Asks the host to call `collect` again at once (at most 64 parts a collection). A
    /// collector whose `kv` writes belong to its rows returns at most [`ROWS_PER_PART`] a call
    /// and asks for more in this way, so that each part is durable with its own writes.
    #[must_use]
    pub fn and_more(mut self) -> Self {
        self.more = true;
        self
    }

    /// The batches, for tests.
    pub fn parts(&self) -> impl Iterator<Item = &Batch> {
        self.parts.iter()
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.parts.is_empty()
    }

    /// The next part, and whether the host should ask again.
    pub(crate) fn next_part(&mut self) -> (Batch, bool) {
        let batch = self.parts.pop_front().unwrap_or_else(Batch::empty);
        let more = !self.parts.is_empty() || self.more;
        if self.parts.is_empty() {
            self.more = false;
        }
        (batch, more)
    }
}

impl From<Batch> for Collected {
    /// The batch as it is, also if it is larger than [`ROWS_PER_PART`].
    fn from(batch: Batch) -> Self {
        Self { parts: VecDeque::from([batch]), more: false }
    }
}

impl From<BatchBuilder> for Collected {
    fn from(builder: BatchBuilder) -> Self {
        builder.finish()
    }
}

/// Builds batches row by row, each text stored once, split at [`ROWS_PER_PART`].
///
/// ```
/// use sentinel_sdk::{BatchBuilder, Collected};
///
/// let mut batch = BatchBuilder::at(1_700_000_000_000);
/// batch.gauge("system_memory_usage_bytes", &[("state", "free")], 1024.0);
/// batch.counter("system_network_io_bytes_total", &[("device", "eth0")], 7.0);
/// let collected: Collected = batch.into();
/// assert_eq!(collected.parts().next().unwrap().rows(), 2);
/// ```
#[derive(Debug)]
pub struct BatchBuilder {
    time: i64,
    done: VecDeque<Batch>,
    part: Part,
    /// Rows beyond what the host fetches.
    dropped: usize,
}

#[derive(Debug)]
struct Part {
    batch: Batch,
    index: SymbolIndex,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// A builder whose rows bear the host's present time.
    pub fn new() -> Self {
        Self::at(crate::clock::now())
    }

    /// A builder whose rows bear `time`, in unix milliseconds.
    pub fn at(time: i64) -> Self {
        Self { time, done: VecDeque::new(), part: Part::new(), dropped: 0 }
    }

    /// The time of rows pushed from now on, in unix milliseconds.
    pub fn set_time(&mut self, time: i64) {
        self.time = time;
    }

    /// Rows so far.
    pub fn rows(&self) -> usize {
        self.done.iter().map(Batch::rows).sum::<usize>() + self.part.batch.rows()
    }

    /// Adds a row of kind gauge. See [`push`](Self::push).
    pub fn gauge(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.push(Kind::Gauge, name, labels, value);
    }

    /// Adds a row of kind counter. See [`push`](Self::push).
    pub fn counter(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.push(Kind::Counter, name, labels, value);
    }

    /// Adds a row. Label values above [`MAX_SYMBOL_BYTES`] are cut at a character border; rows
    /// above [`ROWS_PER_PART`] × [`MAX_PARTS`] are dropped, and the log says how many.
    ///
    /// # Panics
    ///
    /// If the name or a key is malformed, a key comes twice, or there are more than
    /// [`MAX_LABELS`]: bugs of the plugin, which the host would refuse with fewer words.
    pub fn push(&mut self, kind: Kind, name: &str, labels: &[(&str, &str)], value: f64) {
        if self.part.batch.rows() == ROWS_PER_PART {
            if self.done.len() + 1 == MAX_PARTS {
                self.dropped += 1;
                return;
            }
            let full = std::mem::replace(&mut self.part, Part::new());
            self.done.push_back(full.batch);
        }
        self.part.push(kind, name, labels, value, self.time);
    }

    /// The batches built so far.
    pub fn finish(mut self) -> Collected {
        if self.dropped > 0 {
            crate::log::error(format_args!(
                "{} samples beyond {} of one collection were dropped; collect less in one slot",
                self.dropped,
                ROWS_PER_PART * MAX_PARTS
            ));
        }
        if self.part.batch.rows() > 0 || self.done.is_empty() {
            self.done.push_back(self.part.batch);
        }
        Collected { parts: self.done, more: false }
    }
}

impl Part {
    fn new() -> Self {
        Self { batch: Batch::empty(), index: SymbolIndex::default() }
    }

    fn push(&mut self, kind: Kind, name: &str, labels: &[(&str, &str)], value: f64, time: i64) {
        assert!(is_metric_name(name), "malformed metric name {name:?}");
        assert!(
            labels.len() <= MAX_LABELS,
            "{name} has {} labels, more than {MAX_LABELS}",
            labels.len()
        );
        for (at, (key, text)) in labels.iter().enumerate() {
            assert!(is_label_key(key), "malformed label key {key:?} of {name}");
            assert!(
                !labels[..at].iter().any(|(earlier, _)| earlier == key),
                "{name} has the label {key:?} twice"
            );
            let key = self.intern(key);
            let text = self.intern(&text[..text.floor_char_boundary(MAX_SYMBOL_BYTES)]);
            self.batch.labels.extend_from_slice(&[key, text]);
        }
        let name = self.intern(name);
        self.batch.name.push(name);
        self.batch.label_offsets.push(self.batch.labels.len() as u32);
        self.batch.kind.push(kind as u8);
        self.batch.value.push(value);
        self.batch.time.push(time);
    }

    fn intern(&mut self, text: &str) -> u32 {
        let hash = hash(text);
        let batch = &self.batch;
        if let Some(symbol) = self.index.find(hash, |symbol| batch.symbol(symbol) == text) {
            return symbol;
        }
        let symbol = self.batch.add_symbol(text);
        self.index.insert(hash, symbol);
        symbol
    }
}

/// Whether the contract takes `text` as a metric name: `[a-zA-Z_:][a-zA-Z0-9_:]*`.
pub fn is_metric_name(text: &str) -> bool {
    is_identifier(text, b":")
}

/// Whether the contract takes `text` as a label key: `[a-zA-Z_][a-zA-Z0-9_]*`, not `__...`.
pub fn is_label_key(text: &str) -> bool {
    is_identifier(text, b"") && !text.starts_with("__")
}

fn is_identifier(text: &str, also: &[u8]) -> bool {
    text.len() <= MAX_SYMBOL_BYTES
        && !text.starts_with(|first: char| first.is_ascii_digit())
        && !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || also.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(mut collected: Collected) -> Vec<(usize, bool)> {
        let mut parts = Vec::new();
        loop {
            let (batch, more) = collected.next_part();
            parts.push((batch.rows(), more));
            if !more {
                return parts;
            }
        }
    }

    #[test]
    fn rows_are_read_back_as_they_were_pushed() {
        let mut builder = BatchBuilder::at(7);
        builder.gauge("a", &[("k", "v"), ("l", "")], 1.5);
        builder.counter("b_total", &[], f64::INFINITY);
        builder.push(Kind::HistogramBucket, "c_bucket", &[("le", "+Inf")], 3.0);
        let collected = builder.finish();
        let batch = collected.parts().next().unwrap();
        let read: Vec<String> = batch.samples().map(|sample| sample.to_string()).collect();
        assert_eq!(read, [r#"a{k="v",l=""} 1.5"#, "b_total inf", r#"c_bucket{le="+Inf"} 3"#]);
        assert_eq!(batch.kind, [0, 1, 2]);
        assert_eq!(batch.time, [7, 7, 7]);
    }

    #[test]
    fn each_text_is_stored_once() {
        let mut builder = BatchBuilder::at(0);
        for value in 0..100 {
            builder.gauge("name", &[("name", "value"), ("k", "name")], f64::from(value));
        }
        let collected = builder.finish();
        let batch = collected.parts().next().unwrap();
        assert_eq!(batch.symbols, "namevaluek");
    }

    #[test]
    fn a_collection_is_split_at_the_bound_and_more_is_asked_for_until_its_last_part() {
        let mut builder = BatchBuilder::at(0);
        for value in 0..4_001 {
            builder.gauge("a", &[], f64::from(value));
        }
        assert_eq!(drain(builder.finish()), [(2_000, true), (2_000, true), (1, false)]);
    }

    #[test]
    fn what_the_host_would_not_fetch_is_dropped_and_said() {
        let host = crate::testing::Host::new().install();
        let mut builder = BatchBuilder::at(0);
        for _ in 0..ROWS_PER_PART * MAX_PARTS + 3 {
            builder.gauge("a", &[], 0.0);
        }
        assert_eq!(builder.finish().parts().count(), MAX_PARTS);
        assert!(host.logs()[0].1.starts_with("3 samples beyond 128000"));
    }

    #[test]
    fn no_rows_make_one_valid_empty_part() {
        assert_eq!(drain(BatchBuilder::at(0).finish()), [(0, false)]);
        assert_eq!(drain(Collected::none()), [(0, false)]);
    }

    #[test]
    fn a_collector_that_asks_for_more_is_called_again_after_its_last_part() {
        let mut builder = BatchBuilder::at(0);
        builder.gauge("a", &[], 0.0);
        let mut collected = builder.finish().and_more();
        assert!(collected.next_part().1);
        assert!(collected.is_drained());
    }

    #[test]
    fn a_long_value_is_cut_at_a_character_border() {
        let mut builder = BatchBuilder::at(0);
        builder.gauge("a", &[("k", &"ä".repeat(600))], 0.0);
        builder.gauge("a", &[("k", &format!("x{}", "ä".repeat(600)))], 0.0);
        let collected = builder.finish();
        let batch = collected.parts().next().unwrap();
        assert_eq!(batch.sample(0).label("k").unwrap().len(), 1_024);
        assert_eq!(batch.sample(1).label("k").unwrap().len(), 1_023);
    }

    #[test]
    fn names_and_keys_follow_the_contract() {
        for (text, name, key) in [
            ("a", true, true),
            ("a:b", true, false),
            ("_x9", true, true),
            ("__x", true, false),
            ("9a", false, false),
            ("", false, false),
            ("a-b", false, false),
            ("ä", false, false),
        ] {
            assert_eq!(is_metric_name(text), name, "{text:?} as a name");
            assert_eq!(is_label_key(text), key, "{text:?} as a key");
        }
    }

    #[test]
    #[should_panic(expected = "a has the label \"k\" twice")]
    fn a_key_that_comes_twice_is_a_bug() {
        BatchBuilder::at(0).gauge("a", &[("k", "1"), ("k", "2")], 0.0);
    }
}
