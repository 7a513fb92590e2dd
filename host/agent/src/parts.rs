//! A collection as records of the log: one as a rule, several where it is too large for one or
//! came in several batches. Pure.

use crate::record::{LogRecord, MAX_WRITES, Part};
use bytes::Bytes;
use sentinel_model::batch::{Batch, BatchBuilder};
use sentinel_model::codec;
use sentinel_model::columns::BatchError;
use sentinel_model::ids::SlotName;
use sentinel_runtime::KvWrite;
use std::collections::BTreeMap;

/// The most bytes of an encoded batch. In its envelope it fits into a message of 1 MiB, which
/// is what message queues take by default; a batch of this many bytes is a rare one.
pub(crate) const MAX_BATCH_BYTES: usize = 960 << 10;
/// The most bytes of state in one record, a key and a value more or less.
const MAX_STATE_BYTES: usize = 1 << 20;
/// What a write takes beside its key and its value.
const WRITE_BYTES: usize = 7;

/// A record is smaller than the log's bound whatever is in it.
const _: () =
    assert!(MAX_BATCH_BYTES + MAX_STATE_BYTES + (128 << 10) < sentinel_wal::MAX_RECORD_BYTES);

/// What becomes of a collection.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// To be appended one after the other, without anything in between. Empty where there is
    /// nothing to keep.
    pub(crate) records: Vec<LogRecord>,
    /// Rows that no record can hold, and why the first of them.
    pub(crate) left_out: Option<(u64, BatchError)>,
}

/// More parts than a record can number: beyond what the runtime lets a call return.
#[derive(Debug, thiserror::Error)]
#[error("{0} parts, more than 65535, are needed for one collection")]
pub(crate) struct TooManyParts(usize);

/// Makes records of a collection. `labels` are added to each row.
///
/// # Errors
/// [`TooManyParts`].
pub(crate) fn parts(
    slot: &SlotName,
    batches: Vec<Batch>,
    writes: Vec<KvWrite>,
    labels: &BTreeMap<String, String>,
) -> Result<Parts, TooManyParts> {
    let mut split = Split { labels, encoded: Vec::new(), left_out: None };
    for batch in batches {
        if !batch.is_empty() {
            split.add(batch);
        }
    }
    let mut states = in_chunks(writes).into_iter();
    let mut encoded = split.encoded.into_iter();
    let of = states.len().max(encoded.len());
    let of = u16::try_from(of).map_err(|_| TooManyParts(of))?;
    let records = (1..=of).map(|number| LogRecord {
        slot: slot.clone(),
        part: Part { number, of },
        writes: states.next().unwrap_or_default(),
        batch: encoded.next().unwrap_or_else(|| Bytes::from(codec::encode(&Batch::empty()))),
    });
    Ok(Parts { records: records.collect(), left_out: split.left_out })
}

/// State writes, so many together as a record has room for.
fn in_chunks(writes: Vec<KvWrite>) -> Vec<Vec<KvWrite>> {
    let mut chunks: Vec<Vec<KvWrite>> = Vec::new();
    let mut bytes = usize::MAX;
    for write in writes {
        let size = WRITE_BYTES + write.key.len() + write.value.as_ref().map_or(0, Vec::len);
        bytes = bytes.saturating_add(size);
        match chunks.last_mut() {
            Some(chunk) if bytes <= MAX_STATE_BYTES && chunk.len() < MAX_WRITES => {
                chunk.push(write)
            }
            _ => {
                chunks.push(vec![write]);
                bytes = size;
            }
        }
    }
    chunks
}

struct Split<'a> {
    labels: &'a BTreeMap<String, String>,
    encoded: Vec<Bytes>,
    left_out: Option<(u64, BatchError)>,
}

impl Split<'_> {
    /// A batch that does not fit is halved; a row that does not fit alone is left out.
    fn add(&mut self, batch: Batch) {
        let rows = batch.len();
        let halves = rows > 1;
        let labelled = match self.labels.is_empty() {
            true => Ok(batch.clone()),
            false => label_all(&batch, self.labels),
        };
        match labelled {
            Ok(labelled) => {
                let encoded = codec::encode(&labelled);
                if encoded.len() <= MAX_BATCH_BYTES || !halves {
                    return self.encoded.push(Bytes::from(encoded));
                }
            }
            Err(_) if halves => {}
            Err(error) => {
                let (count, first) = self.left_out.take().unwrap_or((0, error));
                self.left_out = Some((count + 1, first));
                return;
            }
        }
        self.add(rows_of(&batch, 0..rows / 2));
        self.add(rows_of(&batch, rows / 2..rows));
    }
}

/// Some rows of a batch, with the symbols that they use.
fn rows_of(batch: &Batch, range: std::ops::Range<usize>) -> Batch {
    let mut builder = BatchBuilder::new();
    for row in range.map(|i| batch.row(i)) {
        builder.push(row.name(), row.labels(), row.kind(), row.value(), row.time());
    }
    builder.build().expect("rows of a batch are a batch")
}

/// Adds labels to every row; a row's own label of the same key is replaced.
fn label_all(batch: &Batch, labels: &BTreeMap<String, String>) -> Result<Batch, BatchError> {
    let mut columns = batch.clone().into_columns();
    let mut symbol = |text: &str| {
        columns.symbols.push_str(text);
        columns.symbol_ends.push(columns.symbols.len() as u32);
        columns.symbol_ends.len() as u32 - 1
    };
    let added: Vec<u32> = labels.iter().flat_map(|(k, v)| [symbol(k), symbol(v)]).collect();
    let mut offsets = Vec::with_capacity(columns.label_offsets.len());
    let mut all = Vec::with_capacity(columns.labels.len() + added.len() * batch.len());
    offsets.push(0);
    for row in 0..batch.len() {
        for pair in batch.label_symbols(row).chunks_exact(2) {
            if !labels.contains_key(batch.symbol(pair[0])) {
                all.extend_from_slice(pair);
            }
        }
        all.extend_from_slice(&added);
        offsets.push(all.len() as u32);
    }
    (columns.labels, columns.label_offsets) = (all, offsets);
    Batch::new(columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_model::columns::{Kind, MAX_LABELS, MAX_SYMBOL};

    fn slot() -> SlotName {
        SlotName::new("s").unwrap()
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn small(n: f64) -> Batch {
        let mut builder = BatchBuilder::new();
        builder.push("m", [], Kind::Gauge, n, 1);
        builder.build().unwrap()
    }

    /// Text that no compressor makes small.
    fn noise(seed: u64) -> String {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b'!' + (state % 90) as u8)
        };
        (0..MAX_SYMBOL).map(|_| next()).collect()
    }

    fn decoded(parts: &Parts) -> Vec<Batch> {
        parts.records.iter().map(|r| codec::decode(&r.batch).unwrap()).collect()
    }

    #[test]
    fn labels_are_added_to_every_row_and_replace_its_own() {
        let mut builder = BatchBuilder::new();
        builder.push("a", [("x", "1"), ("site", "own")], Kind::Gauge, 1.0, 1);
        builder.push("b", [], Kind::Gauge, 2.0, 1);
        let batch = label_all(&builder.build().unwrap(), &labels(&[("site", "eu")])).unwrap();
        let rows: Vec<Vec<_>> = batch.rows().map(|row| row.labels().collect()).collect();
        assert_eq!(rows, [vec![("x", "1"), ("site", "eu")], vec![("site", "eu")]]);
    }

    #[test]
    fn a_collection_is_one_record_unless_it_came_in_several_batches() {
        let write = || vec![KvWrite { key: "k".into(), value: None }];
        let of = |batches, writes| parts(&slot(), batches, writes, &BTreeMap::new()).unwrap();
        let shape = |parts: &Parts| {
            let one = |r: &LogRecord| {
                let rows = codec::rows(&r.batch).unwrap();
                (r.part.number, r.part.of, rows, r.writes.len())
            };
            parts.records.iter().map(one).collect::<Vec<_>>()
        };
        assert_eq!(shape(&of(vec![], vec![])), []);
        assert_eq!(shape(&of(vec![Batch::empty()], vec![])), []);
        assert_eq!(shape(&of(vec![small(1.0)], vec![])), [(1, 1, 1, 0)]);
        assert_eq!(shape(&of(vec![], write())), [(1, 1, 0, 1)], "state alone is kept too");
        assert_eq!(
            shape(&of(vec![small(1.0), Batch::empty(), small(2.0)], write())),
            [(1, 2, 1, 1), (2, 2, 1, 0)]
        );
    }

    #[test]
    fn a_batch_too_large_for_a_record_is_split_and_no_row_is_lost() {
        // 3,000 rows of their own noise: 3 MiB that do not compress much.
        let mut builder = BatchBuilder::new();
        for n in 0..3000 {
            builder.push("m", [("noise", noise(n).as_str())], Kind::Gauge, n as f64, 1);
        }
        let parts = parts(&slot(), vec![builder.build().unwrap()], vec![], &labels(&[("a", "b")]));
        let parts = parts.unwrap();
        assert!(parts.records.len() > 2 && parts.left_out.is_none());
        assert!(parts.records.iter().all(|r| r.batch.len() <= MAX_BATCH_BYTES));
        let batches = decoded(&parts);
        let rows: Vec<_> = batches.iter().flat_map(Batch::rows).collect();
        let values: Vec<f64> = rows.iter().map(|row| row.value()).collect();
        assert_eq!(values, (0..3000).map(f64::from).collect::<Vec<_>>(), "in order");
        assert!(rows.iter().enumerate().all(|(n, row)| {
            row.label("noise") == Some(&noise(n as u64)) && row.label("a") == Some("b")
        }));
    }

    #[test]
    fn state_too_large_for_a_record_is_split_and_no_write_is_lost() {
        let writes: Vec<KvWrite> = (0..100)
            .map(|n| KvWrite { key: n.to_string(), value: Some(vec![n; 64 << 10]) })
            .collect();
        let parts = parts(&slot(), vec![small(1.0)], writes.clone(), &BTreeMap::new()).unwrap();
        assert_eq!(parts.records.len(), 7);
        assert!(parts.records.iter().all(|r| r.encode().len() < sentinel_wal::MAX_RECORD_BYTES));
        let kept: Vec<KvWrite> = parts.records.iter().flat_map(|r| r.writes.clone()).collect();
        assert_eq!(kept, writes);
    }

    #[test]
    fn a_row_that_has_no_room_for_its_labels_is_left_out_and_the_others_are_kept() {
        let keys: Vec<String> = (0..MAX_LABELS).map(|n| format!("k{n}")).collect();
        let mut builder = BatchBuilder::new();
        builder.push("before", [], Kind::Gauge, 1.0, 1);
        builder.push("full", keys.iter().map(|k| (k.as_str(), "v")), Kind::Gauge, 2.0, 1);
        builder.push("after", [], Kind::Gauge, 3.0, 1);
        let batch = builder.build().unwrap();
        let parts = parts(&slot(), vec![batch], vec![], &labels(&[("site", "eu")])).unwrap();
        let batches = decoded(&parts);
        let names: Vec<&str> = batches.iter().flat_map(Batch::rows).map(|r| r.name()).collect();
        assert_eq!(names, ["before", "after"]);
        let (count, error) = parts.left_out.unwrap();
        assert_eq!(count, 1);
        assert!(error.to_string().contains("labels"), "{error}");
    }
}
