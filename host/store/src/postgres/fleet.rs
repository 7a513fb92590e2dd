//! Desired sets: appended, never changed.

use super::PostgresStore;
use super::failure::{Again, retried};
use crate::StoreError;
use crate::fleet::StoredSet;
use sqlx::Row;
use sqlx::postgres::PgRow;

fn stored(row: &PgRow) -> Result<StoredSet, StoreError> {
    Ok(StoredSet {
        number: row.try_get::<i64, _>(0)?.unsigned_abs(),
        taken_at: row.try_get(1)?,
        sealed: row.try_get(2)?,
    })
}

impl PostgresStore {
    pub(super) async fn keep_set(&self, set: &StoredSet) -> Result<(), StoreError> {
        self.step(Again::Undone, |conn| {
            let set = set.clone();
            Box::pin(async move {
                sqlx::query("LOCK TABLE fleet_sets IN EXCLUSIVE MODE").execute(&mut *conn).await?;
                let sql = "SELECT coalesce(max(number), 0) FROM fleet_sets";
                let last: i64 = sqlx::query_scalar(sql).fetch_one(&mut *conn).await?;
                let next = last.unsigned_abs() + 1;
                if set.number != next {
                    Err(StoreError::Conflict(format!(
                        "the desired set has number {} and the next is {next}: somebody else \
                         changed the fleet meanwhile; look at the change and decide again",
                        set.number
                    )))?;
                }
                let sql = "INSERT INTO fleet_sets (number, taken_at, sealed) VALUES ($1, $2, $3)";
                let query = sqlx::query(sql).bind(last + 1).bind(set.taken_at).bind(set.sealed);
                query.execute(conn).await?;
                Ok(())
            })
        })
        .await
    }

    pub(super) async fn newest_sets(&self, limit: u32) -> Result<Vec<StoredSet>, StoreError> {
        let sql = "SELECT number, taken_at, sealed FROM fleet_sets ORDER BY number DESC LIMIT ";
        self.rows(&format!("{sql}{limit}")).await?.iter().map(stored).collect()
    }

    pub(super) async fn set_of(&self, number: u64) -> Result<Option<StoredSet>, StoreError> {
        let Ok(number) = i64::try_from(number) else { return Ok(None) };
        self.still_open()?;
        retried(Again::Whenever, || async move {
            let sql = "SELECT number, taken_at, sealed FROM fleet_sets WHERE number = $1";
            let row = sqlx::query(sql).bind(number).fetch_optional(&self.0.pool).await?;
            Ok(row.as_ref().map(stored).transpose()?)
        })
        .await
    }
}
