//! Desired sets: appended, never changed.

use super::SqliteStore;
use super::script::{Script, transaction};
use crate::StoreError;
use crate::fleet::StoredSet;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

fn stored(row: &SqliteRow) -> Result<StoredSet, StoreError> {
    Ok(StoredSet {
        number: row.try_get::<i64, _>(0)?.unsigned_abs(),
        taken_at: row.try_get(1)?,
        sealed: row.try_get(2)?,
    })
}

impl SqliteStore {
    pub(super) async fn keep_set(&self, set: StoredSet) -> Result<(), StoreError> {
        self.write(move |_, writer| {
            Box::pin(async move {
                let sql = "SELECT coalesce(max(number), 0) FROM fleet_sets";
                let last: i64 = sqlx::query_scalar(sql).fetch_one(&mut writer.conn).await?;
                let next = last.unsigned_abs() + 1;
                if set.number != next {
                    return Err(StoreError::Conflict(format!(
                        "the desired set has number {} and the next is {next}: somebody else changed the fleet meanwhile; look at the change and decide again",
                        set.number
                    )));
                }
                let mut script = Script::new();
                script
                    .sql("INSERT INTO fleet_sets (number, taken_at, sealed) VALUES (?,?,?);")
                    .bind(last + 1)
                    .bind(set.taken_at)
                    .bind(set.sealed);
                transaction(&mut writer.conn, vec![script]).await.map(|_| ())
            })
        })
        .await
    }

    pub(super) async fn newest_sets(&self, limit: u32) -> Result<Vec<StoredSet>, StoreError> {
        let sql = "SELECT number, taken_at, sealed FROM fleet_sets ORDER BY number DESC LIMIT ?";
        let rows = sqlx::query(sql).bind(limit).fetch_all(&self.0.pool).await?;
        rows.iter().map(stored).collect()
    }

    pub(super) async fn set_of(&self, number: u64) -> Result<Option<StoredSet>, StoreError> {
        let Ok(number) = i64::try_from(number) else { return Ok(None) };
        let sql = "SELECT number, taken_at, sealed FROM fleet_sets WHERE number = ?";
        let row = sqlx::query(sql).bind(number).fetch_optional(&self.0.pool).await?;
        row.as_ref().map(stored).transpose()
    }
}
