//! Leases, and what is checked of them by writes.

use super::failure::{Again, Did};
use super::{PostgresStore, text};
use crate::StoreError;
use crate::lease::{Fence, lasting};
use sentinel_model::duration::Millis;
use sqlx::postgres::PgConnection;

/// This server's clock in unix milliseconds: the time of the statement, not of its transaction.
const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
/// A holder that stops in the middle of a fenced write holds the lease's row for so long, in
/// milliseconds: shorter than a lease lasts, so that it keeps nobody from taking it.
const FENCED_IDLE_MS: &str = "5000";

/// Sees to it that a lease has this token until the transaction ends.
pub(super) async fn check(conn: &mut PgConnection, fence: &Fence) -> Did<()> {
    let sql = "SELECT token, set_config('idle_in_transaction_session_timeout', $2, true) \
               FROM leases WHERE name = $1 FOR SHARE";
    let query = sqlx::query_as(sql).bind(text::kept(&fence.lease)).bind(FENCED_IDLE_MS);
    let found: Option<(i64, String)> = query.fetch_optional(conn).await?;
    match found {
        Some((token, _)) if token.unsigned_abs() == fence.token => Ok(()),
        _ => Err(StoreError::Fenced { lease: fence.lease.clone() }.into()),
    }
}

impl PostgresStore {
    pub(super) async fn take(
        &self,
        name: &str,
        holder: &str,
        lasts: Millis,
    ) -> Result<Option<Fence>, StoreError> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.step(Again::Undone, |conn| {
            let (name, holder) = (name.clone(), holder.clone());
            Box::pin(async move {
                let sql = format!(
                    "INSERT INTO leases AS l (name, holder, token, until) \
                     VALUES ($1, $2, 1, {NOW} + $3) ON CONFLICT (name) DO UPDATE SET \
                     holder = excluded.holder, token = l.token + 1, until = {NOW} + $3 \
                     WHERE l.until <= {NOW} RETURNING token"
                );
                let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(text::kept(&name));
                let query = query.bind(text::kept(&holder)).bind(lasting(lasts));
                let token: Option<i64> = query.fetch_optional(conn).await?;
                Ok(token.map(|token| Fence { lease: name.clone(), token: token.unsigned_abs() }))
            })
        })
        .await
    }

    pub(super) async fn keep_taken(&self, fence: &Fence, lasts: Millis) -> Result<(), StoreError> {
        self.change_lease(fence, format!("until = {NOW} + {}", lasting(lasts)), Again::Whenever)
            .await
    }

    pub(super) async fn release(&self, fence: &Fence) -> Result<(), StoreError> {
        let change = "token = token + 1, until = 0".to_owned();
        self.change_lease(fence, change, Again::Undone).await
    }

    async fn change_lease(
        &self,
        fence: &Fence,
        change: String,
        again: Again,
    ) -> Result<(), StoreError> {
        let fence = fence.clone();
        self.step(again, |conn| {
            let (fence, change) = (fence.clone(), change.clone());
            Box::pin(async move {
                let sql = format!("UPDATE leases SET {change} WHERE name = $1 AND token = $2");
                let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(text::kept(&fence.lease));
                let done = query.bind(fence.token as i64).execute(conn).await?;
                if done.rows_affected() == 0 {
                    Err(StoreError::Fenced { lease: fence.lease.clone() })?;
                }
                Ok(())
            })
        })
        .await
    }
}
