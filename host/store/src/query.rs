//! Questions about stored series.

use sentinel_model::duration::Millis;
use sentinel_model::series::SeriesKey;
use serde::{Deserialize, Serialize};

/// `start < time <= end`, unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeRange {
    /// Not included.
    pub start: i64,
    /// Included.
    pub end: i64,
}

/// The width of a step.
pub type Step = Millis;

/// The most series a query may touch.
pub const MAX_SERIES: usize = 100_000;
/// The most samples a query may return.
pub const MAX_POINTS: usize = 5_000_000;

/// A series that the store knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesInfo {
    /// Its id: stable, from 1, below 2^24.
    pub id: u32,
    /// Name and labels.
    pub key: SeriesKey,
    /// As in the batch's `kind`.
    pub kind: u8,
}

/// Samples of one series, in order of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Points {
    /// Unix milliseconds, strictly increasing.
    pub times: Vec<i64>,
    /// As many values.
    pub values: Vec<f64>,
}

/// A series with its samples.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesRange {
    /// Which.
    pub info: SeriesInfo,
    /// Its samples.
    pub points: Points,
}
