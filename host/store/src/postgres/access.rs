//! Tokens and the log of changes.

use super::failure::{Again, Did, retried};
use super::{PostgresStore, text};
use crate::StoreError;
use crate::access::{
    ApiToken, Audit, EnrolmentToken, MAX_TOKENS, MAX_WAITING, NewAudit, Spent, TokenHash, asker_of,
    hash_of, taken, too_many,
};
use crate::agents::Claim;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

const API: &str = "SELECT id, hash, name, role, made_by, made_at, expires_at FROM api_tokens";
const ENROLMENT: &str = "SELECT id, hash, uses_left, expires_at, made_by, made_at, waiting, asked \
                         FROM enrolment_tokens";

fn api(row: &PgRow) -> Result<ApiToken, StoreError> {
    Ok(ApiToken {
        id: text::given(row.try_get(0)?),
        hash: hash_of(row.try_get(1)?)?,
        name: text::given(row.try_get(2)?),
        role: row.try_get(3)?,
        made_by: text::given(row.try_get(4)?),
        made_at: row.try_get(5)?,
        expires_at: row.try_get(6)?,
    })
}

fn enrolment(row: &PgRow) -> Result<EnrolmentToken, StoreError> {
    let asked = row.try_get::<Option<&str>, _>(7)?.map(text::given);
    Ok(EnrolmentToken {
        id: text::given(row.try_get(0)?),
        hash: hash_of(row.try_get(1)?)?,
        uses_left: row.try_get::<i64, _>(2)?.max(0) as u32,
        expires_at: row.try_get(3)?,
        made_by: text::given(row.try_get(4)?),
        made_at: row.try_get(5)?,
        waiting: row.try_get(6)?,
        asked: asker_of(asked.as_deref())?,
    })
}

async fn count(conn: &mut PgConnection, sql: &'static str) -> Did<i64> {
    Ok(sqlx::query_scalar(sql).fetch_one(conn).await?)
}

async fn keep_api(conn: &mut PgConnection, token: ApiToken) -> Did<()> {
    sqlx::query("LOCK TABLE api_tokens IN EXCLUSIVE MODE").execute(&mut *conn).await?;
    if count(conn, "SELECT count(*) FROM api_tokens").await? >= MAX_TOKENS {
        Err(too_many("API tokens", MAX_TOKENS))?;
    }
    let sql = "SELECT hash FROM api_tokens WHERE id = $1";
    let same = sqlx::query(sql).bind(text::kept(&token.id).into_owned());
    if same.fetch_optional(&mut *conn).await?.is_some() {
        Err(taken(&token.id))?;
    }
    let sql = "INSERT INTO api_tokens (id, hash, name, role, made_by, made_at, expires_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    sqlx::query(sql)
        .bind(text::kept(&token.id))
        .bind(token.hash.to_vec())
        .bind(text::kept(&token.name))
        .bind(token.role)
        .bind(text::kept(&token.made_by))
        .bind(token.made_at)
        .bind(token.expires_at)
        .execute(conn)
        .await?;
    Ok(())
}

async fn keep_enrolment(conn: &mut PgConnection, token: EnrolmentToken, now: i64) -> Did<()> {
    sqlx::query("LOCK TABLE enrolment_tokens IN EXCLUSIVE MODE").execute(&mut *conn).await?;
    let sql = "DELETE FROM enrolment_tokens WHERE expires_at <= $1";
    sqlx::query(sql).bind(now).execute(&mut *conn).await?;
    if count(conn, "SELECT count(*) FROM enrolment_tokens").await? >= MAX_TOKENS {
        // Those that are used up make room for new ones.
        let sql = "DELETE FROM enrolment_tokens WHERE uses_left = 0";
        sqlx::query(sql).execute(&mut *conn).await?;
    }
    if count(conn, "SELECT count(*) FROM enrolment_tokens").await? >= MAX_TOKENS {
        Err(too_many("enrolment tokens", MAX_TOKENS))?;
    }
    let sql = "SELECT count(*) FROM enrolment_tokens WHERE waiting";
    if token.waiting && count(conn, sql).await? >= MAX_WAITING {
        Err(too_many("agents that wait for approval", MAX_WAITING))?;
    }
    let sql = "SELECT hash, waiting FROM enrolment_tokens WHERE id = $1 OR hash = $2";
    let same = sqlx::query(sql).bind(text::kept(&token.id).into_owned()).bind(token.hash.to_vec());
    if let Some(row) = same.fetch_optional(&mut *conn).await? {
        // Asked for once more: it is what it was.
        let waits = hash_of(row.try_get(0)?)? == token.hash && row.try_get(1)?;
        return if waits && token.waiting { Ok(()) } else { Err(taken(&token.id).into()) };
    }
    let asked = token.asked.map(|asked| serde_json::to_string(&asked)).transpose();
    let asked = asked.map_err(StoreError::from)?;
    let sql = "INSERT INTO enrolment_tokens (id, hash, uses_left, expires_at, made_by, made_at, \
               waiting, asked) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    sqlx::query(sql)
        .bind(text::kept(&token.id))
        .bind(token.hash.to_vec())
        .bind(i64::from(token.uses_left))
        .bind(token.expires_at)
        .bind(text::kept(&token.made_by))
        .bind(token.made_at)
        .bind(token.waiting)
        .bind(asked.as_deref().map(text::kept))
        .execute(conn)
        .await?;
    Ok(())
}

async fn spend(conn: &mut PgConnection, hash: TokenHash, claim: Claim, now: i64) -> Did<Spent> {
    let sql = "SELECT uses_left, waiting FROM enrolment_tokens \
               WHERE hash = $1 AND expires_at > $2 FOR UPDATE";
    let query = sqlx::query(sql).bind(hash.to_vec()).bind(now);
    let Some(row) = query.fetch_optional(&mut *conn).await? else { return Ok(Spent::Refused) };
    let (left, waiting): (i64, bool) = (row.try_get(0)?, row.try_get(1)?);
    let sql = "SELECT count(*) FROM enrolment_uses WHERE hash = $1 AND claim = $2";
    let query = sqlx::query_scalar::<_, i64>(sql).bind(hash.to_vec()).bind(claim.0.to_vec());
    let again = query.fetch_one(&mut *conn).await? > 0;
    match (waiting, again, left) {
        (true, _, _) => return Ok(Spent::Waiting),
        (false, true, _) => return Ok(Spent::Taken),
        (false, false, ..=0) => return Ok(Spent::Refused),
        (false, false, _) => {}
    }
    let sql = "UPDATE enrolment_tokens SET uses_left = uses_left - 1 WHERE hash = $1";
    sqlx::query(sql).bind(hash.to_vec()).execute(&mut *conn).await?;
    let sql = "INSERT INTO enrolment_uses (hash, claim) VALUES ($1, $2)";
    sqlx::query(sql).bind(hash.to_vec()).bind(claim.0.to_vec()).execute(conn).await?;
    Ok(Spent::Taken)
}

impl PostgresStore {
    pub(super) async fn keep_api_token(&self, token: &ApiToken) -> Result<(), StoreError> {
        self.step(Again::Undone, |conn| {
            let token = token.clone();
            Box::pin(keep_api(conn, token))
        })
        .await
    }

    pub(super) async fn all_api_tokens(&self) -> Result<Vec<ApiToken>, StoreError> {
        self.rows(&format!("{API} ORDER BY made_at, id")).await?.iter().map(api).collect()
    }

    pub(super) async fn api_token_of(
        &self,
        hash: &TokenHash,
    ) -> Result<Option<ApiToken>, StoreError> {
        self.still_open()?;
        retried(Again::Whenever, || async move {
            let sql = sqlx::AssertSqlSafe(format!("{API} WHERE hash = $1"));
            let row = sqlx::query(sql).bind(hash.to_vec()).fetch_optional(&self.0.pool).await?;
            Ok(row.as_ref().map(api).transpose()?)
        })
        .await
    }

    pub(super) async fn drop_token(
        &self,
        table: &'static str,
        id: &str,
    ) -> Result<bool, StoreError> {
        self.still_open()?;
        retried(Again::Undone, || async move {
            let sql = sqlx::AssertSqlSafe(format!("DELETE FROM {table} WHERE id = $1"));
            let query = sqlx::query(sql).bind(text::kept(id).into_owned());
            Ok(query.execute(&self.0.pool).await?.rows_affected() > 0)
        })
        .await
    }

    pub(super) async fn keep_enrolment_token(
        &self,
        token: &EnrolmentToken,
        now: i64,
    ) -> Result<(), StoreError> {
        self.step(Again::Undone, |conn| {
            let token = token.clone();
            Box::pin(keep_enrolment(conn, token, now))
        })
        .await
    }

    pub(super) async fn open_enrolment_tokens(
        &self,
        now: i64,
    ) -> Result<Vec<EnrolmentToken>, StoreError> {
        let sql = format!("{ENROLMENT} WHERE expires_at > {now} ORDER BY made_at");
        self.rows(&sql).await?.iter().map(enrolment).collect()
    }

    pub(super) async fn spend_token(
        &self,
        hash: TokenHash,
        claim: Claim,
        now: i64,
    ) -> Result<Spent, StoreError> {
        // The same claim again is no other use.
        self.step(Again::Whenever, |conn| Box::pin(spend(conn, hash, claim, now))).await
    }

    pub(super) async fn approve_token(
        &self,
        id: &str,
        by: &str,
        now: i64,
        expires_at: i64,
    ) -> Result<bool, StoreError> {
        self.still_open()?;
        retried(Again::Undone, || async move {
            let sql = "UPDATE enrolment_tokens SET waiting = false, made_by = $1, expires_at = $2 \
                       WHERE id = $3 AND waiting AND expires_at > $4";
            let query = sqlx::query(sql).bind(text::kept(by)).bind(expires_at);
            let query = query.bind(text::kept(id)).bind(now);
            Ok(query.execute(&self.0.pool).await?.rows_affected() > 0)
        })
        .await
    }

    pub(super) async fn write_down(&self, entry: &NewAudit) -> Result<i64, StoreError> {
        self.still_open()?;
        retried(Again::Undone, || async move {
            let sql = "INSERT INTO audit (at, who, role, address, what) \
                       VALUES ($1, $2, $3, $4, $5) RETURNING id";
            let query = sqlx::query_scalar(sql).bind(entry.at).bind(text::kept(&entry.who));
            let query = query.bind(text::kept(&entry.role)).bind(text::kept(&entry.address));
            Ok(query.bind(text::kept(&entry.what)).fetch_one(&self.0.pool).await?)
        })
        .await
    }

    pub(super) async fn write_outcome(&self, id: i64, outcome: &str) -> Result<(), StoreError> {
        self.still_open()?;
        retried(Again::Whenever, || async move {
            let sql = "UPDATE audit SET outcome = $1 WHERE id = $2 AND outcome IS NULL";
            let query = sqlx::query(sql).bind(text::kept(outcome)).bind(id);
            query.execute(&self.0.pool).await?;
            Ok(())
        })
        .await
    }

    pub(super) async fn read_audit(
        &self,
        before: i64,
        limit: u32,
    ) -> Result<Vec<Audit>, StoreError> {
        let sql = format!(
            "SELECT id, at, who, role, address, what, outcome FROM audit WHERE id < {before} \
             ORDER BY id DESC LIMIT {limit}"
        );
        let read = |row: &PgRow| {
            let given = |i| -> Result<String, StoreError> { Ok(text::given(row.try_get(i)?)) };
            Ok(Audit {
                id: row.try_get(0)?,
                entry: NewAudit {
                    at: row.try_get(1)?,
                    who: given(2)?,
                    role: given(3)?,
                    address: given(4)?,
                    what: given(5)?,
                },
                outcome: row.try_get::<Option<&str>, _>(6)?.map(text::given),
            })
        };
        self.rows(&sql).await?.iter().map(read).collect()
    }
}
