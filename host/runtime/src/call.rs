//! One call of one instance: its limits before, and what a failure means after.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use wasmtime::{Store, Trap, WasmBacktrace};

use crate::capabilities::kv::{KvView, KvWrite};
use crate::error::{Cause, Frames};
use crate::generation::Exports;
use crate::host::{CallState, Host, Stop};
use crate::threads::Metered;

/// Functions that are called, as they are named in errors and metrics.
pub(crate) const EXPORTS: [&str; 10] = [
    "describe",
    "configure",
    "collect",
    "reshape",
    "check",
    "load",
    "evaluate",
    "notify",
    "snapshot",
    "restore",
];

/// Calls after which an instance is replaced by a fresh one.
const RECYCLE_CALLS: u64 = 100_000;
/// Linear memory never shrinks: an instance that holds more than so many hundredths of its
/// limit is replaced by a fresh one after its call.
const RECYCLE_MEMORY_PERCENT: u64 = 75;
/// Frames that are looked at to tell a recursion.
const RECURSION_FRAMES: usize = 16;
/// Most functions that a recursion may be made of to be told.
const RECURSION_FUNCTIONS: usize = 4;

/// An instance of a generation: a store that holds one instance and nothing else. After a
/// trap, and when a call was dropped, it is dropped.
pub(crate) struct Instance {
    pub(crate) store: Store<Host>,
    pub(crate) exports: Exports,
    /// Which set of conditions an evaluator has loaded; 0 is none.
    pub(crate) conditions: u64,
    calls: u64,
}

/// What a call is made with.
pub(crate) struct Setup {
    pub(crate) export: &'static str,
    /// As of when series are asked for, unix milliseconds.
    pub(crate) at: i64,
    /// The slot's state, where the generation has the capability.
    pub(crate) kv: Option<KvView>,
}

impl Setup {
    pub(crate) fn of(export: &'static str) -> Self {
        Self { export, at: 0, kv: None }
    }
}

/// The part of a call that runs the guest. What the guest itself says is the inner result.
pub(crate) type Work<R> = Box<
    dyn for<'a> FnOnce(&'a mut Instance) -> BoxFuture<'a, wasmtime::Result<Result<R, Cause>>>
        + Send,
>;

/// Work out of a closure.
pub(crate) fn work<R, F>(run: F) -> Work<R>
where
    F: for<'a> FnOnce(&'a mut Instance) -> BoxFuture<'a, wasmtime::Result<Result<R, Cause>>>
        + Send
        + 'static,
{
    Box::new(run)
}

/// What became of a call.
pub(crate) struct Outcome<R> {
    pub(crate) result: Result<R, Cause>,
    pub(crate) kv: Vec<KvWrite>,
    pub(crate) guest: Duration,
    pub(crate) host: Duration,
}

impl Instance {
    pub(crate) fn new(store: Store<Host>, exports: Exports) -> Self {
        Self { store, exports, conditions: 0, calls: 0 }
    }

    /// Whether it should make room for a fresh one.
    pub(crate) fn is_worn(&self) -> bool {
        let host = self.store.data();
        self.calls >= RECYCLE_CALLS
            || host.memory_bytes() > host.limits.memory_bytes / 100 * RECYCLE_MEMORY_PERCENT
    }

    /// Runs one call under the limits.
    pub(crate) async fn run<R>(&mut self, setup: Setup, work: Work<R>) -> Outcome<R> {
        self.calls += 1;
        let host = self.store.data_mut();
        let limits = host.limits;
        let deadline = Instant::now() + Duration::from_millis(limits.call_ms);
        host.call = CallState {
            deadline,
            describing: setup.export == "describe",
            at: setup.at,
            kv: setup.kv,
            ..CallState::default()
        };
        self.store.set_epoch_deadline(1);
        self.store.set_hostcall_fuel(usize::try_from(limits.returned_bytes).unwrap_or(usize::MAX));

        let (result, on_thread) = Metered::new(work(self)).await;
        let host = self.store.data_mut();
        let call = std::mem::take(&mut host.call);
        let result = match result {
            Ok(result) => result,
            Err(error) => Err(classify(&error, &call, &limits)),
        };
        let kv = match &result {
            Ok(_) => call.kv.map(KvView::into_writes).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        let guest = on_thread.saturating_sub(call.busy);
        Outcome { result, kv, guest, host: call.waited }
    }
}

/// What an error of wasmtime means for the plugin.
fn classify(error: &wasmtime::Error, call: &CallState, limits: &sentinel_trust::Limits) -> Cause {
    let frames = error
        .downcast_ref::<WasmBacktrace>()
        .map_or_else(Frames::default, |trace| Frames::new(&trace.to_string()));
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return match stop {
            Stop::TimeUp { during } => {
                Cause::TimedOut { limit_ms: limits.call_ms, during: (*during).to_owned(), frames }
            }
            Stop::Refused(why) => Cause::Host(why.clone()),
        };
    }
    if error.is::<wasmtime_wasi::I32Exit>() {
        return Cause::Trapped { trap: "it called exit".into(), frames };
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => Cause::StackOverflow { frames },
        Some(Trap::MemoryOutOfBounds) if recursed(error) => Cause::StackOverflow { frames },
        Some(_) if call.memory_refused => Cause::OutOfMemory { limit: limits.memory_bytes, frames },
        Some(Trap::UnreachableCodeReached) if call.last_error.is_some() => {
            let message = call.last_error.clone().unwrap_or_default();
            Cause::Panicked { message, frames }
        }
        Some(trap) => Cause::Trapped { trap: trap.to_string(), frames },
        // Neither a trap nor one of ours: wasmtime could not take what the guest handed over.
        None => {
            let text = last_line(error);
            if text.contains("hostcalls has been exhausted") {
                return Cause::TooMuch { limit: limits.returned_bytes };
            }
            Cause::Malformed(text)
        }
    }
}

/// Whether the innermost functions are a few that call each other again and again. A stack
/// that lies in linear memory, as that of Rust and C does, ends there in an access out of
/// bounds, not in wasmtime's own overflow.
fn recursed(error: &wasmtime::Error) -> bool {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return false };
    let innermost = trace.frames().iter().take(RECURSION_FRAMES);
    let functions: BTreeSet<_> = innermost.map(wasmtime::FrameInfo::func_index).collect();
    trace.frames().len() >= RECURSION_FRAMES && functions.len() <= RECURSION_FUNCTIONS
}

/// The innermost reason, in one line.
fn last_line(error: &wasmtime::Error) -> String {
    let text = error.root_cause().to_string();
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(500).collect()
}
