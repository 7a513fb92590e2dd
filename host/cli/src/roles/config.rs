//! The configuration file of `up` and `agent`.

use super::bus::{BusPlace, NatsConfig};
use super::heartbeat::HeartbeatConfig;
use super::keys::KeysConfig;
use super::store::StorePlace;
use crate::client_tls::ClientTls;
use crate::logging::LogConfig;
use anyhow::{Context, Result};
use schemars::JsonSchema;
use sentinel_agent::AgentConfig;
use sentinel_agent::config::{Findings, Unloadable, findings};
use sentinel_model::document::{Document, Problem, Problems};
use sentinel_model::duration::Millis;
use sentinel_model::ids::SlotName;
use sentinel_registry_client::PluginSource;
use sentinel_server::access::jwt::JwtProvider;
use sentinel_server::rate::Limits;
use sentinel_server::{Listeners, TlsFiles};
use sentinel_trust::{Grants, Kind};
use sentinel_worker::config::WorkerConfig;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

mod loaded;
pub(crate) use loaded::Loaded;

/// Where a configuration lists slots, and of which kind their plugins are.
const SLOT_LISTS: [(&str, Kind); 4] = [
    ("/agent/collectors", Kind::Collector),
    ("/worker/transforms", Kind::Transform),
    ("/worker/evaluators", Kind::Evaluator),
    ("/worker/notifiers", Kind::Notifier),
];

/// What `up` writes where there is no configuration yet.
pub(crate) const DEFAULT: &str = include_str!("default.yaml");

/// What is said where something else changed that is read at the start only.
pub(super) const READ_AT_START: &str = "`keep`, `log`, `hosts`, `tls`, `auth`, `keys`, `limits`, `store`, `bus` and `nats` are read at the start only: restart to apply them";

/// A configuration file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigFile {
    /// Version of the format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub(crate) version: u32,
    /// Further `host:port` names under which the REST API may be called.
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
    /// The server's certificate, for both its listeners; without one it listens on loopback alone.
    #[serde(default)]
    pub(crate) tls: Option<TlsFiles>,
    /// Who may call the REST API, beside the holders of API tokens.
    #[serde(default)]
    pub(crate) auth: AuthConfig,
    /// How often agents and callers may ask each server.
    #[serde(default)]
    pub(crate) limits: Limits,
    /// Certificates of CAs (PEM) that an agent trusts for its server, in place of the system's.
    #[serde(default)]
    pub(crate) ca: Option<PathBuf>,
    /// Certificate (PEM) that an agent shows to a server that asks for one.
    #[serde(default)]
    pub(crate) client_cert: Option<PathBuf>,
    /// The key of that certificate (PEM).
    #[serde(default)]
    pub(crate) client_key: Option<PathBuf>,
    /// How the process logs.
    #[serde(default)]
    pub(crate) log: LogConfig,
    /// How long samples are kept.
    #[serde(default)]
    pub(crate) keep: KeepConfig,
    /// The keys of agents.
    #[serde(default)]
    pub(crate) keys: KeysConfig,
    /// Where everything is kept: `embedded`, or `postgres://USER@HOST/DATABASE`.
    #[serde(default)]
    pub(crate) store: StorePlace,
    /// The queue between servers and workers: `embedded`, or `nats://HOST:PORT`.
    #[serde(default)]
    pub(crate) bus: BusPlace,
    /// NATS, where the bus is there.
    #[serde(default)]
    pub(crate) nats: NatsConfig,
    /// Somebody outside who is told, while alerting works, that it does.
    #[serde(default)]
    pub(crate) heartbeat: Option<HeartbeatConfig>,
    /// The agent: collectors and the log.
    #[serde(default)]
    pub(crate) agent: AgentConfig,
    /// The worker: transforms, evaluators, notifiers.
    #[serde(default)]
    pub(crate) worker: WorkerConfig,
}

/// How long samples are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KeepConfig {
    /// Raw samples.
    pub(crate) raw: Millis,
    /// Hourly rollups.
    pub(crate) rollups: Millis,
}

impl Default for KeepConfig {
    fn default() -> Self {
        Self { raw: Millis(7 * 86_400_000), rollups: Millis(90 * 86_400_000) }
    }
}

/// Who may call the REST API.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AuthConfig {
    /// Whose tokens (JWT) are taken.
    pub(crate) jwt: Vec<JwtProvider>,
}

/// Which parts of a configuration are checked against the plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Agent and worker.
    Whole,
    /// The agent's alone.
    Agent,
    /// The worker's alone.
    Worker,
}

impl ConfigFile {
    /// What is read at the start only.
    pub(super) fn at_start(&self) -> impl PartialEq {
        let access = (&self.hosts, &self.tls, &self.auth, &self.limits, &self.keys);
        (&self.keep, &self.log, access, &self.store, &self.bus, &self.nats)
    }

    /// Whether workers of other processes may have the same bus and the same store.
    pub(super) fn may_have_other_workers(&self) -> bool {
        let is_bus_elsewhere = matches!(self.bus, BusPlace::Nats(_));
        is_bus_elsewhere && matches!(self.store, StorePlace::Postgres(_))
    }

    /// What an agent trusts and shows.
    pub(super) fn client_tls(self) -> ClientTls {
        let Self { ca, client_cert, client_key, .. } = self;
        ClientTls { ca, client_cert, client_key }
    }

    /// Every slot with its plugin, as it is written.
    fn plugins(&self) -> Vec<(&SlotName, &str)> {
        let agent = self.agent.collectors.iter().map(|one| (&one.slot, one.plugin.as_str()));
        let worker = &self.worker;
        let slots = worker.transforms.iter().chain(&worker.evaluators);
        let slots = slots.map(|one| (&one.slot, one.plugin.as_str()));
        let notifiers = worker.notifiers.iter().map(|one| (&one.slot, one.plugin.as_str()));
        agent.chain(slots).chain(notifiers).collect()
    }
}

/// What a file says, before it is known which plugins there are.
pub(crate) fn shape(path: &Path) -> Result<ConfigFile> {
    let text = text(path)?;
    let said = || said(path);
    let document = Document::parse(&path.display().to_string(), &text).with_context(said)?;
    let config: ConfigFile = document.read().with_context(said)?;
    Problems(own_problems(&config, &document)).into_result().with_context(said)?;
    Ok(config)
}

/// Writes the first configuration of a role to its own place, where there is none yet.
pub(super) fn begin_with(path: &Path, first: &str) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    std::fs::write(path, first).with_context(|| format!("{} cannot be written", path.display()))
}

/// Takes a server's addresses, before everything else is read and started. What is wrong with a
/// configuration is said later, with all else that is; except that TLS is in it.
pub(crate) async fn listeners(
    rest: SocketAddr,
    grpc: SocketAddr,
    config: Option<&Path>,
) -> Result<Listeners> {
    let tls = match config.filter(|file| file.exists()).map(shape) {
        None => None,
        Some(Ok(config)) => config.tls,
        Some(Err(_)) if rest.ip().is_loopback() && grpc.ip().is_loopback() => None,
        Some(Err(error)) => return Err(error),
    };
    Ok(Listeners::bind(rest, grpc, tls.as_ref()).await?)
}

fn own_problems(config: &ConfigFile, document: &Document) -> Vec<Problem> {
    let problem = |(path, message)| document.problem(&format!("/nats{path}"), message);
    let nats = config.nats.problems().into_iter().map(problem);
    nats.chain(config.keys.problems(document)).collect()
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path)
        .with_context(|| format!("the configuration {} cannot be read", path.display()))
}

/// A text as a configuration, and the slots whose plugins cannot be loaded. Where anything else
/// is wrong, all of it is said at once, those too.
async fn check(
    path: &Path,
    text: &str,
    part: Part,
    plugins: &dyn PluginSource,
) -> Result<(ConfigFile, Vec<Unloadable>)> {
    let said = || said(path);
    let document = Document::parse(&path.display().to_string(), text).with_context(said)?;
    let read = document.read::<ConfigFile>();
    let mut found = match &read {
        Ok(config) => sound(config, &document, part, plugins).await,
        Err(Problems(problems)) => {
            let mut found = well_formed_slots(&document, part, plugins).await;
            found.problems.extend(problems.iter().cloned());
            found
        }
    };
    if !found.problems.is_empty() {
        found.problems.extend(found.unloadable.drain(..).map(|one| one.problem));
        Problems(std::mem::take(&mut found.problems)).into_result().with_context(said)?;
    }
    Ok((read.with_context(said)?, found.unloadable))
}

/// What is wrong with a configuration whose shape is right.
async fn sound(
    config: &ConfigFile,
    document: &Document,
    part: Part,
    plugins: &dyn PluginSource,
) -> Findings {
    let mut found = match part {
        Part::Whole | Part::Agent => findings(&config.agent, document, "/agent", plugins).await,
        Part::Worker => Findings::default(),
    };
    found.problems.extend(own_problems(config, document));
    let limits = config.limits.problems().into_iter();
    let limits = limits.map(|(at, text)| document.problem(&format!("/limits{at}"), text));
    found.problems.extend(limits);
    let beats = config.heartbeat.iter().flat_map(HeartbeatConfig::problems);
    let beats = beats.map(|(at, text)| document.problem(&format!("/heartbeat{at}"), text));
    found.problems.extend(beats);
    if part != Part::Agent {
        worker_findings(&config.worker, document, plugins, &mut found).await;
    }
    found
}

/// What is wrong with the plugins of slots that have the right shape, where something else has
/// not: so that it is said in the same message.
async fn well_formed_slots(
    document: &Document,
    part: Part,
    plugins: &dyn PluginSource,
) -> Findings {
    let mut found = Findings::default();
    for (list, kind) in SLOT_LISTS {
        let elsewhere = match part {
            Part::Whole => false,
            Part::Agent => kind != Kind::Collector,
            Part::Worker => kind == Kind::Collector,
        };
        if elsewhere {
            continue;
        }
        let slots = document.value().pointer(list).and_then(Value::as_array);
        for (i, one) in slots.into_iter().flatten().enumerate() {
            let slot = one.get("slot").and_then(|slot| SlotName::deserialize(slot).ok());
            let plugin = one.get("plugin").and_then(Value::as_str);
            let grants =
                one.get("grants").map_or_else(|| Ok(Grants::default()), Grants::deserialize);
            if let (Some(slot), Some(plugin), Ok(grants)) = (slot, plugin, grants) {
                let path = format!("{list}/{i}");
                found.plugin(document, &path, (&slot, plugin, kind, &grants), plugins).await;
            }
        }
    }
    found
}

fn said(path: &Path) -> String {
    format!("the configuration {} cannot be used", path.display())
}

async fn worker_findings(
    config: &WorkerConfig,
    document: &Document,
    plugins: &dyn PluginSource,
    found: &mut Findings,
) {
    let problem = |(path, message)| document.problem(&format!("/worker{path}"), message);
    found.problems.extend(config.problems().into_iter().map(problem));
    let mut all = Vec::new();
    for (i, one) in config.transforms.iter().enumerate() {
        all.push(("transforms", i, &one.slot, &one.plugin, Kind::Transform, &one.grants));
    }
    for (i, one) in config.evaluators.iter().enumerate() {
        all.push(("evaluators", i, &one.slot, &one.plugin, Kind::Evaluator, &one.grants));
    }
    for (i, one) in config.notifiers.iter().enumerate() {
        all.push(("notifiers", i, &one.slot, &one.plugin, Kind::Notifier, &one.grants));
    }
    for (list, i, slot, plugin, kind, grants) in all {
        let path = format!("/worker/{list}/{i}");
        found.plugin(document, &path, (slot, plugin, kind, grants), plugins).await;
    }
}

#[cfg(test)]
mod tests;
