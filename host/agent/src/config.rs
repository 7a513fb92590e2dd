//! The agent's configuration, and everything that can be wrong with it, said at once.

use crate::servers::MAX_SERVERS;
use schemars::JsonSchema;
use sentinel_fleet::label_problems;
use sentinel_model::columns::{MAX_SYMBOL, check_label_key};
use sentinel_model::document::{Document, Problem};
use sentinel_model::duration::Millis;
use sentinel_model::ids::{AgentId, SlotName};
use sentinel_registry_client::PluginSource;
use sentinel_trust::repository::PluginRange;
use sentinel_trust::{Grants, Kind, effective};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The most slots of an agent.
const MAX_SLOTS: usize = 1000;
/// The shortest interval of a collector.
const MIN_INTERVAL: Millis = Millis(100);

/// The shortest time after which records may be dropped unsent.
const MIN_AGE: Millis = Millis(60_000);

/// What an agent runs and how it keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AgentConfig {
    /// The name under which it enrols; the host's name where it is absent.
    pub id: Option<AgentId>,
    /// What this host is to its fleet: groups of hosts are picked by these, and by `agent`,
    /// `hostname`, `os` and `arch`, which are known without. Samples do not bear them.
    pub labels: BTreeMap<String, String>,
    /// The most that the fleet's desired set may grant to any plugin here. Without it whatever
    /// an operator of the fleet grants is granted: whose keys count was decided when the host
    /// was enrolled. With `ceiling: {}` only plugins that need nothing are run.
    pub ceiling: Option<Grants>,
    /// The servers, `http://HOST:PORT` each, the preferred one first: the others are for when it does
    /// not answer. They stand before one store and one bus. Read at the start only; `--join` goes first.
    #[schemars(length(max = 16))]
    pub servers: Vec<String>,
    /// In the same order, where the same servers take HTTP (their REST), for networks through which
    /// gRPC does not come; the same address where it is absent.
    #[schemars(length(max = 16))]
    pub servers_http: Vec<String>,
    /// How often collectors run that say nothing else.
    pub interval: Millis,
    /// How often it tells the server that it lives.
    pub heartbeat: Millis,
    /// The log.
    pub log: LogConfig,
    /// Its collectors.
    pub collectors: Vec<CollectorConfig>,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            id: None,
            labels: BTreeMap::new(),
            ceiling: None,
            servers: Vec::new(),
            servers_http: Vec::new(),
            interval: Millis(10_000),
            heartbeat: Millis(5_000),
            log: LogConfig::default(),
            collectors: Vec::new(),
        }
    }
}

/// How the log keeps records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// When records are brought to the disk.
    pub sync: SyncConfig,
    /// With `sync: interval`, how often.
    pub sync_interval: Millis,
    /// Bytes that the log may take; beyond, the oldest records that were not sent are dropped,
    /// counted and reported.
    #[schemars(range(min = 1_048_576))]
    pub max_bytes: u64,
    /// How long records wait for the server; those that are older are dropped, counted and reported,
    /// a segment of the log at a time, so at most an eighth of this later. Without it only
    /// `max_bytes` drops records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Millis>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            sync: SyncConfig::Always,
            sync_interval: Millis(1000),
            max_bytes: 1 << 30,
            max_age: None,
        }
    }
}

/// When records are brought to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SyncConfig {
    /// Before a record counts as kept: a power failure loses nothing that was.
    Always,
    /// At intervals: a power failure loses up to one of them.
    Interval,
    /// When the system does: a power failure loses up to half a minute or more.
    Never,
}

/// One collector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CollectorConfig {
    /// The slot's name.
    pub slot: SlotName,
    /// `publisher/name`, or with the versions that will do: `publisher/name@^1.2`.
    pub plugin: String,
    /// How often it runs; the agent's interval where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Millis>,
    /// Labels added to each of its samples, to tell two slots of one plugin apart.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The plugin's own configuration.
    #[serde(default = "empty_object")]
    pub config: serde_json::Value,
    /// What the plugin may do. What is not named is not allowed.
    #[serde(default)]
    pub grants: Grants,
}

fn empty_object() -> serde_json::Value {
    serde_json::json!({})
}

/// What is wrong with a configuration.
#[derive(Debug, Default)]
pub struct Findings {
    /// What keeps it from being used.
    pub problems: Vec<Problem>,
    /// Slots whose plugin is not there, or is refused: they do not run, and the rest does.
    pub unloadable: Vec<Unloadable>,
}

/// A slot whose plugin cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unloadable {
    /// Which.
    pub slot: SlotName,
    /// The plugin, as it is written.
    pub plugin: String,
    /// Why.
    pub problem: Problem,
}

/// Everything wrong with a configuration beyond its shape; `base` is the JSON Pointer of the
/// agent's part in the document.
pub async fn findings(
    config: &AgentConfig,
    document: &Document,
    base: &str,
    plugins: &dyn PluginSource,
) -> Findings {
    let mut found = Findings { problems: problems(config, document, base), ..Findings::default() };
    for (i, collector) in config.collectors.iter().enumerate() {
        let slot = (&collector.slot, &*collector.plugin, Kind::Collector, &collector.grants);
        found.plugin(document, &format!("{base}/collectors/{i}"), slot, plugins).await;
    }
    found
}

/// What is wrong whatever plugins there are.
fn problems(config: &AgentConfig, document: &Document, base: &str) -> Vec<Problem> {
    let mut out = Vec::new();
    let mut say = |path: String, message: String| out.push(document.problem(&path, message));
    if config.interval < MIN_INTERVAL {
        say(format!("{base}/interval"), format!("shorter than {MIN_INTERVAL}"));
    }
    if config.heartbeat < Millis(500) || config.heartbeat > Millis(300_000) {
        say(format!("{base}/heartbeat"), "not between 500ms and 5m".to_owned());
    }
    if config.log.max_age.is_some_and(|age| age < MIN_AGE) {
        say(format!("{base}/log/max_age"), format!("shorter than {MIN_AGE}"));
    }
    for (key, why) in label_problems(&config.labels) {
        let at = key.map(|key| format!("/{key}")).unwrap_or_default();
        say(format!("{base}/labels{at}"), why);
    }
    for problem in config.ceiling.iter().flat_map(Grants::problems) {
        say(format!("{base}/ceiling"), problem);
    }
    for (name, list) in [("servers", &config.servers), ("servers_http", &config.servers_http)] {
        if list.len() > MAX_SERVERS {
            say(format!("{base}/{name}"), format!("more than {MAX_SERVERS} servers"));
        }
    }
    if config.servers_http.len() > config.servers.len() && !config.servers.is_empty() {
        let text = "more addresses than `servers` has".to_owned();
        say(format!("{base}/servers_http"), text);
    }
    if config.collectors.len() > MAX_SLOTS {
        say(format!("{base}/collectors"), format!("more than {MAX_SLOTS} collectors"));
    }
    let mut names = BTreeSet::new();
    for (i, collector) in config.collectors.iter().enumerate() {
        let path = format!("{base}/collectors/{i}");
        if !names.insert(&collector.slot) {
            say(
                format!("{path}/slot"),
                format!("a slot named {} stands above already", collector.slot),
            );
        }
        if collector.interval.is_some_and(|interval| interval < MIN_INTERVAL) {
            say(format!("{path}/interval"), format!("shorter than {MIN_INTERVAL}"));
        }
        for (key, value) in &collector.labels {
            if let Err(error) = check_label_key(key) {
                say(format!("{path}/labels/{key}"), error.to_string());
            }
            if value.len() > MAX_SYMBOL {
                say(format!("{path}/labels/{key}"), format!("longer than {MAX_SYMBOL} bytes"));
            }
        }
    }
    out
}

impl Findings {
    /// Adds what is wrong with one slot's plugin, grants and configuration; `path` is the
    /// slot's.
    pub async fn plugin(
        &mut self,
        document: &Document,
        path: &str,
        (slot, plugin, kind, grants): (&SlotName, &str, Kind, &Grants),
        plugins: &dyn PluginSource,
    ) {
        let at_plugin = |message: String| document.problem(&format!("{path}/plugin"), message);
        let wanted = match plugin.parse::<PluginRange>() {
            Ok(wanted) => wanted,
            Err(error) => return self.problems.push(at_plugin(error.to_string())),
        };
        let component = match plugins.resolve(&wanted).await {
            Ok(component) => component,
            Err(error) => {
                let problem = at_plugin(error.to_string());
                let (slot, plugin) = (slot.clone(), plugin.to_owned());
                return self.unloadable.push(Unloadable { slot, plugin, problem });
            }
        };
        let manifest = component.manifest();
        if manifest.kind != kind {
            let found = manifest.kind;
            let text = format!("{plugin} is a {found}, a {kind} is needed here");
            return self.problems.push(at_plugin(text));
        }
        let at_grants = |message: String| document.problem(&format!("{path}/grants"), message);
        self.problems.extend(grants.problems().into_iter().map(at_grants));
        if let Err(missing) = effective(&manifest.requests, grants) {
            self.problems.push(at_grants(missing.to_string()));
        }
        let schema = serde_json::Value::Object(manifest.config_schema.clone());
        if let Err(found) = document.validate_part(&format!("{path}/config"), &schema) {
            self.problems.extend(found.0);
        }
    }
}
