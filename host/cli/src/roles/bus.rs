//! Which bus a configuration means, and opening it.

use super::config::ConfigFile;
use super::data::DataFolder;
use anyhow::{Context, Result, bail};
use schemars::JsonSchema;
use sentinel_bus::jetstream::{
    AddressError, JetStreamBus, JetStreamOptions, MAX_PARTITIONS, NatsAddress, PULL_BYTES,
    StreamOptions,
};
use sentinel_bus::{Bus, EmbeddedBus, EmbeddedOptions};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

/// The word for the bus of this process.
const EMBEDDED: &str = "embedded";
/// On how many servers of a cluster a stream may lie.
const REPLICAS: [u8; 3] = [1, 3, 5];

/// Where the bus is: `embedded`, or the address of NATS. Written without the password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum BusPlace {
    /// In this process.
    #[default]
    Embedded,
    /// On NATS JetStream.
    Nats(NatsAddress),
}

impl TryFrom<String> for BusPlace {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        if text == EMBEDDED { Ok(Self::Embedded) } else { text.parse().map(Self::Nats) }
    }
}

impl From<BusPlace> for String {
    fn from(place: BusPlace) -> Self {
        match place {
            BusPlace::Embedded => EMBEDDED.to_owned(),
            BusPlace::Nats(address) => address.to_string(),
        }
    }
}

impl JsonSchema for BusPlace {
    fn schema_name() -> Cow<'static, str> {
        "BusPlace".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "`embedded`, or nats://[USER[:PASSWORD]@]HOST[:PORT], several of one cluster with commas between; tls:// requires TLS.",
        })
    }
}

/// How NATS is reached and what the stream is like, where the bus is there. Every server and worker says the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NatsConfig {
    /// File with the user's credentials, as `nsc` writes it.
    pub(crate) credentials: Option<PathBuf>,
    /// Certificates (PEM) that are trusted in place of the system's; TLS is then required.
    pub(crate) ca: Option<PathBuf>,
    /// On how many servers of the cluster each message lies: 1, 3 or 5.
    pub(crate) replicas: u8,
    /// How many partitions agents are spread over, 1 to 256; fixed when the stream is made.
    pub(crate) partitions: u16,
    /// Messages that may wait.
    pub(crate) max_messages: u64,
    /// Bytes of messages that may wait.
    pub(crate) max_bytes: u64,
}

impl Default for NatsConfig {
    fn default() -> Self {
        let StreamOptions { replicas, partitions, max_messages, max_bytes, .. } =
            StreamOptions::default();
        Self { credentials: None, ca: None, replicas, partitions, max_messages, max_bytes }
    }
}

impl NatsConfig {
    /// Everything that is wrong, by its path below `nats`.
    pub(crate) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if !REPLICAS.contains(&self.replicas) {
            found.push(("/replicas", format!("{} replicas; write 1, 3 or 5", self.replicas)));
        }
        if !(1..=MAX_PARTITIONS).contains(&self.partitions) {
            let text = format!("{} partitions; write 1 to {MAX_PARTITIONS}", self.partitions);
            found.push(("/partitions", text));
        }
        if !(1..=i64::MAX as u64).contains(&self.max_messages) {
            found.push(("/max_messages", "must be at least 1".to_owned()));
        }
        if !(PULL_BYTES as u64..=i64::MAX as u64).contains(&self.max_bytes) {
            let text = format!("must be at least {PULL_BYTES}: room for the largest message");
            found.push(("/max_bytes", text));
        }
        found
    }

    /// How a bus at this address is opened.
    pub(crate) fn options(&self, address: NatsAddress) -> JetStreamOptions {
        let stream = StreamOptions {
            replicas: self.replicas,
            partitions: self.partitions,
            max_messages: self.max_messages,
            max_bytes: self.max_bytes,
            ..StreamOptions::default()
        };
        let (credentials, ca) = (self.credentials.clone(), self.ca.clone());
        JetStreamOptions { address, credentials, ca, stream }
    }
}

/// How the bus on NATS that a configuration means is opened.
///
/// # Errors
/// Where it means none.
pub(crate) fn nats(config: &ConfigFile) -> Result<JetStreamOptions> {
    match &config.bus {
        BusPlace::Nats(address) => Ok(config.nats.options(address.clone())),
        BusPlace::Embedded => bail!(
            "the configuration has no `bus: nats://HOST:PORT`: an embedded bus is one process's"
        ),
    }
}

/// Opens the bus that a configuration means; the embedded one lies in the data folder.
pub(super) async fn open(config: &ConfigFile, data: &DataFolder) -> Result<Arc<dyn Bus>> {
    match &config.bus {
        BusPlace::Nats(_) => Ok(Arc::new(JetStreamBus::connect(nats(config)?).await?)),
        BusPlace::Embedded => {
            let folder = data.join("bus");
            fs::create_dir_all(&folder)
                .with_context(|| format!("{} cannot be made", folder.display()))?;
            Ok(Arc::new(EmbeddedBus::open(&folder, EmbeddedOptions::default())?))
        }
    }
}
