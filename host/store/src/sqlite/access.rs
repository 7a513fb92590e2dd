//! Tokens and the log of changes.

use super::SqliteStore;
use super::script::{Script, transaction};
use crate::StoreError;
use crate::access::{
    ApiToken, Audit, EnrolmentToken, MAX_TOKENS, MAX_WAITING, NewAudit, Spent, TokenHash, asker_of,
    hash_of, taken, too_many,
};
use crate::agents::Claim;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Executor, Row};

const API: &str = "SELECT id, hash, name, role, made_by, made_at, expires_at FROM api_tokens";
const ENROLMENT: &str = "SELECT id, hash, uses_left, expires_at, made_by, made_at, waiting, asked \
                         FROM enrolment_tokens";

fn api(row: &SqliteRow) -> Result<ApiToken, StoreError> {
    Ok(ApiToken {
        id: row.try_get(0)?,
        hash: hash_of(row.try_get(1)?)?,
        name: row.try_get(2)?,
        role: row.try_get(3)?,
        made_by: row.try_get(4)?,
        made_at: row.try_get(5)?,
        expires_at: row.try_get(6)?,
    })
}

fn enrolment(row: &SqliteRow) -> Result<EnrolmentToken, StoreError> {
    Ok(EnrolmentToken {
        id: row.try_get(0)?,
        hash: hash_of(row.try_get(1)?)?,
        uses_left: row.try_get(2)?,
        expires_at: row.try_get(3)?,
        made_by: row.try_get(4)?,
        made_at: row.try_get(5)?,
        waiting: row.try_get(6)?,
        asked: asker_of(row.try_get(7)?)?,
    })
}

async fn count(conn: &mut SqliteConnection, sql: &'static str) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(sql).fetch_one(conn).await?)
}

async fn keep_api(conn: &mut SqliteConnection, token: ApiToken) -> Result<(), StoreError> {
    if count(conn, "SELECT count(*) FROM api_tokens").await? >= MAX_TOKENS {
        return Err(too_many("API tokens", MAX_TOKENS));
    }
    let sql = "SELECT count(*) FROM api_tokens WHERE id = ?";
    let same: i64 = sqlx::query_scalar(sql).bind(token.id.as_str()).fetch_one(&mut *conn).await?;
    if same > 0 {
        return Err(taken(&token.id));
    }
    let mut script = Script::new();
    script
        .sql("INSERT INTO api_tokens (id, hash, name, role, made_by, made_at, expires_at) ")
        .sql("VALUES (?,?,?,?,?,?,?);")
        .bind(token.id)
        .bind(token.hash.to_vec())
        .bind(token.name)
        .bind(token.role)
        .bind(token.made_by)
        .bind(token.made_at)
        .bind(token.expires_at);
    transaction(conn, vec![script]).await
}

async fn keep_enrolment(
    conn: &mut SqliteConnection,
    token: EnrolmentToken,
    now: i64,
) -> Result<(), StoreError> {
    let sql = "DELETE FROM enrolment_tokens WHERE expires_at <= ?";
    conn.execute(sqlx::query(sql).bind(now)).await?;
    if count(conn, "SELECT count(*) FROM enrolment_tokens").await? >= MAX_TOKENS {
        // Those that are used up make room for new ones.
        conn.execute("DELETE FROM enrolment_tokens WHERE uses_left = 0").await?;
    }
    if count(conn, "SELECT count(*) FROM enrolment_tokens").await? >= MAX_TOKENS {
        return Err(too_many("enrolment tokens", MAX_TOKENS));
    }
    if token.waiting
        && count(conn, "SELECT count(*) FROM enrolment_tokens WHERE waiting").await? >= MAX_WAITING
    {
        return Err(too_many("agents that wait for approval", MAX_WAITING));
    }
    let sql = "SELECT hash, waiting FROM enrolment_tokens WHERE id = ? OR hash = ?";
    let same = sqlx::query(sql).bind(token.id.as_str()).bind(token.hash.to_vec());
    if let Some(row) = same.fetch_optional(&mut *conn).await? {
        // Asked for once more: it is what it was.
        let waits = hash_of(row.try_get(0)?)? == token.hash && row.try_get(1)?;
        return if waits && token.waiting { Ok(()) } else { Err(taken(&token.id)) };
    }
    let mut script = Script::new();
    script
        .sql("INSERT INTO enrolment_tokens (id, hash, uses_left, expires_at, made_by, made_at, ")
        .sql("waiting, asked) VALUES (?,?,?,?,?,?,?,?);")
        .bind(token.id)
        .bind(token.hash.to_vec())
        .bind(token.uses_left)
        .bind(token.expires_at)
        .bind(token.made_by)
        .bind(token.made_at)
        .bind(token.waiting)
        .bind(token.asked.map(|asked| serde_json::to_string(&asked)).transpose()?);
    transaction(conn, vec![script]).await
}

async fn spend(
    conn: &mut SqliteConnection,
    hash: TokenHash,
    claim: Claim,
    now: i64,
) -> Result<Spent, StoreError> {
    let sql = "SELECT uses_left, waiting, EXISTS (SELECT 1 FROM enrolment_uses u \
               WHERE u.hash = t.hash AND u.claim = ?) FROM enrolment_tokens t \
               WHERE hash = ? AND expires_at > ?";
    let query = sqlx::query(sql).bind(claim.0.to_vec()).bind(hash.to_vec()).bind(now);
    let Some(row) = query.fetch_optional(&mut *conn).await? else { return Ok(Spent::Refused) };
    let (left, waiting, again): (u32, bool, bool) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    match (waiting, again, left) {
        (true, _, _) => return Ok(Spent::Waiting),
        (false, true, _) => return Ok(Spent::Taken),
        (false, false, 0) => return Ok(Spent::Refused),
        (false, false, _) => {}
    }
    let mut script = Script::new();
    script.sql("UPDATE enrolment_tokens SET uses_left = uses_left - 1 WHERE hash = ?;");
    script.bind(hash.to_vec());
    script.sql("INSERT INTO enrolment_uses (hash, claim) VALUES (?,?);");
    script.bind(hash.to_vec()).bind(claim.0.to_vec());
    transaction(conn, vec![script]).await?;
    Ok(Spent::Taken)
}

impl SqliteStore {
    pub(super) async fn keep_api_token(&self, token: ApiToken) -> Result<(), StoreError> {
        self.write(move |_, writer| Box::pin(keep_api(&mut writer.conn, token))).await
    }

    pub(super) async fn all_api_tokens(&self) -> Result<Vec<ApiToken>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{API} ORDER BY made_at, id"));
        sqlx::query(sql).fetch_all(&self.0.pool).await?.iter().map(api).collect()
    }

    pub(super) async fn api_token_of(
        &self,
        hash: &TokenHash,
    ) -> Result<Option<ApiToken>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{API} WHERE hash = ?"));
        let row = sqlx::query(sql).bind(hash.to_vec()).fetch_optional(&self.0.pool).await?;
        row.as_ref().map(api).transpose()
    }

    pub(super) async fn drop_token(
        &self,
        table: &'static str,
        id: &str,
    ) -> Result<bool, StoreError> {
        let mut script = Script::new();
        script.sql("DELETE FROM ").sql(table).sql(" WHERE id = ?;").bind(id.to_owned());
        Ok(self.change(script).await? > 0)
    }

    pub(super) async fn keep_enrolment_token(
        &self,
        token: EnrolmentToken,
        now: i64,
    ) -> Result<(), StoreError> {
        self.write(move |_, writer| Box::pin(keep_enrolment(&mut writer.conn, token, now))).await
    }

    pub(super) async fn open_enrolment_tokens(
        &self,
        now: i64,
    ) -> Result<Vec<EnrolmentToken>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{ENROLMENT} WHERE expires_at > ? ORDER BY made_at"));
        let rows = sqlx::query(sql).bind(now).fetch_all(&self.0.pool).await?;
        rows.iter().map(enrolment).collect()
    }

    pub(super) async fn spend_token(
        &self,
        hash: TokenHash,
        claim: Claim,
        now: i64,
    ) -> Result<Spent, StoreError> {
        self.write(move |_, writer| Box::pin(spend(&mut writer.conn, hash, claim, now))).await
    }

    pub(super) async fn approve_token(
        &self,
        id: &str,
        by: &str,
        now: i64,
        expires_at: i64,
    ) -> Result<bool, StoreError> {
        let mut script = Script::new();
        script
            .sql("UPDATE enrolment_tokens SET waiting = 0, made_by = ?, expires_at = ? ")
            .sql("WHERE id = ? AND waiting AND expires_at > ?;")
            .bind(by.to_owned())
            .bind(expires_at)
            .bind(id.to_owned())
            .bind(now);
        Ok(self.change(script).await? > 0)
    }

    pub(super) async fn write_down(&self, entry: NewAudit) -> Result<i64, StoreError> {
        self.write(move |_, writer| {
            Box::pin(async move {
                let sql = "INSERT INTO audit (at, who, role, address, what) VALUES (?,?,?,?,?) \
                           RETURNING id";
                let query = sqlx::query_scalar(sql).bind(entry.at).bind(entry.who);
                let query = query.bind(entry.role).bind(entry.address).bind(entry.what);
                Ok(query.fetch_one(&mut writer.conn).await?)
            })
        })
        .await
    }

    pub(super) async fn write_outcome(&self, id: i64, outcome: &str) -> Result<(), StoreError> {
        let mut script = Script::new();
        script.sql("UPDATE audit SET outcome = ? WHERE id = ? AND outcome IS NULL;");
        script.bind(outcome.to_owned()).bind(id);
        self.change(script).await.map(|_| ())
    }

    pub(super) async fn read_audit(
        &self,
        before: i64,
        limit: u32,
    ) -> Result<Vec<Audit>, StoreError> {
        let sql = "SELECT id, at, who, role, address, what, outcome FROM audit WHERE id < ? \
                   ORDER BY id DESC LIMIT ?";
        let rows = sqlx::query(sql).bind(before).bind(limit).fetch_all(&self.0.pool).await?;
        let read = |row: &SqliteRow| {
            Ok(Audit {
                id: row.try_get(0)?,
                entry: NewAudit {
                    at: row.try_get(1)?,
                    who: row.try_get(2)?,
                    role: row.try_get(3)?,
                    address: row.try_get(4)?,
                    what: row.try_get(5)?,
                },
                outcome: row.try_get(6)?,
            })
        };
        rows.iter().map(read).collect()
    }
}
