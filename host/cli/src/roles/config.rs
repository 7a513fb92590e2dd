//! The configuration file of `up` and `agent`.

use anyhow::{Context, Result};
use schemars::JsonSchema;
use sentinel_agent::AgentConfig;
use sentinel_agent::config::{plugin_problems, problems as agent_problems};
use sentinel_model::document::{Document, Problem, Problems};
use sentinel_model::duration::Millis;
use sentinel_registry_client::{Change, PluginFolder};
use sentinel_trust::Kind;
use sentinel_worker::config::WorkerConfig;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What `up` writes where there is no configuration yet.
pub(crate) const DEFAULT: &str = include_str!("default.yaml");

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
    /// How long samples are kept.
    #[serde(default)]
    pub(crate) keep: KeepConfig,
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

/// A configuration that was read, and how its file looked then.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) path: PathBuf,
    pub(crate) config: ConfigFile,
    stamp: Option<(u64, SystemTime)>,
    /// How the plugins looked when a change of the file was refused.
    refused: Option<Change>,
}

fn stamp(path: &Path) -> Option<(u64, SystemTime)> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.len(), meta.modified().ok()?))
}

/// Which parts of a configuration are checked against the plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Agent and worker.
    Whole,
    /// The agent's alone.
    Agent,
}

impl Loaded {
    /// Reads a file and finds everything that is wrong with it.
    pub(crate) fn read(path: &Path, part: Part, plugins: &PluginFolder) -> Result<Self> {
        let stamp = stamp(path);
        let text = fs::read_to_string(path)
            .with_context(|| format!("the configuration {} cannot be read", path.display()))?;
        let document = Document::parse(&path.display().to_string(), &text).context(said(path))?;
        let config: ConfigFile = document.read().context(said(path))?;
        let mut problems = agent_problems(&config.agent, &document, "/agent", plugins);
        if part == Part::Whole {
            problems.extend(worker_problems(&config.worker, &document, plugins));
        }
        Problems(problems).into_result().context(said(path))?;
        Ok(Self { path: path.to_owned(), config, stamp, refused: None })
    }

    /// Reads the file again where it looks otherwise. A change that is refused is not read
    /// again until the file, or a plugin, changes once more.
    pub(crate) fn again(&mut self, part: Part, plugins: &PluginFolder) -> Option<Result<Self>> {
        // Taken before reading: whoever writes meanwhile is noticed the next time.
        let looked = stamp(&self.path);
        let change = plugins.change();
        let retry = self.refused.is_some_and(|before| before != change);
        if looked == self.stamp && !retry {
            return None;
        }
        let fresh = Self::read(&self.path, part, plugins);
        if fresh.is_err() {
            self.stamp = looked;
            self.refused = Some(change);
        }
        Some(fresh)
    }
}

fn said(path: &Path) -> String {
    format!("the configuration {} cannot be used", path.display())
}

fn worker_problems(
    config: &WorkerConfig,
    document: &Document,
    plugins: &PluginFolder,
) -> Vec<Problem> {
    let mut out: Vec<Problem> = config
        .problems()
        .into_iter()
        .map(|(path, message)| document.problem(&format!("/worker{path}"), message))
        .collect();
    let mut check = |list: &str, i: usize, plugin: &str, kind, grants| {
        let path = format!("/worker/{list}/{i}");
        out.extend(plugin_problems(document, &path, (plugin, kind, grants), plugins));
    };
    for (i, one) in config.transforms.iter().enumerate() {
        check("transforms", i, &one.plugin, Kind::Transform, &one.grants);
    }
    for (i, one) in config.evaluators.iter().enumerate() {
        check("evaluators", i, &one.plugin, Kind::Evaluator, &one.grants);
    }
    for (i, one) in config.notifiers.iter().enumerate() {
        check("notifiers", i, &one.plugin, Kind::Notifier, &one.grants);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_configuration_has_the_right_shape() {
        let document = Document::parse("default.yaml", DEFAULT).unwrap();
        let config: ConfigFile = document.read().unwrap();
        assert_eq!(config.agent.collectors.len(), 1);
        assert_eq!(config.worker.evaluators.len(), 1);
    }
}
