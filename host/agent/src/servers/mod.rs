//! The servers of an agent, and the way to them: gRPC, or HTTP where that does not come through.
//!
//! Several servers stand before one store and one bus: whichever answers, what it says of offsets counts.
//! Two that do not belong together only make the agent send again: each says which bus it has.

mod http;
mod route;
#[cfg(test)]
mod tests;

use crate::link::{Link, LinkError, LinkTls};
use http::HttpLink;
use parking_lot::Mutex;
use route::{After, Route};
use sentinel_wire::v1::{
    FleetRequest, FleetSet, HeartbeatRequest, HeartbeatResponse, PushRequest, PushResponse,
    RegisterRequest, RegisterResponse,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};

/// Most servers of an agent.
pub const MAX_SERVERS: usize = 16;
/// What tonic says of an answer that no gRPC server gave.
const NO_GRPC: &str = "grpc-status header missing";

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// Its address for gRPC, `http://HOST:PORT`.
    pub grpc: String,
    /// Its address for HTTP, where that is another.
    pub http: Option<String>,
}

impl ServerAddress {
    /// Servers by their addresses for gRPC, and in the same order those for HTTP, as far as there are any.
    #[must_use]
    pub fn list(grpc: &[String], http: &[String]) -> Vec<Self> {
        let http = http.iter().cloned().map(Some).chain(std::iter::repeat(None));
        grpc.iter().cloned().zip(http).map(|(grpc, http)| Self { grpc, http }).collect()
    }
}

/// One way to one server.
#[derive(Clone)]
enum Way {
    Grpc(Box<Link>),
    Http(HttpLink),
}

impl Way {
    fn shown(&self) -> String {
        match self {
            Self::Grpc(link) => link.server().to_owned(),
            Self::Http(link) => format!("{} (HTTP, since gRPC does not come through)", link.base()),
        }
    }
}

/// What came of asking for sets.
pub(crate) enum Sets {
    /// They will come.
    Stream(Streaming<FleetSet>),
    /// One came.
    One(FleetSet),
    /// None came for a while: ask again.
    Nothing,
}

/// All ways; clones share which one is in use.
#[derive(Clone)]
pub struct Servers(Arc<Shared>);

struct Shared {
    ways: Vec<Way>,
    route: Mutex<Route>,
    began: Instant,
}

impl Servers {
    /// To these, the first of which is preferred. Nothing is sent yet.
    ///
    /// # Errors
    /// An address that is none, or none at all.
    pub fn new(addresses: &[ServerAddress], tls: &LinkTls) -> Result<Self, LinkError> {
        let mut ways = Vec::new();
        for address in addresses.iter().take(MAX_SERVERS) {
            ways.push(Way::Grpc(Box::new(Link::new(&address.grpc, tls)?)));
            let http = address.http.as_ref().unwrap_or(&address.grpc);
            ways.push(Way::Http(HttpLink::new(http, tls)?));
        }
        if ways.is_empty() {
            return Err(LinkError::Address(String::new()));
        }
        Ok(Self::over(ways))
    }

    /// Over connections that a test made.
    #[cfg(test)]
    pub(crate) fn of(links: Vec<Link>) -> Self {
        Self::over(links.into_iter().map(Box::new).map(Way::Grpc).collect())
    }

    fn over(ways: Vec<Way>) -> Self {
        let route = Mutex::new(Route::new(ways.len()));
        Self(Arc::new(Shared { ways, route, began: Instant::now() }))
    }

    /// The way in use, for people.
    #[must_use]
    pub fn shown(&self) -> String {
        self.0.ways[self.0.route.lock().way()].shown()
    }

    fn now(&self) -> i64 {
        i64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn take(&self) -> Way {
        self.0.ways[self.0.route.lock().next(self.now())].clone()
    }

    /// Learns from how an exchange went.
    fn judge<T>(&self, done: Result<T, LinkError>) -> Result<T, LinkError> {
        let lot = rand::random();
        let now = self.now();
        let mut route = self.0.route.lock();
        let before = route.way();
        let error = match done {
            Err(error) if is_way_closed(&error) => error,
            done => {
                route.answered(now, lot);
                return done;
            }
        };
        let after = route.failed(now, lot);
        let next = route.way();
        drop(route);
        match after {
            After::AllFailed => Err(error),
            After::Next(wait) => {
                let (from, to) = (self.0.ways[before].shown(), self.0.ways[next].shown());
                tracing::warn!(%error, %from, %to, "a server does not answer; the next one is tried");
                let wait = Duration::from_millis(u64::try_from(wait).unwrap_or_default());
                Err(LinkError::Elsewhere { error: Box::new(error), wait })
            }
        }
    }

    pub(crate) async fn register(
        &self,
        request: RegisterRequest,
    ) -> Result<RegisterResponse, LinkError> {
        let done = match self.take() {
            Way::Grpc(mut link) => link.register(request).await,
            Way::Http(link) => link.register(request).await,
        };
        self.judge(done)
    }

    pub(crate) async fn push(&self, request: PushRequest) -> Result<PushResponse, LinkError> {
        let done = match self.take() {
            Way::Grpc(mut link) => link.push(request).await,
            Way::Http(link) => link.push(request).await,
        };
        self.judge(done)
    }

    pub(crate) async fn heartbeat(
        &self,
        request: HeartbeatRequest,
    ) -> Result<HeartbeatResponse, LinkError> {
        let done = match self.take() {
            Way::Grpc(mut link) => link.heartbeat(request).await,
            Way::Http(link) => link.heartbeat(request).await,
        };
        self.judge(done)
    }

    /// Asks for sets, by the way that heartbeats and pushes go; how it goes changes nothing of that.
    pub(crate) async fn fleet(&self, request: FleetRequest) -> Result<Sets, LinkError> {
        let way = self.0.ways[self.0.route.lock().way()].clone();
        match way {
            Way::Grpc(mut link) => link.fleet(request).await.map(Sets::Stream),
            Way::Http(link) => Ok(link.follow(request).await?.map_or(Sets::Nothing, Sets::One)),
        }
    }
}

/// Whether an exchange failed since nothing that speaks our language answered: another way may do.
fn is_way_closed(error: &LinkError) -> bool {
    match error {
        LinkError::Status(status) => is_no_answer(status),
        LinkError::Http(_) => true,
        LinkError::Address(_)
        | LinkError::Tls(_)
        | LinkError::Answer(_)
        | LinkError::Refused(_)
        | LinkError::Elsewhere { .. } => false,
    }
}

fn is_no_answer(status: &Status) -> bool {
    // A proxy in between that knows no gRPC answers with a code of HTTP alone; and what became of the
    // connection, such as that the server has no place for it, nobody said in an answer.
    status.message().starts_with(NO_GRPC)
        || std::error::Error::source(status).is_some()
        || matches!(
            status.code(),
            Code::Unavailable
                | Code::Unknown
                | Code::Internal
                | Code::Unimplemented
                | Code::DeadlineExceeded
                | Code::Cancelled
        )
}
