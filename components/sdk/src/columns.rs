//! A batch edited on its columns, where every nanosecond counts: the cells of a row are numbers
//! and no text is looked up. What depends on a text is decided once a symbol, before:
//!
//! ```
//! use sentinel_sdk::{Batch, columns};
//!
//! fn reshape(mut input: Batch) -> Batch {
//!     let internal = input.each_symbol(|text| text.starts_with("internal_"));
//!     let [env, prod] = ["env", "prod"].map(|text| input.intern(text));
//!     columns::edit(input, 1, |row, labels| {
//!         if internal[row.name as usize] {
//!             return false;
//!         }
//!         labels.extend(row.labels.iter().filter(|[key, _]| *key != env));
//!         labels.push([env, prod]);
//!         true
//!     })
//! }
//! # let _ = reshape;
//! ```
//!
//! [`rows::edit`](crate::rows::edit) does the same with texts, and keeps the contract's rules
//! that are left to the author here: no label twice in a row, symbols that the batch has.

use std::mem::take;

use crate::Batch;

/// A label: the symbols of key and value.
pub type LabelSymbols = [u32; 2];

/// The cells of a row, and the labels that it came with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cells<'b> {
    /// The symbol of the name.
    pub name: u32,
    /// Number of a [`Kind`](crate::Kind).
    pub kind: u8,
    /// The value.
    pub value: f64,
    /// Unix time in milliseconds.
    pub time: i64,
    /// The labels of the row as it came; those it gets are appended to `labels` of [`edit`].
    pub labels: &'b [LabelSymbols],
}

/// Shows each row of a batch to `each` in order and returns the batch of the rows for which it
/// said `true`, with the cells it left and the labels that it appended. `more` is how many labels
/// a row gets on top of its own, at most: room is made once, and made again where it was less.
///
/// # Panics
///
/// If the batch is malformed.
pub fn edit(
    mut batch: Batch,
    more: usize,
    mut each: impl FnMut(&mut Cells<'_>, &mut Vec<LabelSymbols>) -> bool,
) -> Batch {
    let rows = batch.rows();
    let old = take(&mut batch.labels);
    let old = old.as_chunks::<2>().0;
    let mut labels = Vec::with_capacity(old.len() + rows * more);
    // Slices of one length, so that one check a row serves all columns.
    let (names, kinds) = (&mut batch.name[..rows], &mut batch.kind[..rows]);
    let (values, times) = (&mut batch.value[..rows], &mut batch.time[..rows]);
    let offsets = &mut batch.label_offsets[..=rows];
    let (mut kept, mut start) = (0, 0);
    for at in 0..rows {
        let end = offsets[at + 1] as usize / 2;
        let mut row = Cells {
            name: names[at],
            kind: kinds[at],
            value: values[at],
            time: times[at],
            labels: &old[start..end],
        };
        start = end;
        let begin = labels.len();
        if !each(&mut row, &mut labels) {
            labels.truncate(begin);
            continue;
        }
        // Kept rows move up in their own columns: `kept` never passes the row being read.
        names[kept] = row.name;
        kinds[kept] = row.kind;
        values[kept] = row.value;
        times[kept] = row.time;
        kept += 1;
        offsets[kept] = labels.len() as u32 * 2;
    }
    batch.name.truncate(kept);
    batch.kind.truncate(kept);
    batch.value.truncate(kept);
    batch.time.truncate(kept);
    batch.label_offsets.truncate(kept + 1);
    batch.labels = labels.into_flattened();
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BatchBuilder;
    use proptest::prelude::*;

    /// What a row is to become: dropped, or kept with so many labels on top.
    type Fate = Option<u8>;

    fn input(rows: &[(u8, Fate)]) -> Batch {
        let mut builder = BatchBuilder::at(7);
        for (at, (labels, _)) in rows.iter().enumerate() {
            let keys: Vec<String> = (0..*labels).map(|i| format!("k{i}")).collect();
            let labels: Vec<_> = keys.iter().map(|key| (key.as_str(), "v")).collect();
            builder.gauge(&format!("m{}", at % 3), &labels, at as f64);
        }
        builder.finish().parts().next().cloned().unwrap_or_else(Batch::empty)
    }

    proptest! {
        #[test]
        fn rows_are_kept_in_order_with_what_was_said_of_them(
            rows in prop::collection::vec((0u8..6, prop::option::of(0u8..4)), 1..40),
            more in 0usize..3,
        ) {
            let mut batch = input(&rows);
            let before: Vec<String> = batch.samples().map(|s| s.to_string()).collect();
            let extra: Vec<u32> = (0..4).map(|i| batch.intern(&format!("x{i}"))).collect();
            let mut at = 0;
            let after = edit(batch, more, |row, labels| {
                let fate = rows[at].1;
                at += 1;
                labels.extend(row.labels);
                let added = fate.unwrap_or(3);
                labels.extend(extra[..added.into()].iter().map(|key| [*key, *key]));
                row.value += 0.5;
                fate.is_some()
            });
            prop_assert_eq!(after.label_offsets.len(), after.rows() + 1);
            let expected: Vec<String> = before
                .iter()
                .zip(&rows)
                .filter_map(|(line, (labels, fate))| {
                    let (head, value) = line.rsplit_once(' ').unwrap();
                    let (name, had) = head.split_once('{').unwrap_or((head, "}"));
                    let added = (0..(*fate)?).map(|i| format!("x{i}=\"x{i}\""));
                    let had = had.trim_end_matches('}');
                    let had = (*labels > 0).then(|| had.to_owned());
                    let all: Vec<String> = had.into_iter().chain(added).collect();
                    let all = match all.join(",") {
                        none if none.is_empty() => none,
                        some => format!("{{{some}}}"),
                    };
                    Some(format!("{name}{all} {value}.5"))
                })
                .collect();
            let found: Vec<String> = after.samples().map(|s| s.to_string()).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_batch_without_rows_stays_one() {
        assert_eq!(edit(Batch::empty(), 1, |_, _| unreachable!()), Batch::empty());
    }
}
