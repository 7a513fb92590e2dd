//! Opening: the schema, what the database offers, and the series.

use super::cache::Cache;
use super::commit::Writer;
use super::maintain::Upkeep;
use super::{PostgresOptions, PostgresStore, PostgresUrl, Shared, level};
use crate::StoreError;
use crate::samples::series::Registry;
use parking_lot::{Mutex, RwLock};
use sqlx::ConnectOptions;
use sqlx::Row;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

fn connect_options(
    url: &PostgresUrl,
    options: &PostgresOptions,
) -> Result<PgConnectOptions, StoreError> {
    let millis = |time: Duration| time.as_millis().to_string();
    Ok(url
        .options()?
        .application_name("sentinel")
        .statement_cache_capacity(256)
        .options([
            ("statement_timeout", millis(options.statement_timeout)),
            ("lock_timeout", millis(options.lock_timeout)),
            ("idle_in_transaction_session_timeout", millis(options.idle_timeout)),
            ("timezone", "UTC".to_owned()),
            // Statements are short: compiling one takes longer than running it.
            ("jit", "off".to_owned()),
        ])
        .disable_statement_logging())
}

/// Commits lock the streams that they move: a process that stands still in the middle of one would
/// keep whoever reads its partitions by then from committing. PostgreSQL waits so long for its next
/// word, about as long as others wait until they take the partitions over.
const COMMIT_IDLE: Duration = Duration::from_secs(10);

/// How the connection that commits is made.
pub(super) fn for_commits(connect: &PgConnectOptions) -> PgConnectOptions {
    let idle = COMMIT_IDLE.as_millis().to_string();
    connect.clone().options([("idle_in_transaction_session_timeout", idle)])
}

/// A connection that was given back less than so long ago is taken again without a question, which would be a round trip
/// more for each reader. It is less than a server takes to end and come back, and than all attempts take together: whoever
/// asks again gets no other connection of a server that is gone.
const FRESH: Duration = Duration::from_millis(100);

/// Whether a connection of the pool answers and is in no transaction; one that is not is closed. Asked when one is given
/// back, where nobody waits for the answer.
///
/// Whoever is given up while its BEGIN is under way leaves a connection that the server holds in a
/// transaction and sqlx does not: what is done on it next would look done, and be rolled back. In a
/// transaction the time is that of its begin. Asked as one simple query, since the steps of an
/// extended one have times of their own.
async fn is_idle(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let row = sqlx::raw_sql("SELECT now() = statement_timestamp()").fetch_one(conn).await?;
    row.try_get(0)
}

/// Says which database does not answer.
fn named(url: &PostgresUrl, error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(why) => StoreError::Unavailable(format!("{url}: {why}")),
        StoreError::Engine(why) => StoreError::Engine(format!("{url}: {why}")),
        other => other,
    }
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
        .test_before_acquire(false)
        .after_release(|conn, _| Box::pin(is_idle(conn)))
        .before_acquire(|conn, about| {
            Box::pin(async move { Ok(about.idle_for < FRESH || is_idle(conn).await?) })
        })
        .connect_with(connect.clone())
        .await
        .map_err(|error| named(&url, error.into()))?;
    let found = level::settle(&pool).await.map_err(|error| named(&url, error))?;
    let shared = Shared {
        connect,
        found,
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
    store.load().await?;
    Arc::into_inner(store.0).ok_or_else(super::closed)
}
