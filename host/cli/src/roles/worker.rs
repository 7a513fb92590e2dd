//! `sentinel worker`: a worker alone, over a bus and a store that are elsewhere.
//!
//! Several may be started: one works, and the others stand by until its hold on the work ends.

use super::StopSignal;
use super::apart::{Apart, ApartArgs, Next, next};
use super::connect::Keys;
use anyhow::{Context, Result};
use clap::Args;
use sentinel_agent::secrets::SecretStore;
use sentinel_bus::Bus as _;
use sentinel_server::keyring::KeyRing;
use sentinel_worker::clock::SystemClock;
use sentinel_worker::{FleetOptions, Worker, WorkerOptions, WorkerParts};
use std::sync::Arc;

/// What one worker has at a time.
const WORK: &str = "worker";

/// Run a worker alone.
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    #[command(flatten)]
    apart: ApartArgs,
    /// Its name, under which its status is shown
    #[arg(long, value_name = "NAME", default_value = "worker")]
    name: String,
    /// Where people reach the server's REST API, for links in notifications
    #[arg(long, value_name = "URL", default_value = "")]
    link: String,
}

/// Runs until it is asked to stop.
///
/// # Errors
/// Whatever keeps it from starting, in words that say what to do; that another worker has its
/// work.
pub(crate) async fn run(args: WorkerArgs) -> Result<()> {
    let mut stop = StopSignal::listen()?;
    let mut apart = args.apart.open(WORK, false).await?;
    let fresh = apart.plugins.keep_fresh();
    eprintln!("The worker {} waits for its turn …", args.name);
    let mut hold = tokio::select! {
        () = stop.asked() => return Ok(()),
        hold = apart.bus.hold(WORK) => hold?,
    };
    let worker = start(&args, &apart).await?;
    eprintln!("The worker {} is running. Ctrl-C stops it.", args.name);
    let ended = loop {
        let next = tokio::select! {
            () = hold.lost() => break Err(anyhow::anyhow!("another worker may have taken over: this one was not heard of for too long")),
            next = next(&mut apart.config, &apart.plugins, || worker.needs(), &mut stop) => next,
        };
        match next {
            Next::Stop => break Ok(()),
            Next::Apply => match worker.reconfigure(apart.config.config.worker.clone()).await {
                Ok(problems) => {
                    for (slot, problem) in problems {
                        tracing::error!(%slot, problem, "slot not as configured");
                    }
                }
                Err(error) => tracing::error!(%error, "the worker stays as it was"),
            },
        }
    };
    stop.doing("the worker was storing samples and ending notifications");
    worker.shutdown().await;
    let released = if ended.is_ok() { hold.release().await } else { Ok(()) };
    if let Err(error) = released {
        tracing::warn!(%error, "the next worker begins a little later");
    }
    stop.doing("the bus and the database were being closed");
    let closed = apart.bus.close().await;
    let store = apart.store.close().await;
    fresh.stop().await;
    ended?;
    closed.context("the bus did not close cleanly")?;
    store.context("the database did not close cleanly")
}

async fn start(args: &WorkerArgs, apart: &Apart) -> Result<Worker> {
    let mut options = WorkerOptions::new(&args.name, apart.config.config.worker.clone());
    options.forbidden_paths = vec![apart.data.path().to_owned()];
    options.link.clone_from(&args.link);
    if let Some(operators) = &apart.operators {
        let file = apart.data.join("worker.fleet");
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
