//! Alerts, their history, notifications, and what people decided about them.

use super::failure::{Again, Did, retried};
use super::{PostgresStore, text};
use crate::StoreError;
use crate::alerting::{Act, AlertingChange, Decisions, NotificationFilter, StoredGroup};
use crate::kept::{keep, kept, state_of, state_text};
use sentinel_model::alert::{Alert, Delivery, DeliveryState, Transition};
use sentinel_model::attention::{Attempt, Silence};
use sentinel_model::ids::SlotName;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

/// Notifications that still have to be sent; word for word what their index is of.
const OPEN: &str = "state IN ('pending', 'sending')";

fn delivery(row: &PgRow) -> Result<Delivery, StoreError> {
    Ok(Delivery {
        notification: kept(row.try_get(5)?)?,
        state: state_of(row.try_get(0)?)?,
        attempts: row.try_get::<i64, _>(1)? as u32,
        may_be_repeat: row.try_get(2)?,
        next_attempt: row.try_get(3)?,
        message: text::given(row.try_get(4)?),
        opened_at: row.try_get(6)?,
    })
}

/// A new entry of the journal, behind all others; one whose id is there already changes nothing.
async fn insert_notification(conn: &mut PgConnection, new: &Delivery) -> Did<()> {
    let sql = "INSERT INTO notifications (id, decided_at, state, attempts, may_be_repeat, \
               next_attempt, message, notifier, notification, opened_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO NOTHING";
    sqlx::query(sql)
        .bind(text::kept(&new.notification.id))
        .bind(new.notification.time)
        .bind(state_text(new.state))
        .bind(i64::from(new.attempts))
        .bind(new.may_be_repeat)
        .bind(new.next_attempt)
        .bind(text::kept(&new.message))
        .bind(new.notification.notifier.as_str())
        .bind(keep(new.notification.clone())?)
        .bind(new.opened_at)
        .execute(conn)
        .await?;
    Ok(())
}

/// An entry of the journal as it is now.
async fn update_delivery(conn: &mut PgConnection, changed: &Delivery) -> Did<()> {
    let sql = "UPDATE notifications SET state = $1, attempts = $2, may_be_repeat = $3, \
               next_attempt = $4, message = $5, opened_at = $6 WHERE id = $7";
    sqlx::query(sql)
        .bind(state_text(changed.state))
        .bind(i64::from(changed.attempts))
        .bind(changed.may_be_repeat)
        .bind(changed.next_attempt)
        .bind(text::kept(&changed.message))
        .bind(changed.opened_at)
        .bind(text::kept(&changed.notification.id))
        .execute(conn)
        .await?;
    Ok(())
}

async fn write_alerts(conn: &mut PgConnection, change: &AlertingChange) -> Did<()> {
    for alert in &change.alerts {
        let sql = "INSERT INTO alerts (fingerprint, state, resolved_at, alert) \
                   VALUES ($1, $2, $3, $4) ON CONFLICT (fingerprint) DO UPDATE SET \
                   state = excluded.state, resolved_at = excluded.resolved_at, \
                   alert = excluded.alert";
        let query = sqlx::query(sql).bind(alert.fingerprint.0 as i64).bind(alert.state.as_str());
        let query = query.bind(alert.resolved_at).bind(keep(alert.clone())?);
        query.execute(&mut *conn).await?;
    }
    let forgotten: Vec<i64> = change.forgotten.iter().map(|f| f.0 as i64).collect();
    if !forgotten.is_empty() {
        let query = sqlx::query("DELETE FROM alerts WHERE fingerprint = ANY($1)");
        query.bind(forgotten).execute(&mut *conn).await?;
    }
    for transition in &change.transitions {
        let sql = "INSERT INTO transitions (at, transition) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        let query = sqlx::query(sql).bind(transition.at).bind(keep(transition.clone())?);
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

async fn write_told(conn: &mut PgConnection, change: &AlertingChange) -> Did<()> {
    for group in &change.groups {
        let sql = "INSERT INTO alert_groups (key, body) VALUES ($1, $2) \
                   ON CONFLICT (key) DO UPDATE SET body = excluded.body";
        let query = sqlx::query(sql).bind(text::kept(&group.key)).bind(text::kept(&group.body));
        query.execute(&mut *conn).await?;
    }
    let closed: Vec<_> = change.closed.iter().map(|key| text::kept(key).into_owned()).collect();
    if !closed.is_empty() {
        let query = sqlx::query("DELETE FROM alert_groups WHERE key = ANY($1)");
        query.bind(closed).execute(&mut *conn).await?;
    }
    for new in &change.decided {
        insert_notification(conn, new).await?;
    }
    for changed in &change.delivered {
        update_delivery(conn, changed).await?;
    }
    for (notification, attempt) in &change.attempts {
        let sql = "INSERT INTO attempts (notification, attempt) VALUES ($1, $2) \
                   ON CONFLICT DO NOTHING";
        let query = sqlx::query(sql).bind(text::kept(notification));
        query.bind(serde_json::to_string(attempt)?).execute(&mut *conn).await?;
    }
    Ok(())
}

fn conflict(message: String) -> StoreError {
    StoreError::Conflict(message)
}

async fn silence_of(conn: &mut PgConnection, id: &str) -> Did<Option<Silence>> {
    let query = sqlx::query_scalar("SELECT silence FROM silences WHERE id = $1 FOR UPDATE");
    let found: Option<String> = query.bind(text::kept(id)).fetch_optional(conn).await?;
    Ok(found.map(|text| serde_json::from_str(&text)).transpose()?)
}

async fn keep_silence(conn: &mut PgConnection, silence: &Silence) -> Did<()> {
    let sql = "INSERT INTO silences (id, ends_at, silence) VALUES ($1, $2, $3) \
               ON CONFLICT (id) DO UPDATE SET ends_at = excluded.ends_at, silence = excluded.silence";
    let query = sqlx::query(sql).bind(text::kept(&silence.id)).bind(silence.ends_at);
    query.bind(serde_json::to_string(silence)?).execute(conn).await?;
    Ok(())
}

async fn write_act(conn: &mut PgConnection, act: &Act, now: i64) -> Did<()> {
    // First, so that of two acts at once the second sees what the first did.
    let sql = "UPDATE meta SET value = value + 1 WHERE key = 'decisions'";
    sqlx::query(sql).execute(&mut *conn).await?;
    match act {
        Act::Silence(silence) => {
            if silence_of(conn, &silence.id).await?.is_some() {
                Err(conflict(format!("there is a silence {} already", silence.id)))?;
            }
            keep_silence(conn, silence).await
        }
        Act::EndSilence { id, by } => {
            let mut silence = silence_of(conn, id).await?.ok_or_else(|| {
                conflict(format!(
                    "there is no silence {id}; list them with `sentinel alerts silence list`"
                ))
            })?;
            if silence.ends_at <= now {
                Err(conflict(format!("the silence {id} is over already")))?;
            }
            silence.ends_at = now;
            silence.ended_by = Some(by.clone());
            keep_silence(conn, &silence).await
        }
        Act::Acknowledge(one) => {
            let sql = "INSERT INTO acknowledgements (fingerprint, acknowledgement) VALUES ($1, $2) \
                       ON CONFLICT (fingerprint) DO UPDATE \
                       SET acknowledgement = excluded.acknowledgement";
            let query = sqlx::query(sql).bind(one.fingerprint.0 as i64);
            query.bind(serde_json::to_string(one)?).execute(conn).await?;
            Ok(())
        }
        Act::Release(fingerprint) => {
            let query = sqlx::query("DELETE FROM acknowledgements WHERE fingerprint = $1");
            let gone = query.bind(fingerprint.0 as i64).execute(conn).await?.rows_affected();
            if gone == 0 {
                Err(conflict(format!("nobody has acknowledged the alert {fingerprint}")))?;
            }
            Ok(())
        }
        Act::Letter(letter) => {
            let id = &letter.notification.id;
            let sql = "SELECT 1 FROM notifications WHERE id = $1 AND state = 'dead' FOR UPDATE";
            let query = sqlx::query(sql).bind(text::kept(id));
            if query.fetch_optional(&mut *conn).await?.is_none() {
                Err(conflict(format!(
                    "the notification {id} is no dead letter; list them with `sentinel dlq list`"
                )))?;
            }
            update_delivery(conn, letter).await
        }
        Act::Tell(delivery) => insert_notification(conn, delivery).await,
    }
}

impl PostgresStore {
    pub(super) async fn write_alerting(&self, change: AlertingChange) -> Result<(), StoreError> {
        if change.is_empty() {
            return Ok(());
        }
        let change = std::sync::Arc::new(change);
        self.step(Again::Whenever, |conn| {
            let change = std::sync::Arc::clone(&change);
            Box::pin(async move {
                if let Some(fence) = &change.fence {
                    super::lease::check(conn, fence).await?;
                }
                write_alerts(conn, &change).await?;
                write_told(conn, &change).await?;
                super::slots::write_states(conn, &change.remembered).await?;
                super::evaluations::insert(conn, &change.evaluations).await
            })
        })
        .await
    }

    pub(super) async fn read_alerts(&self, since: i64) -> Result<Vec<Alert>, StoreError> {
        self.still_open()?;
        retried(Again::Whenever, || async move {
            let sql = "SELECT alert FROM alerts WHERE state <> 'resolved' OR resolved_at > $1 \
                       ORDER BY fingerprint";
            let rows = sqlx::query(sql).bind(since).fetch_all(&self.0.pool).await?;
            rows.iter().map(|row| Ok(kept(row.try_get(0)?)?)).collect()
        })
        .await
    }

    pub(super) async fn read_history(&self, limit: u32) -> Result<Vec<Transition>, StoreError> {
        let sql = "SELECT transition FROM transitions ORDER BY id DESC LIMIT ";
        let rows = self.rows(&format!("{sql}{limit}")).await?;
        rows.iter().map(|row| kept(row.try_get(0)?)).collect()
    }

    pub(super) async fn read_notifications(
        &self,
        filter: NotificationFilter,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        self.still_open()?;
        let (condition, order) = match &filter {
            NotificationFilter::All => ("$1 = ''".to_owned(), "DESC"),
            NotificationFilter::Open => (format!("$1 = '' AND {OPEN}"), "ASC"),
            NotificationFilter::OpenOf(_) => (format!("notifier = $1 AND {OPEN}"), "ASC"),
            NotificationFilter::One(_) => ("id = $1".to_owned(), "ASC"),
            NotificationFilter::State(state) => {
                let open = matches!(state, DeliveryState::Pending | DeliveryState::Sending);
                let condition = format!("$1 = '' AND state = '{}'", state_text(*state));
                (condition, if open { "ASC" } else { "DESC" })
            }
        };
        let named = match &filter {
            NotificationFilter::OpenOf(slot) => slot.as_str(),
            NotificationFilter::One(id) => id,
            _ => "",
        };
        let sql = format!(
            "SELECT state, attempts, may_be_repeat, next_attempt, message, notification, \
             opened_at FROM notifications WHERE {condition} ORDER BY number {order} LIMIT $2"
        );
        retried(Again::Whenever, || async {
            let query = sqlx::query(sqlx::AssertSqlSafe(sql.clone())).bind(text::kept(named));
            let rows = query.bind(i64::from(limit)).fetch_all(&self.0.pool).await?;
            rows.iter().map(|row| Ok(delivery(row)?)).collect()
        })
        .await
    }

    pub(super) async fn read_open_notifiers(&self) -> Result<Vec<SlotName>, StoreError> {
        let sql = format!("SELECT DISTINCT notifier FROM notifications WHERE {OPEN}");
        let slot = |row: &PgRow| {
            SlotName::new(row.try_get(0)?).map_err(|e| StoreError::Damaged {
                what: format!("a notification's notifier: {e}"),
            })
        };
        self.rows(&sql).await?.iter().map(slot).collect()
    }

    pub(super) async fn read_groups(&self) -> Result<Vec<StoredGroup>, StoreError> {
        let rows = self.rows("SELECT key, body FROM alert_groups ORDER BY key").await?;
        let group = |row: &PgRow| -> Result<StoredGroup, StoreError> {
            let (key, body) = (row.try_get(0)?, row.try_get(1)?);
            Ok(StoredGroup { key: text::given(key), body: text::given(body) })
        };
        rows.iter().map(group).collect()
    }

    pub(super) async fn read_attempts(&self, id: &str) -> Result<Vec<Attempt>, StoreError> {
        self.still_open()?;
        retried(Again::Whenever, || async move {
            let sql = "SELECT attempt FROM attempts WHERE notification = $1 ORDER BY id";
            let rows = sqlx::query(sql).bind(text::kept(id)).fetch_all(&self.0.pool).await?;
            rows.iter().map(|row| Ok(serde_json::from_str(row.try_get(0)?)?)).collect()
        })
        .await
    }

    pub(super) async fn keep_act(&self, act: Act, now: i64) -> Result<(), StoreError> {
        let act = std::sync::Arc::new(act);
        self.step(Again::Undone, |conn| {
            let act = std::sync::Arc::clone(&act);
            Box::pin(async move { write_act(conn, &act, now).await })
        })
        .await
    }

    pub(super) async fn read_decisions(
        &self,
        known: Option<u64>,
    ) -> Result<Option<Decisions>, StoreError> {
        self.step(Again::Whenever, |conn| {
            Box::pin(async move {
                // All that follows sees what this sees.
                let sql = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
                sqlx::raw_sql(sql).execute(&mut *conn).await?;
                let sql = "SELECT value FROM meta WHERE key = 'decisions'";
                let revision: i64 = sqlx::query_scalar(sql).fetch_one(&mut *conn).await?;
                let revision = revision.unsigned_abs();
                if known == Some(revision) {
                    return Ok(None);
                }
                let mut decisions = Decisions { revision, ..Decisions::default() };
                let sql = "SELECT silence FROM silences ORDER BY ends_at DESC, id";
                for row in sqlx::query(sql).fetch_all(&mut *conn).await? {
                    decisions.silences.push(serde_json::from_str(row.try_get(0)?)?);
                }
                let sql = "SELECT acknowledgement FROM acknowledgements ORDER BY fingerprint";
                for row in sqlx::query(sql).fetch_all(conn).await? {
                    decisions.acknowledgements.push(serde_json::from_str(row.try_get(0)?)?);
                }
                Ok(Some(decisions))
            })
        })
        .await
    }

    /// The rows of a question without arguments.
    pub(super) async fn rows(&self, sql: &str) -> Result<Vec<PgRow>, StoreError> {
        self.still_open()?;
        retried(Again::Whenever, || async move {
            let query = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()));
            Ok(query.fetch_all(&self.0.pool).await?)
        })
        .await
    }
}
