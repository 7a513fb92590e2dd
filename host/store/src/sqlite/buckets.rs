//! Buckets: the hours by which samples are packed.

use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use std::collections::BTreeSet;

/// Milliseconds of a bucket.
pub(super) const HOUR: i64 = 3_600_000;
/// Buckets are held within ± this, so that keys fit 64 bits; times beyond share the outermost.
const MAX_BUCKET: i64 = 1 << 38;

/// The bucket of a time; never falls while time grows.
pub(super) fn bucket(time: i64) -> i64 {
    time.div_euclid(HOUR).clamp(-MAX_BUCKET, MAX_BUCKET - 1)
}

/// The day of a bucket, in days since 1970.
pub(super) fn day(bucket: i64) -> i64 {
    bucket.div_euclid(24)
}

/// The day of a time.
pub(super) fn day_of(time: i64) -> i64 {
    day(bucket(time))
}

/// The series of a key.
pub(super) fn series(key: i64) -> u32 {
    (key & 0xff_ffff) as u32
}

/// The key of a series in a bucket.
pub(super) fn key(bucket: i64, series: u32) -> i64 {
    bucket << 24 | i64::from(series)
}

/// The hours of which there are chunks and rollups.
#[derive(Default)]
pub(super) struct Buckets {
    pub(super) raw: BTreeSet<i64>,
    pub(super) rollups: BTreeSet<i64>,
}

/// The buckets that a table keyed by [`key`] has, found by one seek each.
pub(super) async fn load(
    conn: &mut SqliteConnection,
    table: &'static str,
) -> Result<BTreeSet<i64>, sqlx::Error> {
    let sql = format!(
        "WITH RECURSIVE b(x) AS (\
         SELECT min(id) >> 24 FROM {table} UNION ALL \
         SELECT (SELECT min(id) >> 24 FROM {table} WHERE id >= (b.x + 1) << 24) \
         FROM b WHERE b.x IS NOT NULL) SELECT x FROM b WHERE x IS NOT NULL"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(conn).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}
