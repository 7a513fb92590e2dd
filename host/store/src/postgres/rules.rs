//! Rules: the set in force, and those that were in force before it.

use super::PostgresStore;
use super::failure::{Again, retried};
use crate::StoreError;
use crate::kept::RULE_VERSIONS;
use crate::rules::RuleVersion;
use sentinel_model::rule::RuleSet;
use sqlx::Row;
use sqlx::postgres::PgRow;

fn conflict(message: String) -> StoreError {
    StoreError::Conflict(message)
}

fn stored(row: &PgRow) -> Result<RuleSet, StoreError> {
    Ok(RuleSet {
        version: row.try_get::<i64, _>(0)?.unsigned_abs(),
        applied_at: row.try_get(1)?,
        rules: serde_json::from_str(row.try_get(2)?)?,
    })
}

fn counted(row: &PgRow) -> Result<RuleVersion, StoreError> {
    Ok(RuleVersion {
        version: row.try_get::<i64, _>(0)?.unsigned_abs(),
        applied_at: row.try_get(1)?,
        rules: row.try_get::<i64, _>(2)?.unsigned_abs(),
    })
}

impl PostgresStore {
    pub(super) async fn write_rules(&self, rules: &RuleSet) -> Result<(), StoreError> {
        let Ok(version) = i64::try_from(rules.version) else {
            return Err(conflict(format!("{} is no version of rules", rules.version)));
        };
        let text = serde_json::to_string(&rules.rules)?;
        let applied_at = rules.applied_at;
        self.step(Again::Undone, |conn| {
            let text = text.clone();
            Box::pin(async move {
                sqlx::query("LOCK TABLE rules IN EXCLUSIVE MODE").execute(&mut *conn).await?;
                let sql = "SELECT coalesce(max(version), 0) FROM rules";
                let last: i64 = sqlx::query_scalar(sql).fetch_one(&mut *conn).await?;
                if version != last + 1 {
                    Err(conflict(format!(
                        "the rules were changed meanwhile: version {last} is in force, and \
                         {version} does not follow it; read them again and apply anew"
                    )))?;
                }
                let sql = "INSERT INTO rules (version, applied_at, rules) VALUES ($1, $2, $3)";
                let query = sqlx::query(sql).bind(version).bind(applied_at).bind(text);
                query.execute(&mut *conn).await?;
                let query = sqlx::query("DELETE FROM rules WHERE version <= $1");
                query.bind(version - RULE_VERSIONS).execute(conn).await?;
                Ok(())
            })
        })
        .await
    }

    pub(super) async fn read_rules(&self) -> Result<RuleSet, StoreError> {
        let sql = "SELECT version, applied_at, rules FROM rules ORDER BY version DESC LIMIT 1";
        self.rows(sql).await?.first().map_or_else(|| Ok(RuleSet::default()), stored)
    }

    pub(super) async fn version_of(&self, version: u64) -> Result<Option<RuleSet>, StoreError> {
        let Ok(version) = i64::try_from(version) else { return Ok(None) };
        self.still_open()?;
        retried(Again::Whenever, || async move {
            let sql = "SELECT version, applied_at, rules FROM rules WHERE version = $1";
            let row = sqlx::query(sql).bind(version).fetch_optional(&self.0.pool).await?;
            Ok(row.as_ref().map(stored).transpose()?)
        })
        .await
    }

    pub(super) async fn newest_versions(&self, limit: u32) -> Result<Vec<RuleVersion>, StoreError> {
        let sql = "SELECT version, applied_at, json_array_length(rules.rules::json)::bigint \
                   FROM rules ORDER BY version DESC LIMIT ";
        self.rows(&format!("{sql}{limit}")).await?.iter().map(counted).collect()
    }
}
