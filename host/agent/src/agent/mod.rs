//! The agent as a whole: started, configured anew while it runs, stopped.

mod failed;
mod fleet;
mod serving;
mod slots;

use crate::collect::{Shared, ended};
use crate::config::{AgentConfig, SyncConfig};
use crate::control::{self, Control};
use crate::enrol::{EnrolError, Enrolment, Identity};
use crate::export::{self, ExportParts, Said};
use crate::fleet::{FleetStream, labels, place};
use crate::lines::Lines;
use crate::link::{LinkError, LinkTls};
use crate::metrics::Metrics;
use crate::servers::{ServerAddress, Servers};
use crate::state::{SlotStates, StateError};
use fleet::{FleetSlots, Keeper};
use parking_lot::Mutex;
use prometheus::Registry;
use sentinel_fleet::{Follower, FollowerParts, Handle, MemoryError};
use sentinel_model::duration::Millis;
use sentinel_model::ids::SlotName;
use sentinel_registry_client::PluginSource;
use sentinel_runtime::confine::Confined;
use sentinel_runtime::{Runtime, SecretSource, Services, SlotStatus};
use sentinel_trust::Digest;
use sentinel_trust::fleet::{HostReport, Operators};
use sentinel_wal::{AtCap, Log, Options, SyncPolicy};
use serde::Serialize;
use serving::{dropped, serve};
use slots::{Inner, watch_plugins};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// The file of an agent's identity, in its folder.
pub const IDENTITY: &str = "identity.json";
/// The file of what an agent knows of its fleet, in its folder.
pub const FLEET: &str = "fleet.json";

/// The most commands to send at once that wait for their turn.
const MAX_FORCED: usize = 8;

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
    /// What it knows of its fleet cannot be believed.
    #[error(transparent)]
    Fleet(#[from] MemoryError),
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
    /// Its servers, the preferred one first.
    pub servers: Vec<ServerAddress>,
    /// Whom to trust for them.
    pub tls: LinkTls,
    /// For the enrolment, the first time.
    pub enrolment: Arc<dyn Enrolment>,
    /// Runs plugins.
    pub runtime: Arc<Runtime>,
    /// Where plugins come from.
    pub plugins: Arc<dyn PluginSource>,
    /// Who decides what the fleet runs here; nobody where it is absent.
    pub operators: Option<Operators>,
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
    /// What the process logs, for commands that ask.
    pub lines: Lines,
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
    /// Why the log takes no samples, if so.
    pub log_error: Option<String>,
    /// How its process is locked in.
    pub sandbox: Confined,
    /// Slots that run.
    pub slots: Vec<SlotStatus>,
    /// Slots that could not be loaded, and why.
    pub failed: BTreeMap<SlotName, String>,
    /// What became of the fleet's desired set; absent where the agent belongs to no fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fleet: Option<HostReport>,
}

/// A running agent.
pub struct Agent {
    inner: Arc<Inner>,
    log: Arc<Log>,
    fleet: Option<Handle>,
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
        max_age: config.log.max_age.map(Millis::std),
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
        let data = folder(options.data.clone())?;
        let identity_file = data.join(IDENTITY);
        let identity = Identity::load(&identity_file)?;
        if identity.is_none() && !options.enrolment.is_possible() {
            return Err(EnrolError::NoToken.into());
        }
        let follower = match &options.operators {
            Some(operators) => Some(Follower::open(data.join(FLEET), operators)?),
            None => None,
        };
        let link = Servers::new(&options.servers, &options.tls)?;
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
        let (identity, enrolled) = watch::channel(identity);
        let shared = Shared {
            log: Arc::clone(&log),
            states: Arc::clone(&states),
            metrics: Arc::clone(&metrics),
            order: tokio::sync::RwLock::default(),
            enrolled: enrolled.clone(),
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
            fleet: Mutex::new(FleetSlots::default()),
            fleet_report: OnceLock::new(),
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
        let (force, forced) = mpsc::channel(MAX_FORCED);
        let source = Arc::clone(&inner);
        let asked = Control {
            log: Arc::clone(&log),
            status: Arc::new(move || source.status()),
            force,
            lines: options.lines,
        };
        let mut ending = stopped.clone();
        tasks.extend(control::serve(&data, asked, async move { ended(&mut ending).await }));
        let fleet = follower.map(|it| follow(it, &inner, link.clone(), enrolled.clone()));
        let parts = ExportParts {
            log: Arc::clone(&log),
            states,
            metrics,
            link,
            identity_file,
            identity,
            dead: data.join("dead"),
            enrolment: options.enrolment,
            config: config_seen,
            status: Arc::clone(&inner.export),
            report: report(&inner, enrolled, options.warnings),
            force: forced,
            clock: export::system_clock(),
        };
        tasks.push(tokio::spawn(export::run(parts, stopped.clone())));
        tasks.push(tokio::spawn(watch_plugins(Arc::clone(&inner), stopped)));
        Ok(Self { inner, log, fleet, stop, tasks, listen })
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
        if let Some(fleet) = &self.fleet {
            let config = self.inner.config.borrow().clone();
            fleet.place(|now| {
                let id = now.labels.get("agent").cloned();
                *now = place(&config, id.as_deref());
            });
        }
    }

    /// What it says of itself.
    #[must_use]
    pub fn status(&self) -> AgentStatus {
        self.inner.status()
    }

    /// What it may come to run of its fleet, by digest.
    #[must_use]
    pub fn needs(&self) -> BTreeSet<Digest> {
        self.fleet.as_ref().map(Handle::needs).unwrap_or_default()
    }

    /// Stops collectors, then sending, then closes the log.
    ///
    /// # Errors
    /// A log that cannot be closed cleanly; what was synced is safe all the same.
    pub async fn shutdown(self) -> Result<(), AgentError> {
        if let Some(fleet) = self.fleet {
            fleet.stop().await;
        }
        self.inner.stop().await;
        self.stop.send_replace(true);
        for task in self.tasks {
            let _ = task.await;
        }
        self.log.close()?;
        Ok(())
    }
}

fn folder(path: PathBuf) -> Result<PathBuf, AgentError> {
    match std::fs::create_dir_all(&path) {
        Ok(()) => Ok(path),
        Err(source) => Err(AgentError::Folder { path, source }),
    }
}

/// Begins with the last good set of the fleet, and follows what the server brings.
fn follow(
    follower: Follower,
    inner: &Arc<Inner>,
    link: Servers,
    enrolled: watch::Receiver<Option<Identity>>,
) -> Handle {
    let id = enrolled.borrow().as_ref().map(|identity| identity.id.to_string());
    let place = place(&inner.config.borrow(), id.as_deref());
    let carrier = FleetStream {
        link,
        identity: enrolled.clone(),
        export: Arc::clone(&inner.export),
        clock: export::system_clock(),
        held: None,
    };
    let parts = FollowerParts {
        carrier: Box::new(carrier),
        plugins: Arc::clone(&inner.plugins),
        keeper: Arc::new(Keeper(Arc::clone(inner))),
    };
    let handle = follower.start(parts, place);
    let _ = inner.fleet_report.set(handle.reports());
    let placing = handle.placing();
    tokio::spawn(async move {
        let mut enrolled = enrolled;
        // One that never is enrolled ends with whoever would enrol it.
        let Ok(identity) = enrolled.wait_for(Option::is_some).await else { return };
        let id = identity.as_ref().map(|identity| identity.id.to_string());
        placing.change(|now| now.labels.extend(id.map(|id| ("agent".to_owned(), id))));
    });
    handle
}

fn report(
    inner: &Arc<Inner>,
    enrolled: watch::Receiver<Option<Identity>>,
    warnings: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
) -> export::Report {
    let inner = Arc::downgrade(inner);
    Arc::new(move || {
        let Some(inner) = inner.upgrade() else { return Said::default() };
        let status = inner.status();
        let slots = status.slots.iter().filter_map(|slot| serde_json::to_string(slot).ok());
        let mut slots: Vec<String> = slots.collect();
        let mut all: Vec<String> = status.log_error.iter().cloned().collect();
        all.extend(dropped(inner.shared.log.stats().dropped_records));
        all.extend(warnings());
        let runs = |slot: &SlotName| status.slots.iter().any(|one| one.name == *slot);
        let (rows, old) = failed::said(&status.failed, runs, &inner.config.borrow().collectors);
        slots.extend(rows);
        all.extend(old);
        let id = enrolled.borrow().as_ref().map(|identity| identity.id.to_string());
        Said {
            slots,
            warnings: all,
            fleet: status.fleet.and_then(|it| serde_json::to_string(&it).ok()).unwrap_or_default(),
            labels: labels(&inner.config.borrow(), id.as_deref()),
        }
    })
}
