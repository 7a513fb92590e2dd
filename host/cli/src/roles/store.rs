//! Which store a configuration means, and opening it.

use super::config::ConfigFile;
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
            let options = StoreOptions {
                keep_raw: config.keep.raw,
                keep_rollups: config.keep.rollups,
                ..StoreOptions::default()
            };
            Ok(Arc::new(SqliteStore::open(data.join("sentinel.db"), options).await?))
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
    let options = PostgresOptions {
        keep_raw: config.keep.raw,
        keep_rollups: config.keep.rollups,
        ..PostgresOptions::default()
    };
    let store = PostgresStore::open(url.clone(), options).await?;
    tracing::info!(store = %url, found = store.describe(), "the store is open");
    Ok(Arc::new(store))
}
