//! A named place in which one plugin runs.

mod calls;
mod commit;
mod content;
mod convert;
mod inner;
mod prepared;
mod withdraw;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sentinel_model::batch::Batch;
use sentinel_model::ids::SlotName;
use sentinel_trust::{Grants, Kind, VerifiedComponent};
use tokio::sync::Semaphore;

use crate::error::{LoadCause, LoadError};
use crate::generation::Generation;
use crate::health::{Health, State};
use crate::host::SlotShared;
use crate::runtime::Runtime;
use crate::services::{KvWrite, Services};
use crate::status::{Good, RolledBack, SlotState, SlotStatus};
use calls::Conditions;
use content::{Content, Identity};
pub(crate) use convert::cut;
pub use prepared::{Change, Committed, MAX_SET, Prepared};

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

pub(crate) struct Inner {
    runtime: Arc<Runtime>,
    shared: Arc<SlotShared>,
    kind: Kind,
    content: ArcSwap<Content>,
    health: Mutex<Health>,
    /// Calls in flight at once; closed when the slot is stopped.
    permits: Arc<Semaphore>,
    permit_count: u32,
    /// One swap at a time.
    changing: tokio::sync::Mutex<()>,
    /// Held, never over an await, while `content` becomes another, so that what is looked at
    /// before still holds: the admission, the stop, the generation that is given up.
    transition: Mutex<Transition>,
    last_error: Mutex<Option<(i64, String)>>,
    conditions: Mutex<Conditions>,
    stopped: AtomicBool,
}

/// What changes together with the content of a slot.
#[derive(Default)]
struct Transition {
    last_good: Option<LastGood>,
    rolled_back: Option<RolledBack>,
    /// Counts how often the slot was disabled: what was prepared before must not come after.
    disabled: u64,
}

/// What a slot goes back to.
#[derive(Clone)]
enum LastGood {
    /// It ran here. Held whole, since its component's bytes were let go of: with it stays its
    /// code.
    Held(Arc<Generation>),
    /// It was good before the process was started anew.
    Remembered(Box<SlotSpec>),
}

impl LastGood {
    fn spec(&self) -> &SlotSpec {
        match self {
            Self::Held(generation) => &generation.spec,
            Self::Remembered(spec) => spec,
        }
    }
}

/// Unix milliseconds.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Slot {
    /// Loads a plugin into a new slot. Slots of one name in a runtime share their metrics.
    ///
    /// # Errors
    /// [`LoadError`] with everything that is missing in one message.
    pub async fn start(
        runtime: &Arc<Runtime>,
        spec: SlotSpec,
        services: Services,
    ) -> Result<Self, LoadError> {
        let prepared = Prepared::new_slot(runtime, spec, services).await?;
        Ok(prepared.commit().await?.slot)
    }

    /// Puts another version, config or grants in place of what runs, or into an empty slot:
    /// loads it beside, switches at once, lets the old one finish its calls. The number of the
    /// new generation. A plugin that keeps state begins with the state of the old one.
    ///
    /// # Errors
    /// [`LoadError`]; what ran goes on as if nothing had been asked.
    pub async fn swap(&self, spec: SlotSpec) -> Result<u64, LoadError> {
        let _turn = self.0.changing.lock().await;
        Ok(self.prepare(spec).await?.commit().await?.generation)
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

    /// What runs in the slot, its component without bytes: after a step back not what was last
    /// asked for. Nothing where it is empty.
    #[must_use]
    pub fn spec(&self) -> Option<SlotSpec> {
        self.0.content.load().generation().map(|generation| generation.spec.clone())
    }

    /// Whether it holds no plugin: it was disabled, or its plugin may not run any more.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.content.load().generation().is_none()
    }

    /// Names what to go back to should what runs now fail again and again: what was good
    /// before the process was started anew. Nothing is loaded before it is needed.
    ///
    /// # Errors
    /// A plugin of another kind, or one that may not run.
    pub fn remember_good(&self, spec: SlotSpec) -> Result<(), LoadError> {
        let (expected, found) = (self.0.kind, spec.component.manifest().kind);
        let mut transition = self.0.transition.lock();
        if found != expected {
            return Err(load_error(&spec, LoadCause::OtherKind { expected, found }));
        }
        if let Err(refusal) = self.0.runtime.admit(&spec.component) {
            return Err(load_error(&spec, refusal.into()));
        }
        transition.last_good = Some(LastGood::Remembered(Box::new(spec)));
        Ok(())
    }

    /// Takes no further calls, waits for those in flight and drops all instances.
    pub async fn stop(&self) {
        let generation = {
            let _no_change = self.0.transition.lock();
            self.0.stopped.store(true, Ordering::SeqCst);
            self.0.permits.close();
            self.0.content.load().generation().cloned()
        };
        if let Some(generation) = generation {
            generation.retire();
            self.0.drained(&generation).await;
        }
        self.0.shared.metrics.running(false);
    }

    /// What the slot says of itself.
    #[must_use]
    pub fn status(&self) -> SlotStatus {
        let inner = &self.0;
        let (content, last_good, rolled_back) = {
            let transition = inner.transition.lock();
            let last_good = transition.last_good.as_ref().map(|it| good(&it.spec().component));
            (inner.content.load_full(), last_good, transition.rolled_back.clone())
        };
        let metrics = &inner.shared.metrics;
        let (guest_seconds, host_seconds) = metrics.spent();
        let Identity { name, version, digest } = content.plugin();
        let generation = content.generation();
        SlotStatus {
            name: inner.shared.name.clone(),
            plugin: name,
            version,
            digest,
            kind: inner.kind,
            generation: content.number(),
            state: inner.state(&content),
            calls: metrics.calls(),
            failures: metrics.failures(),
            last_error: inner.last_error.lock().clone(),
            restarts: metrics.restarts(),
            memory_bytes: metrics.memory_bytes(),
            instances: generation.map_or(0, |generation| generation.idle()),
            latency_ms: metrics.latency(),
            guest_seconds,
            host_seconds,
            good: generation.is_some_and(|generation| generation.is_good()),
            last_good,
            rolled_back,
        }
    }
}

impl Inner {
    fn state(&self, content: &Content) -> SlotState {
        if let Content::Empty(vacancy) = content {
            let (emptied, reason) = (vacancy.emptied, vacancy.reason.clone());
            return SlotState::Empty { emptied, reason, since: vacancy.since };
        }
        match self.health.lock().state().clone() {
            State::Running => SlotState::Running,
            State::BackingOff { until } => SlotState::BackingOff { until },
            State::Quarantined { reason, until } => SlotState::Quarantined { reason, until },
        }
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let content = self.0.content.load();
        let plugin = content.plugin();
        f.debug_struct("Slot")
            .field("name", &self.0.shared.name)
            .field("plugin", &format_args!("{} {}", plugin.name, plugin.version))
            .field("generation", &content.number())
            .finish_non_exhaustive()
    }
}

fn good(component: &VerifiedComponent) -> Good {
    let Identity { name, version, digest } = component.into();
    Good { plugin: name, version, digest }
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
