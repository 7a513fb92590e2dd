//! Which buckets the database has.

use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use std::collections::BTreeSet;

/// The hours of which there are chunks and rollups.
#[derive(Default)]
pub(super) struct Buckets {
    pub(super) raw: BTreeSet<i64>,
    pub(super) rollups: BTreeSet<i64>,
}

/// The buckets that a table keyed by [`crate::samples::buckets::key`] has, found by one seek each.
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
