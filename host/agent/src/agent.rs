//! The agent as a whole: started, configured anew while it runs, stopped.

use crate::collect::{self, Plan, Shared, ended};
use crate::config::{AgentConfig, CollectorConfig, SyncConfig};
use crate::enrol::{EnrolError, Identity};
use crate::export::{self, ExportParts, ExportStatus};
use crate::http;
use crate::link::{Link, LinkError};
use crate::metrics::Metrics;
use crate::state::{SlotStates, StateError};
use parking_lot::Mutex;
use prometheus::Registry;
use sentinel_model::ids::SlotName;
use sentinel_registry_client::{PluginError, PluginFolder, PluginRef};
use sentinel_runtime::{LoadError, Runtime, SecretSource, Services, Slot, SlotSpec, SlotStatus};
use sentinel_wal::{AtCap, Log, Options, SyncPolicy};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often the plugin folders are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How often a slot that could not be loaded is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A folder cannot be made.
    #[error("{path}: {source}", path = path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The log cannot be opened.
    #[error("the agent's log: {0}")]
    Log(#[from] sentinel_wal::Error),
    /// The state of slots cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// It is not enrolled.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The server's address is none.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Its own listener.
    #[error("the agent cannot listen on {address}: {why}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        why: String,
    },
    /// Two agents in one registry of metrics.
    #[error("the agent's metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// What an agent is started with.
pub struct AgentOptions {
    /// Its folder.
    pub data: PathBuf,
    /// What it runs.
    pub config: AgentConfig,
    /// Its server, `http://HOST:PORT`.
    pub server: String,
    /// For the enrolment, the first time.
    pub token: Option<String>,
    /// Runs plugins.
    pub runtime: Arc<Runtime>,
    /// Where plugins are.
    pub plugins: Arc<PluginFolder>,
    /// Secrets that grants may name.
    pub secrets: Arc<dyn SecretSource>,
    /// Warnings to show in `status`, asked at each heartbeat.
    pub warnings: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Folders that no plugin may read.
    pub forbidden: Vec<PathBuf>,
    /// Its own health and metrics; loopback only.
    pub listen: Option<SocketAddr>,
    /// Where its metrics are registered.
    pub registry: Registry,
}

/// What an agent says of itself.
#[derive(Debug, Clone, Serialize)]
pub struct AgentStatus {
    /// Whether the server answered last.
    pub connected: bool,
    /// Why it did not.
    pub last_error: Option<String>,
    /// The server's clock less this one's, in milliseconds.
    pub skew_ms: i64,
    /// Slots that run.
    pub slots: Vec<SlotStatus>,
    /// Slots that could not be loaded, and why.
    pub failed: BTreeMap<SlotName, String>,
}

struct Running {
    slot: Slot,
    digest: sentinel_trust::Digest,
    config: CollectorConfig,
    plan: watch::Sender<Plan>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Slots {
    running: BTreeMap<SlotName, Running>,
    failed: BTreeMap<SlotName, String>,
}

struct Inner {
    runtime: Arc<Runtime>,
    plugins: Arc<PluginFolder>,
    services: Services,
    shared: Arc<Shared>,
    config: watch::Sender<AgentConfig>,
    /// Set once, when no slot may be started any more.
    closing: AtomicBool,
    /// Held over a whole reconfiguration; `slots` only for moments.
    changing: tokio::sync::Mutex<()>,
    slots: Mutex<Slots>,
    export: Arc<Mutex<ExportStatus>>,
}

/// A running agent.
pub struct Agent {
    inner: Arc<Inner>,
    log: Arc<Log>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    listen: Option<SocketAddr>,
}

fn log_options(config: &AgentConfig) -> Options {
    let sync = match config.log.sync {
        SyncConfig::Always => SyncPolicy::Always,
        SyncConfig::Interval => SyncPolicy::Interval(config.log.sync_interval.std()),
        SyncConfig::Never => SyncPolicy::Never,
    };
    let segment = (config.log.max_bytes / 8).clamp(256 << 10, 16 << 20);
    Options {
        sync,
        max_bytes: config.log.max_bytes,
        segment_bytes: segment,
        at_cap: AtCap::DropOldest,
        ..Options::default()
    }
}

impl Agent {
    /// Starts: the log first, collectors next, the connection last, so that a server that
    /// does not answer costs no sample.
    ///
    /// # Errors
    /// [`AgentError`]. A slot that cannot be loaded is no error: it is in the status, and is
    /// tried again.
    pub async fn start(options: AgentOptions) -> Result<Self, AgentError> {
        let folder = |path: PathBuf| {
            std::fs::create_dir_all(&path)
                .map(|()| path.clone())
                .map_err(|source| AgentError::Folder { path, source })
        };
        let data = folder(options.data.clone())?;
        let identity_file = data.join("identity.json");
        if options.token.is_none() && Identity::load(&identity_file)?.is_none() {
            return Err(EnrolError::NoToken.into());
        }
        let link = Link::new(&options.server)?;
        let (log, recovery) = Log::open(&folder(data.join("log"))?, log_options(&options.config))?;
        tracing::info!(clean = recovery.clean, "log opened");
        let log = Arc::new(log);
        let states = Arc::new(SlotStates::open(&data.join("state.json"), &log)?);
        let metrics = Arc::new(Metrics::register(&options.registry)?);
        let services = Services {
            secrets: options.secrets,
            kv: Arc::clone(&states) as Arc<_>,
            forbidden_paths: options.forbidden,
            ..Services::none()
        };
        let shared = Shared {
            log: Arc::clone(&log),
            states: Arc::clone(&states),
            metrics: Arc::clone(&metrics),
        };
        let (config, config_seen) = watch::channel(options.config.clone());
        let inner = Arc::new(Inner {
            runtime: options.runtime,
            plugins: options.plugins,
            services,
            shared: Arc::new(shared),
            config,
            closing: AtomicBool::new(false),
            changing: tokio::sync::Mutex::default(),
            slots: Mutex::default(),
            export: Arc::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let mut tasks = Vec::new();
        let listen = match options.listen {
            Some(address) => {
                let (bound, task) =
                    serve(address, &inner, options.registry, stopped.clone()).await?;
                tasks.push(task);
                Some(bound)
            }
            None => None,
        };
        inner.configure().await;
        let parts = ExportParts {
            log: Arc::clone(&log),
            states,
            metrics,
            link,
            identity_file,
            dead: data.join("dead"),
            token: options.token,
            config: config_seen,
            status: Arc::clone(&inner.export),
            report: report(&inner, options.warnings),
        };
        tasks.push(tokio::spawn(export::run(parts, stopped.clone())));
        tasks.push(tokio::spawn(watch_plugins(Arc::clone(&inner), stopped)));
        Ok(Self { inner, log, stop, tasks, listen })
    }

    /// Where its own health and metrics are served.
    #[must_use]
    pub fn listen(&self) -> Option<SocketAddr> {
        self.listen
    }

    /// Goes over to another configuration: slots that are gone stop, new ones start, changed
    /// ones are swapped, the others do not notice. A slot whose new configuration fails keeps
    /// the old one and is in the status.
    pub async fn reconfigure(&self, config: AgentConfig) {
        self.inner.config.send_replace(config);
        self.inner.configure().await;
    }

    /// What it says of itself.
    #[must_use]
    pub fn status(&self) -> AgentStatus {
        self.inner.status()
    }

    /// Stops collectors, then sending, then closes the log.
    ///
    /// # Errors
    /// A log that cannot be closed cleanly; what was synced is safe all the same.
    pub async fn shutdown(self) -> Result<(), AgentError> {
        self.inner.closing.store(true, Ordering::SeqCst);
        let running = {
            // Whoever is bringing slots up is done with it before they are taken down.
            let _changing = self.inner.changing.lock().await;
            std::mem::take(&mut self.inner.slots.lock().running)
        };
        for one in running.values() {
            one.stop.send_replace(true);
        }
        for (_, one) in running {
            let _ = one.task.await;
            one.slot.stop().await;
        }
        self.stop.send_replace(true);
        for task in self.tasks {
            let _ = task.await;
        }
        self.log.close()?;
        Ok(())
    }
}

impl Inner {
    fn status(&self) -> AgentStatus {
        let export = self.export.lock().clone();
        let slots = self.slots.lock();
        AgentStatus {
            connected: export.connected,
            last_error: export.last_error,
            skew_ms: export.skew_ms,
            slots: slots.running.values().map(|one| one.slot.status()).collect(),
            failed: slots.failed.clone(),
        }
    }

    /// Makes the slots what the newest configuration says.
    async fn configure(&self) {
        let _changing = self.changing.lock().await;
        if self.closing.load(Ordering::SeqCst) {
            return;
        }
        self.enforce().await;
        let config = &self.config.borrow().clone();
        self.stop_those_gone(config).await;
        for wished in &config.collectors {
            let plan = Plan {
                interval: wished.interval.unwrap_or(config.interval).std(),
                labels: wished.labels.clone(),
            };
            let result = self.bring_up(wished, plan).await;
            let mut slots = self.slots.lock();
            match result {
                Ok(()) => drop(slots.failed.remove(&wished.slot)),
                Err(error) => {
                    let text = format!("{error:#}");
                    if slots.failed.get(&wished.slot) != Some(&text) {
                        tracing::error!(slot = %wished.slot, error = %text, "slot not loaded");
                    }
                    slots.failed.insert(wished.slot.clone(), text);
                }
            }
        }
    }

    /// Stops what the trust policy no longer admits. A policy that cannot be read lets nothing
    /// new in; what runs goes on under the last that could.
    async fn enforce(&self) {
        let folder = Arc::clone(&self.plugins);
        match tokio::task::spawn_blocking(move || folder.policy()).await {
            Ok(Ok(policy)) => drop(self.runtime.enforce(Arc::new(policy)).await),
            Ok(Err(error)) => {
                tracing::error!(%error, "no plugin is loaded until the trust policy can be read");
            }
            Err(error) => tracing::error!(%error, "the trust policy was not read"),
        }
    }

    async fn stop_those_gone(&self, config: &AgentConfig) {
        let wished = |slot: &SlotName| config.collectors.iter().any(|c| c.slot == *slot);
        let gone: Vec<Running> = {
            let mut slots = self.slots.lock();
            slots.failed.retain(|slot, _| wished(slot));
            let names: Vec<SlotName> =
                slots.running.keys().filter(|s| !wished(s)).cloned().collect();
            names.iter().filter_map(|name| slots.running.remove(name)).collect()
        };
        for one in gone {
            tracing::info!(slot = %one.config.slot, "slot removed");
            one.stop.send_replace(true);
            let _ = one.task.await;
            one.slot.stop().await;
        }
    }

    /// Starts, swaps or leaves alone one slot.
    async fn bring_up(&self, wished: &CollectorConfig, plan: Plan) -> Result<(), SlotError> {
        let wanted: PluginRef = wished.plugin.parse()?;
        let folder = Arc::clone(&self.plugins);
        let resolved = tokio::task::spawn_blocking(move || folder.resolve(&wanted)).await;
        let component = resolved.map_err(|e| SlotError::Gone(e.to_string()))??;
        let digest = component.digest();
        let spec = SlotSpec {
            name: wished.slot.clone(),
            component,
            config: wished.config.clone(),
            grants: wished.grants.clone(),
        };
        let known = self.slots.lock().running.get(&wished.slot).map(|one| {
            let same = !one.slot.is_empty()
                && one.digest == digest
                && one.config.config == wished.config
                && one.config.grants == wished.grants;
            one.plan.send_if_modified(|now| {
                let differs = *now != plan;
                *now = plan.clone();
                differs
            });
            (one.slot.clone(), same)
        });
        match known {
            Some((_, true)) => {}
            Some((slot, false)) => {
                let generation = slot.swap(spec).await?;
                tracing::info!(slot = %wished.slot, plugin = %wished.plugin, generation, "slot swapped");
                if let Some(one) = self.slots.lock().running.get_mut(&wished.slot) {
                    one.digest = digest;
                }
            }
            None => {
                let slot = Slot::start(&self.runtime, spec, self.services.clone()).await?;
                self.launch(slot, digest, wished, plan);
            }
        }
        if let Some(one) = self.slots.lock().running.get_mut(&wished.slot) {
            one.config = wished.clone();
        }
        Ok(())
    }

    fn launch(
        &self,
        slot: Slot,
        digest: sentinel_trust::Digest,
        config: &CollectorConfig,
        plan: Plan,
    ) {
        let (plan, planned) = watch::channel(plan);
        let (stop, stopped) = watch::channel(false);
        let task = collect::run(slot.clone(), Arc::clone(&self.shared), planned, stopped);
        let task = tokio::spawn(task);
        let running = Running { slot, digest, config: config.clone(), plan, stop, task };
        self.slots.lock().running.insert(config.slot.clone(), running);
    }
}

/// Why one slot does not run.
#[derive(Debug, thiserror::Error)]
enum SlotError {
    #[error(transparent)]
    Plugin(#[from] PluginError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the folder of plugins could not be read: {0}")]
    Gone(String),
}

/// Looks at the plugin folders, and again and again at slots that could not be loaded.
async fn watch_plugins(inner: Arc<Inner>, mut stop: watch::Receiver<bool>) {
    let mut seen = inner.plugins.change();
    let mut tried = tokio::time::Instant::now();
    loop {
        tokio::select! {
            () = ended(&mut stop) => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let folder = Arc::clone(&inner.plugins);
        let Ok(now) = tokio::task::spawn_blocking(move || folder.change()).await else { return };
        let again = !inner.slots.lock().failed.is_empty() && tried.elapsed() >= TRY_AGAIN;
        if now != seen || again {
            seen = now;
            tried = tokio::time::Instant::now();
            inner.configure().await;
        }
    }
}

fn report(
    inner: &Arc<Inner>,
    warnings: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
) -> export::Report {
    let inner = Arc::downgrade(inner);
    Arc::new(move || {
        let Some(inner) = inner.upgrade() else { return (Vec::new(), Vec::new()) };
        let status = inner.status();
        let slots = status.slots.iter().filter_map(|slot| serde_json::to_string(slot).ok());
        let mut all = warnings();
        all.extend(status.failed.iter().map(|(slot, error)| format!("slot {slot}: {error}")));
        (slots.collect(), all)
    })
}

async fn serve(
    address: SocketAddr,
    inner: &Arc<Inner>,
    registry: Registry,
    mut stop: watch::Receiver<bool>,
) -> Result<(SocketAddr, JoinHandle<()>), AgentError> {
    let refuse = |why: String| AgentError::Listen { address, why };
    if !address.ip().is_loopback() {
        return Err(refuse("it is not a loopback address and has no TLS".to_owned()));
    }
    let listener =
        tokio::net::TcpListener::bind(address).await.map_err(|e| refuse(e.to_string()))?;
    let bound = listener.local_addr().map_err(|e| refuse(e.to_string()))?;
    let source = Arc::clone(inner);
    let router = http::router(Arc::new(move || source.status()), registry);
    let served = axum::serve(listener, router).with_graceful_shutdown(async move {
        ended(&mut stop).await;
    });
    let task = tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(%error, "the agent's listener ended");
        }
    });
    Ok((bound, task))
}
