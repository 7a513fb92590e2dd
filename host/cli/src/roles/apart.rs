//! What `sentinel server` and `sentinel worker` have in common: a store and a bus that are
//! elsewhere, plugins out of the registry, and the key with which agents' keys are wrapped.

use super::bus::nats;
use super::config::{Loaded, Part};
use super::data::{DataFolder, default_folder};
use super::sandbox::{Reach, Sandbox, SandboxArgs};
use super::store;
use super::up::{INSTALLED, keep_only};
use super::{COMPILE_CHILD, StopSignal};
use crate::commands::fleet::operators_file;
use crate::commands::now;
use crate::failure::with_causes;
use crate::files;
use anyhow::{Context, Result, bail};
use clap::Args;
use prometheus::Registry;
use sentinel_bus::jetstream::JetStreamBus;
use sentinel_registry_client::{
    FetchLimits, HostOptions, HostPlugins, PluginSource as _, REFRESH, RegistryOptions,
};
use sentinel_runtime::{CompilerCommand, Runtime, RuntimeOptions};
use sentinel_server::keywrap::KeyWrap;
use sentinel_store::Store;
use sentinel_trust::Digest;
use sentinel_trust::fleet::Operators;
use sentinel_trust::repository::{Enrolment, MAX_ENROLMENT_BYTES};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Most bytes of a file of certificates.
const MAX_CA_BYTES: usize = 1 << 20;
/// How often the configuration and the plugins are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Options of a role that runs apart from the others.
#[derive(Debug, Args)]
pub(crate) struct ApartArgs {
    /// Configuration: `store`, `bus` and the part `worker` are used
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// Folder for what this process keeps [default: the user's data folder, and the role in it]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The key with which agents' keys are wrapped: the same file for every server and worker
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The registry that plugins are installed from
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:5000")]
    pub(super) registry: Url,
    /// What hosts of that registry are given, needed the first time: the file that `sentinel
    /// registry enrolment` writes, or `registry/enrolment.json` of an `up`
    #[arg(long, value_name = "FILE")]
    enrolment: Option<PathBuf>,
    /// Certificates (PEM) that are trusted for the registry beside the system's
    #[arg(long, value_name = "FILE")]
    registry_ca: Option<PathBuf>,
    /// Who decides in the fleet, as `sentinel fleet init` printed it
    #[arg(long, value_name = "FILE")]
    operators: Option<PathBuf>,
    #[command(flatten)]
    sandbox: SandboxArgs,
}

/// What such a role works with.
pub(super) struct Apart {
    pub(super) data: DataFolder,
    pub(super) config: Loaded,
    pub(super) store: Arc<dyn Store>,
    pub(super) bus: Arc<JetStreamBus>,
    pub(super) plugins: Arc<HostPlugins>,
    pub(super) wrap: Arc<KeyWrap>,
    pub(super) operators: Option<Operators>,
    pub(super) enrolment: Option<Enrolment>,
    pub(super) runtime: Arc<Runtime>,
    pub(super) metrics: Registry,
}

impl ApartArgs {
    fn folder(&self, role: &str) -> PathBuf {
        self.data.clone().unwrap_or_else(|| default_folder().join(role))
    }

    /// Locks this process in, before it starts a thread. `makes_key` as for [`open`](Self::open).
    pub(super) fn enter_sandbox(
        &self,
        role: &str,
        makes_key: bool,
        listening: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<Sandbox> {
        self.sandbox.enter(|| {
            let data = self.folder(role);
            let reach = Reach::of_role(&data)?.configuration(&self.config);
            if makes_key && !self.key.exists() {
                // Its folder is not written to later.
                KeyWrap::open(&self.key)?;
            }
            let files = [&self.enrolment, &self.registry_ca, &self.operators];
            let reach = reach.files(files.into_iter().flatten().chain([&self.key]));
            Ok(reach.fleet(&data.join(FLEET)).listening(listening))
        })
    }

    /// Opens everything. `makes_key`: where there is no key yet, it is made.
    pub(super) async fn open(&self, role: &str, makes_key: bool) -> Result<Apart> {
        let data = DataFolder::open(&self.folder(role))?;
        if !makes_key && !self.key.exists() {
            bail!(
                "there is no key in {}: copy the one that the first server made (--key)",
                self.key.display()
            );
        }
        let wrap = Arc::new(KeyWrap::open(&self.key)?);
        let enrolment =
            self.enrolment.as_ref().map(|file| self.read_enrolment(file)).transpose()?;
        let plugins = Arc::new(self.plugins(&data, enrolment.as_ref())?);
        let config = Loaded::read(&self.config, Part::Worker, &*plugins).await?;
        let operators = self.operators.as_ref().map(|file| operators_file(file));
        let operators =
            operators.transpose().map_err(|failure| anyhow::Error::msg(failure.message))?;
        let store = store::shared(&config.config).await?;
        let bus = Arc::new(JetStreamBus::connect(nats(&config.config)?).await?);
        let metrics = Registry::new();
        let compiler = CompilerCommand::this_program([COMPILE_CHILD])?;
        let options = RuntimeOptions::new(data.path(), compiler, metrics.clone());
        let runtime = Runtime::start(options)?;
        Ok(Apart {
            data,
            config,
            store,
            bus,
            plugins,
            wrap,
            operators,
            enrolment,
            runtime,
            metrics,
        })
    }

    fn read_enrolment(&self, file: &Path) -> Result<Enrolment> {
        let json = files::read(file, MAX_ENROLMENT_BYTES);
        let json = json.map_err(|failure| anyhow::Error::msg(failure.message))?;
        Enrolment::from_json(&json).with_context(|| format!("{} is no enrolment", file.display()))
    }

    fn plugins(&self, data: &DataFolder, enrolment: Option<&Enrolment>) -> Result<HostPlugins> {
        let read = |file: &PathBuf| {
            files::read(file, MAX_CA_BYTES).map_err(|failure| anyhow::Error::msg(failure.message))
        };
        let registry = RegistryOptions {
            url: self.registry.clone(),
            folder: data.join(INSTALLED),
            ca: self.registry_ca.as_ref().map(read).transpose()?,
            limits: FetchLimits::default(),
        };
        let options = HostOptions { registry, refresh: REFRESH, clock: Arc::new(now) };
        HostPlugins::open(options, enrolment).context("plugins cannot be installed here")
    }
}

/// The file of what a worker knows of its fleet, in its folder.
pub(super) const FLEET: &str = "worker.fleet";

/// What is to be done next.
pub(super) enum Next {
    /// Stop.
    Stop,
    /// Apply this configuration, or the same one since plugins changed.
    Apply,
}

/// Waits until there is something to do. The configuration is the new one then. Meanwhile
/// plugins go that are neither pinned nor among what `needs` says.
pub(super) async fn next(
    config: &mut Loaded,
    plugins: &HostPlugins,
    needs: impl Fn() -> BTreeSet<Digest>,
    (sandbox, stop): (&Sandbox, &mut StopSignal),
) -> Next {
    let mut changes = plugins.changes();
    changes.mark_unchanged();
    loop {
        tokio::select! {
            () = stop.asked() => return Next::Stop,
            () = tokio::time::sleep(LOOK) => {}
        }
        keep_only(plugins, &needs()).await;
        match config.again(Part::Worker, plugins).await {
            None => {}
            Some(Ok(fresh)) => {
                if fresh.config.at_start() != config.config.at_start() {
                    tracing::warn!("{}", super::config::READ_AT_START);
                }
                sandbox.follow(&fresh.config);
                *config = fresh;
                return Next::Apply;
            }
            Some(Err(error)) => tracing::error!(
                "{}; the configuration before it stays in force",
                with_causes(&error)
            ),
        }
        if changes.has_changed().unwrap_or(false) {
            return Next::Apply;
        }
    }
}
