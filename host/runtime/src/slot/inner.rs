//! What a slot does behind its functions: make calls, count what became of them, step back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::content::{Content, Vacancy};
use super::prepared::StepBack;
use super::{Inner, LastGood, now, title};
use crate::call::{Instance, Outcome, Setup, Work};
use crate::capabilities::kv::KvView;
use crate::error::{CallError, Cause, FailureKind};
use crate::generation::{Generation, InFlight};
use crate::health::{Decision, State};
use crate::services::KvWrite;
use crate::status::RolledBack;

/// How much longer than its own limits a call is waited for: only a host function that blocks
/// its thread can make use of it.
const GRACE: Duration = Duration::from_secs(1);

impl Inner {
    /// Makes one call: waits for a permit, asks whether the plugin may be called, runs it on
    /// the threads for plugins, and counts what became of it.
    pub(super) async fn call<R: Send + 'static>(
        self: &Arc<Self>,
        setup: Setup,
        work: Work<R>,
    ) -> Result<(R, Vec<KvWrite>), CallError> {
        let export = setup.export;
        let Ok(_permit) = self.permits.acquire().await else {
            return Err(self.error(export, Cause::NotCallable("the slot was stopped".into())));
        };
        let (content, in_flight) = self.enter().map_err(|cause| {
            self.shared.metrics.failed(cause.kind());
            self.error(export, cause)
        })?;
        let generation = content.generation().expect("there is something to enter");
        let decision = self.health.lock().asked(now());
        let refusal = match decision {
            Decision::Go => None,
            Decision::Wait { until, failures } => Some(Cause::BackingOff { until, failures }),
            Decision::Refuse { reason } => Some(Cause::Quarantined { reason }),
        };
        if let Some(cause) = refusal {
            self.shared.metrics.failed(cause.kind());
            return Err(content.error(&self.shared.name, export, cause));
        }
        let started = Instant::now();
        let outcome = self.drive(generation, in_flight, setup, work).await;
        self.settle(&content, export, started.elapsed(), outcome)
    }

    /// What runs now, with a call counted as in flight.
    fn enter(&self) -> Result<(Arc<Content>, InFlight), Cause> {
        loop {
            let content = self.content.load_full();
            let generation = match &*content {
                Content::Running(generation) => generation,
                Content::Empty(Vacancy { emptied, reason, .. }) => {
                    return Err(Cause::Empty { emptied: *emptied, reason: reason.clone() });
                }
            };
            let in_flight = generation.enter();
            // Entered before it was retired, so its drain waits for this call.
            if Arc::ptr_eq(&content, &self.content.load()) {
                return Ok((content, in_flight));
            }
        }
    }

    /// An error of a call of what is in the slot now.
    pub(super) fn error(&self, export: &'static str, cause: Cause) -> CallError {
        self.content.load().error(&self.shared.name, export, cause)
    }

    async fn drive<R: Send + 'static>(
        &self,
        generation: &Arc<Generation>,
        in_flight: InFlight,
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
                // In flight until the guest is gone, which after a timeout is later than the
                // caller knows.
                let (_tick, _in_flight) = (tick, in_flight);
                on_instance(&generation, setup, work).await
            }
        });
        let failed = |cause| Outcome {
            result: Err(cause),
            kv: Vec::new(),
            guest: Duration::ZERO,
            host: Duration::ZERO,
        };
        let timed = tokio::select! {
            timed = tokio::time::timeout(longest, task) => timed,
            // Dropping the task stops the guest at its next yield.
            () = generation.halted() => return failed(Cause::Withdrawn),
        };
        match timed {
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
        content: &Content,
        export: &'static str,
        took: Duration,
        outcome: Outcome<R>,
    ) -> Result<(R, Vec<KvWrite>), CallError> {
        let generation = content.generation().expect("it was called");
        let Outcome { result, kv, guest, host } = outcome;
        let failure = result.as_ref().err().map(Cause::kind);
        self.shared.metrics.called(export, took, guest, host, failure);
        let error = match result {
            Ok(value) => {
                self.succeeded(generation);
                return Ok((value, kv));
            }
            Err(cause) => content.error(&self.shared.name, export, cause),
        };
        *self.last_error.lock() = Some((now(), error.to_string()));
        if error.is_fault() {
            self.shared.metrics.restarted();
            let reason = format!("{export}: {}", error.cause);
            let given_up = {
                let mut health = self.health.lock();
                let given_up = health.failed(generation.number(), now(), &reason);
                if generation.number() == self.content.load().number() {
                    self.shared.metrics.running(*health.state() == State::Running);
                }
                given_up
            };
            if given_up {
                self.give_up(generation, reason);
            }
        } else if error.was_called() && error.kind() != FailureKind::Withdrawn {
            self.succeeded(generation);
        }
        Err(error)
    }

    fn succeeded(&self, generation: &Generation) {
        self.health.lock().succeeded(generation.number());
        if generation.number() == self.content.load().number() {
            self.shared.metrics.running(true);
        }
        if generation.is_good_from_now_on() {
            self.runtime.something_changed();
        }
    }

    /// Goes back to the last good generation, if there is one that may run.
    fn give_up(self: &Arc<Self>, generation: &Generation, reason: String) {
        self.runtime.something_changed();
        let given_up = title(&generation.spec);
        let last_good = {
            let mut transition = self.transition.lock();
            let refused = |it: &mut LastGood| self.runtime.admit(&it.spec().component).is_err();
            transition.last_good.take_if(refused);
            transition.last_good.clone()
        };
        let Some(good) = last_good else {
            tracing::error!(slot = %self.shared.name, plugin = %given_up, %reason, "plugin is quarantined; nothing to go back to");
            return;
        };
        tracing::error!(slot = %self.shared.name, plugin = %given_up, %reason, back_to = %title(good.spec()), "plugin is given up for the last good one");
        let told = RolledBack {
            version: generation.spec.component.version().clone(),
            digest: generation.spec.component.digest(),
            at: now(),
            reason,
        };
        let step = StepBack { from: generation.number(), told };
        let slot = Arc::clone(self);
        self.runtime.io.spawn(async move {
            let _turn = slot.changing.lock().await;
            // The code stays as long as what is gone back to is held.
            let spec = good.spec().clone();
            let stepped = async { slot.prepare(spec, Some(step)).await?.commit().await };
            if let Err(error) = stepped.await {
                tracing::error!(%error, "the last good plugin was not loaded either");
            }
        });
    }

    /// Waits until a generation that takes no more calls has none in flight.
    pub(super) async fn drained(&self, generation: &Generation) {
        if tokio::time::timeout(longest(generation), generation.drained()).await.is_err() {
            tracing::warn!(slot = %self.shared.name, "calls of the generation before are still in flight");
        }
    }
}

/// Longest that a call of a generation is waited for: a fresh instance, its config and the
/// call itself have a limit each.
fn longest(generation: &Generation) -> Duration {
    Duration::from_millis(generation.limits.call_ms) * 3 + GRACE
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
        Ok(_) | Err(_) => generation.keep_after_call(instance).await,
    }
    outcome
}
