//! `sentinel up`: every role in one process, over the same code paths as apart.

mod attend;

pub(super) use attend::keep_only;
use attend::{attend, shut_down};

use super::apart::FLEET as WORKER_FLEET;
use super::bus;
use super::config::{DEFAULT, Loaded, Part, begin_with, listeners};
use super::connect::{Keys, Rules};
use super::data::{DataFolder, default_folder};
use super::heartbeat::{self, HeartbeatConfig};
use super::own::OwnAgent;
use super::own_registry::{Folders, OwnRegistry, Serving};
use super::sandbox::{Reach, Sandbox, SandboxArgs};
use super::store;
use super::{COMPILE_CHILD, StopSignal};
use crate::commands::fleet::operators_file;
use crate::commands::now;
use crate::logging;
use crate::running::{self, Running};
use anyhow::{Context, Result};
use clap::Args;
use prometheus::Registry;
use sentinel_agent::secrets::SecretStore;
use sentinel_agent::{Agent, AgentOptions, FLEET, IDENTITY, LinkTls, ServerAddress};
use sentinel_bus::Bus;
use sentinel_fleet::HostEnrolment;
use sentinel_registry_client::{
    FetchLimits, Freshness, HostOptions, HostPlugins, PluginSource, REFRESH, RegistryOptions,
};
use sentinel_registry_service::{Listener, Options};
use sentinel_runtime::{CompilerCommand, Runtime, RuntimeOptions};
use sentinel_server::access::jwt::Jwt;
use sentinel_server::enrolment::EnrolmentTokens;
use sentinel_server::keyring::KeyRing;
use sentinel_server::keywrap::KeyWrap;
use sentinel_server::{Listeners, Server, ServerOptions, ServerParts};
use sentinel_store::Store;
use sentinel_trust::fleet::Operators;
use sentinel_trust::repository::Enrolment;
use sentinel_worker::clock::{Clock, SystemClock};
use sentinel_worker::{FleetOptions, Worker, WorkerOptions, WorkerParts};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Run everything in one process.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Folder for everything that is kept [default: the user's data folder]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address of the REST API; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Address for agents (gRPC); port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:50051")]
    grpc: SocketAddr,
    /// Configuration [default: DIR/sentinel.yaml, made the first time]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the registry; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5000")]
    registry: SocketAddr,
    /// Folder of plugins that are published to the registry, now and whenever they change
    #[arg(long, value_name = "DIR")]
    plugins: Vec<PathBuf>,
    /// Secret key with which plugins of its publisher are published; the publisher is approved
    #[arg(long, value_name = "FILE")]
    publisher_key: Vec<PathBuf>,
    /// Who decides in the fleet, as `sentinel fleet init` printed it; else the owner of this folder
    #[arg(long, value_name = "FILE")]
    operators: Option<PathBuf>,
    #[command(flatten)]
    sandbox: SandboxArgs,
}

impl UpArgs {
    fn folder(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(default_folder)
    }

    /// Locks this process in, before it starts a thread.
    ///
    /// # Errors
    /// As [`SandboxArgs::enter`].
    pub(crate) fn enter_sandbox(&self) -> Result<Sandbox> {
        self.sandbox.enter(|| {
            let data = self.folder();
            // With TLS it serves itself on ports of their own.
            let listening = [self.listen, self.grpc, self.registry, ANY_PORT];
            let reach = Reach::of_role(&data)?.run_file().configuration(&self.configuration());
            let reach = reach.folders(&self.plugins).listening(listening);
            let reach = reach.files(self.publisher_key.iter().chain(&self.operators));
            Ok(reach.fleet(&data.join("agent").join(FLEET)).fleet(&data.join(WORKER_FLEET)))
        })
    }

    /// Its configuration, which may not be there yet.
    pub(crate) fn configuration(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| self.folder().join(CONFIG))
    }
}

/// The folder below the data folder with what this host has of the registry.
pub(crate) const INSTALLED: &str = "installed";

/// The configuration that it makes in its data folder.
const CONFIG: &str = "sentinel.yaml";
/// An address of which the system picks the port.
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The name of its worker.
const WORKER: &str = "local";

/// Everything that runs, in the order in which it was started.
struct Up {
    plugins: Plugins,
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    worker: Worker,
    server: Server,
    agent: Agent,
}

/// The registry, and the host's own plugins out of it.
struct Plugins {
    own: Arc<OwnRegistry>,
    serving: Serving,
    host: Arc<HostPlugins>,
    fresh: Freshness,
}

fn say(text: &str) {
    eprintln!("{text}");
}

/// Runs until it is asked to stop.
///
/// # Errors
/// Whatever keeps it from starting, in words that say what to do.
pub(crate) async fn run(args: UpArgs, sandbox: Sandbox) -> Result<()> {
    let sandbox = Arc::new(sandbox);
    let began = Instant::now();
    let data = DataFolder::open(&args.folder())?;
    let listeners =
        listeners(args.listen, args.grpc, Some(&args.configuration())).await?.with_own().await?;
    let options = Options::new(args.registry);
    let listener = Listener::bind(&options).await.context("the registry (--registry)")?;
    let mut folders = Folders::new(&args.plugins, &args.publisher_key)?;
    say(&format!("Starting on {} …", data.path().display()));
    let plugins = plugins(listener, options, &data, &mut folders).await?;
    let operators = match &args.operators {
        Some(file) => operators_file(file).map_err(|failure| anyhow::anyhow!(failure.message))?,
        None => plugins.own.operators()?,
    };
    let config = load_config(&args, &*plugins.host).await?;
    let secrets = Arc::new(SecretStore::open(data.path())?);
    let token = data.secret_text("api.token", fresh_token)?;
    let starting =
        start(listeners, &data, &config, plugins, operators, (&secrets, &sandbox), &token);
    let up = Box::pin(starting).await?;
    let mut stop = StopSignal::listen()?;
    let registered = running::write(&Running {
        server: up.server.addresses().own_rest_url(),
        grpc: up.server.addresses().own_grpc_url(),
        data: data.path().to_owned(),
        token_file: data.join("api.token"),
        pid: std::process::id(),
        registry: Some(up.plugins.serving.url()),
        enrolment: Some(up.plugins.own.enrolment_file()),
    });
    if let Err(error) = &registered {
        tracing::warn!(%error, "other commands will not find this server by themselves");
    }
    welcome(&up, &data, &config, began.elapsed());
    let beating = heartbeat(&up, config.config.heartbeat.clone());
    tokio::select! {
        () = attend(&up, config, &mut folders, (&sandbox, &mut stop)) => {}
        () = beating => {}
    }
    say("Stopping … (Ctrl-C again ends it at once)");
    if registered.is_ok() {
        running::remove();
    }
    let stopped = shut_down(up, &stop).await;
    say("Stopped. Nothing is lost: start again and it goes on where it was.");
    stopped
}

/// Tells somebody outside that alerting works; never ends.
async fn heartbeat(up: &Up, config: Option<HeartbeatConfig>) {
    if let Some(config) = config {
        heartbeat::beat(config, now, || up.worker.status()).await;
    }
    std::future::pending().await
}

/// Starts the registry, publishes the folders to it, and opens what the host has of it.
async fn plugins(
    listener: Listener,
    options: Options,
    data: &DataFolder,
    folders: &mut Folders,
) -> Result<Plugins> {
    let own = Arc::new(OwnRegistry::open_or_found(data.path()).await?);
    // What cannot be renewed or approved keeps nothing from running that is there.
    let approved = folders.approved();
    for approved in std::iter::once(&[][..]).chain(approved.chunks(1)) {
        if let Err(error) = own.tend(approved, now()).await {
            tracing::error!("the registry's metadata was not signed anew: {error:#}");
        }
    }
    let serving = own.serve(listener, options)?;
    let registry = RegistryOptions {
        url: serving.url().parse()?,
        folder: data.join(INSTALLED),
        ca: None,
        limits: FetchLimits::default(),
    };
    let options = HostOptions { registry, refresh: REFRESH, clock: Arc::new(now) };
    let host = Arc::new(HostPlugins::open(options, Some(&own.enrolment()?))?);
    publish(&own, &host, folders, true).await;
    let fresh = host.keep_fresh();
    Ok(Plugins { own, serving, host, fresh })
}

/// Publishes what is new in the folders, and moves this host up to it.
async fn publish(own: &OwnRegistry, host: &HostPlugins, folders: &mut Folders, at_start: bool) {
    let published = folders.publish(own, host.client(), at_start).await;
    match host.follow(&published).await {
        Ok(moved) => {
            for one in moved {
                tracing::info!(range = %one.range, version = %one.to.version, "follows what was published");
            }
        }
        Err(error) => tracing::error!(%error, "this host does not run what was published"),
    }
}

async fn load_config(args: &UpArgs, plugins: &dyn PluginSource) -> Result<Loaded> {
    let path = args.configuration();
    if args.config.is_none() {
        begin_with(&path, DEFAULT)?;
    }
    Loaded::read(&path, Part::Whole, plugins).await
}

pub(super) fn fresh_token() -> String {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    format!("sat_{}", hex::encode(bytes))
}

async fn start(
    listeners: Listeners,
    data: &DataFolder,
    config: &Loaded,
    plugins: Plugins,
    operators: Operators,
    (secrets, sandbox): (&Arc<SecretStore>, &Arc<Sandbox>),
    token: &str,
) -> Result<Up> {
    let registry = Registry::new();
    let clock = SystemClock;
    let store = store::open(&config.config, data).await?;
    let bus = bus::open(&config.config, data).await?;
    let compiler = CompilerCommand::this_program([COMPILE_CHILD])?;
    let runtime = Runtime::start(RuntimeOptions::new(data.path(), compiler, registry.clone()))?;
    let wrap = Arc::new(KeyWrap::open(&data.join("server.key"))?);

    let mut worker_options = WorkerOptions::new(WORKER, config.config.worker.clone());
    worker_options.forbidden_paths = vec![data.path().to_owned()];
    worker_options.link = listeners.addresses().rest_url();
    worker_options.shares = config.config.may_have_other_workers();
    let file = data.join(WORKER_FLEET);
    worker_options.fleet = Some(FleetOptions { operators: operators.clone(), file });
    let worker = Worker::start(
        worker_options,
        WorkerParts {
            store: Arc::clone(&store),
            bus: Arc::clone(&bus),
            runtime: Arc::clone(&runtime),
            plugins: Arc::clone(&plugins.host) as Arc<_>,
            keys: Arc::new(Keys(KeyRing::new(Arc::clone(&store), Arc::clone(&wrap)))),
            secrets: Arc::clone(secrets) as Arc<_>,
            clock: Arc::new(clock),
            metrics: registry.clone(),
        },
    )
    .await?;

    let tokens = Arc::new(EnrolmentTokens::new(Arc::clone(&store)));
    let own = OwnAgent {
        store: Arc::clone(&store),
        tokens: Arc::clone(&tokens),
        keys: KeyRing::new(Arc::clone(&store), Arc::clone(&wrap)),
    };
    let jwt = Jwt::open(&config.config.auth.jwt)?;
    let server = Server::start(
        ServerOptions {
            listeners,
            hosts: config.config.hosts.clone(),
            token: token.to_owned(),
            jwt,
            limits: config.config.limits,
        },
        ServerParts {
            store: Arc::clone(&store),
            bus: Arc::clone(&bus),
            wrap,
            tokens,
            operators: Some(operators.clone()),
            enrolment: Some(Arc::new(HostEnrolment::new(
                &plugins.serving.url(),
                operators.fleet,
                &Enrolment { operators: operators.keys.clone(), ..plugins.own.enrolment()? },
            )?)),
            rules: Arc::new(Rules(worker.checker())),
            rotation: config.config.keys.options(),
            registry: registry.clone(),
            clock: Arc::new(move || clock.now()),
        },
    )
    .await?;

    let agent_folder = data.join("agent");
    own.check(&agent_folder.join(IDENTITY)).await?;
    let (kept, walls) = (Arc::clone(secrets), Arc::clone(sandbox));
    let agent = Agent::start(AgentOptions {
        data: agent_folder,
        config: config.config.agent.clone(),
        servers: vec![ServerAddress { grpc: server.addresses().own_grpc_url(), http: None }],
        tls: LinkTls::default(),
        enrolment: Arc::new(own),
        runtime,
        plugins: Arc::clone(&plugins.host) as Arc<_>,
        operators: Some(operators),
        secrets: Arc::clone(secrets) as Arc<_>,
        warnings: Arc::new(move || kept.warning().into_iter().chain(walls.warnings()).collect()),
        forbidden: vec![data.path().to_owned()],
        listen: None,
        registry,
        lines: logging::lines(),
    })
    .await?;
    Ok(Up { plugins, store, bus, worker, server, agent })
}

fn welcome(up: &Up, data: &DataFolder, config: &Loaded, took: Duration) {
    let addresses = up.server.addresses();
    let rest = addresses.rest_url();
    let status = up.agent.status();
    for (slot, error) in &status.failed {
        say(&format!("warning: slot {slot} does not run: {error}"));
    }
    say(&format!(
        "
Sentinel is running ({} {}, up in {:.1} s).

  REST API   {rest}  (description: /openapi.json, health: /healthz, metrics: /metrics)
  agents     {}  (gRPC)
  registry   {}  (what it has and what runs: `sentinel plugin list`)
  config     {}  (read again when it changes)
  data       {}

Try next, in another terminal:

  sentinel status
  sentinel query 'system_cpu_time_seconds_total' --last 5m
  sentinel rules apply deploy/rules

Ctrl-C stops it.",
        status.slots.len(),
        if status.slots.len() == 1 { "collector" } else { "collectors" },
        took.as_secs_f64(),
        addresses.grpc_url(),
        up.plugins.serving.url(),
        config.path.display(),
        data.path().display(),
    ));
}
