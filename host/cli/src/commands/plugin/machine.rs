//! The host on this machine whose plugins a command is about.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use sentinel_registry_client::{FetchLimits, HostOptions, HostPlugins, REFRESH, RegistryOptions};

use crate::commands::now;
use crate::failure::Failure;
use crate::roles::data::default_folder;
use crate::roles::up::INSTALLED;
use crate::running::{self, Running};

/// Which host.
#[derive(Debug, Default, Args)]
pub(in crate::commands) struct Machine {
    /// Data folder of the `sentinel up` or `sentinel agent`; else of the `up` that runs
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Where the registry of a host is whose `up` does not run.
const REGISTRY: &str = "http://127.0.0.1:5000";

/// The host that is meant.
pub(in crate::commands) struct Host {
    pub(in crate::commands) plugins: HostPlugins,
    /// Its data folder.
    pub(in crate::commands) data: PathBuf,
    /// The `up` that runs on it now.
    pub(in crate::commands) running: Option<Running>,
}

impl Machine {
    /// Opens what the host has of its registry.
    pub(in crate::commands) fn open(&self) -> Result<Host, Failure> {
        let running = running::read()?;
        let data = match (&self.data, &running) {
            (Some(data), _) => data.canonicalize().unwrap_or_else(|_| data.clone()),
            (None, Some(running)) => running.data.clone(),
            (None, None) => default_folder(),
        };
        let running = running.filter(|running| running.data == data);
        let folder = data.join(INSTALLED);
        if !folder.join("trusted").exists() {
            return Err(Failure::new(format!("no host keeps plugins in {}", data.display()))
                .hint("start `sentinel up`, or name its data folder with --data"));
        }
        let url = running.as_ref().and_then(|running| running.registry.as_deref());
        let url = url.unwrap_or(REGISTRY).parse()?;
        let registry = RegistryOptions { url, folder, ca: None, limits: FetchLimits::default() };
        let options = HostOptions { registry, refresh: REFRESH, clock: Arc::new(now) };
        Ok(Host { plugins: HostPlugins::open(options, None)?, data, running })
    }
}
