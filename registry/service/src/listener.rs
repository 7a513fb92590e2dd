//! Accepting connections: TLS, bounds on their number, on their slowness.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit, setrlimit};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::options::{Limits, Options, Tls};
use crate::patience::{PatientBody, PatientStream};
use crate::rate::asker;
use crate::service::Peer;

/// How long requests under way are waited for at the end.
const DRAIN: Duration = Duration::from_secs(5);
/// Rest after the system refused to accept, such as for want of file descriptors.
const REST: Duration = Duration::from_millis(100);
/// Files that are open beside connections and what is read for them.
const OTHER_FILES: u64 = 256;
/// Most bytes of a request's head.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// Most header fields.
const MAX_HEADERS: usize = 64;

/// Why a registry cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Others could read what is sent.
    #[error(
        "{0} is not a loopback address, and without TLS tokens would be readable to others: give a certificate and its key, or listen on 127.0.0.1 and put a TLS proxy in front"
    )]
    NotLoopback(SocketAddr),
    /// The address is not to be had.
    #[error(
        "cannot listen on {address}: {source}; choose another address, or port 0 for a free one"
    )]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Certificate or key cannot be read.
    #[error("{file} cannot be read as PEM: {why}", file = file.display())]
    Pem {
        /// Which.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// Certificate and key do not go together.
    #[error("TLS cannot be served with this certificate and key: {0}")]
    Tls(#[from] rustls::Error),
}

fn tls(tls: &Tls) -> Result<TlsAcceptor, ListenError> {
    let pem = |file: &PathBuf, error: rustls::pki_types::pem::Error| ListenError::Pem {
        file: file.clone(),
        why: error.to_string(),
    };
    let certificates = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| pem(&tls.certificate, error))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| pem(&tls.key, error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Connections of each address.
type Open = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// A connection that counts, for as long as it is open.
struct Counted {
    open: Open,
    address: IpAddr,
    _place: OwnedSemaphorePermit,
}

impl Counted {
    fn new(open: &Open, address: IpAddr, most: usize, place: OwnedSemaphorePermit) -> Option<Self> {
        let address = asker(address);
        let mut counts = open.lock();
        let count = counts.entry(address).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Self { open: Arc::clone(open), address, _place: place })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.open.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// Where a registry will be served: taken before anything else is done, so that an address in
/// use is found out at once. Connections wait until [`serve_on`](crate::serve_on) serves them.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
}

impl Listener {
    /// Takes the address that the options name; port 0 picks a free one.
    ///
    /// # Errors
    /// An address that may not or cannot be listened on.
    pub async fn bind(options: &Options) -> Result<Self, ListenError> {
        let wished = options.listen;
        if options.tls.is_none() && !wished.ip().is_loopback() {
            return Err(ListenError::NotLoopback(wished));
        }
        let bind = |source| ListenError::Bind { address: wished, source };
        let listener = TcpListener::bind(wished).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        Ok(Self { listener, address, tls: options.tls.clone() })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Raises how many files this process may have open, as far as the system lets it: every
/// connection is one, and so is every blob that is read.
fn allow_files(connections: usize) {
    let wanted = 2 * connections as u64 + OTHER_FILES;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let given = limit.maximum.map_or(wanted, |most| wanted.min(most));
    limit.current = Some(given);
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the bound on open files could not be raised");
    } else if given < wanted {
        tracing::warn!(given, wanted, "few files may be open: connections may be refused");
    }
}

/// Serves `router` until told to stop.
pub(crate) fn listen(
    listener: Listener,
    limits: Limits,
    router: Router,
    stopped: watch::Receiver<bool>,
) -> Result<(SocketAddr, JoinHandle<()>), ListenError> {
    allow_files(limits.connections);
    let acceptor = listener.tls.as_ref().map(tls).transpose()?;
    let serving = Serving { router, limits, acceptor, stopped };
    Ok((listener.address, tokio::spawn(accept(listener.listener, Arc::new(serving)))))
}

/// Ends once it is told to stop, or nobody is left who could.
pub(crate) async fn until(stopped: &mut watch::Receiver<bool>) {
    drop(stopped.wait_for(|stop| *stop).await);
}

struct Serving {
    router: Router,
    limits: Limits,
    acceptor: Option<TlsAcceptor>,
    stopped: watch::Receiver<bool>,
}

async fn accept(listener: TcpListener, serving: Arc<Serving>) {
    let places = Arc::new(Semaphore::new(serving.limits.connections));
    let open = Open::default();
    let mut connections = JoinSet::new();
    let mut stopped = serving.stopped.clone();
    loop {
        // While every place is taken, whoever comes waits in the system's queue.
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = until(&mut stopped) => break,
            Some(_) = connections.join_next() => continue,
            accepted = accepted => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let most = serving.limits.connections_per_address;
        let Some(counted) = place.and_then(|place| Counted::new(&open, peer.ip(), most, place))
        else {
            continue;
        };
        let serving = Arc::clone(&serving);
        connections.spawn(async move {
            connection(&serving, stream, peer).await;
            drop(counted);
        });
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        connections.shutdown().await;
    }
}

async fn connection(serving: &Serving, stream: TcpStream, peer: SocketAddr) {
    // Answers are written whole; waiting for more to send with them only delays.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let stream = PatientStream::new(stream, serving.limits.patience);
    let Some(acceptor) = &serving.acceptor else {
        return requests(serving, stream, peer).await;
    };
    match tokio::time::timeout(serving.limits.head, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => requests(serving, stream, peer).await,
        Ok(Err(error)) => tracing::debug!(%error, %peer, "no TLS"),
        Err(_) => tracing::debug!(%peer, "the TLS handshake took too long"),
    }
}

async fn requests<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    serving: &Serving,
    stream: S,
    peer: SocketAddr,
) {
    let patience = serving.limits.patience;
    let service = service_fn(|request: http::Request<Incoming>| {
        let mut request = request.map(|body| Body::new(PatientBody::new(body, patience)));
        request.extensions_mut().insert(Peer(peer));
        serving.router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also how long an idle connection stays open: the wait for the next head.
        .header_read_timeout(serving.limits.head)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let mut stopped = serving.stopped.clone();
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = until(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "a connection ended early");
    }
}
