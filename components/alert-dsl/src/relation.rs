//! Rows with labels: what holds, and how rows of several conditions become one.
//!
//! Two sets of labels *agree* if every key that both have has the same value in both. A key
//! that a grouping names is there even where its value is empty; the labels of a single series
//! lack what the series lacks.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use sentinel_sdk::Label;

use crate::words;

/// Labels in order of keys.
pub(crate) type Labels = Rc<[Label]>;

/// Most rows of one condition, members of `all` and `any` included.
pub(crate) const MAX_ROWS: usize = 100_000;

/// Something that holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) labels: Labels,
    pub(crate) value: f64,
    pub(crate) summary: String,
}

/// More than [`MAX_ROWS`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

/// Every combination of rows that agree, once for each set of labels; the first counts.
pub(crate) fn join(left: &[Row], right: &[Row]) -> Result<Vec<Row>, TooMany> {
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for (left_keys, left_rows) in by_keys(left) {
        for (right_keys, right_rows) in by_keys(right) {
            let shared: Vec<&str> =
                left_keys.iter().copied().filter(|key| right_keys.contains(key)).collect();
            let mut at: HashMap<Vec<&str>, Vec<usize>> = HashMap::new();
            for &row in &right_rows {
                at.entry(values(&right[row], &shared)).or_default().push(row);
            }
            for &row in &left_rows {
                let partners = at.get(&values(&left[row], &shared));
                pairs.extend(partners.into_iter().flatten().map(|partner| (row, *partner)));
                if pairs.len() > MAX_ROWS {
                    return Err(TooMany);
                }
            }
        }
    }
    pairs.sort_unstable();
    let joined = pairs.into_iter().map(|(a, b)| {
        let (a, b) = (&left[a], &right[b]);
        Row {
            labels: merged(&a.labels, &b.labels),
            value: a.value,
            summary: words::together(&a.summary, &b.summary),
        }
    });
    Ok(distinct(joined.collect()))
}

/// The rows of both, once for each set of labels; the first counts.
pub(crate) fn union(mut left: Vec<Row>, right: Vec<Row>) -> Result<Vec<Row>, TooMany> {
    left.extend(right);
    let rows = distinct(left);
    if rows.len() > MAX_ROWS { Err(TooMany) } else { Ok(rows) }
}

/// The first row of each set of labels, in their order.
pub(crate) fn distinct(mut rows: Vec<Row>) -> Vec<Row> {
    let mut seen: HashSet<Labels> = HashSet::with_capacity(rows.len());
    rows.retain(|row| seen.insert(Rc::clone(&row.labels)));
    rows
}

type ByKeys<'r> = BTreeMap<Vec<&'r str>, Vec<usize>>;

fn by_keys(rows: &[Row]) -> ByKeys<'_> {
    let mut by_keys = ByKeys::new();
    for (at, row) in rows.iter().enumerate() {
        let keys = row.labels.iter().map(|(key, _)| key.as_str()).collect();
        by_keys.entry(keys).or_default().push(at);
    }
    by_keys
}

/// The values of keys that the row has, in the order of `keys`.
fn values<'r>(row: &'r Row, keys: &[&str]) -> Vec<&'r str> {
    let labels = row.labels.iter();
    labels
        .filter(|(key, _)| keys.contains(&key.as_str()))
        .map(|(_, value)| value.as_str())
        .collect()
}

/// The labels of both, which agree.
fn merged(a: &Labels, b: &Labels) -> Labels {
    if b.is_empty() {
        return Rc::clone(a);
    }
    let labels: BTreeMap<&str, &str> =
        a.iter().chain(b.iter()).map(|(key, value)| (key.as_str(), value.as_str())).collect();
    labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
