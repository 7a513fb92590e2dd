//! `sentinel server`: a server alone, over a bus and a store that are elsewhere. Any number may
//! run beside each other.

use super::StopSignal;
use super::apart::{Apart, ApartArgs, Next, next};
use super::config::listeners;
use super::evaluators::{Checks, Evaluators};
use super::sandbox::Sandbox;
use super::up::fresh_token;
use anyhow::{Context, Result};
use clap::Args;
use sentinel_bus::Bus as _;
use sentinel_fleet::HostEnrolment;
use sentinel_server::access::jwt::Jwt;
use sentinel_server::enrolment::EnrolmentTokens;
use sentinel_server::{Listeners, Server, ServerOptions, ServerParts};
use sentinel_trust::repository::Enrolment;
use sentinel_worker::clock::{Clock, SystemClock};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// The name of its data folder, unless another is given.
const ROLE: &str = "server";

/// Run a server alone.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    apart: ApartArgs,
    /// Address of the REST API; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Address for agents (gRPC); port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:50051")]
    grpc: SocketAddr,
}

impl ServerArgs {
    /// Its configuration.
    pub(crate) fn configuration(&self) -> PathBuf {
        self.apart.config.clone()
    }

    /// Locks this process in, before it starts a thread.
    ///
    /// # Errors
    /// As [`SandboxArgs::enter`](super::sandbox::SandboxArgs::enter).
    pub(crate) fn enter_sandbox(&self) -> Result<Sandbox> {
        self.apart.enter_sandbox(ROLE, true, [self.listen, self.grpc])
    }
}

/// Runs until it is asked to stop.
///
/// # Errors
/// Whatever keeps it from starting, in words that say what to do.
pub(crate) async fn run(args: ServerArgs, sandbox: Sandbox) -> Result<()> {
    let mut stop = StopSignal::listen()?;
    let listeners = listeners(args.listen, args.grpc, Some(args.apart.config.as_path())).await?;
    let mut apart = args.apart.open(ROLE, true).await?;
    let fresh = apart.plugins.keep_fresh();
    let evaluators = Evaluators::start(&apart).await?;
    let token = apart.data.secret_text("api.token", fresh_token)?;
    let server = start(&args, &apart, listeners, token, &evaluators).await?;
    eprintln!(
        "The server is running: REST on {}, agents on {}; its token lies in {}. Ctrl-C stops it.",
        server.addresses().rest_url(),
        server.addresses().grpc_url(),
        apart.data.join("api.token").display()
    );
    loop {
        let next = next(&mut apart.config, &apart.plugins, BTreeSet::new, (&sandbox, &mut stop));
        let Next::Apply = next.await else { break };
        evaluators.apply(&apart.config.config.worker).await;
    }
    stop.doing("the server was ending requests");
    server.shutdown().await;
    evaluators.stop().await;
    stop.doing("the bus and the database were being closed");
    let closed = apart.bus.close().await;
    let store = apart.store.close().await;
    fresh.stop().await;
    closed.context("the bus did not close cleanly")?;
    store.context("the database did not close cleanly")
}

async fn start(
    args: &ServerArgs,
    apart: &Apart,
    listeners: Listeners,
    token: String,
    evaluators: &Arc<Evaluators>,
) -> Result<Server> {
    let promised = match (&apart.operators, &apart.enrolment) {
        (Some(operators), Some(enrolment)) => Some(Arc::new(HostEnrolment::new(
            args.apart.registry.as_str(),
            operators.fleet,
            &Enrolment { operators: operators.keys.clone(), ..enrolment.clone() },
        )?)),
        _ => None,
    };
    let parts = ServerParts {
        store: Arc::clone(&apart.store),
        bus: Arc::clone(&apart.bus) as Arc<_>,
        wrap: Arc::clone(&apart.wrap),
        tokens: Arc::new(EnrolmentTokens::new(Arc::clone(&apart.store))),
        operators: apart.operators.clone(),
        enrolment: promised,
        rules: Arc::new(Checks(Arc::clone(evaluators))),
        rotation: apart.config.config.keys.options(),
        registry: apart.metrics.clone(),
        clock: Arc::new(move || SystemClock.now()),
    };
    let jwt = Jwt::open(&apart.config.config.auth.jwt)?;
    let hosts = apart.config.config.hosts.clone();
    let limits = apart.config.config.limits;
    Ok(Server::start(ServerOptions { listeners, hosts, token, jwt, limits }, parts).await?)
}
