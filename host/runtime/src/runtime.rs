//! What all plugins of a process share.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sentinel_trust::{Digest, VerifiedComponent};
use tokio::runtime::Handle;
use tokio::sync::watch;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::admission::{Admission, Refusal, Verified};
use crate::cache::{Cache, CacheError};
use crate::capabilities::http::{HttpClient, HttpClientError, HttpClientOptions};
use crate::capabilities::system::SystemGate;
use crate::compiler::{self, CompileError, CompileLimits, CompilerCommand};
use crate::engine::{self, Ticker};
use crate::health::FIRST_WAIT_MS;
use crate::mapped;
use crate::metrics::Metrics;
use crate::slot::Inner;
use crate::threads::WasmThreads;

/// Most bytes of compiled code kept on disk, unless set otherwise (512 MiB).
const CACHE_BYTES: u64 = 512 << 20;

/// How long a component that could not be compiled is not tried again.
const HOPELESS: Duration = Duration::from_secs(15 * 60);
/// Most of them that are remembered.
const MAX_HOPELESS: usize = 1_000;

/// What a runtime is made of.
#[derive(Clone)]
pub struct RuntimeOptions {
    /// Folder of compiled code; made with mode 0700 where there is none.
    pub cache_dir: PathBuf,
    /// Most bytes in that folder; beyond, what was used longest ago goes.
    pub cache_bytes: u64,
    /// File of the key that proves compiled code to be ours; made with mode 0600 where there
    /// is none.
    pub key_file: PathBuf,
    /// Threads on which plugins run.
    pub threads: usize,
    /// How to start the child that compiles.
    pub compiler: CompilerCommand,
    /// How much one component may take of it.
    pub compile_limits: CompileLimits,
    /// Where metrics of slots are registered.
    pub metrics: prometheus::Registry,
    /// How long a plugin is left alone after its second failure in a row, in milliseconds; each
    /// further one doubles it.
    pub first_wait_ms: u32,
    /// What the one HTTP client is made of.
    pub http: HttpClientOptions,
}

impl RuntimeOptions {
    /// Everything below a data folder, a thread for each processor (at most 4).
    #[must_use]
    pub fn new(data: &Path, compiler: CompilerCommand, metrics: prometheus::Registry) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            cache_dir: data.join("compiled"),
            cache_bytes: CACHE_BYTES,
            key_file: data.join("compiled.key"),
            threads: processors.min(4),
            compiler,
            compile_limits: CompileLimits::default(),
            metrics,
            first_wait_ms: FIRST_WAIT_MS as u32,
            http: HttpClientOptions::default(),
        }
    }
}

/// Why there is no runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// It was started outside a tokio runtime.
    #[error("a plugin runtime must be started inside a tokio runtime with I/O and time")]
    NoTokio,
    /// The engine was refused, as where the address space is limited.
    #[error(
        "the WebAssembly engine could not be made: {0}; it reserves about 1 TiB of address space (not memory), so there must be no limit on it"
    )]
    Engine(String),
    /// A thread could not be started.
    #[error("a thread for plugins could not be started: {0}")]
    Threads(std::io::Error),
    /// The cache of compiled code cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The HTTP client cannot be made.
    #[error(transparent)]
    Http(#[from] HttpClientError),
    /// Metrics of this name are registered already.
    #[error("metrics of plugins could not be registered: {0}; start one runtime a registry")]
    Metrics(#[from] prometheus::Error),
}

/// The engine, its threads, the cache of compiled code and the compiler.
pub struct Runtime {
    pub(crate) engine: Engine,
    pub(crate) threads: WasmThreads,
    pub(crate) ticker: Ticker,
    pub(crate) io: Handle,
    pub(crate) metrics: Metrics,
    pub(crate) http: Arc<HttpClient>,
    pub(crate) system: Arc<SystemGate>,
    pub(crate) thread_count: usize,
    pub(crate) first_wait_ms: i64,
    cache: Arc<Cache>,
    compiler: CompilerCommand,
    compile_limits: CompileLimits,
    compiling: tokio::sync::Mutex<()>,
    /// Components that cannot be compiled, with when that was found.
    hopeless: Mutex<HashMap<Digest, (Instant, CompileError)>>,
    compiled: Mutex<HashMap<Digest, Weak<Compiled>>>,
    admission: ArcSwap<Arc<dyn Admission>>,
    slots: Mutex<Vec<Weak<Inner>>>,
    changes: watch::Sender<u64>,
}

/// Compiled code in memory, shared by all slots that run it.
pub(crate) struct Compiled(Component);

impl Compiled {
    pub(crate) fn component(&self) -> &Component {
        &self.0
    }
}

impl Runtime {
    /// Starts what all plugins of a process share. The tokio runtime in which this is called
    /// does all I/O for plugins.
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub fn start(options: RuntimeOptions) -> Result<Arc<Self>, RuntimeError> {
        let io = Handle::try_current().map_err(|_| RuntimeError::NoTokio)?;
        let engine =
            engine::running().map_err(|error| RuntimeError::Engine(format!("{error:#}")))?;
        let cache = Cache::open(
            &options.cache_dir,
            &options.key_file,
            engine::fingerprint(&engine),
            options.cache_bytes,
        )?;
        Ok(Arc::new(Self {
            threads: WasmThreads::start(options.threads).map_err(RuntimeError::Threads)?,
            ticker: Ticker::start(engine.clone()).map_err(RuntimeError::Threads)?,
            metrics: Metrics::register(&options.metrics)?,
            http: Arc::new(HttpClient::new(options.http)?),
            system: Arc::default(),
            thread_count: options.threads.max(1),
            first_wait_ms: options.first_wait_ms.into(),
            cache: Arc::new(cache),
            compiler: options.compiler,
            compile_limits: options.compile_limits,
            hopeless: Mutex::default(),
            compiling: tokio::sync::Mutex::new(()),
            compiled: Mutex::default(),
            admission: ArcSwap::from_pointee(Arc::new(Verified) as Arc<dyn Admission>),
            slots: Mutex::default(),
            changes: watch::Sender::new(0),
            engine,
            io,
        }))
    }

    /// Counts what an owner may want to know of its slots: another generation, one that gave
    /// its first result and so became good, one given up, a slot emptied. The statuses say what.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn something_changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Whether a plugin may run, as [`Runtime::enforce`] was told last.
    pub(crate) fn admit(&self, component: &VerifiedComponent) -> Result<(), Refusal> {
        self.admission.load().admit(component)
    }

    pub(crate) fn set_admission(&self, admission: Arc<dyn Admission>) {
        self.admission.store(Arc::new(admission));
    }

    pub(crate) fn register(&self, slot: &Arc<Inner>) {
        let mut slots = self.slots.lock();
        slots.retain(|known| known.strong_count() > 0);
        slots.push(Arc::downgrade(slot));
    }

    /// All slots, those that are being started included.
    pub(crate) fn slots(&self) -> Vec<Arc<Inner>> {
        self.slots.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Removes compiled code of plugins that may not run any more.
    pub(crate) async fn forget(&self, digests: Vec<Digest>) {
        if digests.is_empty() {
            return;
        }
        self.compiled.lock().retain(|digest, _| !digests.contains(digest));
        let cache = Arc::clone(&self.cache);
        blocking(&self.io, move || digests.iter().for_each(|digest| cache.remove(digest))).await;
    }

    /// A component's code: from memory, from the cache, or compiled now.
    pub(crate) async fn compiled(
        &self,
        verified: &VerifiedComponent,
    ) -> Result<Arc<Compiled>, CompileError> {
        let digest = verified.digest();
        if let Some(compiled) = self.in_memory(&digest) {
            return Ok(compiled);
        }
        // One at a time: compiling takes hundreds of megabytes.
        let _turn = self.compiling.lock().await;
        if let Some(compiled) = self.in_memory(&digest) {
            return Ok(compiled);
        }
        if let Some(compiled) = self.cached(digest).await {
            self.metrics.cache_hits.inc();
            return Ok(self.remember(digest, compiled));
        }
        if let Some(error) = self.known_hopeless(&digest) {
            return Err(error);
        }
        self.metrics.cache_misses.inc();
        let started = Instant::now();
        let bytes = verified.bytes().ok_or(CompileError::Released)?;
        let compiled = compiler::compile(&self.compiler, self.compile_limits, bytes);
        let code = compiled.await.inspect_err(|error| self.remember_hopeless(digest, error))?;
        tracing::info!(
            digest = %digest,
            milliseconds = started.elapsed().as_millis() as u64,
            bytes = code.len(),
            "compiled a plugin"
        );
        let (engine, cache) = (self.engine.clone(), Arc::clone(&self.cache));
        let compiled = blocking(&self.io, move || {
            let component = in_memory(&engine, &cache, &code)?;
            cache.store(&digest, &code);
            Ok::<_, wasmtime::Error>(component)
        })
        .await
        .map_err(|error| CompileError::Unfit(format!("{error:#}")))?;
        Ok(self.remember(digest, compiled))
    }

    async fn cached(&self, digest: Digest) -> Option<Component> {
        let (engine, cache) = (self.engine.clone(), Arc::clone(&self.cache));
        blocking(&self.io, move || {
            let code = cache.load(&digest)?;
            in_memory(&engine, &cache, code.bytes())
                .inspect_err(|error| {
                    tracing::info!(%digest, error = %format!("{error:#}"), "compiled plugin does not fit this machine; compiling it again");
                })
                .ok()
        })
        .await
    }

    fn in_memory(&self, digest: &Digest) -> Option<Arc<Compiled>> {
        self.compiled.lock().get(digest)?.upgrade()
    }

    /// Why a component was not compiled a while ago: whoever tries again and again must not keep
    /// the compiler from others.
    fn known_hopeless(&self, digest: &Digest) -> Option<CompileError> {
        let hopeless = self.hopeless.lock();
        let (since, error) = hopeless.get(digest)?;
        (since.elapsed() < HOPELESS).then(|| error.clone())
    }

    fn remember_hopeless(&self, digest: Digest, error: &CompileError) {
        if error.is_final() {
            let mut hopeless = self.hopeless.lock();
            hopeless.retain(|_, (since, _)| since.elapsed() < HOPELESS);
            if hopeless.len() < MAX_HOPELESS {
                hopeless.insert(digest, (Instant::now(), error.clone()));
            }
        }
    }

    fn remember(&self, digest: Digest, component: Component) -> Arc<Compiled> {
        let compiled = Arc::new(Compiled(component));
        let mut all = self.compiled.lock();
        all.retain(|_, known| known.strong_count() > 0);
        all.insert(digest, Arc::downgrade(&compiled));
        compiled
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("threads", &self.thread_count).finish_non_exhaustive()
    }
}

fn in_memory(engine: &Engine, cache: &Cache, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes come from our own compiler, over a pipe or out of the cache, which
    // gives only bytes whose MAC under this host's key was good.
    unsafe { mapped::component(engine, cache.folder(), code) }
}

/// Runs what may block on a thread for that.
pub(crate) async fn blocking<T: Send + 'static>(
    io: &Handle,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    match io.spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
