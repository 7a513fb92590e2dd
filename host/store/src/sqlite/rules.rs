//! Rules: the set in force, and those that were in force before it.

use super::SqliteStore;
use super::script::{Script, transaction};
use crate::StoreError;
use crate::kept::RULE_VERSIONS;
use crate::rules::RuleVersion;
use sentinel_model::rule::RuleSet;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

fn stored(row: &SqliteRow) -> Result<RuleSet, StoreError> {
    let version: i64 = row.try_get(0)?;
    Ok(RuleSet {
        version: version.unsigned_abs(),
        applied_at: row.try_get(1)?,
        rules: serde_json::from_str(row.try_get(2)?)?,
    })
}

fn counted(row: &SqliteRow) -> Result<RuleVersion, StoreError> {
    let (version, rules): (i64, i64) = (row.try_get(0)?, row.try_get(2)?);
    Ok(RuleVersion {
        version: version.unsigned_abs(),
        applied_at: row.try_get(1)?,
        rules: rules.unsigned_abs(),
    })
}

impl SqliteStore {
    pub(super) async fn write_rules(&self, rules: &RuleSet) -> Result<(), StoreError> {
        let text = serde_json::to_string(&rules.rules)?;
        let (version, applied_at) = (rules.version as i64, rules.applied_at);
        self.write(move |_, writer| {
            Box::pin(async move {
                let sql = "SELECT coalesce(max(version), 0) FROM rules";
                let stored = super::open::number(&mut writer.conn, sql).await?;
                if version != stored + 1 {
                    return Err(StoreError::Conflict(format!(
                        "the rules were changed meanwhile: version {stored} is in force, and \
                         {version} does not follow it; read them again and apply anew"
                    )));
                }
                let mut script = Script::new();
                script
                    .sql("INSERT INTO rules (version, applied_at, rules) VALUES (?,?,?);")
                    .bind(version)
                    .bind(applied_at)
                    .bind(text)
                    .sql("DELETE FROM rules WHERE version <= ?;")
                    .bind(version - RULE_VERSIONS);
                transaction(&mut writer.conn, vec![script]).await
            })
        })
        .await
    }

    pub(super) async fn read_rules(&self) -> Result<RuleSet, StoreError> {
        let sql = "SELECT version, applied_at, rules FROM rules ORDER BY version DESC LIMIT 1";
        let row = sqlx::query(sql).fetch_optional(&self.0.pool).await?;
        row.as_ref().map_or_else(|| Ok(RuleSet::default()), stored)
    }

    pub(super) async fn version_of(&self, version: u64) -> Result<Option<RuleSet>, StoreError> {
        let Ok(version) = i64::try_from(version) else { return Ok(None) };
        let sql = "SELECT version, applied_at, rules FROM rules WHERE version = ?";
        let row = sqlx::query(sql).bind(version).fetch_optional(&self.0.pool).await?;
        row.as_ref().map(stored).transpose()
    }

    pub(super) async fn newest_versions(&self, limit: u32) -> Result<Vec<RuleVersion>, StoreError> {
        let sql = "SELECT version, applied_at, json_array_length(rules) FROM rules \
                   ORDER BY version DESC LIMIT ?";
        let rows = sqlx::query(sql).bind(limit).fetch_all(&self.0.pool).await?;
        rows.iter().map(counted).collect()
    }
}
