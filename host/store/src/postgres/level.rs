//! What a database offers beyond tables, and how packed samples lie in it.
//!
//! The first opening decides: with TimescaleDB in the database `chunk_times`, `chunks` and
//! `rollups` become hypertables, without it declarative partitions. Afterwards they stay what they
//! are, whatever the database gains or loses; both are said at each start.
//!
//! | found | tables made without it | tables made with it |
//! |---|---|---|
//! | no TimescaleDB | partitions | what it kept is gone with it; ordinary tables |
//! | Apache | partitions, said | hypertables |
//! | Community | partitions, said | hypertables, old rollups compressed by a policy |

use crate::StoreError;
use sqlx::Row;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgPool;
use std::fmt;

static PLAIN: Migrator = sqlx::migrate!("../../migrations/postgres");
static TIMESCALE: Migrator = sqlx::migrate!("../../migrations/timescale");
static COMMUNITY: Migrator = sqlx::migrate!("../../migrations/timescale-community");

/// What a database offers beyond tables, found when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// TimescaleDB under its community licence is there.
    TimescaleCommunity,
    /// TimescaleDB's Apache edition is there.
    TimescaleApache,
    /// Declarative partitions.
    Plain,
}

/// How packed samples and rollups lie in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Declarative partitions, with one for what lies outside all others.
    Partitions,
    /// Hypertables, with a table each for what lies ahead.
    Hypertables,
    /// What were hypertables before TimescaleDB was dropped.
    Tables,
}

/// What was found when a database was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) level: Level,
    pub(super) layout: Layout,
    /// PostgreSQL's version.
    version: String,
    /// TimescaleDB's.
    extension: Option<String>,
}

/// What `timescaledb.license` says, if the extension is in the database.
fn level(license: Option<&str>) -> Level {
    match license {
        None => Level::Plain,
        Some("timescale") => Level::TimescaleCommunity,
        Some(_) => Level::TimescaleApache,
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let edition = match self.level {
            Level::TimescaleCommunity => "Community",
            Level::TimescaleApache => "Apache",
            Level::Plain => "",
        };
        write!(f, "PostgreSQL {} (", self.version)?;
        match &self.extension {
            Some(extension) => write!(f, "TimescaleDB {extension} {edition}: ")?,
            None => f.write_str("plain: ")?,
        }
        f.write_str(match (self.layout, self.level) {
            (Layout::Partitions, Level::Plain) => "declarative partitions",
            (Layout::Partitions, _) => "not used, the tables are older: declarative partitions",
            (Layout::Hypertables, Level::TimescaleCommunity) => {
                "hypertables, old rollups compressed"
            }
            (Layout::Hypertables, _) => "hypertables",
            (Layout::Tables, _) => "tables that were hypertables",
        })?;
        f.write_str(")")
    }
}

fn migrate_error(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) => e.into(),
        MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => {
            StoreError::Conflict(format!(
                "the database was written by a newer version of Sentinel ({error}); use that one"
            ))
        }
        other => StoreError::Engine(other.to_string()),
    }
}

/// Runs migrations that only some databases have; they are numbered by themselves.
async fn run(pool: &PgPool, migrations: &Migrator, table: &'static str) -> Result<(), StoreError> {
    let mut own = Migrator::with_migrations(migrations.iter().cloned().collect());
    own.dangerous_set_table_name(table);
    own.run(pool).await.map_err(migrate_error)
}

/// Brings the schema up to date, and says what it is.
pub(super) async fn settle(pool: &PgPool) -> Result<Found, StoreError> {
    PLAIN.run(pool).await.map_err(migrate_error)?;
    // One statement, so that all of it is of one moment: others may be opening the database too.
    let sql = "SELECT current_setting('server_version'), \
               (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'), \
               CASE WHEN EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'timescaledb') \
               THEN coalesce(current_setting('timescaledb.license', true), '') END, \
               EXISTS (SELECT 1 FROM pg_class WHERE relname = 'chunks' AND relkind = 'p' \
               AND pg_table_is_visible(oid)), \
               EXISTS (SELECT 1 FROM series) OR EXISTS (SELECT 1 FROM chunks) \
               OR EXISTS (SELECT 1 FROM rollups)";
    let row = sqlx::query(sql).fetch_one(pool).await?;
    let version: &str = row.try_get(0)?;
    let level = level(row.try_get(2)?);
    let (is_parted, is_used): (bool, bool) = (row.try_get(3)?, row.try_get(4)?);
    let layout = match (is_parted, level) {
        (true, Level::Plain) => Layout::Partitions,
        (true, _) if is_used => Layout::Partitions,
        (false, Level::Plain) => Layout::Tables,
        (_, Level::TimescaleApache | Level::TimescaleCommunity) => Layout::Hypertables,
    };
    if layout == Layout::Hypertables {
        run(pool, &TIMESCALE, "_sqlx_migrations_timescale").await?;
    }
    if layout == Layout::Hypertables && level == Level::TimescaleCommunity {
        run(pool, &COMMUNITY, "_sqlx_migrations_timescale_community").await?;
    }
    let found = Found {
        level,
        layout,
        version: version.split(' ').next().unwrap_or(version).to_owned(),
        extension: row.try_get(1)?,
    };
    say(pool, &found).await?;
    Ok(found)
}

/// Says what differs from what the tables were made for.
async fn say(pool: &PgPool, found: &Found) -> Result<(), StoreError> {
    match (found.layout, found.level) {
        (Layout::Partitions, Level::TimescaleApache | Level::TimescaleCommunity) => tracing::warn!(
            "TimescaleDB came into this database after its tables: they stay declarative \
             partitions; a new database, made after CREATE EXTENSION, has hypertables"
        ),
        (Layout::Tables, _) => tracing::warn!(
            "TimescaleDB was dropped from this database, and with it all packed samples and \
             rollups; what comes is kept in ordinary tables, from which rows are deleted by age. \
             Restore a backup, or begin a new database"
        ),
        (Layout::Hypertables, Level::TimescaleApache) if has_compressed(pool).await? => {
            tracing::warn!(
                "this database has rollups that TimescaleDB's Community edition compressed, and \
                 runs under the Apache licence now, which cannot read them: set \
                 timescaledb.license = 'timescale', and decompress them before it is taken away"
            );
        }
        (Layout::Partitions | Layout::Hypertables, _) => {}
    }
    Ok(())
}

async fn has_compressed(pool: &PgPool) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM timescaledb_information.chunks \
               WHERE hypertable_name = 'rollups_hyper' AND is_compressed)";
    Ok(sqlx::query_scalar(sql).fetch_one(pool).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_licence_tells_the_level() {
        assert_eq!(level(None), Level::Plain);
        assert_eq!(level(Some("apache")), Level::TimescaleApache);
        assert_eq!(level(Some("timescale")), Level::TimescaleCommunity);
    }

    #[test]
    fn what_was_found_is_said() {
        for (level, layout, said) in [
            (Level::Plain, Layout::Partitions, "plain: declarative partitions"),
            (
                Level::TimescaleApache,
                Layout::Partitions,
                "TimescaleDB 2.9 Apache: not used, the tables are older: declarative partitions",
            ),
            (Level::TimescaleApache, Layout::Hypertables, "TimescaleDB 2.9 Apache: hypertables"),
            (
                Level::TimescaleCommunity,
                Layout::Hypertables,
                "TimescaleDB 2.9 Community: hypertables, old rollups compressed",
            ),
            (Level::Plain, Layout::Tables, "plain: tables that were hypertables"),
        ] {
            let extension = (level != Level::Plain).then(|| "2.9".to_owned());
            let found = Found { level, layout, version: "15.1".into(), extension };
            assert_eq!(found.to_string(), format!("PostgreSQL 15.1 ({said})"));
        }
    }
}
