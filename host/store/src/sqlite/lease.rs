//! Leases. One process has the file, and one transaction is made at a time.

use super::SqliteStore;
use super::commit::Writer;
use super::script::{Script, transaction};
use crate::StoreError;
use crate::lease::{Fence, lasting};
use sentinel_model::duration::Millis;

/// Unix milliseconds.
const NOW: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

/// Whether a lease has this token; nobody else changes it while the writer is held.
pub(super) async fn check(writer: &mut Writer, fence: &Fence) -> Result<(), StoreError> {
    let sql = "SELECT count(*) FROM leases WHERE name = ? AND token = ?";
    let query = sqlx::query_scalar(sql).bind(fence.lease.as_str()).bind(fence.token as i64);
    let found: i64 = query.fetch_one(&mut writer.conn).await?;
    if found == 0 { Err(StoreError::Fenced { lease: fence.lease.clone() }) } else { Ok(()) }
}

impl SqliteStore {
    pub(super) async fn take(
        &self,
        name: &str,
        holder: &str,
        lasts: Millis,
    ) -> Result<Option<Fence>, StoreError> {
        let (lease, holder) = (name.to_owned(), holder.to_owned());
        self.write(move |_, writer| {
            Box::pin(async move {
                let sql = format!(
                    "SELECT coalesce(max(token), 0), coalesce(max(until), 0) > {NOW} \
                     FROM leases WHERE name = ?"
                );
                let query = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(lease.as_str());
                let (token, is_held): (i64, bool) = query.fetch_one(&mut writer.conn).await?;
                if is_held {
                    return Ok(None);
                }
                let token = token + 1;
                let mut script = Script::new();
                let sql =
                    "INSERT OR REPLACE INTO leases (name, holder, token, until) VALUES (?,?,?,";
                script.sql(sql).sql(NOW).sql(" + ?);");
                script.bind(lease.clone()).bind(holder).bind(token).bind(lasting(lasts));
                transaction(&mut writer.conn, vec![script]).await?;
                Ok(Some(Fence { lease, token: token.unsigned_abs() }))
            })
        })
        .await
    }

    pub(super) async fn keep_taken(&self, fence: &Fence, lasts: Millis) -> Result<(), StoreError> {
        let mut script = Script::new();
        script.sql("UPDATE leases SET until = ").sql(NOW).sql(" + ? WHERE name = ? AND token = ?;");
        script.bind(lasting(lasts)).bind(fence.lease.clone()).bind(fence.token as i64);
        self.change_lease(fence, script).await
    }

    pub(super) async fn release(&self, fence: &Fence) -> Result<(), StoreError> {
        let mut script = Script::new();
        script
            .sql("UPDATE leases SET token = token + 1, until = 0 WHERE name = ? AND token = ?;")
            .bind(fence.lease.clone())
            .bind(fence.token as i64);
        self.change_lease(fence, script).await
    }

    async fn change_lease(&self, fence: &Fence, script: Script) -> Result<(), StoreError> {
        match self.change(script).await? {
            0 => Err(StoreError::Fenced { lease: fence.lease.clone() }),
            _ => Ok(()),
        }
    }
}
