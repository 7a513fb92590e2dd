//! What a registry is told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sentinel_trust::MAX_COMPONENT_BYTES;

use crate::access::Rates;
use crate::patience::Patience;

/// Unix milliseconds.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Most bytes of a manifest; the specification asks for at least this much.
pub const MAX_MANIFEST_BYTES: usize = 4 << 20;

/// Certificate and key of TLS, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, and those that vouch for it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Bounds of everything that others may make large, long or many.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most bytes of a blob.
    pub blob_bytes: u64,
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// Connections of one address at once; more are closed.
    pub connections_per_address: usize,
    /// Uploads that send bytes at once; more are told to come again. One token has at most
    /// half of them.
    pub uploads: usize,
    /// Most bytes of manifests, indexes and metadata that are held at once, of those who show a
    /// token and again of those who show none; whoever sends more is told to come again.
    pub held_bytes: usize,
    /// Longest until a request's head is there, the TLS handshake is made, or the next
    /// request of an idle connection comes.
    pub head: Duration,
    /// What is asked of who sends a body or takes an answer.
    pub patience: Patience,
    /// How often metadata that grows old is signed anew, and what was counted is written.
    pub renew_every: Duration,
    /// Age at which an upload that does not go on is removed.
    pub abandoned: Duration,
    /// How often the store is looked through for what is abandoned.
    pub collect_every: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            blob_bytes: MAX_COMPONENT_BYTES as u64,
            connections: 4096,
            connections_per_address: 1024,
            uploads: 16,
            held_bytes: 64 << 20,
            head: Duration::from_secs(15),
            patience: Patience { grace: Duration::from_secs(15), bytes_per_second: 8 << 10 },
            renew_every: Duration::from_secs(60),
            abandoned: Duration::from_secs(24 * 3600),
            collect_every: Duration::from_secs(3600),
        }
    }
}

/// What a registry is told when it starts.
#[derive(Clone)]
pub struct Options {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// TLS; without it only loopback addresses are listened on.
    pub tls: Option<Tls>,
    /// Whether everybody may pull.
    pub anonymous_pull: bool,
    /// How often who may ask.
    pub rates: Rates,
    /// Bounds.
    pub limits: Limits,
    /// Unix milliseconds.
    pub clock: Clock,
}

impl Options {
    /// Everything as it is by default, on this machine's clock.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            tls: None,
            anonymous_pull: true,
            rates: Rates::default(),
            limits: Limits::default(),
            clock: Arc::new(system_clock),
        }
    }
}

fn system_clock() -> i64 {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
