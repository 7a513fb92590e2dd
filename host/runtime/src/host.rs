//! What stands behind one instance's imports: its slot, its gates, its limits, and what the
//! call that runs now has used of them.

pub(crate) mod columns;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sentinel_model::ids::SlotName;
use sentinel_trust::Limits;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use wasmtime::ResourceLimiter;

use crate::capabilities::files::FileGate;
use crate::capabilities::http::HttpGate;
use crate::capabilities::kv::KvView;
use crate::capabilities::log::LogGate;
use crate::capabilities::mac::MacGate;
use crate::capabilities::mail::MailGate;
use crate::capabilities::system::SystemGate;
use crate::engine::MAX_TABLE_ELEMENTS;
use crate::imports::Selectors;
use crate::metrics::SlotMetrics;
use crate::services::Services;
use crate::threads::AbortOnDrop;
use crate::wasi::Wasi;

/// Most host functions of a slot that may be stuck in the operating system at once.
const MAX_STUCK: usize = 4;

/// What all generations of a slot share.
pub(crate) struct SlotShared {
    pub(crate) name: SlotName,
    pub(crate) services: Services,
    pub(crate) io: Handle,
    pub(crate) metrics: Arc<SlotMetrics>,
    pub(crate) log: Mutex<LogGate>,
    pub(crate) selectors: Mutex<Selectors>,
    /// One permit for each host function that may block a thread of the system.
    pub(crate) stuck: Arc<Semaphore>,
}

impl SlotShared {
    pub(crate) fn new(
        name: SlotName,
        services: Services,
        io: Handle,
        metrics: SlotMetrics,
        log: LogGate,
    ) -> Self {
        Self {
            name,
            services,
            io,
            metrics: Arc::new(metrics),
            log: Mutex::new(log),
            selectors: Mutex::default(),
            stuck: Arc::new(Semaphore::new(MAX_STUCK)),
        }
    }
}

/// The ways out that one generation was granted; what is not here is not linked either.
#[derive(Default)]
pub(crate) struct Gates {
    pub(crate) http: Option<Arc<HttpGate>>,
    pub(crate) mail: Option<Arc<MailGate>>,
    pub(crate) files: Option<Arc<FileGate>>,
    pub(crate) system: Option<Arc<SystemGate>>,
    pub(crate) mac: Option<MacGate>,
    pub(crate) kv_bytes: Option<u64>,
}

/// Why a host function ends the call instead of answering.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// The call's time is up.
    #[error("time is up, {during}")]
    TimeUp {
        /// What it was doing.
        during: &'static str,
    },
    /// Something that the contract has no word for.
    #[error("{0}")]
    Refused(String),
}

/// What the call that runs now has used.
pub(crate) struct CallState {
    pub(crate) deadline: Instant,
    /// `describe` runs without any capability.
    pub(crate) describing: bool,
    /// As of when series are asked for, unix milliseconds.
    pub(crate) at: i64,
    pub(crate) kv: Option<KvView>,
    /// The last message at level error: what a panic hook said, if a trap follows.
    pub(crate) last_error: Option<String>,
    /// Whether memory was refused.
    pub(crate) memory_refused: bool,
    /// Waiting in host functions, wherever they ran.
    pub(crate) waited: Duration,
    /// The part of it that ran on the guest's own thread.
    pub(crate) busy: Duration,
}

impl Default for CallState {
    fn default() -> Self {
        Self {
            deadline: Instant::now(),
            describing: false,
            at: 0,
            kv: None,
            last_error: None,
            memory_refused: false,
            waited: Duration::ZERO,
            busy: Duration::ZERO,
        }
    }
}

/// The data of one instance's store.
pub(crate) struct Host {
    pub(crate) slot: Arc<SlotShared>,
    pub(crate) gates: Arc<Gates>,
    pub(crate) limits: Limits,
    pub(crate) call: CallState,
    pub(crate) wasi: Option<Box<Wasi>>,
    memory_bytes: u64,
}

impl Host {
    pub(crate) fn new(
        slot: Arc<SlotShared>,
        gates: Arc<Gates>,
        limits: Limits,
        wasi: Option<Box<Wasi>>,
    ) -> Self {
        Self { slot, gates, limits, call: CallState::default(), wasi, memory_bytes: 0 }
    }

    /// Linear memory of the instance, in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    fn refuse_while_describing(&self, what: &'static str) -> Result<(), Stop> {
        if self.call.describing {
            return Err(Stop::Refused(format!(
                "`describe` must not call imports, and calls {what}"
            )));
        }
        Ok(())
    }

    /// Runs a host function that answers at once, on the guest's thread.
    pub(crate) fn at_once<T>(
        &mut self,
        what: &'static str,
        work: impl FnOnce(&mut Self) -> wasmtime::Result<T>,
    ) -> wasmtime::Result<T> {
        self.refuse_while_describing(what)?;
        let started = Instant::now();
        let result = work(self);
        let took = started.elapsed();
        self.call.waited += took;
        self.call.busy += took;
        result
    }

    /// Runs a host function among the host's I/O, under a time limit of its own; nothing where
    /// that passed.
    pub(crate) async fn outside<T: Send + 'static>(
        &mut self,
        what: &'static str,
        limit: Duration,
        work: impl Future<Output = T> + Send + 'static,
    ) -> wasmtime::Result<Option<T>> {
        self.refuse_while_describing(what)?;
        let started = Instant::now();
        let limit = limit.min(self.call.deadline.saturating_duration_since(started));
        let timed = async move { tokio::time::timeout(limit, work).await.ok() };
        let answer = AbortOnDrop::new(self.slot.io.spawn(timed)).await;
        self.call.waited += started.elapsed();
        match answer {
            Ok(Some(value)) => Ok(Some(value)),
            Ok(None) if Instant::now() >= self.call.deadline => {
                Err(Stop::TimeUp { during: what }.into())
            }
            Ok(None) => Ok(None),
            Err(error) => Err(Stop::Refused(format!("{what} ended early: {error}")).into()),
        }
    }

    /// Runs a host function that may block its thread, under a time limit of its own; nothing
    /// where that passed. What is stuck then stays so, but a slot can have only a few of it.
    pub(crate) async fn blocking<T: Send + 'static>(
        &mut self,
        what: &'static str,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> wasmtime::Result<Option<T>> {
        let Ok(permit) = Arc::clone(&self.slot.stuck).try_acquire_owned() else {
            return Ok(None);
        };
        let io = self.slot.io.clone();
        let work = async move {
            let task = io.spawn_blocking(move || {
                let value = work();
                drop(permit);
                value
            });
            task.await
        };
        match self.outside(what, limit, work).await? {
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(error)) => Err(Stop::Refused(format!("{what} ended early: {error}")).into()),
            None => Ok(None),
        }
    }
}

impl ResourceLimiter for Host {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let grown = (self.memory_bytes + desired as u64).saturating_sub(current as u64);
        if grown > self.limits.memory_bytes {
            self.call.memory_refused = true;
            return Ok(false);
        }
        self.slot.metrics.memory_changed(grown as i64 - self.memory_bytes as i64);
        self.memory_bytes = grown;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.slot.metrics.memory_changed(-(self.memory_bytes as i64));
    }
}
