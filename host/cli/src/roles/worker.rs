//! `sentinel worker`: a worker alone, over a bus and a store that are elsewhere.
//!
//! Several may be started: they share the partitions of the bus, and one of them keeps alerts. Each has a name and a
//! data folder of its own.

use super::StopSignal;
use super::apart::{Apart, ApartArgs, FLEET, Next, next};
use super::connect::Keys;
use super::health::Health;
use super::heartbeat;
use super::sandbox::Sandbox;
use crate::commands::now;
use anyhow::{Context, Result};
use clap::Args;
use sentinel_agent::secrets::SecretStore;
use sentinel_bus::Bus as _;
use sentinel_server::keyring::KeyRing;
use sentinel_worker::clock::SystemClock;
use sentinel_worker::{FleetOptions, Worker, WorkerOptions, WorkerParts};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// The name of its data folder, unless another is given.
const ROLE: &str = "worker";

/// Run a worker alone.
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    #[command(flatten)]
    apart: ApartArgs,
    /// Its name, under which its status is shown; each worker has another
    #[arg(long, value_name = "NAME", default_value = "worker")]
    name: String,
    /// Where people reach the server's REST API, for links in notifications
    #[arg(long, value_name = "URL", default_value = "")]
    link: String,
    /// Serve the worker's own health and metrics here (loopback)
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

impl WorkerArgs {
    /// Its configuration.
    pub(crate) fn configuration(&self) -> PathBuf {
        self.apart.config.clone()
    }

    /// Locks this process in, before it starts a thread.
    ///
    /// # Errors
    /// As [`SandboxArgs::enter`](super::sandbox::SandboxArgs::enter).
    pub(crate) fn enter_sandbox(&self) -> Result<Sandbox> {
        self.apart.enter_sandbox(ROLE, false, self.listen)
    }
}

/// Runs until it is asked to stop.
///
/// # Errors
/// Whatever keeps it from starting, in words that say what to do.
pub(crate) async fn run(args: WorkerArgs, sandbox: Sandbox) -> Result<()> {
    let mut stop = StopSignal::listen()?;
    let mut apart = args.apart.open(ROLE, false).await?;
    let fresh = apart.plugins.keep_fresh();
    let health = Health::serve(args.listen, apart.metrics.clone()).await?;
    let worker = start(&args, &apart).await?;
    eprintln!("The worker {} is running. Ctrl-C stops it.", args.name);
    let heartbeat = apart.config.config.heartbeat.clone();
    let attended = async {
        let beats = async {
            if let Some(config) = heartbeat {
                heartbeat::beat(config, now, || worker.status()).await;
            }
        };
        tokio::join!(beats, health.follow(|| worker.status()));
    };
    let mut attended = Box::pin(attended);
    loop {
        let next = tokio::select! {
            () = &mut attended => continue,
            next = next(&mut apart.config, &apart.plugins, || worker.needs(), (&sandbox, &mut stop)) => next,
        };
        match next {
            Next::Stop => break,
            Next::Apply => match worker.reconfigure(apart.config.config.worker.clone()).await {
                Ok(problems) => {
                    for (slot, problem) in problems {
                        tracing::error!(%slot, problem, "slot not as configured");
                    }
                }
                Err(error) => tracing::error!(%error, "the worker stays as it was"),
            },
        }
    }
    drop(attended);
    health.stopping();
    stop.doing("the worker was storing samples and ending notifications");
    worker.shutdown().await;
    stop.doing("the bus and the database were being closed");
    let closed = apart.bus.close().await;
    let store = apart.store.close().await;
    fresh.stop().await;
    health.stop().await;
    closed.context("the bus did not close cleanly")?;
    store.context("the database did not close cleanly")
}

async fn start(args: &WorkerArgs, apart: &Apart) -> Result<Worker> {
    let mut options = WorkerOptions::new(&args.name, apart.config.config.worker.clone());
    options.forbidden_paths = vec![apart.data.path().to_owned()];
    options.link.clone_from(&args.link);
    options.shares = true;
    if let Some(operators) = &apart.operators {
        let file = apart.data.join(FLEET);
        options.fleet = Some(FleetOptions { operators: operators.clone(), file });
    }
    let keys = KeyRing::new(Arc::clone(&apart.store), Arc::clone(&apart.wrap));
    let parts = WorkerParts {
        store: Arc::clone(&apart.store),
        bus: Arc::clone(&apart.bus) as Arc<_>,
        runtime: Arc::clone(&apart.runtime),
        plugins: Arc::clone(&apart.plugins) as Arc<_>,
        keys: Arc::new(Keys(keys)),
        secrets: Arc::new(SecretStore::open(apart.data.path())?),
        clock: Arc::new(SystemClock),
        metrics: apart.metrics.clone(),
    };
    Worker::start(options, parts).await.context("the worker does not start")
}
