//! What was stored lately under the names that rules read.

use super::Sheet;
use sentinel_model::series::SeriesKey;
use sentinel_store::query::{SeriesInfo, TimeRange};
use sentinel_store::{Store, StoreError};
use std::collections::{BTreeMap, BTreeSet};

/// What counts as lately (an hour), in milliseconds.
pub const LATELY_MS: i64 = 3_600_000;
/// Series of one name whose samples are read, to know how often they come: half of them spread
/// over all, half of them the newest.
const SAMPLED: usize = 32;
/// Names that are looked at, at most.
const MAX_NAMES: usize = 2_000;
/// Series that are looked at, at most, over all names.
const MAX_SERIES: usize = 200_000;

/// Series of one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// All that are known.
    pub series: Vec<SeriesKey>,
    /// Which part of them had a sample lately, 0 to 1.
    pub live: f64,
    /// Samples a minute of one that had; 0 where that cannot be said.
    pub per_minute: f64,
}

/// What is stored.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// Every metric name.
    pub names: BTreeSet<String>,
    /// Those that the rules read; a name without an entry was not looked at, being one of too many.
    pub metrics: BTreeMap<String, Metric>,
}

impl Stored {
    /// Asks a store about everything that rules read, as of a time in unix milliseconds.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn ask(store: &dyn Store, sheet: &Sheet, now: i64) -> Result<Self, StoreError> {
        let names: BTreeSet<String> = store.metric_names("").await?.into_iter().collect();
        let reads = sheet.entries.iter().flat_map(|entry| &entry.reads);
        let read: BTreeSet<&str> = reads.map(|read| read.selector.name.as_str()).collect();
        let mut metrics = BTreeMap::new();
        let mut left = MAX_SERIES;
        for name in read.into_iter().filter(|name| names.contains(*name)).take(MAX_NAMES) {
            let Ok(all) = name.parse() else { continue };
            let series = match store.series(&all).await {
                Ok(series) if series.len() <= left => series,
                Ok(_) | Err(StoreError::TooMuch { .. }) => continue,
                Err(error) => return Err(error),
            };
            left -= series.len();
            metrics.insert(name.to_owned(), metric(store, series, now).await?);
        }
        Ok(Self { names, metrics })
    }
}

async fn metric(
    store: &dyn Store,
    mut series: Vec<SeriesInfo>,
    now: i64,
) -> Result<Metric, StoreError> {
    series.sort_unstable_by_key(|one| one.id);
    let mut asked = sample(&series);
    let (mut live, mut rates) = lately(store, &asked, now).await?;
    if live == 0 && asked.len() < series.len() {
        // Those that were asked may be the ones that are over; where all are, that is cheap too.
        asked = series.iter().map(|one| one.id).collect();
        (live, rates) = lately(store, &asked, now).await?;
    }
    rates.sort_unstable_by(f64::total_cmp);
    Ok(Metric {
        live: if asked.is_empty() { 0.0 } else { live as f64 / asked.len() as f64 },
        per_minute: rates.get(rates.len() / 2).copied().unwrap_or(0.0),
        series: series.into_iter().map(|one| one.key).collect(),
    })
}

fn sample(series: &[SeriesInfo]) -> Vec<u32> {
    if series.len() <= SAMPLED {
        return series.iter().map(|one| one.id).collect();
    }
    let (older, newest) = series.split_at(series.len() - SAMPLED / 2);
    let spread = (0..SAMPLED / 2).map(|i| &older[i * older.len() / (SAMPLED / 2)]);
    spread.chain(newest).map(|one| one.id).collect()
}

/// How many of some series had a sample lately, and how many a minute each that had two.
async fn lately(store: &dyn Store, ids: &[u32], now: i64) -> Result<(usize, Vec<f64>), StoreError> {
    let range = TimeRange { start: now.saturating_sub(LATELY_MS), end: now };
    let points = store.samples(ids, range).await?;
    let live = points.iter().filter(|one| !one.times.is_empty()).count();
    let rates = points.iter().filter_map(|one| {
        let (first, last) = (one.times.first()?, one.times.last()?);
        let minutes = last.saturating_sub(*first) as f64 / 60_000.0;
        (minutes > 0.0).then(|| (one.times.len() - 1) as f64 / minutes)
    });
    Ok((live, rates.collect()))
}
