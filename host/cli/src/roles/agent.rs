//! `sentinel agent`: collectors and the log, for a server elsewhere.

use super::config::{ConfigFile, Loaded, Part, begin_with, shape};
use super::data::{DataFolder, default_folder};
use super::join::{self, Beginning, Said};
use super::sandbox::{Reach, Sandbox, SandboxArgs};
use super::up::{INSTALLED, keep_only};
use super::{COMPILE_CHILD, StopSignal, memory};
use crate::client_tls::ClientTls;
use crate::commands::now;
use crate::commands::reach::MAX_CA_BYTES;
use crate::failure::with_causes;
use crate::files;
use crate::logging;
use anyhow::{Context, Result};
use clap::Args;
use prometheus::Registry;
use sentinel_agent::enrol::GivenToken;
use sentinel_agent::secrets::SecretStore;
use sentinel_agent::{Agent, AgentConfig, AgentOptions, FLEET, ServerAddress};
use sentinel_registry_client::{FetchLimits, HostOptions, HostPlugins, REFRESH, RegistryOptions};
use sentinel_runtime::{CompilerCommand, Runtime, RuntimeOptions};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use url::Url;
use zeroize::Zeroizing;

/// Where agents send that were told nothing.
const DEFAULT_SERVER: &str = "http://127.0.0.1:50051";
/// Its own configuration, in its data folder, and what is in it at first.
const CONFIG: &str = "agent.yaml";
const DEFAULT: &str = include_str!("agent.yaml");
const LOOK: Duration = Duration::from_secs(2);
/// Looks after a start or a new configuration until what only those needed is given back, and
/// until what the first look at the registry needed is.
const SETTLED: [u32; 2] = [3, 15];
/// Looks after which what only something rare needed is given back: a question for its status,
/// a new connection.
const RARE: u32 = 300;

/// A secret of the command line.
#[derive(Clone)]
pub(crate) struct GivenText(Zeroizing<String>);

impl std::fmt::Debug for GivenText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(a secret)")
    }
}

impl std::str::FromStr for GivenText {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(Zeroizing::new(text.trim().to_owned())))
    }
}

/// Run an agent alone.
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    /// Folder for everything that is kept [default: the user's data folder, `agent`]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The server's address for agents; of several the first is preferred, and the others are for
    /// when it does not answer [default: `agent.servers`, else http://127.0.0.1:50051]
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    join: Vec<String>,
    /// In the same order, where the same servers take HTTP (their REST), for networks through which
    /// gRPC does not come [default: `agent.servers_http`, else the same addresses]
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    join_http: Vec<String>,
    /// An enrolment token, needed the first time. Who may list this machine's processes sees it here,
    /// and not in the variable or with --token-file
    #[arg(long, value_name = "TOKEN", env = "SENTINEL_ENROLMENT_TOKEN", hide_env_values = true)]
    token: Option<GivenText>,
    /// File with an enrolment token
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// Enrol without a token, the first time: shows a code that an admin approves on the server
    #[arg(long, conflicts_with_all = ["token", "token_file"])]
    claim: bool,
    /// Configuration: the part `agent` is used [default: DIR/agent.yaml, made the first time]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The registry that plugins are installed from [default: the one that the enrolment names]
    #[arg(long, value_name = "URL")]
    registry: Option<Url>,
    /// What hosts of that registry are given, where the token promises nothing: the file that
    /// `sentinel registry enrolment` writes, or `registry/enrolment.json` of an `up`
    #[arg(long, value_name = "FILE")]
    enrolment: Option<PathBuf>,
    /// Who decides in its fleet, as `sentinel fleet operators` prints it, at each start [default:
    /// whom the token promised; nobody where it promises nothing]
    #[arg(long, value_name = "FILE")]
    operators: Option<PathBuf>,
    /// Certificates (PEM) that are trusted for the registry beside the system's
    #[arg(long, value_name = "FILE")]
    registry_ca: Option<PathBuf>,
    /// Serve the agent's own health and metrics here (loopback)
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    sandbox: SandboxArgs,
}

impl AgentArgs {
    /// Its configuration, which may not be there yet.
    pub(crate) fn configuration(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| self.folder().join(CONFIG))
    }

    /// The same, with the first one made where nobody names another.
    fn configured(&self) -> Result<PathBuf> {
        let path = self.configuration();
        if self.config.is_none() {
            begin_with(&path, DEFAULT)?;
        }
        Ok(path)
    }

    /// What it enrols with.
    fn enrolment_token(&self, data: &DataFolder) -> Result<Option<Zeroizing<String>>> {
        if self.claim {
            return join::claimed(data);
        }
        match &self.token {
            Some(given) => Ok(Some(given.0.clone())),
            None => self.token_file.as_deref().map(join::token).transpose(),
        }
    }

    fn folder(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| default_folder().join("agent"))
    }

    /// Locks this process in, before it starts a thread.
    ///
    /// # Errors
    /// As [`SandboxArgs::enter`].
    pub(crate) fn enter_sandbox(&self, tls: &ClientTls) -> Result<Sandbox> {
        self.sandbox.enter(|| {
            let own = [&self.token_file, &self.enrolment, &self.operators, &self.registry_ca];
            let tls = [&tls.ca, &tls.client_cert, &tls.client_key];
            let reach = Reach::of_role(&self.folder())?.configuration(&self.configuration());
            let reach = reach.files(own.into_iter().chain(tls).flatten());
            Ok(reach.fleet(&self.folder().join(FLEET)).listening(self.listen))
        })
    }
}

/// Runs until it is asked to stop.
///
/// # Errors
/// Whatever keeps it from starting, in words that say what to do.
pub(crate) async fn run(args: AgentArgs, tls: ClientTls, sandbox: Sandbox) -> Result<()> {
    let sandbox = Arc::new(sandbox);
    let data = DataFolder::open(&args.folder())?;
    let mut stop = StopSignal::listen()?;
    let token = args.enrolment_token(&data)?;
    let file = args.configured()?;
    // Where the file is wrong, that is said below with all that is.
    let shaped = shape(&file).ok();
    let servers = servers(&args, shaped.as_ref().map(|config| &config.agent));
    let configured = shaped.map(ConfigFile::client_tls).unwrap_or_default();
    let tls = tls.or(configured).read();
    let tls = tls.map_err(|failure| anyhow::Error::msg(failure.message))?;
    let said = Said {
        config: &file,
        servers: &servers,
        tls: &tls,
        registry: args.registry.as_ref(),
        enrolment: args.enrolment.as_ref(),
        operators: args.operators.as_ref(),
        token: token.as_ref(),
    };
    let Some(beginning) = join::begin(&data, &said, &mut stop).await? else { return Ok(()) };
    let operators = beginning.operators.clone();
    let plugins = Arc::new(plugins(&args, &data, beginning)?);
    let fresh = plugins.keep_fresh();
    let mut config = Loaded::read(&file, Part::Agent, &*plugins).await?;
    let secrets = Arc::new(SecretStore::open(data.path())?);
    let registry = Registry::new();
    let compiler = CompilerCommand::this_program([COMPILE_CHILD])?;
    let runtime = Runtime::start(RuntimeOptions::new(data.path(), compiler, registry.clone()))?;
    let (kept, walls) = (Arc::clone(&secrets), Arc::clone(&sandbox));
    let agent = Agent::start(AgentOptions {
        data: data.path().to_owned(),
        config: config.config.agent.clone(),
        servers: servers.clone(),
        tls: tls.clone(),
        enrolment: Arc::new(GivenToken(token)),
        runtime,
        plugins: Arc::clone(&plugins) as Arc<_>,
        operators,
        secrets: Arc::clone(&secrets) as Arc<_>,
        warnings: Arc::new(move || kept.warning().into_iter().chain(walls.warnings()).collect()),
        forbidden: vec![data.path().to_owned()],
        listen: args.listen,
        registry,
        lines: logging::lines(),
    })
    .await?;
    eprintln!(
        "The agent is running on {}; it sends to {}. Ctrl-C stops it.",
        data.path().display(),
        servers.iter().map(|one| &*one.grpc).collect::<Vec<_>>().join(", else to ")
    );
    if let Some(address) = agent.listen() {
        eprintln!("Its health and metrics: http://{address}/healthz, /ready, /metrics, /status");
    }
    let mut looks: u32 = 0;
    loop {
        tokio::select! {
            () = stop.asked() => break,
            () = tokio::time::sleep(LOOK) => {}
        }
        looks = looks.saturating_add(1);
        if SETTLED.contains(&looks) || looks.is_multiple_of(RARE) {
            memory::give_back();
        }
        keep_only(&plugins, &agent.needs()).await;
        match config.again(Part::Agent, &*plugins).await {
            None => {}
            Some(Ok(fresh)) => {
                sandbox.follow(&fresh.config);
                agent.reconfigure(fresh.config.agent.clone()).await;
                config = fresh;
                looks = 0;
            }
            Some(Err(error)) => {
                tracing::error!(
                    "{}; the configuration before it stays in force",
                    with_causes(&error)
                );
            }
        }
    }
    stop.doing("the agent was ending its collectors and closing its log");
    let stopped = agent.shutdown().await;
    fresh.stop().await;
    stopped.context("the agent did not stop cleanly")
}

/// Where it sends: what the command line says, else the configuration, else this machine.
fn servers(args: &AgentArgs, config: Option<&AgentConfig>) -> Vec<ServerAddress> {
    let said = |list: &[String], configured: Option<&Vec<String>>| {
        if list.is_empty() { configured.cloned().unwrap_or_default() } else { list.to_owned() }
    };
    let mut grpc = said(&args.join, config.map(|config| &config.servers));
    if grpc.is_empty() {
        grpc.push(DEFAULT_SERVER.to_owned());
    }
    ServerAddress::list(&grpc, &said(&args.join_http, config.map(|config| &config.servers_http)))
}

/// What this host has of its registry, which is asked nothing here: what was installed before
/// starts first, and without it.
fn plugins(args: &AgentArgs, data: &DataFolder, beginning: Beginning) -> Result<HostPlugins> {
    let read = |file: &PathBuf| {
        files::read(file, MAX_CA_BYTES).map_err(|failure| anyhow::Error::msg(failure.message))
    };
    let registry = RegistryOptions {
        url: beginning.registry,
        folder: data.join(INSTALLED),
        ca: args.registry_ca.as_ref().map(read).transpose()?,
        limits: FetchLimits::default(),
    };
    let options = HostOptions { registry, refresh: REFRESH, clock: Arc::new(now) };
    let plugins = HostPlugins::open(options, beginning.enrolment.as_ref());
    plugins.context("plugins cannot be installed here")
}
