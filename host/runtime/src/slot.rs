//! A named place in which one plugin runs.

mod calls;
mod convert;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sentinel_model::batch::Batch;
use sentinel_model::ids::SlotName;
use sentinel_trust::{Grants, Kind, VerifiedComponent};
use tokio::sync::Semaphore;

use crate::call::{Instance, Outcome, Setup, Work};
use crate::capabilities::kv::KvView;
use crate::capabilities::log::{LogGate, TracingSink};
use crate::error::{CallError, Cause, LoadCause, LoadError};
use crate::generation::Generation;
use crate::health::{Decision, Health, State};
use crate::host::SlotShared;
use crate::load;
use crate::runtime::Runtime;
use crate::services::{KvWrite, Services};
use crate::status::{RolledBack, SlotState, SlotStatus};
use calls::Conditions;

/// Most calls of a notifier that are in flight at once: they mostly wait.
const NOTIFIER_CALLS: usize = 4;
/// How much longer than its own limit a call is waited for: only a host function that blocks
/// its thread can make use of it.
const GRACE: Duration = Duration::from_secs(1);

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
    last_good: Mutex<Option<SlotSpec>>,
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

impl Inner {
    async fn change(
        self: &Arc<Self>,
        spec: SlotSpec,
        step_back: Option<RolledBack>,
    ) -> Result<u64, LoadCause> {
        let found = spec.component.manifest().kind;
        if found != self.kind {
            return Err(LoadCause::OtherKind { expected: self.kind, found });
        }
        let _turn = self.changing.lock().await;
        let old = self.current.load_full();
        let number = old.number + 1;
        let title = title(&spec);
        let (generation, instance) = load::load(&self.runtime, &self.shared, spec, number).await?;
        let instance = self.with_conditions(&generation, instance).await?;
        // Collectors and evaluators never run beside themselves: what is in flight ends first.
        let alone = match self.kind {
            Kind::Collector | Kind::Evaluator => {
                let all = self.permits.acquire_many(self.permit_count).await;
                Some(all.map_err(|_| LoadCause::Stopped)?)
            }
            Kind::Transform | Kind::Notifier => None,
        };
        if self.stopped.load(Ordering::SeqCst) {
            return Err(LoadCause::Stopped);
        }
        generation.keep(instance);
        self.current.store(Arc::clone(&generation));
        *self.health.lock() = Health::new(number, self.runtime.first_wait_ms);
        drop(alone);
        self.shared.log.lock().name_plugin(&title);
        self.shared.metrics.generation(number);
        self.shared.metrics.running(true);
        if old.is_good() && step_back.is_none() {
            *self.last_good.lock() = Some(old.spec.clone());
        }
        *self.rolled_back.lock() = step_back;
        old.retire();
        if tokio::time::timeout(longest(&old), old.drained()).await.is_err() {
            tracing::warn!(slot = %self.shared.name, "calls of the generation before are still in flight");
        }
        Ok(number)
    }

    /// Makes one call: waits for a permit, asks whether the plugin may be called, runs it on
    /// the threads for plugins, and counts what became of it.
    async fn call<R: Send + 'static>(
        self: &Arc<Self>,
        setup: Setup,
        work: Work<R>,
    ) -> Result<(R, Vec<KvWrite>), CallError> {
        let export = setup.export;
        let Ok(_permit) = self.permits.acquire().await else {
            let generation = self.current.load_full();
            let stopped = Cause::NotCallable("the slot was stopped".into());
            return Err(call_error(&generation, export, stopped));
        };
        let (generation, in_flight) = loop {
            let generation = self.current.load_full();
            let in_flight = generation.enter();
            // Entered before it was retired, so its drain waits for this call.
            if Arc::ptr_eq(&generation, &self.current.load()) {
                break (generation, in_flight);
            }
        };
        let decision = self.health.lock().asked(now());
        let refusal = match decision {
            Decision::Go => None,
            Decision::Wait { until, failures } => Some(Cause::BackingOff { until, failures }),
            Decision::Refuse { reason } => Some(Cause::Quarantined { reason }),
        };
        if let Some(cause) = refusal {
            self.shared.metrics.failed(cause.kind());
            return Err(call_error(&generation, export, cause));
        }
        let started = Instant::now();
        let outcome = self.drive(&generation, setup, work).await;
        drop(in_flight);
        self.settle(&generation, export, started.elapsed(), outcome)
    }

    async fn drive<R: Send + 'static>(
        &self,
        generation: &Arc<Generation>,
        mut setup: Setup,
        work: Work<R>,
    ) -> Outcome<R> {
        let runs_kv = matches!(setup.export, "collect" | "notify");
        if let Some(bytes) = generation.kv_bytes().filter(|_| runs_kv) {
            let state = self.shared.services.kv.load(&self.shared.name);
            setup.kv = Some(KvView::new(state, bytes));
        }
        let tick = self.runtime.ticker.guard();
        let longest = longest(generation);
        let task = self.runtime.threads.spawn({
            let generation = Arc::clone(generation);
            async move {
                let _tick = tick;
                on_instance(&generation, setup, work).await
            }
        });
        let failed = |cause| Outcome {
            result: Err(cause),
            kv: Vec::new(),
            guest: Duration::ZERO,
            host: Duration::ZERO,
        };
        match tokio::time::timeout(longest, task).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => failed(Cause::Host(format!("the call ended early: {error}"))),
            Err(_) => failed(Cause::TimedOut {
                limit_ms: generation.limits.call_ms,
                during: "in a host function that does not return".into(),
                frames: crate::error::Frames::default(),
            }),
        }
    }

    fn settle<R>(
        self: &Arc<Self>,
        generation: &Arc<Generation>,
        export: &'static str,
        took: Duration,
        outcome: Outcome<R>,
    ) -> Result<(R, Vec<KvWrite>), CallError> {
        let Outcome { result, kv, guest, host } = outcome;
        let failure = result.as_ref().err().map(Cause::kind);
        self.shared.metrics.called(export, took, guest, host, failure);
        let error = match result {
            Ok(value) => {
                self.health.lock().succeeded(generation.number);
                generation.is_good_from_now_on();
                self.shared.metrics.running(true);
                return Ok((value, kv));
            }
            Err(cause) => call_error(generation, export, cause),
        };
        *self.last_error.lock() = Some((now(), error.to_string()));
        if error.is_fault() {
            self.shared.metrics.restarted();
            let reason = format!("{export}: {}", error.cause);
            let given_up = {
                let mut health = self.health.lock();
                let given_up = health.failed(generation.number, now(), &reason);
                self.shared.metrics.running(*health.state() == State::Running);
                given_up
            };
            if given_up {
                self.give_up(generation, reason);
            }
        } else if error.was_called() {
            self.health.lock().succeeded(generation.number);
            generation.is_good_from_now_on();
        }
        Err(error)
    }

    /// Goes back to the last good generation, if there is one.
    fn give_up(self: &Arc<Self>, generation: &Generation, reason: String) {
        let Some(spec) = self.last_good.lock().take() else {
            tracing::error!(slot = %self.shared.name, plugin = %title(&generation.spec), %reason, "plugin is quarantined; nothing to go back to");
            return;
        };
        tracing::error!(slot = %self.shared.name, plugin = %title(&generation.spec), %reason, back_to = %title(&spec), "plugin is given up for the last good one");
        let step = RolledBack {
            version: generation.spec.component.version().clone(),
            digest: generation.spec.component.digest(),
            at: now(),
            reason,
        };
        let slot = Arc::clone(self);
        self.runtime.io.spawn(async move {
            let title = title(&spec);
            if let Err(cause) = slot.change(spec, Some(step)).await {
                tracing::error!(slot = %slot.shared.name, plugin = %title, error = %cause, "the last good plugin was not loaded either");
            }
        });
    }
}

/// Longest that a call of a generation is waited for: a fresh instance, its config and the
/// call itself have a limit each.
fn longest(generation: &Generation) -> Duration {
    Duration::from_millis(generation.limits.call_ms) * 3 + GRACE
}

fn call_error(generation: &Generation, export: &'static str, cause: Cause) -> CallError {
    let component = &generation.spec.component;
    CallError {
        slot: generation.spec.name.clone(),
        plugin: component.name().clone(),
        version: Box::new(component.version().clone()),
        export,
        cause,
    }
}

/// Runs a call on an idle or fresh instance and keeps the instance if it may be used again.
async fn on_instance<R>(generation: &Arc<Generation>, setup: Setup, work: Work<R>) -> Outcome<R> {
    let mut instance: Instance = match generation.instance().await {
        Ok(instance) => instance,
        Err(cause) => {
            let (guest, host) = (Duration::ZERO, Duration::ZERO);
            return Outcome { result: Err(cause), kv: Vec::new(), guest, host };
        }
    };
    let outcome = instance.run(setup, work).await;
    match &outcome.result {
        Err(cause) if cause.kind().is_fault() => drop(instance),
        Ok(_) | Err(_) => generation.keep(instance),
    }
    outcome
}
