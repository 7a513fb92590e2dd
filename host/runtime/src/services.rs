//! What the host lends to plugins: the runtime asks through these traits and keeps nothing.

use std::path::PathBuf;
use std::sync::Arc;

use sentinel_model::ids::SlotName;

pub use crate::capabilities::kv::{KvState, KvWrite};
pub use crate::capabilities::series::{NoSeries, SeriesSource};
pub use crate::capabilities::{NoSecrets, SecretSource};

/// Where the state of slots lives. The runtime keeps no copy: it asks at the start of each
/// call (only for a plugin that has the capability) and hands the call's writes back with the
/// call's result. Whoever keeps the result applies them with [`KvState::apply`], so that both
/// are durable together or not at all.
pub trait KvSource: Send + Sync {
    /// A slot's state with all writes that were kept. Must answer from memory.
    fn load(&self, slot: &SlotName) -> Arc<KvState>;
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
        }
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
