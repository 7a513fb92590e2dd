//! Which store a configuration means, and opening it.

use super::config::{ConfigFile, KeepConfig};
use super::data::DataFolder;
use anyhow::{Result, bail};
use schemars::JsonSchema;
use sentinel_store::postgres::{PostgresOptions, PostgresStore, PostgresUrl};
use sentinel_store::sqlite::{SqliteStore, StoreOptions};
use sentinel_store::{Store, StoreError};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// The word for the store in the data folder.
const EMBEDDED: &str = "embedded";

/// Where the store is: `embedded`, or the address of a PostgreSQL database. Written without the password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum StorePlace {
    /// A SQLite file in the data folder: one process's.
    #[default]
    Embedded,
    /// A PostgreSQL database.
    Postgres(PostgresUrl),
}

impl TryFrom<String> for StorePlace {
    type Error = StoreError;

    fn try_from(text: String) -> Result<Self, StoreError> {
        if text == EMBEDDED {
            Ok(Self::Embedded)
        } else {
            PostgresUrl::new(&text).map(Self::Postgres)
        }
    }
}

impl From<StorePlace> for String {
    fn from(place: StorePlace) -> Self {
        match place {
            StorePlace::Embedded => EMBEDDED.to_owned(),
            StorePlace::Postgres(url) => url.to_string(),
        }
    }
}

impl JsonSchema for StorePlace {
    fn schema_name() -> Cow<'static, str> {
        "StorePlace".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "`embedded`, or postgres://USER[:PASSWORD]@HOST[:PORT]/DATABASE.",
        })
    }
}

/// Opens the store that a configuration means; the embedded one lies in the data folder.
pub(super) async fn open(config: &ConfigFile, data: &DataFolder) -> Result<Arc<dyn Store>> {
    match &config.store {
        StorePlace::Postgres(_) => shared(config).await,
        StorePlace::Embedded => {
            let file = data.join("sentinel.db");
            Ok(Arc::new(SqliteStore::open(file, of_the_embedded(&config.keep)).await?))
        }
    }
}

/// Opens a store that several processes may use.
pub(super) async fn shared(config: &ConfigFile) -> Result<Arc<dyn Store>> {
    let StorePlace::Postgres(url) = &config.store else {
        bail!(
            "the configuration has no `store: postgres://USER@HOST/DATABASE`: an embedded store is one process's"
        );
    };
    let store = PostgresStore::open(url.clone(), of_postgres(&config.keep)).await?;
    tracing::info!(store = %url, found = store.describe(), "the store is open");
    Ok(Arc::new(store))
}

fn of_the_embedded(keep: &KeepConfig) -> StoreOptions {
    StoreOptions { keep_raw: keep.raw, keep_rollups: keep.rollups, ..StoreOptions::default() }
}

fn of_postgres(keep: &KeepConfig) -> PostgresOptions {
    PostgresOptions { keep_raw: keep.raw, keep_rollups: keep.rollups, ..PostgresOptions::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_model::duration::Millis;

    #[test]
    fn either_store_keeps_as_long_as_the_configuration_says() {
        let keep = KeepConfig { raw: Millis(1), rollups: Millis(2) };
        let (embedded, postgres) = (of_the_embedded(&keep), of_postgres(&keep));
        assert_eq!((embedded.keep_raw, embedded.keep_rollups), (keep.raw, keep.rollups));
        assert_eq!((postgres.keep_raw, postgres.keep_rollups), (keep.raw, keep.rollups));
    }
}
