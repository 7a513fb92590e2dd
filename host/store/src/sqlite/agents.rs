//! Agents and their keys.
//!
//! | enrolment of | the agent is then | its new key |
//! |---|---|---|
//! | a new id on a new machine | approved | may sign |
//! | a new id on a machine that is known | waiting | waits |
//! | a known id | as it was | waits in the place of one that waited; those before may sign |
//! | the same claim as the newest key's | as it was | is given again |
//!
//! Whoever has a token can thus silence no agent. Approval lets the waiting key sign in the place
//! of all others. A blocked agent has no key that may sign.

use super::SqliteStore;
use super::script::{Script, counted, transaction};
use crate::StoreError;
use crate::agents::{
    AgentRecord, AgentState, Claim, Enrolled, Enrolment, Heartbeat, KEPT_AFTER, NewAgent,
    WrappedKey, no_agent,
};
use sentinel_model::ids::AgentId;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

/// With the key that waits, of which there is at most one.
const SELECT: &str = "SELECT id, hw_id, hostname, version, labels, state, a.key_id, registered_at, \
                      last_seen, report, k.key_id, k.enrolment FROM agents a \
                      LEFT JOIN agent_keys k ON k.agent = a.id AND k.waiting ";

fn record(row: &SqliteRow) -> Result<AgentRecord, StoreError> {
    let id: &str = row.try_get(0)?;
    let damaged = |what| StoreError::Damaged { what };
    let newcomer = match (row.try_get(10)?, row.try_get(11)?) {
        (Some(key_id), Some(enrolment)) => {
            Some(serde_json::from_str::<Enrolment>(enrolment)?.newcomer(key_id))
        }
        _ => None,
    };
    Ok(AgentRecord {
        id: AgentId::new(id).map_err(|e| damaged(e.to_string()))?,
        hw_id: row.try_get(1)?,
        hostname: row.try_get(2)?,
        version: row.try_get(3)?,
        labels: serde_json::from_str(row.try_get(4)?)?,
        state: AgentState::of(row.try_get(5)?)?,
        key_id: row.try_get(6)?,
        registered_at: row.try_get(7)?,
        last_seen: row.try_get(8)?,
        report: row.try_get(9)?,
        newcomer,
    })
}

async fn find(
    conn: &mut SqliteConnection,
    id: &AgentId,
) -> Result<Option<AgentRecord>, StoreError> {
    let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE id = ?"));
    let row = sqlx::query(sql).bind(id.as_str()).fetch_optional(conn).await?;
    row.as_ref().map(record).transpose()
}

/// The newest key of an agent where this very enrolment made it.
async fn made_by(
    conn: &mut SqliteConnection,
    agent: &AgentRecord,
    claim: Claim,
) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT wrapped, enrolment FROM agent_keys WHERE agent = ? AND key_id = ?";
    let newest = sqlx::query(sql).bind(agent.id.as_str()).bind(agent.key_id);
    let Some(row) = newest.fetch_optional(conn).await? else { return Ok(None) };
    let enrolment: Enrolment = serde_json::from_str(row.try_get(1)?)?;
    Ok(if enrolment.claim == Some(claim) { Some(row.try_get(0)?) } else { None })
}

async fn register(
    conn: &mut SqliteConnection,
    new: NewAgent,
    now: i64,
) -> Result<Enrolled, StoreError> {
    let before = find(conn, &new.id).await?;
    if let Some(agent) = &before
        && let Some(wrapped_key) = made_by(conn, agent, new.claim).await?
    {
        let approved = agent.state == AgentState::Approved && agent.newcomer.is_none();
        return Ok(Enrolled { agent: agent.clone(), wrapped_key, approved });
    }
    let machine = sqlx::query("SELECT 1 FROM agents WHERE hw_id = ? AND id <> ? LIMIT 1")
        .bind(new.hw_id.as_str())
        .bind(new.id.as_str());
    let known_machine = machine.fetch_optional(&mut *conn).await?.is_some();
    let approved = before.is_none() && !known_machine;
    let state = if approved { AgentState::Approved } else { AgentState::Waiting };
    let key_id = before.as_ref().map_or(0, |b| b.key_id) + 1;
    let enrolment = Enrolment {
        hw_id: new.hw_id,
        hostname: new.hostname,
        version: new.version,
        labels: new.labels,
        claim: Some(new.claim),
        at: now,
    };
    let mut script = Script::new();
    if before.is_none() {
        script
            .sql(
                "INSERT INTO agents (id, hw_id, hostname, version, labels, state, key_id, \
                 registered_at) VALUES (?,?,?,?,?,?,?,?);",
            )
            .bind(new.id.as_str())
            .bind(enrolment.hw_id.as_str())
            .bind(enrolment.hostname.as_str())
            .bind(enrolment.version.as_str())
            .bind(serde_json::to_string(&enrolment.labels)?)
            .bind(state.text())
            .bind(key_id)
            .bind(now);
    } else {
        script.sql("UPDATE agents SET key_id = ? WHERE id = ?;");
        script.bind(key_id).bind(new.id.as_str());
        script.sql("DELETE FROM agent_keys WHERE agent = ? AND waiting;").bind(new.id.as_str());
    }
    script
        .sql(
            "INSERT INTO agent_keys (agent, key_id, wrapped, waiting, enrolment, made_at) \
             VALUES (?,?,?,?,?,?);",
        )
        .bind(new.id.as_str())
        .bind(key_id)
        .bind(new.wrapped_key.clone())
        .bind(!approved)
        .bind(serde_json::to_string(&enrolment)?)
        .bind(now);
    transaction(conn, vec![script]).await?;
    let agent = find(conn, &new.id).await?.ok_or_else(|| no_agent(&new.id))?;
    Ok(Enrolled { agent, wrapped_key: new.wrapped_key, approved })
}

async fn set_state(
    conn: &mut SqliteConnection,
    id: &AgentId,
    state: AgentState,
) -> Result<(), StoreError> {
    let sql = "SELECT key_id, enrolment FROM agent_keys WHERE agent = ? AND waiting";
    let waiting = sqlx::query(sql).bind(id.as_str()).fetch_optional(&mut *conn).await?;
    let mut script = Script::new();
    script.sql("UPDATE agents SET state = ? WHERE id = ?;");
    script.bind(state.text()).bind(id.as_str());
    if let (AgentState::Approved, Some(row)) = (state, waiting) {
        let key_id: u32 = row.try_get(0)?;
        let enrolment: Enrolment = serde_json::from_str(row.try_get(1)?)?;
        script
            .sql("UPDATE agents SET hw_id = ?, hostname = ?, version = ?, labels = ? WHERE id = ?;")
            .bind(enrolment.hw_id)
            .bind(enrolment.hostname)
            .bind(enrolment.version)
            .bind(serde_json::to_string(&enrolment.labels)?)
            .bind(id.as_str())
            .sql("DELETE FROM agent_keys WHERE agent = ? AND key_id <> ?;")
            .bind(id.as_str())
            .bind(key_id)
            .sql("UPDATE agent_keys SET waiting = 0 WHERE agent = ?;")
            .bind(id.as_str());
    }
    match counted(conn, script).await? {
        0 => Err(no_agent(id)),
        _ => Ok(()),
    }
}

/// A further key of an agent that is approved, has no other newest key than is said, and nobody who
/// would take its place. It has the enrolment of the one before: who asks for that again gets this.
async fn add_key(
    conn: &mut SqliteConnection,
    (id, newest): (&AgentId, u32),
    wrapped: Vec<u8>,
    now: i64,
) -> Result<Option<u32>, StoreError> {
    let agent = find(conn, id).await?.ok_or_else(|| no_agent(id))?;
    let free = agent.state == AgentState::Approved && agent.newcomer.is_none();
    if !free || agent.key_id != newest {
        return Ok(None);
    }
    let key_id = newest + 1;
    let mut script = Script::new();
    script
        .sql(
            "INSERT INTO agent_keys (agent, key_id, wrapped, waiting, enrolment, made_at) \
             SELECT agent, ?, ?, 0, enrolment, ? FROM agent_keys WHERE agent = ? \
             ORDER BY key_id DESC LIMIT 1;",
        )
        .bind(key_id)
        .bind(wrapped)
        .bind(now)
        .bind(id.as_str())
        .sql("UPDATE agents SET key_id = ? WHERE id = ?;")
        .bind(key_id)
        .bind(id.as_str())
        .sql("DELETE FROM agent_keys WHERE agent = ? AND valid_until < ?;")
        .bind(id.as_str())
        .bind(now - KEPT_AFTER);
    transaction(conn, vec![script]).await?;
    Ok(Some(key_id))
}

impl SqliteStore {
    pub(super) async fn do_add_agent_key(
        &self,
        id: &AgentId,
        newest: u32,
        wrapped: Vec<u8>,
        now: i64,
    ) -> Result<Option<u32>, StoreError> {
        let id = id.clone();
        self.write(move |_, writer| {
            Box::pin(async move { add_key(&mut writer.conn, (&id, newest), wrapped, now).await })
        })
        .await
    }

    pub(super) async fn do_retire_agent_keys(
        &self,
        id: &AgentId,
        below: u32,
        until: i64,
    ) -> Result<u64, StoreError> {
        let mut script = Script::new();
        script
            .sql(
                "UPDATE agent_keys SET valid_until = ? WHERE agent = ? AND key_id < ? \
                 AND NOT waiting AND (valid_until IS NULL OR valid_until > ?);",
            )
            .bind(until)
            .bind(id.as_str())
            .bind(below)
            .bind(until);
        self.change(script).await
    }

    pub(super) async fn do_register(
        &self,
        new: NewAgent,
        now: i64,
    ) -> Result<Enrolled, StoreError> {
        self.write(move |_, writer| Box::pin(register(&mut writer.conn, new, now))).await
    }

    pub(super) async fn do_set_agent_state(
        &self,
        id: &AgentId,
        state: AgentState,
    ) -> Result<(), StoreError> {
        let id = id.clone();
        self.write(move |_, writer| {
            Box::pin(async move { set_state(&mut writer.conn, &id, state).await })
        })
        .await
    }

    pub(super) async fn find_agent(&self, id: &AgentId) -> Result<Option<AgentRecord>, StoreError> {
        let mut conn = self.0.pool.acquire().await?;
        find(&mut conn, id).await
    }

    pub(super) async fn all_agents(&self) -> Result<Vec<AgentRecord>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} ORDER BY id"));
        let rows = sqlx::query(sql).fetch_all(&self.0.pool).await?;
        rows.iter().map(record).collect()
    }

    pub(super) async fn next_agents(
        &self,
        after: Option<&AgentId>,
        limit: u32,
    ) -> Result<Vec<AgentRecord>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE id > ? ORDER BY id LIMIT ?"));
        // No id is empty.
        let query = sqlx::query(sql).bind(after.map_or("", AgentId::as_str)).bind(limit);
        query.fetch_all(&self.0.pool).await?.iter().map(record).collect()
    }

    pub(super) async fn keys_of(&self, id: &AgentId) -> Result<Vec<WrappedKey>, StoreError> {
        let sql = "SELECT k.key_id, k.wrapped, k.made_at, k.valid_until FROM agent_keys k JOIN agents a ON a.id = k.agent \
                   WHERE a.id = ? AND NOT k.waiting AND a.state <> 'blocked' ORDER BY k.key_id DESC";
        let rows = sqlx::query(sql).bind(id.as_str()).fetch_all(&self.0.pool).await?;
        let key = |row: &SqliteRow| {
            let (made_at, valid_until) = (row.try_get(2)?, row.try_get(3)?);
            Ok(WrappedKey {
                key_id: row.try_get(0)?,
                wrapped: row.try_get(1)?,
                made_at,
                valid_until,
            })
        };
        rows.iter().map(key).collect()
    }

    pub(super) async fn heartbeat(&self, beat: Heartbeat, now: i64) -> Result<(), StoreError> {
        let mut script = Script::new();
        script
            .sql("UPDATE agents SET version = ?, report = ?, last_seen = ? WHERE id = ?;")
            .bind(beat.version)
            .bind(beat.report)
            .bind(now)
            .bind(beat.id.as_str());
        match self.change(script).await? {
            0 => Err(no_agent(&beat.id)),
            _ => Ok(()),
        }
    }
}
