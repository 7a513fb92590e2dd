//! Parts of windows.

use super::PostgresStore;
use super::failure::{Again, retried};
use crate::StoreError;
use crate::kept::fits;
use crate::windows::{PARTS_AT_ONCE, WindowChange, WindowPart};
use sqlx::Row;
use sqlx::postgres::PgRow;

fn stored(row: &PgRow) -> Result<WindowPart, StoreError> {
    let part: i64 = row.try_get(0)?;
    let number = |_| StoreError::Damaged { what: format!("{part} as a part of windows") };
    let part = u32::try_from(part).map_err(number)?;
    Ok(WindowPart { part, made_at: row.try_get(1)?, data: row.try_get(2)? })
}

impl PostgresStore {
    pub(super) async fn write_windows(&self, change: WindowChange) -> Result<(), StoreError> {
        fits(&change.parts)?;
        if change.parts.is_empty() && change.older.is_none() {
            return Ok(());
        }
        let change = std::sync::Arc::new(change);
        self.step(Again::Whenever, |conn| {
            let change = std::sync::Arc::clone(&change);
            Box::pin(async move {
                if let Some(fence) = &change.fence {
                    super::lease::check(conn, fence).await?;
                }
                for WindowPart { part, made_at, data } in &change.parts {
                    let sql = "INSERT INTO window_parts (part, made_at, data) VALUES ($1, $2, $3) \
                               ON CONFLICT (part) DO UPDATE SET made_at = excluded.made_at, \
                               data = excluded.data";
                    let query = sqlx::query(sql).bind(i64::from(*part)).bind(made_at);
                    query.bind(&data[..]).execute(&mut *conn).await?;
                }
                if let Some(older) = change.older {
                    let query = sqlx::query("DELETE FROM window_parts WHERE made_at < $1");
                    query.bind(older).execute(conn).await?;
                }
                Ok(())
            })
        })
        .await
    }

    pub(super) async fn read_windows(&self, from: u32) -> Result<Vec<WindowPart>, StoreError> {
        self.still_open()?;
        retried(Again::Whenever, || async move {
            let sql = "SELECT part, made_at, data FROM window_parts WHERE part >= $1 \
                       ORDER BY part LIMIT $2";
            let query = sqlx::query(sql).bind(i64::from(from)).bind(i64::from(PARTS_AT_ONCE));
            let rows = query.fetch_all(&self.0.pool).await?;
            Ok(rows.iter().map(stored).collect::<Result<_, StoreError>>()?)
        })
        .await
    }
}
