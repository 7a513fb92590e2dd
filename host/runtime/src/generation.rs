//! One version loaded into a slot, with its config and grants: makes instances and keeps idle
//! ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use sentinel_trust::{Kind, Limits};
use tokio::sync::{Notify, watch};
use wasmtime::component::{ComponentExportIndex, InstancePre, TypedFunc};
use wasmtime::{PoolConcurrencyLimitError, Store, UpdateDeadline};

use crate::bindings::exports::sentinel::plugin::{evaluate, notify, plugin, state};
use crate::call::{Instance, Setup, work};
use crate::engine::MAX_INSTANCES;
use crate::error::{Cause, Diagnostic};
use crate::host::columns::{CollectParams, CollectResult, ReshapeParams, ReshapeResult};
use crate::host::{Gates, Host, SlotShared, Stop};
use crate::runtime::Compiled;
use crate::slot::SlotSpec;
use crate::state::{Carried, restore, snapshot};
use crate::wasi::Wasi;

/// Where the functions of a plugin lie in its component.
pub(crate) struct Indices {
    pub(crate) plugin: plugin::GuestIndices,
    pub(crate) own: OwnIndices,
    /// Where a plugin that keeps state gives and takes it; only of kinds whose calls never run
    /// beside each other, so that there is one state.
    pub(crate) state: Option<state::GuestIndices>,
}

/// Where the functions of its kind lie.
pub(crate) enum OwnIndices {
    Collect(ComponentExportIndex),
    Reshape(ComponentExportIndex),
    Evaluate(evaluate::GuestIndices),
    Notify(notify::GuestIndices),
}

impl Indices {
    /// Finds the exports of a kind; an error names what is missing.
    pub(crate) fn find(kind: Kind, pre: &InstancePre<Host>) -> wasmtime::Result<Self> {
        let interface = |name: &str| format!("sentinel:plugin/{name}@{}", sentinel_trust::CONTRACT);
        let function = |within: &str, name: &str| {
            let (component, full) = (pre.component(), interface(within));
            component
                .get_export_index(None, &full)
                .and_then(|instance| component.get_export_index(Some(&instance), name))
                .ok_or_else(|| wasmtime::format_err!("there is no function `{name}` in `{full}`"))
        };
        let own = match kind {
            Kind::Collector => OwnIndices::Collect(function("collect", "collect")?),
            Kind::Transform => OwnIndices::Reshape(function("reshape", "reshape")?),
            Kind::Evaluator => OwnIndices::Evaluate(evaluate::GuestIndices::new(pre)?),
            Kind::Notifier => OwnIndices::Notify(notify::GuestIndices::new(pre)?),
        };
        let keeps_state = matches!(kind, Kind::Collector | Kind::Evaluator)
            && pre.component().get_export_index(None, interface("state")).is_some();
        let state = keeps_state.then(|| state::GuestIndices::new(pre)).transpose()?;
        Ok(Self { plugin: plugin::GuestIndices::new(pre)?, own, state })
    }
}

/// The functions of an instance, their types checked.
pub(crate) struct Exports {
    pub(crate) plugin: plugin::Guest,
    pub(crate) own: OwnExports,
    pub(crate) state: Option<state::Guest>,
}

/// The functions of an instance's kind. Cheap to clone, so that a call can hold them beside
/// the store.
pub(crate) enum OwnExports {
    Collect(TypedFunc<CollectParams, CollectResult>),
    /// Typed anew at each call: its parameters borrow the batch.
    Reshape(wasmtime::component::Func),
    Evaluate(evaluate::Guest),
    Notify(notify::Guest),
}

/// One version in a slot.
pub(crate) struct Generation {
    pub(crate) spec: SlotSpec,
    pub(crate) limits: Limits,
    /// From 1, given when the slot takes it; 0 before.
    number: AtomicU64,
    shared: Arc<SlotShared>,
    gates: Arc<Gates>,
    config: String,
    pre: InstancePre<Host>,
    indices: Indices,
    uses_wasi: bool,
    idle: Mutex<Vec<Instance>>,
    retired: AtomicBool,
    good: AtomicBool,
    in_flight: AtomicUsize,
    drained: Notify,
    /// Set when the plugin may not run any more: calls in flight end.
    halted: watch::Sender<bool>,
    /// State of an instance that was replaced by a fresh one, for the next.
    carried: Mutex<Option<Carried>>,
    /// Keeps the code known to the runtime as long as it is used.
    _compiled: Arc<Compiled>,
}

/// What a generation is made of.
pub(crate) struct Parts {
    pub(crate) spec: SlotSpec,
    pub(crate) limits: Limits,
    pub(crate) shared: Arc<SlotShared>,
    pub(crate) gates: Gates,
    pub(crate) config: String,
    pub(crate) pre: InstancePre<Host>,
    pub(crate) indices: Indices,
    pub(crate) uses_wasi: bool,
    pub(crate) compiled: Arc<Compiled>,
}

/// A call failed so that its instance may not be used again.
struct Faulted;

/// Why there is no fresh instance.
pub(crate) enum Unmade {
    /// All places of the process are taken.
    Full,
    /// Memory, tables, or the start function.
    Instantiate(String),
    /// An export has another type than the contract says.
    Exports(String),
}

impl Generation {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            spec: parts.spec,
            limits: parts.limits,
            number: AtomicU64::new(0),
            shared: parts.shared,
            gates: Arc::new(parts.gates),
            config: parts.config,
            pre: parts.pre,
            indices: parts.indices,
            uses_wasi: parts.uses_wasi,
            idle: Mutex::default(),
            retired: AtomicBool::new(false),
            good: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            drained: Notify::new(),
            halted: watch::Sender::new(false),
            carried: Mutex::default(),
            _compiled: parts.compiled,
        }
    }

    /// An instance that was neither described nor configured.
    pub(crate) async fn raw(&self) -> Result<Instance, Unmade> {
        let http = || self.gates.http.clone();
        let wasi = self.uses_wasi.then(|| Box::new(Wasi::new(Arc::clone(&self.shared), http())));
        let (shared, gates) = (Arc::clone(&self.shared), Arc::clone(&self.gates));
        let host = Host::new(shared, gates, self.limits, wasi);
        let mut store = Store::new(self.pre.engine(), host);
        store.limiter(|host| host);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| {
            if std::time::Instant::now() >= store.data().call.deadline {
                return Err(Stop::TimeUp { during: "running its own code" }.into());
            }
            Ok(UpdateDeadline::Yield(1))
        });
        // A start function runs here, under the time of a call.
        store.data_mut().call.deadline += std::time::Duration::from_millis(self.limits.call_ms);
        let instance = self.pre.instantiate_async(&mut store).await.map_err(|error| {
            if error.is::<PoolConcurrencyLimitError>() {
                Unmade::Full
            } else {
                Unmade::Instantiate(format!("{error:#}"))
            }
        })?;
        let exports = self.typed(&mut store, &instance);
        let exports = exports.map_err(|error| Unmade::Exports(format!("{error:#}")))?;
        Ok(Instance::new(store, exports))
    }

    fn typed(
        &self,
        store: &mut Store<Host>,
        instance: &wasmtime::component::Instance,
    ) -> wasmtime::Result<Exports> {
        let own = match &self.indices.own {
            OwnIndices::Collect(index) => {
                OwnExports::Collect(instance.get_typed_func(&mut *store, index)?)
            }
            OwnIndices::Reshape(index) => {
                let function = instance
                    .get_typed_func::<ReshapeParams<'static>, ReshapeResult>(&mut *store, index)?;
                OwnExports::Reshape(*function.func())
            }
            OwnIndices::Evaluate(indices) => {
                OwnExports::Evaluate(indices.load(&mut *store, instance)?)
            }
            OwnIndices::Notify(indices) => OwnExports::Notify(indices.load(&mut *store, instance)?),
        };
        let state = self.indices.state.as_ref().map(|indices| indices.load(&mut *store, instance));
        let plugin = self.indices.plugin.load(&mut *store, instance)?;
        Ok(Exports { plugin, own, state: state.transpose()? })
    }

    /// Hands an instance its config.
    pub(crate) async fn configure(&self, instance: &mut Instance) -> Result<(), Cause> {
        let config = self.config.clone();
        let run = work(move |instance| {
            Box::pin(async move {
                let plugin = &instance.exports.plugin;
                let answer = plugin.call_configure(&mut instance.store, &config).await?;
                Ok(answer.map_err(|said| {
                    Cause::Misconfigured(said.into_iter().map(Diagnostic::from).collect())
                }))
            })
        });
        instance.run(Setup::of("configure"), run).await.result
    }

    /// An idle instance, or a fresh one that has its config.
    pub(crate) async fn instance(&self) -> Result<Instance, Cause> {
        if let Some(instance) = self.take_idle() {
            return Ok(instance);
        }
        let mut instance = self.raw().await.map_err(|unmade| match unmade {
            Unmade::Full => Cause::Full { places: MAX_INSTANCES },
            Unmade::Instantiate(why) | Unmade::Exports(why) => Cause::Restart(why),
        })?;
        self.configure(&mut instance)
            .await
            .map_err(|cause| Cause::Restart(format!("configure: {cause}")))?;
        let carried = self.carried.lock().take();
        if let Some(carried) = carried {
            restore(&mut instance, carried)
                .await
                .map_err(|cause| Cause::Restart(format!("restore: {cause}")))?;
        }
        Ok(instance)
    }

    fn take_idle(&self) -> Option<Instance> {
        self.idle.lock().pop()
    }

    /// Keeps an instance after a call; in place of one that is worn there will be a fresh one,
    /// with its state.
    pub(crate) async fn keep_after_call(&self, mut instance: Instance) {
        if !instance.is_worn() {
            self.keep(instance);
        } else if self.keeps_state() {
            let carried = self.state_of(&mut instance).await.ok().flatten();
            *self.carried.lock() = carried;
        }
    }

    /// An instance's state. An error says that the instance may not be used again.
    async fn state_of(&self, instance: &mut Instance) -> Result<Option<Carried>, Faulted> {
        match snapshot(instance).await {
            Ok(bytes) => {
                let version = self.spec.component.version().clone();
                Ok(Some(Carried { version, bytes }))
            }
            Err(cause) => {
                tracing::warn!(slot = %self.spec.name, plugin = %self.spec.component.name(), %cause, "a plugin did not give its state, which is lost");
                if cause.kind().is_fault() { Err(Faulted) } else { Ok(None) }
            }
        }
    }

    /// Whether the plugin gives and takes state.
    pub(crate) fn keeps_state(&self) -> bool {
        self.indices.state.is_some()
    }

    /// The state that the next generation begins with, if there is any. No call may be in
    /// flight. The instance is kept: this generation may have to go on.
    pub(crate) async fn state(&self) -> Option<Carried> {
        let Some(mut instance) = self.take_idle() else { return self.carried.lock().clone() };
        let carried = self.state_of(&mut instance).await.ok()?;
        self.keep(instance);
        carried
    }

    /// Keeps an instance for the next call, unless the generation is over.
    pub(crate) fn keep(&self, instance: Instance) {
        let mut idle = self.idle.lock();
        // Looked at under the lock: `retire` empties the list under the same lock.
        if !self.retired.load(Ordering::SeqCst) {
            idle.push(instance);
        }
    }

    /// Most bytes of the slot's state, if the plugin may keep any.
    pub(crate) fn kv_bytes(&self) -> Option<u64> {
        self.gates.kv_bytes
    }

    /// How many instances are idle.
    pub(crate) fn idle(&self) -> usize {
        self.idle.lock().len()
    }

    /// A call gave a result: this generation can be gone back to. Whether that is news.
    pub(crate) fn is_good_from_now_on(&self) -> bool {
        !self.good.load(Ordering::Relaxed) && !self.good.swap(true, Ordering::Relaxed)
    }

    /// Its number in the slot; 0 before the slot took it.
    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::SeqCst)
    }

    /// Numbers it, once.
    pub(crate) fn set_number(&self, number: u64) {
        self.number.store(number, Ordering::SeqCst);
    }

    /// Ends calls in flight: a guest within a tick of the epoch, a host function at once.
    pub(crate) fn halt(&self) {
        self.halted.send_replace(true);
        self.retire();
    }

    /// Ends when the plugin may not run any more.
    pub(crate) async fn halted(&self) {
        // The sender lives as long as this.
        let _ = self.halted.subscribe().wait_for(|halted| *halted).await;
    }

    /// Whether it can be gone back to.
    pub(crate) fn is_good(&self) -> bool {
        self.good.load(Ordering::Relaxed)
    }

    /// Counts a call as in flight until the guard is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        InFlight(Arc::clone(self))
    }

    /// Drops idle instances now and others as their calls end.
    pub(crate) fn retire(&self) {
        let idle = {
            let mut idle = self.idle.lock();
            self.retired.store(true, Ordering::SeqCst);
            std::mem::take(&mut *idle)
        };
        drop(idle);
    }

    /// Waits until no call is in flight.
    pub(crate) async fn drained(&self) {
        loop {
            let notified = self.drained.notified();
            if self.in_flight.load(Ordering::SeqCst) == 0 {
                return;
            }
            notified.await;
        }
    }
}

/// A call in flight.
pub(crate) struct InFlight(Arc<Generation>);

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.drained.notify_waiters();
        }
    }
}
