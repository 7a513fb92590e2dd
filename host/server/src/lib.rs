//! The server: takes what agents send, answers what people ask.
//!
//! Composition root, thin: it verifies and passes on (gRPC → bus), and reads and shows
//! (store → REST). Invariants: keeps no sample and no alert itself; knows no plugin and no
//! rule's meaning (it asks a [`RuleChecker`]); two servers over one store and one bus are one
//! server to everybody else.

pub mod access;
pub mod api;
pub mod code;
mod crowd;
pub mod enrolment;
pub mod fleet;
pub mod ingest;
pub mod keyring;
pub mod keywrap;
mod listen;
pub mod metrics;
pub mod rate;
pub mod replay;
pub mod rest;
pub mod rotation;
pub mod rules;
mod serving;
mod tls;

use access::Access;
use access::jwt::Jwt;
use enrolment::EnrolmentTokens;
use fleet::FleetBoard;
use ingest::{Clock, IngestService, Streams};
use keyring::KeyRing;
use keywrap::KeyWrap;
pub use listen::{Addresses, Listeners, Peer};
use prometheus::Registry;
use rate::{Limits, Rates};
use rotation::{Rotation, RotationOptions};
pub use rules::{RuleChecker, RuleDiagnostic, RuleRead, RuleVerdict};
use sentinel_bus::Bus;
use sentinel_fleet::HostEnrolment;
use sentinel_store::Store;
use sentinel_trust::fleet::Operators;
use sentinel_wire::envelope::MAX_PUSH;
use sentinel_wire::v1::ingest_server::IngestServer;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
pub use tls::{TlsError, TlsFiles};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

/// The most requests that one gRPC connection may have under way.
const MAX_GRPC_CONCURRENCY: usize = 32;
/// The most gRPC requests that are worked on at once, over all connections; more are refused.
const MAX_GRPC: usize = 1024;
/// The longest a gRPC request may take.
const GRPC_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a silent connection is tried, and how long an answer may take.
const GRPC_PING: Duration = Duration::from_secs(20);
/// How long requests under way are waited for at shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// Where a server listens and what it is called.
pub struct ServerOptions {
    /// Where it listens.
    pub listeners: Listeners,
    /// Further `host:port` names under which REST may be called.
    pub hosts: Vec<String>,
    /// The owner's API token.
    pub token: String,
    /// Whose tokens are believed beside those of the store.
    pub jwt: Jwt,
    /// How often may be asked.
    pub limits: Limits,
}

/// What a server works with.
pub struct ServerParts {
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// Where records go.
    pub bus: Arc<dyn Bus>,
    /// Wraps agent keys.
    pub wrap: Arc<KeyWrap>,
    /// Who may enrol.
    pub tokens: Arc<EnrolmentTokens>,
    /// Who decides what the fleet runs; nobody where it is absent.
    pub operators: Option<Operators>,
    /// What hosts that enrol here begin with, if it is known; their tokens promise it.
    pub enrolment: Option<Arc<HostEnrolment>>,
    /// Who knows rules.
    pub rules: Arc<dyn RuleChecker>,
    /// When keys of agents are replaced.
    pub rotation: RotationOptions,
    /// What is served at `/metrics`.
    pub registry: Registry,
    /// Unix milliseconds.
    pub clock: Clock,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is one that others can reach, and the connection would be readable to them.
    #[error(
        "{0} is not a loopback address, and this listener has no TLS: give it a certificate (`tls` in the configuration), or listen on 127.0.0.1"
    )]
    NotLoopback(SocketAddr),
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}; choose another address with {option}, or port 0 for a free one{}", taken(.source)
    )]
    Listen {
        /// The option that chooses the address.
        option: &'static str,
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The certificate does not serve.
    #[error("TLS (`tls` in the configuration): {0}")]
    Tls(#[source] TlsError),
    /// Metrics of the same name are registered already.
    #[error("the server's metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A running server.
pub struct Server {
    addresses: Addresses,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    accepting: JoinSet<()>,
}

fn taken(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            " (`sentinel status` says whether it is another Sentinel of yours that has it)"
        }
        _ => "",
    }
}

fn stopped(stop: &watch::Sender<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut receiver = stop.subscribe();
    async move {
        // An error means that the sender is gone, which is a stop too.
        let _ = receiver.wait_for(|stop| *stop).await;
    }
}

impl Server {
    /// Serves until [`Server::shutdown`].
    ///
    /// # Errors
    /// Metrics that are registered already.
    pub async fn start(options: ServerOptions, parts: ServerParts) -> Result<Self, ServerError> {
        let addresses = options.listeners.addresses();
        let metrics = Arc::new(metrics::Metrics::register(&parts.registry)?);
        let keys = Arc::new(KeyRing::new(Arc::clone(&parts.store), Arc::clone(&parts.wrap)));
        let rates = Arc::new(Rates::new(&options.limits, (parts.clock)()));
        let (stop, _) = watch::channel(false);
        let fleet = FleetBoard::new(Arc::clone(&parts.store), parts.operators);

        let rotation = Arc::new(Rotation {
            store: Arc::clone(&parts.store),
            wrap: Arc::clone(&parts.wrap),
            keys: Arc::clone(&keys),
            clock: Arc::clone(&parts.clock),
            options: parts.rotation,
        });
        let ingest = Arc::new(IngestService {
            store: Arc::clone(&parts.store),
            bus: Arc::clone(&parts.bus),
            keys: Arc::clone(&keys),
            rotation: Arc::clone(&rotation),
            wrap: parts.wrap,
            tokens: Arc::clone(&parts.tokens),
            replay: parking_lot::Mutex::default(),
            streams: Streams::new(Arc::clone(&parts.store)),
            metrics: Arc::clone(&metrics),
            clock: Arc::clone(&parts.clock),
            rates: Arc::clone(&rates),
            fleet: Arc::clone(&fleet),
            enrolment: parts.enrolment.clone(),
            stop: stop.subscribe(),
        });
        let service = IngestServer::from_arc(Arc::clone(&ingest))
            .max_decoding_message_size(MAX_PUSH + (1 << 20));
        let (rest, grpc, accepting) = options.listeners.accept(&options.limits, &metrics, &stop);
        let grpc_served = tonic::transport::Server::builder()
            .layer(
                tower::ServiceBuilder::new()
                    .layer(tower::load_shed::LoadShedLayer::new())
                    .layer(tower::limit::GlobalConcurrencyLimitLayer::new(MAX_GRPC)),
            )
            .concurrency_limit_per_connection(MAX_GRPC_CONCURRENCY)
            .timeout(GRPC_TIMEOUT)
            .http2_keepalive_interval(Some(GRPC_PING))
            .http2_keepalive_timeout(Some(GRPC_PING))
            .add_service(service)
            .serve_with_incoming_shutdown(
                ReceiverStream::new(grpc).map(Ok::<_, std::convert::Infallible>),
                stopped(&stop),
            );

        let kept = (Arc::clone(&parts.store), Arc::clone(&parts.clock), rates);
        let access = Access::new(&options.token, &addresses, &options.hosts, options.jwt, kept);
        let router = rest::router(
            rest::Context {
                store: parts.store,
                bus: parts.bus,
                keys,
                tokens: parts.tokens,
                enrolment: parts.enrolment,
                fleet: Arc::clone(&fleet),
                rules: parts.rules,
                registry: parts.registry,
                rotation: Arc::clone(&rotation),
                started_at: (parts.clock)(),
                clock: parts.clock,
                access: access.clone(),
            },
            access,
        )
        .merge(rest::posted::router(ingest));
        let tasks = vec![
            tokio::spawn(fleet.watch_store(stopped(&stop))),
            tokio::spawn(rotation.run(stopped(&stop))),
            tokio::spawn(async move {
                if let Err(error) = grpc_served.await {
                    tracing::error!(%error, "gRPC ended");
                }
            }),
            tokio::spawn(serving::serve(rest, router, stop.subscribe())),
        ];
        Ok(Self { addresses, stop, tasks, accepting })
    }

    /// Where it is served.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Where REST is served.
    #[must_use]
    pub fn rest(&self) -> SocketAddr {
        self.addresses.rest
    }

    /// Where gRPC is served.
    #[must_use]
    pub fn grpc(&self) -> SocketAddr {
        self.addresses.grpc
    }

    /// Takes no more requests, and waits for those under way, at most 5 seconds.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        self.accepting.shutdown().await;
        for mut task in self.tasks {
            if tokio::time::timeout(DRAIN, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}
