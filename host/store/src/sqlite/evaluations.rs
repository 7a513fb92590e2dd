//! What rules were evaluated over.

use super::SqliteStore;
use super::script::Script;
use crate::StoreError;
use crate::evaluations::{Evaluation, MAX_EVALUATIONS};
use crate::kept::{position_of, slot_of};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// One that is there already stays.
pub(super) fn insert(script: &mut Script, new: &Evaluation) {
    script
        .sql(
            "INSERT OR IGNORE INTO evaluations (term, number, evaluator, at, rules_version, rules, \
             failed, settled, position, until) VALUES (?,?,?,?,?,?,?,?,?,?);",
        )
        .bind(new.term)
        .bind(new.number)
        .bind(new.evaluator.as_str().to_owned())
        .bind(new.at)
        .bind(new.rules_version as i64)
        .bind(new.rules.clone())
        .bind(new.failed.clone())
        .bind(new.settled)
        .bind(new.position.as_str().to_owned())
        .bind(new.until.as_ref().map(|until| until.as_str().to_owned()));
}

fn stored(row: &SqliteRow) -> Result<(i64, Evaluation), StoreError> {
    let until: Option<&str> = row.try_get(10)?;
    let evaluation = Evaluation {
        term: row.try_get(1)?,
        number: row.try_get(2)?,
        evaluator: slot_of(row.try_get(3)?)?,
        at: row.try_get(4)?,
        rules_version: row.try_get::<i64, _>(5)? as u64,
        rules: row.try_get(6)?,
        failed: row.try_get(7)?,
        settled: row.try_get(8)?,
        position: position_of(row.try_get(9)?)?,
        until: until.map(position_of).transpose()?,
    };
    Ok((row.try_get(0)?, evaluation))
}

impl SqliteStore {
    pub(super) async fn read_evaluations(
        &self,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, Evaluation)>, StoreError> {
        self.still_open()?;
        let sql = "SELECT id, term, number, evaluator, at, rules_version, rules, failed, settled, \
                   position, until FROM evaluations WHERE id > ? ORDER BY id LIMIT ?";
        let query = sqlx::query(sql).bind(after).bind(limit.min(MAX_EVALUATIONS));
        query.fetch_all(&self.0.pool).await?.iter().map(stored).collect()
    }
}
