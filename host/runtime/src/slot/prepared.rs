//! Loading beside what runs, and putting it in its place: of one slot, or of several as a whole.
//!
//! ```text
//! prepare:  grants, imports, code, instance, description, config   nothing that runs notices
//! commit 1: slots that carry state over wait for their call in flight
//!        2: state given by the old, taken by the new               a failure ends here: all go on
//!        3: every slot looked at once more, all switched           at one moment, cannot fail half
//!        4: the old ones finish their calls and go
//! ```
//!
//! Dropping a [`Prepared`] leaves everything as it was.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sentinel_trust::Kind;
use tokio::sync::Semaphore;

use super::commit::commit;
use super::content::Content;
use super::{Inner, Slot, SlotSpec, load_error, now, title};
use crate::call::Instance;
use crate::capabilities::log::{LogGate, TracingSink};
use crate::error::{LoadCause, LoadError};
use crate::generation::Generation;
use crate::health::Health;
use crate::host::SlotShared;
use crate::load;
use crate::runtime::Runtime;
use crate::services::Services;
use crate::status::RolledBack;

/// Most calls of a notifier that are in flight at once: they mostly wait.
const NOTIFIER_CALLS: usize = 4;
/// Most slots that one set changes. Old and new are in memory together until the switch, each
/// with one instance, code, and at most its memory limit.
pub const MAX_SET: usize = 64;

/// A plugin that is loaded for a slot and takes no calls yet: one instance, described and
/// configured. Dropped, it is gone and nothing has changed.
#[must_use = "what is not committed never runs"]
pub struct Prepared {
    pub(super) slot: Arc<Inner>,
    pub(super) generation: Arc<Generation>,
    pub(super) instance: Instance,
    /// How often the slot had been disabled when this was begun.
    pub(super) disabled: u64,
    pub(super) step_back: Option<StepBack>,
}

/// Why a generation is put in without being asked for.
pub(super) struct StepBack {
    /// The generation that is given up: if another runs meanwhile, there is nothing to do.
    pub(super) from: u64,
    pub(super) told: RolledBack,
}

/// A slot after its change.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The slot.
    pub slot: Slot,
    /// The number of its generation.
    pub generation: u64,
}

/// What a set does with one slot.
pub enum Change {
    /// Starts a slot that there is not yet.
    Start {
        /// What is to run in it.
        spec: SlotSpec,
        /// What the host lends to it.
        services: Services,
    },
    /// Swaps what runs in a slot, or fills an empty one.
    Swap {
        /// The slot.
        slot: Slot,
        /// What is to run in it.
        spec: SlotSpec,
    },
}

impl Slot {
    /// Loads a plugin beside what runs: everything of a swap but the switch.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn prepare(&self, spec: SlotSpec) -> Result<Prepared, LoadError> {
        self.0.prepare(spec, None).await
    }
}

impl Prepared {
    /// Loads a plugin for a slot that there is not yet.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn new_slot(
        runtime: &Arc<Runtime>,
        spec: SlotSpec,
        services: Services,
    ) -> Result<Self, LoadError> {
        let slot = Inner::unstarted(runtime, &spec, services);
        slot.prepare(spec, None).await
    }

    /// What will run.
    #[must_use]
    pub fn spec(&self) -> &SlotSpec {
        &self.generation.spec
    }

    /// Puts it in its place, and lets what ran finish its calls.
    ///
    /// # Errors
    /// [`LoadError`]; what ran goes on.
    pub async fn commit(self) -> Result<Committed, LoadError> {
        let mut all = commit(vec![self]).await?;
        Ok(all.pop().expect("one was committed"))
    }

    pub(super) fn fail(&self, cause: LoadCause) -> LoadError {
        load_error(&self.generation.spec, cause)
    }
}

impl Runtime {
    /// Changes several slots as a whole or not at all: everything is loaded before anything is
    /// switched. Slots that keep no state are not held up for a moment; one that does waits
    /// while its state is handed over. The answers are in the order of the changes.
    ///
    /// # Errors
    /// The first failure, naming slot, plugin, version and cause; every slot then goes on with
    /// what it ran. A slot may be named once, and at most [`MAX_SET`] of them.
    pub async fn apply(
        self: &Arc<Self>,
        changes: Vec<Change>,
    ) -> Result<Vec<Committed>, LoadError> {
        if let Some(last) = changes.get(MAX_SET) {
            let cause = LoadCause::TooMany { slots: changes.len(), most: MAX_SET };
            return Err(load_error(last.spec(), cause));
        }
        let mut prepared = Vec::with_capacity(changes.len());
        for change in changes {
            prepared.push(match change {
                Change::Start { spec, services } => {
                    Prepared::new_slot(self, spec, services).await?
                }
                Change::Swap { slot, spec } => slot.prepare(spec).await?,
            });
        }
        commit(prepared).await
    }

    /// Switches all or none of what was prepared: [`Runtime::apply`] in two steps.
    ///
    /// # Errors
    /// As [`Runtime::apply`].
    pub async fn commit(&self, prepared: Vec<Prepared>) -> Result<Vec<Committed>, LoadError> {
        commit(prepared).await
    }
}

impl Change {
    /// What is to run.
    #[must_use]
    pub fn spec(&self) -> &SlotSpec {
        match self {
            Self::Start { spec, .. } | Self::Swap { spec, .. } => spec,
        }
    }
}

impl Inner {
    fn unstarted(runtime: &Arc<Runtime>, spec: &SlotSpec, services: Services) -> Arc<Self> {
        let (name, kind) = (spec.name.clone(), spec.component.manifest().kind);
        let log = LogGate::new(name.as_str(), &title(spec), Arc::new(TracingSink));
        let metrics = runtime.metrics.of_slot(name.as_str());
        let permits = match kind {
            Kind::Collector | Kind::Evaluator => 1,
            Kind::Transform => runtime.thread_count,
            Kind::Notifier => NOTIFIER_CALLS,
        };
        let slot = Arc::new(Self {
            runtime: Arc::clone(runtime),
            shared: Arc::new(SlotShared::new(name, services, runtime.io.clone(), metrics, log)),
            kind,
            content: ArcSwap::from_pointee(Content::not_started(spec, now())),
            health: Mutex::new(Health::new(0, runtime.first_wait_ms)),
            permits: Arc::new(Semaphore::new(permits)),
            permit_count: permits as u32,
            changing: tokio::sync::Mutex::new(()),
            transition: Mutex::default(),
            last_error: Mutex::default(),
            conditions: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        runtime.register(&slot);
        slot
    }

    pub(super) async fn prepare(
        self: &Arc<Self>,
        spec: SlotSpec,
        step_back: Option<StepBack>,
    ) -> Result<Prepared, LoadError> {
        let (expected, found) = (self.kind, spec.component.manifest().kind);
        if found != expected {
            return Err(load_error(&spec, LoadCause::OtherKind { expected, found }));
        }
        let disabled = self.transition.lock().disabled;
        let about = spec.clone();
        let loaded = async {
            let (generation, instance) = load::load(&self.runtime, &self.shared, spec).await?;
            let instance = self.with_conditions(&generation, instance).await?;
            Ok((generation, instance))
        };
        match loaded.await {
            Ok((generation, instance)) => {
                let slot = Arc::clone(self);
                Ok(Prepared { slot, generation, instance, disabled, step_back })
            }
            Err(cause) => Err(load_error(&about, cause)),
        }
    }
}
