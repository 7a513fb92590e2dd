//! Where rules are tried out on this machine: a runtime for plugins, and the plugins.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use directories::ProjectDirs;
use sentinel_registry_client::{PluginSource, load_policies};
use sentinel_rule_tests::{Rig, SignedFolder};
use sentinel_runtime::{CompilerCommand, Runtime, RuntimeOptions};
use sentinel_worker::config::WorkerConfig;

use crate::commands::plugin::machine::Machine;
use crate::failure::{Failure, with_causes};
use crate::output::Printer;
use crate::roles::COMPILE_CHILD;
use crate::roles::config::shape;

/// Which plugins are used.
#[derive(Debug, Args)]
pub(super) struct Plugins {
    /// Folder of plugins, each with its signatures beside it; else those of the `sentinel up` of
    /// this user
    #[arg(long, value_name = "DIR", requires = "trust", conflicts_with = "data")]
    plugins: Option<PathBuf>,
    /// Trust policy that says whose plugins of the folder may run
    #[arg(long, value_name = "FILE", requires = "plugins")]
    trust: Vec<PathBuf>,
    #[command(flatten)]
    machine: Machine,
}

/// What a configuration says of workers; nothing where none is named.
pub(super) fn worker(config: Option<&Path>) -> Result<WorkerConfig, Failure> {
    let Some(file) = config else { return Ok(WorkerConfig::default()) };
    let read = shape(file).map_err(|error| Failure::new(with_causes(&error)).misused())?;
    Ok(read.worker)
}

/// A runtime and plugins for it.
pub(super) struct Lab {
    runtime: Arc<Runtime>,
    plugins: Arc<dyn PluginSource>,
}

impl Plugins {
    /// Starts a runtime, within a tokio runtime. Compiled code is kept in the user's cache.
    pub(super) fn open(&self, printer: &Printer) -> Result<Lab, Failure> {
        let plugins: Arc<dyn PluginSource> = match &self.plugins {
            Some(folder) => {
                if let Some(absent) = self.trust.iter().find(|path| !path.exists()) {
                    let said = format!("there is no trust policy {}", absent.display());
                    return Err(Failure::new(said).misused());
                }
                let folder = SignedFolder::open(folder, load_policies(&self.trust)?)
                    .map_err(|error| Failure::new(error.to_string()).misused())?;
                for (name, why) in folder.refused() {
                    printer.warn(&format!("{name} is not used: {why}"));
                }
                Arc::new(folder)
            }
            None => {
                let host = self.machine.open().map_err(|failure| Failure {
                    hint: Some(
                        "start `sentinel up`, or name plugins with --plugins DIR --trust FILE"
                            .to_owned(),
                    ),
                    ..failure.misused()
                })?;
                Arc::new(host.plugins)
            }
        };
        let cache = ProjectDirs::from("", "", "sentinel")
            .map_or_else(|| PathBuf::from(".sentinel-cache"), |dirs| dirs.cache_dir().to_owned());
        std::fs::create_dir_all(&cache)
            .map_err(|error| Failure::new(format!("{}: {error}", cache.display())))?;
        let compiler = CompilerCommand::this_program([COMPILE_CHILD])?;
        let options = RuntimeOptions::new(&cache, compiler, prometheus::Registry::new());
        Ok(Lab { runtime: Runtime::start(options)?, plugins })
    }
}

impl Lab {
    /// The evaluators of a worker, and none of its notifiers.
    pub(super) async fn evaluators(&self, config: &WorkerConfig) -> Result<Rig, Failure> {
        let evaluators = config.evaluators.clone();
        let mut rig = self.rig();
        rig.set_up(&WorkerConfig { evaluators, ..WorkerConfig::default() }).await?;
        Ok(rig)
    }

    /// Slots of their own over the one runtime.
    pub(super) fn rig(&self) -> Rig {
        Rig::new(Arc::clone(&self.runtime), Arc::clone(&self.plugins))
    }
}
