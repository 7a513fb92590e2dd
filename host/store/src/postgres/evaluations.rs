//! What rules were evaluated over.

use super::PostgresStore;
use super::failure::{Again, Did, retried};
use crate::StoreError;
use crate::evaluations::{Evaluation, MAX_EVALUATIONS};
use crate::kept::{position_of, slot_of};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

/// Those that are there already stay.
pub(super) async fn insert(conn: &mut PgConnection, new: &[Evaluation]) -> Did<()> {
    if new.is_empty() {
        return Ok(());
    }
    let numbers = |of: fn(&Evaluation) -> i64| new.iter().map(of).collect::<Vec<i64>>();
    let texts = |of: fn(&Evaluation) -> &str| {
        new.iter().map(|one| of(one).to_owned()).collect::<Vec<String>>()
    };
    let settled: Vec<bool> = new.iter().map(|one| one.settled).collect();
    let until = new.iter().map(|one| one.until.as_ref().map(|until| until.as_str().to_owned()));
    let sql = "INSERT INTO evaluations (term, number, evaluator, at, rules_version, rules, failed, \
               settled, position, until) SELECT * FROM unnest($1::bigint[], $2::bigint[], \
               $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::boolean[], \
               $9::text[], $10::text[]) ON CONFLICT DO NOTHING";
    sqlx::query(sql)
        .bind(numbers(|one| one.term))
        .bind(numbers(|one| one.number))
        .bind(texts(|one| one.evaluator.as_str()))
        .bind(numbers(|one| one.at))
        .bind(numbers(|one| one.rules_version as i64))
        .bind(texts(|one| &one.rules))
        .bind(texts(|one| &one.failed))
        .bind(settled)
        .bind(texts(|one| one.position.as_str()))
        .bind(until.collect::<Vec<Option<String>>>())
        .execute(conn)
        .await?;
    Ok(())
}

fn stored(row: &PgRow) -> Result<(i64, Evaluation), StoreError> {
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

impl PostgresStore {
    pub(super) async fn read_evaluations(
        &self,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, Evaluation)>, StoreError> {
        self.still_open()?;
        retried(Again::Whenever, || async move {
            let sql = "SELECT id, term, number, evaluator, at, rules_version, rules, failed, \
                       settled, position, until FROM evaluations WHERE id > $1 ORDER BY id LIMIT $2";
            let query = sqlx::query(sql).bind(after).bind(i64::from(limit.min(MAX_EVALUATIONS)));
            let rows = query.fetch_all(&self.0.pool).await?;
            Ok(rows.iter().map(stored).collect::<Result<_, StoreError>>()?)
        })
        .await
    }
}
