//! Buckets: the hours by which samples are packed.

/// Milliseconds of a bucket.
pub(crate) const HOUR: i64 = 3_600_000;
/// Buckets are held within ± this, so that keys fit 64 bits; times beyond share the outermost.
const MAX_BUCKET: i64 = 1 << 38;

/// The bucket of a time; never falls while time grows.
pub(crate) fn bucket(time: i64) -> i64 {
    time.div_euclid(HOUR).clamp(-MAX_BUCKET, MAX_BUCKET - 1)
}

/// The day of a bucket, in days since 1970.
pub(crate) fn day(bucket: i64) -> i64 {
    bucket.div_euclid(24)
}

/// The day of a time.
pub(crate) fn day_of(time: i64) -> i64 {
    day(bucket(time))
}

/// The series of a key.
pub(crate) fn series(key: i64) -> u32 {
    (key & 0xff_ffff) as u32
}

/// The key of a series in a bucket.
pub(crate) fn key(bucket: i64, series: u32) -> i64 {
    bucket << 24 | i64::from(series)
}
