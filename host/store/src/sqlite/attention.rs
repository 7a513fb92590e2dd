//! What people decided about alerts, and the attempts at notifications. All JSON.

use super::SqliteStore;
use super::alerting::{insert_notification, update_delivery};
use super::script::{Script, transaction};
use crate::StoreError;
use crate::alerting::{Act, Decisions, StoredGroup};
use sentinel_model::attention::{Attempt, Silence};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

const COUNT: &str = "UPDATE meta SET value = value + 1 WHERE key = 'decisions';";

fn conflict(message: String) -> StoreError {
    StoreError::Conflict(message)
}

/// The statements of an act, once it is known to fit what is stored.
async fn script(conn: &mut SqliteConnection, act: Act, now: i64) -> Result<Script, StoreError> {
    let mut script = Script::new();
    match act {
        Act::Silence(silence) => {
            if silence_of(conn, &silence.id).await?.is_some() {
                return Err(conflict(format!("there is a silence {} already", silence.id)));
            }
            keep_silence(&mut script, &silence)?;
        }
        Act::EndSilence { id, by } => {
            let unknown = || {
                conflict(format!(
                    "there is no silence {id}; list them with `sentinel alerts silence list`"
                ))
            };
            let mut silence = silence_of(conn, &id).await?.ok_or_else(unknown)?;
            if silence.ends_at <= now {
                return Err(conflict(format!("the silence {id} is over already")));
            }
            silence.ends_at = now;
            silence.ended_by = Some(by);
            keep_silence(&mut script, &silence)?;
        }
        Act::Acknowledge(one) => {
            script
                .sql(
                    "INSERT OR REPLACE INTO acknowledgements (fingerprint, acknowledgement) \
                     VALUES (?,?);",
                )
                .bind(one.fingerprint.0 as i64)
                .bind(serde_json::to_string(&one)?);
        }
        Act::Release(fingerprint) => {
            let sql = "SELECT count(*) FROM acknowledgements WHERE fingerprint = ?";
            let bits = fingerprint.0 as i64;
            if count(conn, sqlx::query_scalar(sql).bind(bits)).await? == 0 {
                return Err(conflict(format!("nobody has acknowledged the alert {fingerprint}")));
            }
            script.sql("DELETE FROM acknowledgements WHERE fingerprint = ?;").bind(bits);
        }
        Act::Letter(letter) => {
            let sql = "SELECT count(*) FROM notifications WHERE id = ? AND state = 'dead'";
            let id = letter.notification.id.clone();
            if count(conn, sqlx::query_scalar(sql).bind(id.clone())).await? == 0 {
                return Err(conflict(format!(
                    "the notification {id} is no dead letter; list them with `sentinel dlq list`"
                )));
            }
            update_delivery(&mut script, letter);
        }
        Act::Tell(delivery) => insert_notification(&mut script, delivery)?,
    }
    script.sql(COUNT);
    Ok(script)
}

type Scalar<'a> = sqlx::query::QueryScalar<'a, sqlx::Sqlite, i64, sqlx::sqlite::SqliteArguments>;

async fn count(conn: &mut SqliteConnection, query: Scalar<'_>) -> Result<i64, StoreError> {
    Ok(query.fetch_one(conn).await?)
}

async fn silence_of(conn: &mut SqliteConnection, id: &str) -> Result<Option<Silence>, StoreError> {
    let sql = "SELECT silence FROM silences WHERE id = ?";
    let text: Option<String> = sqlx::query_scalar(sql).bind(id).fetch_optional(conn).await?;
    Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
}

fn keep_silence(script: &mut Script, silence: &Silence) -> Result<(), StoreError> {
    script
        .sql("INSERT OR REPLACE INTO silences (id, ends_at, silence) VALUES (?,?,?);")
        .bind(silence.id.clone())
        .bind(silence.ends_at)
        .bind(serde_json::to_string(silence)?);
    Ok(())
}

impl SqliteStore {
    pub(super) async fn keep_act(&self, act: Act, now: i64) -> Result<(), StoreError> {
        self.write(move |_, writer| {
            Box::pin(async move {
                let script = script(&mut writer.conn, act, now).await?;
                transaction(&mut writer.conn, vec![script]).await
            })
        })
        .await
    }

    pub(super) async fn read_decisions(
        &self,
        known: Option<u64>,
    ) -> Result<Option<Decisions>, StoreError> {
        let sql = "SELECT value FROM meta WHERE key = 'decisions'";
        let revision: i64 = sqlx::query_scalar(sql).fetch_one(&self.0.pool).await?;
        if known == Some(revision.unsigned_abs()) {
            return Ok(None);
        }
        // What is read together is of one revision.
        let mut reading = self.0.pool.begin().await?;
        let revision: i64 = sqlx::query_scalar(sql).fetch_one(&mut *reading).await?;
        let revision = revision.unsigned_abs();
        let mut decisions = Decisions { revision, ..Decisions::default() };
        let sql = "SELECT silence FROM silences ORDER BY ends_at DESC, id";
        for row in sqlx::query(sql).fetch_all(&mut *reading).await? {
            decisions.silences.push(serde_json::from_str(row.try_get(0)?)?);
        }
        let sql = "SELECT acknowledgement FROM acknowledgements ORDER BY fingerprint";
        for row in sqlx::query(sql).fetch_all(&mut *reading).await? {
            decisions.acknowledgements.push(serde_json::from_str(row.try_get(0)?)?);
        }
        reading.commit().await?;
        Ok(Some(decisions))
    }

    pub(super) async fn read_attempts(&self, id: &str) -> Result<Vec<Attempt>, StoreError> {
        let sql = "SELECT attempt FROM attempts WHERE notification = ? ORDER BY id";
        let rows = sqlx::query(sql).bind(id).fetch_all(&self.0.pool).await?;
        rows.iter().map(|row| Ok(serde_json::from_str(row.try_get(0)?)?)).collect()
    }

    pub(super) async fn read_groups(&self) -> Result<Vec<StoredGroup>, StoreError> {
        let sql = "SELECT key, body FROM alert_groups ORDER BY key";
        let rows = sqlx::query(sql).fetch_all(&self.0.pool).await?;
        let group = |row: &sqlx::sqlite::SqliteRow| -> Result<StoredGroup, StoreError> {
            Ok(StoredGroup { key: row.try_get(0)?, body: row.try_get(1)? })
        };
        rows.iter().map(group).collect()
    }
}
