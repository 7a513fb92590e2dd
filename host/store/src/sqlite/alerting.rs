//! Alerts, their history, notifications.

use super::SqliteStore;
use super::script::{Script, transaction};
use crate::StoreError;
use crate::alerting::{AlertingChange, NotificationFilter};
use crate::kept::{keep, kept, state_of, state_text};
use sentinel_model::alert::{Alert, Delivery, DeliveryState, Transition};
use sentinel_model::ids::SlotName;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// Notifications that still have to be sent; word for word what their index is of.
const OPEN: &str = "state IN ('pending', 'sending')";
/// The most statements of one script.
const STATEMENTS: usize = 200;

fn delivery(row: &SqliteRow) -> Result<Delivery, StoreError> {
    Ok(Delivery {
        notification: kept(row.try_get(5)?)?,
        state: state_of(row.try_get(0)?)?,
        attempts: row.try_get(1)?,
        may_be_repeat: row.try_get(2)?,
        next_attempt: row.try_get(3)?,
        message: row.try_get(4)?,
        opened_at: row.try_get(6)?,
    })
}

/// The scripts of one change, each with a bounded number of statements.
#[derive(Default)]
struct Scripts {
    all: Vec<Script>,
    statements: usize,
}

impl Scripts {
    fn next(&mut self, sql: &str) -> &mut Script {
        if self.statements.is_multiple_of(STATEMENTS) {
            self.all.push(Script::new());
        }
        self.statements += 1;
        self.all.last_mut().expect("one was pushed").sql(sql)
    }
}

/// A new entry of the journal, behind all others; one whose id is there already changes nothing.
pub(super) fn insert_notification(script: &mut Script, new: Delivery) -> Result<(), StoreError> {
    script
        .sql(
            "INSERT OR IGNORE INTO notifications (id, number, decided_at, state, attempts, \
             may_be_repeat, next_attempt, message, notifier, notification, opened_at) VALUES (?,\
             (SELECT coalesce(max(number), 0) + 1 FROM notifications),?,?,?,?,?,?,?,?,?);",
        )
        .bind(new.notification.id.clone())
        .bind(new.notification.time)
        .bind(state_text(new.state))
        .bind(new.attempts)
        .bind(new.may_be_repeat)
        .bind(new.next_attempt)
        .bind(new.message)
        .bind(new.notification.notifier.as_str().to_owned())
        .bind(keep(new.notification)?)
        .bind(new.opened_at);
    Ok(())
}

/// An entry of the journal as it is now.
pub(super) fn update_delivery(script: &mut Script, changed: Delivery) {
    script
        .sql(
            "UPDATE notifications SET state = ?, attempts = ?, may_be_repeat = ?, \
             next_attempt = ?, message = ?, opened_at = ? WHERE id = ?;",
        )
        .bind(state_text(changed.state))
        .bind(changed.attempts)
        .bind(changed.may_be_repeat)
        .bind(changed.next_attempt)
        .bind(changed.message)
        .bind(changed.opened_at)
        .bind(changed.notification.id);
}

fn scripts(change: AlertingChange) -> Result<Vec<Script>, StoreError> {
    let mut scripts = Scripts::default();
    for alert in change.alerts {
        scripts
            .next(
                "INSERT OR REPLACE INTO alerts (fingerprint, state, resolved_at, alert) \
                 VALUES (?,?,?,?);",
            )
            .bind(alert.fingerprint.0 as i64)
            .bind(alert.state.as_str())
            .bind(alert.resolved_at)
            .bind(keep(alert)?);
    }
    for fingerprint in change.forgotten {
        scripts.next("DELETE FROM alerts WHERE fingerprint = ?;").bind(fingerprint.0 as i64);
    }
    for transition in change.transitions {
        scripts
            .next("INSERT INTO transitions (at, transition) VALUES (?,?);")
            .bind(transition.at)
            .bind(keep(transition)?);
    }
    for group in change.groups {
        scripts
            .next("INSERT OR REPLACE INTO alert_groups (key, body) VALUES (?,?);")
            .bind(group.key)
            .bind(group.body);
    }
    for key in change.closed {
        scripts.next("DELETE FROM alert_groups WHERE key = ?;").bind(key);
    }
    for new in change.decided {
        insert_notification(scripts.next(""), new)?;
    }
    for changed in change.delivered {
        update_delivery(scripts.next(""), changed);
    }
    for (notification, attempt) in change.attempts {
        scripts
            .next("INSERT INTO attempts (notification, attempt) VALUES (?,?);")
            .bind(notification)
            .bind(serde_json::to_string(&attempt)?);
    }
    for write in change.remembered {
        super::slots::insert_slot_write(scripts.next(""), write);
    }
    for evaluation in &change.evaluations {
        super::evaluations::insert(scripts.next(""), evaluation);
    }
    Ok(scripts.all)
}

impl SqliteStore {
    pub(super) async fn write_alerting(&self, change: AlertingChange) -> Result<(), StoreError> {
        let fence = change.fence.clone();
        let scripts = scripts(change)?;
        if scripts.is_empty() {
            return Ok(());
        }
        self.write(move |_, writer| {
            Box::pin(async move {
                if let Some(fence) = &fence {
                    super::lease::check(writer, fence).await?;
                }
                transaction(&mut writer.conn, scripts).await
            })
        })
        .await
    }

    pub(super) async fn read_alerts(&self, since: i64) -> Result<Vec<Alert>, StoreError> {
        let sql = "SELECT alert FROM alerts WHERE state <> 'resolved' OR resolved_at > ? \
                   ORDER BY fingerprint";
        let rows = sqlx::query(sql).bind(since).fetch_all(&self.0.pool).await?;
        rows.iter().map(|row| kept(row.try_get(0)?)).collect()
    }

    pub(super) async fn read_history(&self, limit: u32) -> Result<Vec<Transition>, StoreError> {
        let sql = "SELECT transition FROM transitions ORDER BY id DESC LIMIT ?";
        let rows = sqlx::query(sql).bind(limit).fetch_all(&self.0.pool).await?;
        rows.iter().map(|row| kept(row.try_get(0)?)).collect()
    }

    pub(super) async fn read_notifications(
        &self,
        filter: NotificationFilter,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        let mut named = None;
        let (condition, order) = match filter {
            NotificationFilter::All => ("1".to_owned(), "DESC"),
            NotificationFilter::Open => (OPEN.to_owned(), "ASC"),
            NotificationFilter::OpenOf(slot) => {
                named = Some(slot.as_str().to_owned());
                (format!("notifier = ? AND {OPEN}"), "ASC")
            }
            NotificationFilter::One(id) => {
                named = Some(id);
                ("id = ?".to_owned(), "ASC")
            }
            NotificationFilter::State(state) => {
                let open = matches!(state, DeliveryState::Pending | DeliveryState::Sending);
                (format!("state = '{}'", state_text(state)), if open { "ASC" } else { "DESC" })
            }
        };
        let sql = format!(
            "SELECT state, attempts, may_be_repeat, next_attempt, message, notification, \
             opened_at FROM notifications WHERE {condition} ORDER BY number {order} LIMIT ?"
        );
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        if let Some(named) = named {
            query = query.bind(named);
        }
        let rows = query.bind(limit).fetch_all(&self.0.pool).await?;
        rows.iter().map(delivery).collect()
    }

    pub(super) async fn read_open_notifiers(&self) -> Result<Vec<SlotName>, StoreError> {
        let sql = format!("SELECT DISTINCT notifier FROM notifications WHERE {OPEN}");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&self.0.pool).await?;
        let slot = |row: &SqliteRow| {
            SlotName::new(row.try_get(0)?).map_err(|e| StoreError::Damaged {
                what: format!("a notification's notifier: {e}"),
            })
        };
        rows.iter().map(slot).collect()
    }
}
