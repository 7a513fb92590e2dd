//! Several statements in one round trip. Each round trip to sqlx's thread costs about 46 µs,
//! more than most statements, so whole transactions go over in one.

use crate::StoreError;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Encode, Executor, Row, Type};

/// Statements with their arguments; placeholders are plain `?`, in order.
#[derive(Default)]
pub(super) struct Script {
    sql: String,
    arguments: SqliteArguments,
}

impl Script {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Appends one statement (or a part of one: nothing is added between parts).
    pub(super) fn sql(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// Appends `INSERT INTO table (columns) VALUES` with as many rows of placeholders.
    pub(super) fn rows(&mut self, insert: &str, columns: usize, rows: usize) -> &mut Self {
        self.sql.push_str(insert);
        for row in 0..rows {
            self.sql.push_str(if row == 0 { " (?" } else { ",(?" });
            for _ in 1..columns {
                self.sql.push_str(",?");
            }
            self.sql.push(')');
        }
        self.sql.push(';');
        self
    }

    pub(super) fn bind<'a, T: Encode<'a, Sqlite> + Type<Sqlite>>(&mut self, value: T) -> &mut Self {
        self.arguments.add(value).expect("integers, texts and blobs always encode");
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sql.is_empty()
    }

    /// Runs it as it is.
    pub(super) async fn run(self, conn: &mut SqliteConnection) -> Result<(), StoreError> {
        conn.execute(sqlx::query_with(AssertSqlSafe(self.sql), self.arguments)).await?;
        Ok(())
    }
}

/// SQLite rolls back by itself on some errors, and then refuses this.
async fn rollback(conn: &mut SqliteConnection) {
    let _ = conn.execute("ROLLBACK").await;
}

/// Runs scripts as one transaction; nothing of it stays where one fails. Must not be dropped
/// half-way: see [`super::SqliteStore::write`].
pub(super) async fn transaction(
    conn: &mut SqliteConnection,
    mut scripts: Vec<Script>,
) -> Result<(), StoreError> {
    let Some(last) = scripts.last_mut() else { return Ok(()) };
    last.sql("COMMIT;");
    scripts[0].sql.insert_str(0, "BEGIN IMMEDIATE;");
    for script in scripts {
        if let Err(error) = script.run(conn).await {
            rollback(conn).await;
            return Err(error);
        }
    }
    Ok(())
}

/// Runs a script as one transaction; the number of rows that changed. (sqlx's own count takes
/// BEGIN and COMMIT for what went before them.)
pub(super) async fn counted(
    conn: &mut SqliteConnection,
    mut script: Script,
) -> Result<u64, StoreError> {
    script.sql.insert_str(0, "BEGIN IMMEDIATE;SELECT total_changes();");
    script.sql("SELECT total_changes();COMMIT;");
    let query = sqlx::query_with(AssertSqlSafe(script.sql), script.arguments);
    match query.fetch_all(&mut *conn).await {
        Ok(rows) => {
            let count = |row: Option<&SqliteRow>| row.map_or(Ok(0), |row| row.try_get::<i64, _>(0));
            Ok((count(rows.last())? - count(rows.first())?) as u64)
        }
        Err(error) => {
            rollback(conn).await;
            Err(error.into())
        }
    }
}
