//! What is stored of the counters, read from the database itself.
//!
//! PostgreSQL is asked by the relations that SQL users have. SQLite's blobs are decoded
//! (`sqlite.rs`). Neither goes through Sentinel's queries, whose merging of equal times would hide
//! doubles.

use crate::alerts::position::Origin;
use crate::{Generator, Trouble, sqlite};
use anyhow::{Context, Result};
use futures::TryStreamExt;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row, Transaction};
use std::collections::HashMap;

/// The metric that the counter makes.
const METRIC: &str = "sentinel_test_counter";

/// One stored value of a counter.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Whose.
    pub generator: Generator,
    /// Its label `series`.
    pub series: String,
    /// The value.
    pub value: f64,
    /// Unix milliseconds.
    pub time: i64,
    /// Whether it lies in a chunk; else in a batch as it was committed.
    pub packed: bool,
}

/// All that is stored of counters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stored {
    /// In no order.
    pub samples: Vec<Sample>,
    /// What is wrong in the database by itself.
    pub troubles: Vec<Trouble>,
}

/// Reads the database of a `postgres://` URL, or the SQLite file of a path.
///
/// # Errors
/// Where it cannot be read, or what it holds cannot be decoded.
pub async fn read(place: &str) -> Result<Stored> {
    if is_postgres(place) { from_postgres(place).await } else { from_sqlite(place).await }
}

/// Whether it is the URL of a PostgreSQL; else it is the path of a file.
pub(crate) fn is_postgres(place: &str) -> bool {
    place.starts_with("postgres://") || place.starts_with("postgresql://")
}

/// One moment for all questions.
pub(crate) async fn one_moment(
    connection: &mut PgConnection,
) -> Result<Transaction<'_, sqlx::Postgres>> {
    let mut transaction = connection.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .execute(&mut *transaction)
        .await?;
    Ok(transaction)
}

/// Where a stream's ledger must stand: (stream in words, committed, rows of the ledger as first
/// and last record).
fn ledger(stream: String, committed: i64, mut ranges: Vec<(i64, i64)>) -> Option<Trouble> {
    ranges.sort_unstable();
    // Old rows are removed from below.
    for pair in ranges.windows(2) {
        if pair[1].0 != pair[0].1 + 1 {
            let what = format!("{}–{} is followed by {}", pair[0].0, pair[0].1, pair[1].0);
            return Some(Trouble::Ledger { stream, what });
        }
    }
    match ranges.last() {
        Some(&(_, last)) if last != committed => {
            let what = format!("it ends at {last}, and {committed} is committed");
            Some(Trouble::Ledger { stream, what })
        }
        _ => None,
    }
}

async fn from_postgres(url: &str) -> Result<Stored> {
    let mut connection = PgConnection::connect(url).await.context("the database")?;
    let mut transaction = one_moment(&mut connection).await?;
    let of = |relation: &str| {
        format!(
            "SELECT labels->>'agent', labels->>'slot', labels->>'series', value, \
             (extract(epoch FROM time) * 1000)::bigint FROM {relation} WHERE name = '{METRIC}'"
        )
    };
    let mut waiting: HashMap<(String, String, String, u64, i64), u64> = HashMap::new();
    let mut samples = Vec::new();
    for (relation, raw) in [("metrics_raw", true), ("metrics_time", false)] {
        let sql = sqlx::AssertSqlSafe(of(relation));
        let mut rows = sqlx::query(sql).fetch(&mut *transaction);
        while let Some(row) = rows.try_next().await? {
            let text = |at: usize| -> Result<String> {
                Ok(row.try_get::<Option<String>, _>(at)?.unwrap_or_default())
            };
            let (value, time): (f64, i64) = (row.try_get(3)?, row.try_get(4)?);
            let (agent, slot, series) = (text(0)?, text(1)?, text(2)?);
            let key = (agent.clone(), slot.clone(), series.clone(), value.to_bits(), time);
            if raw {
                *waiting.entry(key).or_default() += 1;
                continue;
            }
            // What is in both is what waits; the rest of the whole is packed.
            let packed = match waiting.get_mut(&key) {
                Some(left) if *left > 0 => {
                    *left -= 1;
                    false
                }
                _ => true,
            };
            let generator = Generator { agent, slot };
            samples.push(Sample { generator, series, value, time, packed });
        }
    }
    let mut ranges: HashMap<i64, Vec<(i64, i64)>> = HashMap::new();
    let mut rows = sqlx::query("SELECT stream, seq, last FROM ledger").fetch(&mut *transaction);
    while let Some(row) = rows.try_next().await? {
        ranges.entry(row.try_get(0)?).or_default().push((row.try_get(1)?, row.try_get(2)?));
    }
    drop(rows);
    let mut troubles = Vec::new();
    let sql = "SELECT id, agent, encode(epoch, 'hex'), committed FROM streams";
    for row in sqlx::query(sql).fetch_all(&mut *transaction).await? {
        let (id, agent, epoch): (i64, String, String) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let ranges = ranges.remove(&id).unwrap_or_default();
        troubles.extend(ledger(format!("{agent}, epoch {epoch}"), row.try_get(3)?, ranges));
    }
    Ok(Stored { samples, troubles })
}

/// A counter's series: whose, and its label.
type Known = HashMap<u32, (Generator, String)>;

async fn from_sqlite(path: &str) -> Result<Stored> {
    let mut connection = sqlite::open(path).await?;
    let mut transaction = connection.begin().await?;
    let mut known = Known::new();
    let sql = "SELECT id, labels FROM series WHERE name = ?";
    for row in sqlx::query(sql).bind(METRIC).fetch_all(&mut *transaction).await? {
        let labels: serde_json::Value = serde_json::from_str(row.try_get(1)?)?;
        let label = |key: &str| labels[key].as_str().unwrap_or_default().to_owned();
        let generator = Generator { agent: label("agent"), slot: label("slot") };
        known.insert(row.try_get::<i64, _>(0)? as u32, (generator, label("series")));
    }
    let mut samples = Vec::new();
    let add = |id: u32, time: i64, value: f64, origin: Origin| {
        if let Some((generator, series)) = known.get(&id) {
            let (generator, series) = (generator.clone(), series.clone());
            let packed = origin == Origin::Packed;
            samples.push(Sample { generator, series, value, time, packed });
        }
    };
    sqlite::samples(&mut transaction, add).await?;
    let mut ranges: HashMap<i64, Vec<(i64, i64)>> = HashMap::new();
    for row in
        sqlx::query("SELECT stream, seq, last FROM ledger").fetch_all(&mut *transaction).await?
    {
        ranges.entry(row.try_get(0)?).or_default().push((row.try_get(1)?, row.try_get(2)?));
    }
    let mut troubles = Vec::new();
    let sql = "SELECT id, agent, hex(epoch), committed FROM streams";
    for row in sqlx::query(sql).fetch_all(&mut *transaction).await? {
        let (id, agent, epoch): (i64, String, String) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let ranges = ranges.remove(&id).unwrap_or_default();
        troubles.extend(ledger(format!("{agent}, epoch {epoch}"), row.try_get(3)?, ranges));
    }
    Ok(Stored { samples, troubles })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_has_no_holes_and_ends_where_its_stream_stands() {
        let troubled = |committed, ranges: &[(i64, i64)]| {
            ledger("a".to_owned(), committed, ranges.to_vec()).is_some()
        };
        for (committed, ranges, wrong) in [
            (3, &[(1, 1), (2, 2), (3, 3)][..], false),
            (9, &[(8, 8), (5, 7), (9, 9)], false),
            (0, &[], false),
            (4, &[(1, 1), (2, 2), (3, 3)], true),
            (3, &[(1, 1), (3, 3)], true),
            (3, &[(1, 2), (2, 3)], true),
        ] {
            assert_eq!(troubled(committed, ranges), wrong, "{committed} {ranges:?}");
        }
    }
}
