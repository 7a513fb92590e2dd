//! Opening: the schema, what the database offers, and the series.

use super::cache::Cache;
use super::commit::Writer;
use super::maintain::Upkeep;
use super::{PostgresOptions, PostgresStore, PostgresUrl, Shared};
use crate::StoreError;
use crate::samples::series::Registry;
use parking_lot::{Mutex, RwLock};
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Row};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/postgres");

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

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimescaleCommunity => "with TimescaleDB Community, declarative partitions used",
            Self::TimescaleApache => "with TimescaleDB Apache, declarative partitions used",
            Self::Plain => "plain, declarative partitions",
        })
    }
}

/// What `timescaledb.license` says, if the extension is in the database.
fn level(license: Option<&str>) -> Level {
    match license {
        None => Level::Plain,
        Some("timescale") => Level::TimescaleCommunity,
        Some(_) => Level::TimescaleApache,
    }
}

fn connect_options(
    url: &PostgresUrl,
    options: &PostgresOptions,
) -> Result<PgConnectOptions, StoreError> {
    let millis = |time: std::time::Duration| time.as_millis().to_string();
    Ok(url
        .options()?
        .application_name("sentinel")
        .statement_cache_capacity(256)
        .options([
            ("statement_timeout", millis(options.statement_timeout)),
            ("lock_timeout", millis(options.lock_timeout)),
            ("idle_in_transaction_session_timeout", millis(4 * options.statement_timeout)),
            ("timezone", "UTC".to_owned()),
            // Statements are short: compiling one takes longer than running it.
            ("jit", "off".to_owned()),
        ])
        .disable_statement_logging())
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

/// Says which database does not answer.
fn named(url: &PostgresUrl, error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(why) => StoreError::Unavailable(format!("{url}: {why}")),
        StoreError::Engine(why) => StoreError::Engine(format!("{url}: {why}")),
        other => other,
    }
}

async fn found(pool: &PgPool) -> Result<(Level, String), StoreError> {
    let sql = "SELECT current_setting('server_version'), \
               CASE WHEN EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'timescaledb') \
               THEN coalesce(current_setting('timescaledb.license', true), '') END";
    let row = sqlx::query(sql).fetch_one(pool).await?;
    let license: Option<&str> = row.try_get(1)?;
    let version: &str = row.try_get(0)?;
    let version = version.split(' ').next().unwrap_or(version);
    Ok((level(license), version.to_owned()))
}

pub(super) async fn open(
    url: PostgresUrl,
    mut options: PostgresOptions,
) -> Result<Shared, StoreError> {
    // What a bucket had is known from its rollups when its chunks are dropped.
    options.keep_rollups = options.keep_rollups.max(options.keep_raw);
    let connect = connect_options(&url, &options)?;
    let pool = PgPoolOptions::new()
        .max_connections(options.connections.max(2))
        .acquire_timeout(options.acquire_timeout)
        .connect_with(connect.clone())
        .await
        .map_err(|error| named(&url, error.into()))?;
    MIGRATIONS.run(&pool).await.map_err(|error| named(&url, migrate_error(error)))?;
    let (level, version) = found(&pool).await?;
    let shared = Shared {
        connect,
        level,
        version,
        writer: tokio::sync::Mutex::new(Some(Writer::new(options.shape_bytes))),
        registry: RwLock::new(Registry::new()),
        changed: tokio::sync::Mutex::new(0),
        cache: Mutex::new(Cache::new(options.tail_samples, options.shape_bytes)),
        hours: Mutex::new(BTreeSet::new()),
        upkeep: tokio::sync::Mutex::new(Upkeep::default()),
        pool,
        options,
        url,
    };
    let store = PostgresStore(Arc::new(shared));
    store.refresh().await?;
    Arc::into_inner(store.0).ok_or_else(super::closed)
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
}
