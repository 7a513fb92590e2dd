//! What the host lends to plugins: the runtime asks through these traits and keeps nothing.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use sentinel_model::ids::SlotName;

pub use crate::capabilities::kv::{KvState, KvWrite};
pub use crate::capabilities::series::{NoSeries, SeriesSource};
pub use crate::capabilities::{NoSecrets, SecretSource};
use crate::capabilities::{http, mail};

/// Where the state of slots lives. The runtime keeps no copy: it asks at the start of each
/// call (only for a plugin that has the capability) and hands the call's writes back with the
/// call's result. Whoever keeps the result applies them with [`KvState::apply`], so that both
/// are durable together or not at all.
pub trait KvSource: Send + Sync {
    /// A slot's state with all writes that were kept. Must answer from memory.
    fn load(&self, slot: &SlotName) -> Arc<KvState>;
}

/// What a slot finds outside in place of the world: its time, and who answers its requests. For
/// whoever tries plugins out; nothing then leaves the machine. Grants count as ever: what they
/// refuse does not come here.
#[async_trait]
pub trait Outside: Send + Sync {
    /// Unix milliseconds.
    fn now(&self) -> i64;
    /// Answers a request as the guest wrote it: secrets are checked, and not filled in.
    ///
    /// # Errors
    /// As the receiver that it stands for.
    async fn http(&self, request: http::Request) -> Result<http::Response, http::HttpError>;
    /// Takes a message as the guest wrote it.
    ///
    /// # Errors
    /// As the relay that it stands for.
    async fn mail(&self, message: mail::Message) -> Result<mail::Receipt, mail::MailError>;
}

/// Everything that the host lends to a slot.
#[derive(Clone)]
pub struct Services {
    /// Secrets that requests name, and keys of the `mac` interface.
    pub secrets: Arc<dyn SecretSource>,
    /// State of slots.
    pub kv: Arc<dyn KvSource>,
    /// Stored series. Asked on a thread that runs plugins, in the middle of `evaluate`: must
    /// answer from memory, without blocking.
    pub series: Arc<dyn SeriesSource>,
    /// Folders that no plugin may read whatever its grants: the host's own data.
    pub forbidden_paths: Vec<PathBuf>,
    /// What is there in place of the world; the world where nothing is.
    pub outside: Option<Arc<dyn Outside>>,
}

impl Services {
    /// Lends nothing: no secrets, no state, no series.
    #[must_use]
    pub fn none() -> Self {
        Self {
            secrets: Arc::new(NoSecrets),
            kv: Arc::new(NoKv),
            series: Arc::new(NoSeries),
            forbidden_paths: Vec::new(),
            outside: None,
        }
    }

    /// Unix milliseconds, as plugins see them.
    pub(crate) fn now(&self) -> i64 {
        self.outside.as_ref().map_or_else(crate::slot::now, |outside| outside.now())
    }
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services")
            .field("forbidden_paths", &self.forbidden_paths)
            .finish_non_exhaustive()
    }
}

/// Every slot's state is empty at each call.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoKv;

impl KvSource for NoKv {
    fn load(&self, _: &SlotName) -> Arc<KvState> {
        Arc::default()
    }
}
