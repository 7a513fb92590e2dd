//! A configuration file that is followed while it changes.

use super::{ConfigFile, Part, check, said, text};
use anyhow::{Context, Result};
use sentinel_agent::config::Unloadable;
use sentinel_model::document::Problems;
use sentinel_registry_client::PluginSource;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// After how long a change that was refused is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(30);

/// A configuration that was read, and how its file looked then.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) path: PathBuf,
    pub(crate) config: ConfigFile,
    /// The text that is in force.
    text: String,
    /// How the file looked when that was read, or a change of it was refused.
    stamp: Option<Stamp>,
    /// How the file looked at the last look, where it has changed since `stamp`.
    changing: Option<Option<Stamp>>,
    /// The last change of the file, where it was refused.
    refused: Option<Refused>,
}

/// A change of the file that was refused.
#[derive(Debug, Clone)]
struct Refused {
    /// Changes of plugins that there had been.
    change: u64,
    at: Instant,
    /// What is wrong.
    why: String,
}

/// What tells one content of a file from another: which file, its length, and when it was
/// written.
type Stamp = (u64, u64, SystemTime);

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.ino(), meta.len(), meta.modified().ok()?))
}

impl Loaded {
    /// Reads a file at the start and finds everything that is wrong with it. Slots whose plugin
    /// cannot be loaded are no reason not to start: they are warned of, and start when it can.
    pub(crate) async fn read(path: &Path, part: Part, plugins: &dyn PluginSource) -> Result<Self> {
        let stamp = stamp(path);
        let text = text(path)?;
        let (config, unloadable) = check(path, &text, part, plugins).await?;
        for one in unloadable {
            tracing::warn!(slot = %one.slot, "{}; the slot does not run until its plugin can be loaded", one.problem);
        }
        // The first look reads it once more: it may have been written to in the same moment.
        let path = path.to_owned();
        Ok(Self { path, config, text, stamp, changing: Some(stamp), refused: None })
    }

    /// Reads the file again where it looks otherwise, and has not changed since the last look:
    /// a file that is being written may read well and be half of what is meant. A change that
    /// is refused is tried again when the file, or a plugin, changes once more, and at times: a
    /// plugin may have been out of reach for a moment. It is said again where something else is wrong.
    pub(crate) async fn again(
        &mut self,
        part: Part,
        plugins: &dyn PluginSource,
    ) -> Option<Result<Self>> {
        let looked = stamp(&self.path);
        let change = *plugins.changes().borrow();
        let retry = |before: &Refused| before.change != change || before.at.elapsed() >= RETRY;
        let retry = self.refused.as_ref().is_some_and(retry);
        if self.changing != Some(looked) {
            self.changing = (looked != self.stamp || retry).then_some(looked);
            return None;
        }
        self.changing = None;
        let same_plugins = |before: &Refused| before.change == change;
        let is_new = looked != self.stamp || !self.refused.as_ref().is_some_and(same_plugins);
        let fresh = self.read_again(part, plugins, looked).await;
        match &fresh {
            Ok(None) => (self.stamp, self.refused) = (looked, None),
            Ok(Some(_)) => {}
            Err(error) => {
                self.stamp = looked;
                let why = format!("{error:#}");
                let is_known = !is_new && self.refused.as_ref().is_some_and(|one| one.why == why);
                self.refused = Some(Refused { change, at: Instant::now(), why });
                if is_known {
                    return None;
                }
            }
        }
        fresh.transpose()
    }

    /// The file's content, unless it is the one that is in force. A slot whose plugin cannot be
    /// loaded refuses it, unless it is as it was.
    async fn read_again(
        &self,
        part: Part,
        plugins: &dyn PluginSource,
        looked: Option<Stamp>,
    ) -> Result<Option<Self>> {
        let text = text(&self.path)?;
        if text == self.text {
            return Ok(None);
        }
        let (config, unloadable) = check(&self.path, &text, part, plugins).await?;
        let before = self.config.plugins();
        let new = |one: &Unloadable| !before.contains(&(&one.slot, one.plugin.as_str()));
        let problems = unloadable.into_iter().filter(new).map(|one| one.problem).collect();
        Problems(problems).into_result().with_context(|| said(&self.path))?;
        let path = self.path.clone();
        Ok(Some(Self { path, config, text, stamp: looked, changing: None, refused: None }))
    }
}
