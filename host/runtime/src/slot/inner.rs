//! What a slot does behind its functions: change its generation, make calls, count what became
//! of them, step back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sentinel_trust::Kind;

use super::{Inner, SlotSpec, now, title};
use crate::call::{Instance, Outcome, Setup, Work};
use crate::capabilities::kv::KvView;
use crate::error::{CallError, Cause, LoadCause};
use crate::generation::Generation;
use crate::health::{Decision, Health, State};
use crate::load;
use crate::services::KvWrite;
use crate::status::RolledBack;

/// How much longer than its own limits a call is waited for: only a host function that blocks
/// its thread can make use of it.
const GRACE: Duration = Duration::from_secs(1);

impl Inner {
    pub(super) async fn change(
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
        let stepped_back = step_back.is_some();
        // First, so that whoever sees the new generation sees why it is there.
        *self.rolled_back.lock() = step_back;
        self.current.store(Arc::clone(&generation));
        *self.health.lock() = Health::new(number, self.runtime.first_wait_ms);
        drop(alone);
        self.shared.log.lock().name_plugin(&title);
        self.shared.metrics.generation(number);
        self.shared.metrics.running(true);
        if old.is_good() && !stepped_back {
            *self.last_good.lock() = Some(Arc::clone(&old));
        }
        old.retire();
        if tokio::time::timeout(longest(&old), old.drained()).await.is_err() {
            tracing::warn!(slot = %self.shared.name, "calls of the generation before are still in flight");
        }
        Ok(number)
    }

    /// Makes one call: waits for a permit, asks whether the plugin may be called, runs it on
    /// the threads for plugins, and counts what became of it.
    pub(super) async fn call<R: Send + 'static>(
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
        let Some(good) = self.last_good.lock().take() else {
            tracing::error!(slot = %self.shared.name, plugin = %title(&generation.spec), %reason, "plugin is quarantined; nothing to go back to");
            return;
        };
        tracing::error!(slot = %self.shared.name, plugin = %title(&generation.spec), %reason, back_to = %title(&good.spec), "plugin is given up for the last good one");
        let step = RolledBack {
            version: generation.spec.component.version().clone(),
            digest: generation.spec.component.digest(),
            at: now(),
            reason,
        };
        let slot = Arc::clone(self);
        self.runtime.io.spawn(async move {
            let title = title(&good.spec);
            if let Err(cause) = slot.change(good.spec.clone(), Some(step)).await {
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

pub(super) fn call_error(generation: &Generation, export: &'static str, cause: Cause) -> CallError {
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
