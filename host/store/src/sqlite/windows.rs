//! Parts of windows.

use super::SqliteStore;
use super::script::{Script, transaction};
use crate::StoreError;
use crate::kept::fits;
use crate::windows::{PARTS_AT_ONCE, WindowChange, WindowPart};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

fn stored(row: &SqliteRow) -> Result<WindowPart, StoreError> {
    Ok(WindowPart { part: row.try_get(0)?, made_at: row.try_get(1)?, data: row.try_get(2)? })
}

impl SqliteStore {
    pub(super) async fn write_windows(&self, change: WindowChange) -> Result<(), StoreError> {
        fits(&change.parts)?;
        let mut script = Script::new();
        for WindowPart { part, made_at, data } in change.parts {
            let sql = "INSERT OR REPLACE INTO window_parts (part, made_at, data) VALUES (?,?,?);";
            script.sql(sql).bind(part).bind(made_at).bind(data);
        }
        if let Some(older) = change.older {
            script.sql("DELETE FROM window_parts WHERE made_at < ?;").bind(older);
        }
        if script.is_empty() {
            return Ok(());
        }
        let fence = change.fence;
        self.write(move |_, writer| {
            Box::pin(async move {
                if let Some(fence) = &fence {
                    super::lease::check(writer, fence).await?;
                }
                transaction(&mut writer.conn, vec![script]).await
            })
        })
        .await
    }

    pub(super) async fn read_windows(&self, from: u32) -> Result<Vec<WindowPart>, StoreError> {
        self.still_open()?;
        let sql =
            "SELECT part, made_at, data FROM window_parts WHERE part >= ? ORDER BY part LIMIT ?";
        let query = sqlx::query(sql).bind(from).bind(PARTS_AT_ONCE);
        query.fetch_all(&self.0.pool).await?.iter().map(stored).collect()
    }
}
