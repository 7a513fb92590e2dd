//! A named place in which one plugin runs.

mod calls;
mod convert;
mod inner;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sentinel_model::batch::Batch;
use sentinel_model::ids::SlotName;
use sentinel_trust::{Grants, Kind, VerifiedComponent};
use tokio::sync::Semaphore;

use crate::capabilities::log::{LogGate, TracingSink};
use crate::error::{LoadCause, LoadError};
use crate::generation::Generation;
use crate::health::{Health, State};
use crate::host::SlotShared;
use crate::load;
use crate::runtime::Runtime;
use crate::services::{KvWrite, Services};
use crate::status::{RolledBack, SlotState, SlotStatus};
use calls::Conditions;

/// Most calls of a notifier that are in flight at once: they mostly wait.
const NOTIFIER_CALLS: usize = 4;
/// What is to run in a slot.
#[derive(Debug, Clone)]
pub struct SlotSpec {
    /// The slot's name.
    pub name: SlotName,
    /// The plugin.
    pub component: Arc<VerifiedComponent>,
    /// Its config: a JSON object that fits the manifest's schema.
    pub config: serde_json::Value,
    /// What the operator allows, limits included.
    pub grants: Grants,
}

/// What a collection gave. The batches and the writes belong together: keep both or neither.
#[derive(Debug, Clone, PartialEq)]
pub struct Collected {
    /// In the order they were given; some may be empty.
    pub batches: Vec<Batch>,
    /// Writes to the slot's state.
    pub kv: Vec<KvWrite>,
}

/// A named place in which one plugin runs. Clones are the same slot. When the last is dropped
/// its instances and its metrics go.
#[derive(Clone)]
pub struct Slot(Arc<Inner>);

struct Inner {
    runtime: Arc<Runtime>,
    shared: Arc<SlotShared>,
    kind: Kind,
    current: ArcSwap<Generation>,
    health: Mutex<Health>,
    /// Calls in flight at once; closed when the slot is stopped.
    permits: Semaphore,
    permit_count: u32,
    /// One change of generation at a time.
    changing: tokio::sync::Mutex<()>,
    /// Held whole, since its component's bytes were let go of: with it stays its code.
    last_good: Mutex<Option<Arc<Generation>>>,
    rolled_back: Mutex<Option<RolledBack>>,
    last_error: Mutex<Option<(i64, String)>>,
    conditions: Mutex<Conditions>,
    stopped: AtomicBool,
}

/// Unix milliseconds.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Slot {
    /// Loads a plugin into a new slot. No two slots of a runtime may have the same name at one
    /// time: they would share their metrics.
    ///
    /// # Errors
    /// [`LoadError`] with everything that is missing in one message.
    pub async fn start(
        runtime: &Arc<Runtime>,
        spec: SlotSpec,
        services: Services,
    ) -> Result<Self, LoadError> {
        let manifest = spec.component.manifest();
        let (name, kind) = (spec.name.clone(), manifest.kind);
        let log = LogGate::new(name.as_str(), &title(&spec), Arc::new(TracingSink));
        let metrics = runtime.metrics.of_slot(name.as_str());
        let shared = Arc::new(SlotShared::new(name, services, runtime.io.clone(), metrics, log));
        let about = spec.clone();
        let (generation, instance) = load::load(runtime, &shared, spec, 1)
            .await
            .map_err(|cause| load_error(&about, cause))?;
        let permits = match kind {
            Kind::Collector | Kind::Evaluator => 1,
            Kind::Transform => runtime.thread_count,
            Kind::Notifier => NOTIFIER_CALLS,
        };
        shared.metrics.generation(1);
        shared.metrics.running(true);
        generation.keep(instance);
        Ok(Self(Arc::new(Inner {
            runtime: Arc::clone(runtime),
            shared,
            kind,
            current: ArcSwap::new(generation),
            health: Mutex::new(Health::new(1, runtime.first_wait_ms)),
            permits: Semaphore::new(permits),
            permit_count: permits as u32,
            changing: tokio::sync::Mutex::new(()),
            last_good: Mutex::default(),
            rolled_back: Mutex::default(),
            last_error: Mutex::default(),
            conditions: Mutex::default(),
            stopped: AtomicBool::new(false),
        })))
    }

    /// Puts another version, config or grants in place of what runs: loads it beside, switches
    /// at once, lets the old one finish its calls. The number of the new generation.
    ///
    /// # Errors
    /// [`LoadError`]; what ran goes on as if nothing had been asked.
    pub async fn swap(&self, spec: SlotSpec) -> Result<u64, LoadError> {
        let about = spec.clone();
        let changed = self.0.change(spec, None).await;
        changed.map_err(|cause| load_error(&about, cause))
    }

    /// The slot's name.
    #[must_use]
    pub fn name(&self) -> &SlotName {
        &self.0.shared.name
    }

    /// The kind of its plugin, which no swap changes.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What runs in the slot: after a step back not what was last asked for.
    #[must_use]
    pub fn spec(&self) -> SlotSpec {
        self.0.current.load().spec.clone()
    }

    /// Takes no further calls, waits for those in flight and drops all instances.
    pub async fn stop(&self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        self.0.permits.close();
        let _no_change = self.0.changing.lock().await;
        let generation = self.0.current.load_full();
        generation.retire();
        generation.drained().await;
        self.0.shared.metrics.running(false);
    }

    /// What the slot says of itself.
    #[must_use]
    pub fn status(&self) -> SlotStatus {
        let inner = &self.0;
        let generation = inner.current.load_full();
        let metrics = &inner.shared.metrics;
        let (guest_seconds, host_seconds) = metrics.spent();
        SlotStatus {
            name: inner.shared.name.clone(),
            plugin: generation.spec.component.name().clone(),
            version: generation.spec.component.version().clone(),
            digest: generation.spec.component.digest(),
            kind: inner.kind,
            generation: generation.number,
            state: match inner.health.lock().state().clone() {
                State::Running => SlotState::Running,
                State::BackingOff { until } => SlotState::BackingOff { until },
                State::Quarantined { reason, until } => SlotState::Quarantined { reason, until },
            },
            calls: metrics.calls(),
            failures: metrics.failures(),
            last_error: inner.last_error.lock().clone(),
            restarts: metrics.restarts(),
            memory_bytes: metrics.memory_bytes(),
            instances: generation.idle(),
            latency_ms: metrics.latency(),
            guest_seconds,
            host_seconds,
            rolled_back: inner.rolled_back.lock().clone(),
        }
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let generation = self.0.current.load();
        f.debug_struct("Slot")
            .field("name", &self.0.shared.name)
            .field("plugin", &title(&generation.spec))
            .field("generation", &generation.number)
            .finish_non_exhaustive()
    }
}

/// `publisher/name version`, as logs name a plugin.
fn title(spec: &SlotSpec) -> String {
    format!("{} {}", spec.component.name(), spec.component.version())
}

fn load_error(spec: &SlotSpec, cause: LoadCause) -> LoadError {
    LoadError {
        slot: spec.name.clone(),
        plugin: spec.component.name().clone(),
        version: Box::new(spec.component.version().clone()),
        cause,
    }
}
