//! Agents and their keys; what an enrolment leads to stands in [`crate::sqlite`]'s table of them.

use super::failure::{Again, Did, Failure, retried};
use super::{PostgresStore, text};
use crate::StoreError;
use crate::agents::{
    AgentRecord, AgentState, Claim, Enrolled, Enrolment, Heartbeat, KEPT_AFTER, NewAgent,
    WrappedKey, no_agent,
};
use sentinel_model::ids::AgentId;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

/// With the key that waits, of which there is at most one.
const SELECT: &str = "SELECT id, hw_id, hostname, version, labels, state, a.key_id, registered_at, \
                      last_seen, report, k.key_id, k.enrolment FROM agents a \
                      LEFT JOIN agent_keys k ON k.agent = a.id AND k.waiting ";

fn record(row: &PgRow) -> Result<AgentRecord, StoreError> {
    let damaged = |what| StoreError::Damaged { what };
    let newcomer = match (row.try_get::<Option<i64>, _>(10)?, row.try_get(11)?) {
        (Some(key_id), Some(enrolment)) => {
            Some(serde_json::from_str::<Enrolment>(enrolment)?.newcomer(key_id as u32))
        }
        _ => None,
    };
    Ok(AgentRecord {
        id: AgentId::new(row.try_get(0)?).map_err(|e| damaged(e.to_string()))?,
        hw_id: text::given(row.try_get(1)?),
        hostname: text::given(row.try_get(2)?),
        version: text::given(row.try_get(3)?),
        labels: serde_json::from_str(row.try_get(4)?)?,
        state: AgentState::of(row.try_get(5)?)?,
        key_id: row.try_get::<i64, _>(6)? as u32,
        registered_at: row.try_get(7)?,
        last_seen: row.try_get(8)?,
        report: row.try_get::<Option<&str>, _>(9)?.map(text::given),
        newcomer,
    })
}

async fn find(conn: &mut PgConnection, id: &AgentId) -> Did<Option<AgentRecord>> {
    let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE id = $1"));
    let row = sqlx::query(sql).bind(id.as_str()).fetch_optional(conn).await?;
    Ok(row.as_ref().map(record).transpose()?)
}

/// The newest key of an agent where this very enrolment made it.
async fn made_by(
    conn: &mut PgConnection,
    agent: &AgentRecord,
    claim: Claim,
) -> Did<Option<Vec<u8>>> {
    let sql = "SELECT wrapped, enrolment FROM agent_keys WHERE agent = $1 AND key_id = $2";
    let newest = sqlx::query(sql).bind(agent.id.as_str()).bind(i64::from(agent.key_id));
    let Some(row) = newest.fetch_optional(conn).await? else { return Ok(None) };
    let enrolment: Enrolment = serde_json::from_str(row.try_get(1)?)?;
    Ok(if enrolment.claim == Some(claim) { Some(row.try_get(0)?) } else { None })
}

async fn register(conn: &mut PgConnection, new: NewAgent, now: i64) -> Did<Enrolled> {
    // Two enrolments of one machine at once are one after the other.
    sqlx::query("LOCK TABLE agents IN SHARE ROW EXCLUSIVE MODE").execute(&mut *conn).await?;
    let before = find(conn, &new.id).await?;
    if let Some(agent) = &before
        && let Some(wrapped_key) = made_by(conn, agent, new.claim).await?
    {
        let approved = agent.state == AgentState::Approved && agent.newcomer.is_none();
        return Ok(Enrolled { agent: agent.clone(), wrapped_key, approved });
    }
    let machine = sqlx::query("SELECT 1 FROM agents WHERE hw_id = $1 AND id <> $2 LIMIT 1")
        .bind(text::kept(&new.hw_id).into_owned())
        .bind(new.id.as_str().to_owned());
    let known_machine = machine.fetch_optional(&mut *conn).await?.is_some();
    let approved = before.is_none() && !known_machine;
    let state = if approved { AgentState::Approved } else { AgentState::Waiting };
    let key_id = i64::from(before.as_ref().map_or(0, |b| b.key_id)) + 1;
    let enrolment = Enrolment {
        hw_id: new.hw_id,
        hostname: new.hostname,
        version: new.version,
        labels: new.labels,
        claim: Some(new.claim),
        at: now,
    };
    if before.is_none() {
        let sql = "INSERT INTO agents (id, hw_id, hostname, version, labels, state, key_id, \
                   registered_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        sqlx::query(sql)
            .bind(new.id.as_str())
            .bind(text::kept(&enrolment.hw_id))
            .bind(text::kept(&enrolment.hostname))
            .bind(text::kept(&enrolment.version))
            .bind(serde_json::to_string(&enrolment.labels)?)
            .bind(state.text())
            .bind(key_id)
            .bind(now)
            .execute(&mut *conn)
            .await?;
    } else {
        let query = sqlx::query("UPDATE agents SET key_id = $1 WHERE id = $2");
        let query = query.bind(key_id).bind(new.id.as_str());
        query.execute(&mut *conn).await?;
        let query = sqlx::query("DELETE FROM agent_keys WHERE agent = $1 AND waiting");
        query.bind(new.id.as_str()).execute(&mut *conn).await?;
    }
    let sql = "INSERT INTO agent_keys (agent, key_id, wrapped, waiting, enrolment, made_at) \
               VALUES ($1, $2, $3, $4, $5, $6)";
    sqlx::query(sql)
        .bind(new.id.as_str())
        .bind(key_id)
        .bind(&new.wrapped_key)
        .bind(!approved)
        .bind(serde_json::to_string(&enrolment)?)
        .bind(now)
        .execute(&mut *conn)
        .await?;
    let agent = find(conn, &new.id).await?.ok_or_else(|| no_agent(&new.id))?;
    Ok(Enrolled { agent, wrapped_key: new.wrapped_key, approved })
}

async fn set_state(conn: &mut PgConnection, id: &AgentId, state: AgentState) -> Did<()> {
    let query = sqlx::query("UPDATE agents SET state = $1 WHERE id = $2");
    let query = query.bind(state.text()).bind(id.as_str());
    if query.execute(&mut *conn).await?.rows_affected() == 0 {
        return Err(no_agent(id).into());
    }
    let sql = "SELECT key_id, enrolment FROM agent_keys WHERE agent = $1 AND waiting";
    let waiting = sqlx::query(sql).bind(id.as_str()).fetch_optional(&mut *conn).await?;
    let (AgentState::Approved, Some(row)) = (state, waiting) else { return Ok(()) };
    let key_id: i64 = row.try_get(0)?;
    let enrolment: Enrolment = serde_json::from_str(row.try_get(1)?)?;
    let sql =
        "UPDATE agents SET hw_id = $1, hostname = $2, version = $3, labels = $4 WHERE id = $5";
    sqlx::query(sql)
        .bind(text::kept(&enrolment.hw_id))
        .bind(text::kept(&enrolment.hostname))
        .bind(text::kept(&enrolment.version))
        .bind(serde_json::to_string(&enrolment.labels)?)
        .bind(id.as_str())
        .execute(&mut *conn)
        .await?;
    let query = sqlx::query("DELETE FROM agent_keys WHERE agent = $1 AND key_id <> $2");
    query.bind(id.as_str()).bind(key_id).execute(&mut *conn).await?;
    let query = sqlx::query("UPDATE agent_keys SET waiting = false WHERE agent = $1");
    query.bind(id.as_str()).execute(conn).await?;
    Ok(())
}

/// As in [`crate::sqlite`].
async fn add_key(
    conn: &mut PgConnection,
    (id, newest): (&AgentId, u32),
    wrapped: &[u8],
    now: i64,
) -> Did<Option<u32>> {
    // Of several servers that do this at once the first has the row.
    let locked = sqlx::query("SELECT 1 FROM agents WHERE id = $1 FOR UPDATE");
    locked.bind(id.as_str()).fetch_optional(&mut *conn).await?;
    let agent = find(conn, id).await?.ok_or_else(|| no_agent(id))?;
    let free = agent.state == AgentState::Approved && agent.newcomer.is_none();
    if !free || agent.key_id != newest {
        return Ok(None);
    }
    let key_id = newest + 1;
    let sql = "INSERT INTO agent_keys (agent, key_id, wrapped, waiting, enrolment, made_at) \
               SELECT agent, $1, $2, false, enrolment, $3 FROM agent_keys WHERE agent = $4 \
               ORDER BY key_id DESC LIMIT 1";
    let query = sqlx::query(sql).bind(i64::from(key_id)).bind(wrapped).bind(now);
    query.bind(id.as_str()).execute(&mut *conn).await?;
    let query = sqlx::query("UPDATE agents SET key_id = $1 WHERE id = $2");
    query.bind(i64::from(key_id)).bind(id.as_str()).execute(&mut *conn).await?;
    let query = sqlx::query("DELETE FROM agent_keys WHERE agent = $1 AND valid_until < $2");
    query.bind(id.as_str()).bind(now - KEPT_AFTER).execute(conn).await?;
    Ok(Some(key_id))
}

impl PostgresStore {
    pub(super) async fn do_add_agent_key(
        &self,
        id: &AgentId,
        newest: u32,
        wrapped: Vec<u8>,
        now: i64,
    ) -> Result<Option<u32>, StoreError> {
        // Done twice it does nothing the second time: the newest key is another by then.
        self.step(Again::Whenever, |conn| {
            let (id, wrapped) = (id.clone(), wrapped.clone());
            Box::pin(async move { add_key(conn, (&id, newest), &wrapped, now).await })
        })
        .await
    }

    pub(super) async fn do_retire_agent_keys(
        &self,
        id: &AgentId,
        below: u32,
        until: i64,
    ) -> Result<u64, StoreError> {
        self.still_open()?;
        retried(Again::Whenever, || async move {
            let sql = "UPDATE agent_keys SET valid_until = $1 WHERE agent = $2 AND key_id < $3 \
                       AND NOT waiting AND (valid_until IS NULL OR valid_until > $1)";
            let query = sqlx::query(sql).bind(until).bind(id.as_str()).bind(i64::from(below));
            Ok(query.execute(&self.0.pool).await?.rows_affected())
        })
        .await
    }

    pub(super) async fn do_register(
        &self,
        new: NewAgent,
        now: i64,
    ) -> Result<Enrolled, StoreError> {
        // The claim makes it the same enrolment, however often it is written.
        self.step(Again::Whenever, |conn| {
            let new = new.clone();
            Box::pin(register(conn, new, now))
        })
        .await
    }

    pub(super) async fn do_set_agent_state(
        &self,
        id: &AgentId,
        state: AgentState,
    ) -> Result<(), StoreError> {
        self.step(Again::Whenever, |conn| {
            let id = id.clone();
            Box::pin(async move { set_state(conn, &id, state).await })
        })
        .await
    }

    pub(super) async fn find_agent(&self, id: &AgentId) -> Result<Option<AgentRecord>, StoreError> {
        self.still_open()?;
        retried(Again::Whenever, || async move {
            let mut conn = self.0.pool.acquire().await?;
            find(&mut conn, id).await
        })
        .await
    }

    pub(super) async fn all_agents(&self) -> Result<Vec<AgentRecord>, StoreError> {
        self.rows(&format!("{SELECT} ORDER BY id")).await?.iter().map(record).collect()
    }

    pub(super) async fn next_agents(
        &self,
        after: Option<&AgentId>,
        limit: u32,
    ) -> Result<Vec<AgentRecord>, StoreError> {
        self.still_open()?;
        retried(Again::Whenever, || async move {
            let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE id > $1 ORDER BY id LIMIT $2"));
            // No id is empty.
            let query = sqlx::query(sql).bind(after.map_or("", AgentId::as_str));
            let rows = query.bind(i64::from(limit)).fetch_all(&self.0.pool).await?;
            rows.iter().map(|row| Ok(record(row)?)).collect()
        })
        .await
    }

    pub(super) async fn keys_of(&self, id: &AgentId) -> Result<Vec<WrappedKey>, StoreError> {
        self.still_open()?;
        retried(Again::Whenever, || async move {
            let sql = "SELECT k.key_id, k.wrapped, k.made_at, k.valid_until FROM agent_keys k JOIN agents a \
                       ON a.id = k.agent WHERE a.id = $1 AND NOT k.waiting \
                       AND a.state <> 'blocked' ORDER BY k.key_id DESC";
            let rows = sqlx::query(sql).bind(id.as_str()).fetch_all(&self.0.pool).await?;
            let key = |row: &PgRow| -> Did<WrappedKey> {
                let key_id = row.try_get::<i64, _>(0)? as u32;
                let (made_at, valid_until) = (row.try_get(2)?, row.try_get(3)?);
                Ok(WrappedKey { key_id, wrapped: row.try_get(1)?, made_at, valid_until })
            };
            rows.iter().map(key).collect()
        })
        .await
    }

    pub(super) async fn heartbeat(&self, beat: &Heartbeat, now: i64) -> Result<(), StoreError> {
        self.still_open()?;
        retried(Again::Whenever, || async move {
            let sql = "UPDATE agents SET version = $1, report = $2, last_seen = $3 WHERE id = $4";
            let query = sqlx::query(sql).bind(text::kept(&beat.version));
            let query = query.bind(text::kept(&beat.report)).bind(now).bind(beat.id.as_str());
            match query.execute(&self.0.pool).await?.rows_affected() {
                0 => Err(Failure::Store(no_agent(&beat.id))),
                _ => Ok(()),
            }
        })
        .await
    }
}
