//! Accepting connections: where, with TLS or without, and how many.
//!
//! Each of the two services, REST and gRPC, may be served at several addresses: what `up` serves
//! to other machines with TLS, it serves to its own agent and its user's commands on loopback.

use crate::ServerError;
use crate::crowd::{Crowd, Service, refusal};
use crate::metrics::{Entered, Metrics};
use crate::rate::Limits;
use crate::tls::{Certificates, TlsError, TlsFiles};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Connections that wait to be served.
const MAX_READY: usize = 64;
/// The longest that a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Rest after the system refused to accept, such as for want of file descriptors.
const REST: Duration = Duration::from_millis(100);

/// Where somebody calls from, and whether nobody on the way can read or change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The address at the other end.
    pub address: SocketAddr,
    /// Whether the connection has TLS.
    pub tls: bool,
}

struct Place {
    listener: TcpListener,
    address: SocketAddr,
    tls: bool,
}

/// Where a server listens: taken before anything else is started, so that a port in use is
/// found out at once and everybody knows the true addresses. Connections wait until
/// [`Server::start`](crate::Server::start) serves them.
pub struct Listeners {
    rest: Vec<Place>,
    grpc: Vec<Place>,
    pub(crate) certificates: Option<Arc<Certificates>>,
}

/// The addresses of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Whether it is served with TLS at `rest` and `grpc`.
    pub tls: bool,
    /// REST.
    pub rest: SocketAddr,
    /// gRPC.
    pub grpc: SocketAddr,
    /// REST without TLS, on loopback.
    pub own_rest: Option<SocketAddr>,
    /// gRPC without TLS, on loopback.
    pub own_grpc: Option<SocketAddr>,
}

impl Addresses {
    fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// The URL of REST.
    #[must_use]
    pub fn rest_url(&self) -> String {
        format!("{}://{}", self.scheme(), self.rest)
    }

    /// The URL for agents.
    #[must_use]
    pub fn grpc_url(&self) -> String {
        format!("{}://{}", self.scheme(), self.grpc)
    }

    /// The URL of REST for this machine's user.
    #[must_use]
    pub fn own_rest_url(&self) -> String {
        self.own_rest.map_or_else(|| self.rest_url(), |own| format!("http://{own}"))
    }

    /// The URL for this process's agent.
    #[must_use]
    pub fn own_grpc_url(&self) -> String {
        self.own_grpc.map_or_else(|| self.grpc_url(), |own| format!("http://{own}"))
    }
}

async fn listen(
    address: SocketAddr,
    option: &'static str,
    tls: bool,
) -> Result<Place, ServerError> {
    if !tls && !address.ip().is_loopback() {
        return Err(ServerError::NotLoopback(address));
    }
    let refused = |source| ServerError::Listen { option, address, source };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    Ok(Place { listener, address, tls })
}

impl Listeners {
    /// Takes both addresses; port 0 picks a free one. With TLS where there are files for it;
    /// otherwise nothing but loopback is listened on.
    ///
    /// # Errors
    /// An address that may not or cannot be listened on; files that do not serve.
    pub async fn bind(
        rest: SocketAddr,
        grpc: SocketAddr,
        tls: Option<&TlsFiles>,
    ) -> Result<Self, ServerError> {
        let certificates = tls.map(Certificates::open).transpose()?.map(Arc::new);
        let tls = certificates.is_some();
        Ok(Self {
            rest: vec![listen(rest, "--listen", tls).await?],
            grpc: vec![listen(grpc, "--grpc", tls).await?],
            certificates,
        })
    }

    /// Where there is TLS: listens on loopback without it too, at free ports, for those who
    /// need not be told apart from somebody on the way.
    ///
    /// # Errors
    /// A system that gives no port.
    pub async fn with_own(mut self) -> Result<Self, ServerError> {
        if self.certificates.is_some() {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            self.rest.push(listen(any, "--listen", false).await?);
            self.grpc.push(listen(any, "--grpc", false).await?);
        }
        Ok(self)
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        let own = |places: &[Place]| places.get(1).map(|place| place.address);
        Addresses {
            tls: self.certificates.is_some(),
            rest: self.rest[0].address,
            grpc: self.grpc[0].address,
            own_rest: own(&self.rest),
            own_grpc: own(&self.grpc),
        }
    }

    /// What comes in for REST, and for gRPC, until it is told to stop.
    pub(crate) fn accept(
        self,
        limits: &Limits,
        metrics: &Arc<Metrics>,
        stop: &watch::Sender<bool>,
    ) -> (Incoming, Incoming, JoinSet<()>) {
        let mut tasks = JoinSet::new();
        let mut incoming = |service: Service, places: Vec<Place>| {
            let (ready, coming) = mpsc::channel(MAX_READY);
            let crowd = Crowd::new(limits.connections, limits.address_connections);
            for place in places {
                let certificates = self.certificates.clone().filter(|_| place.tls);
                let (crowd, metrics) = (Arc::clone(&crowd), Arc::clone(metrics));
                let ready = ready.clone();
                let source = Source { service, place, certificates, crowd, metrics, ready };
                tasks.spawn(source.run(stop.subscribe()));
            }
            coming
        };
        let rest = incoming(Service::Rest, self.rest);
        let grpc = incoming(Service::Grpc, self.grpc);
        if let Some(certificates) = self.certificates {
            let mut stop = stop.subscribe();
            tasks.spawn(async move {
                tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => {}
                    () = certificates.follow() => {}
                }
            });
        }
        (rest, grpc, tasks)
    }
}

/// Connections that are ready to be served.
pub(crate) type Incoming = mpsc::Receiver<Connection>;

struct Source {
    service: Service,
    place: Place,
    certificates: Option<Arc<Certificates>>,
    crowd: Arc<Crowd>,
    metrics: Arc<Metrics>,
    ready: mpsc::Sender<Connection>,
}

impl Source {
    async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut handshakes = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                // An error means that the server is gone.
                _ = stop.wait_for(|stop| *stop) => return,
                Some(_) = handshakes.join_next() => continue,
                accepted = self.place.listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "no TCP_NODELAY");
            }
            let config = self.certificates.as_ref().map(|it| it.current());
            let taken = match self.crowd.enter(address.ip()) {
                Ok(taken) => self.metrics.enters(self.service, taken),
                Err(full) => {
                    tracing::debug!(%address, why = full.as_str(), "a connection is refused");
                    self.metrics.refused_connection(self.service, full);
                    let said = refusal(self.service, config.is_some(), full);
                    if let Some(telling) = self.crowd.tell(stream, said) {
                        handshakes.spawn(telling);
                    }
                    continue;
                }
            };
            let ready = self.ready.clone();
            handshakes.spawn(async move {
                let peer = Peer { address, tls: config.is_some() };
                let stream = match config {
                    None => Stream::Plain(stream),
                    Some(config) => match shake_hands(TlsAcceptor::from(config), stream).await {
                        Ok(stream) => Stream::Tls(Box::new(stream)),
                        Err(error) => {
                            tracing::debug!(%error, %address, "no TLS");
                            return;
                        }
                    },
                };
                // An error means that nobody serves any more.
                let _ = ready.send(Connection { stream, peer, _taken: taken }).await;
            });
        }
    }
}

async fn shake_hands(acceptor: TlsAcceptor, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    tokio::time::timeout(HANDSHAKE, acceptor.accept(stream))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// An open connection.
pub(crate) struct Connection {
    stream: Stream,
    pub(crate) peer: Peer,
    _taken: Entered,
}

impl Connection {
    /// Whether both ends agreed on HTTP/2.
    pub(crate) fn agreed_on_http2(&self) -> bool {
        match &self.stream {
            Stream::Plain(_) => false,
            Stream::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

impl tonic::transport::server::Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl From<TlsError> for ServerError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}
