//! One set of engine settings for the child that compiles and the process that runs, so that
//! what the one writes the other takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use sentinel_trust::MAX_MEMORY_BYTES;
use sha2::{Digest as _, Sha256};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, ModuleVersionStrategy, PoolingAllocationConfig,
};

/// How often a running guest is looked at: it yields its thread to others, and is stopped if
/// its time is up.
pub(crate) const EPOCH_TICK: Duration = Duration::from_millis(10);
/// Most instances in a process, running and idle together.
pub(crate) const MAX_INSTANCES: u32 = 256;
/// Most elements of one table of a guest.
pub(crate) const MAX_TABLE_ELEMENTS: usize = 100_000;
/// Most stack that a guest may use, in bytes.
const GUEST_STACK_BYTES: usize = 512 << 10;

/// Settings that decide what compiled code looks like. Whatever is set here is part of
/// [`fingerprint`].
fn settings() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .concurrency_support(false)
        .max_wasm_stack(GUEST_STACK_BYTES)
        // Names of functions are kept without it; only offsets into the file are not.
        .generate_address_map(false);
    config
}

/// The engine of the child process: compiles, runs nothing.
pub(crate) fn compiling() -> wasmtime::Result<Engine> {
    Engine::new(&settings())
}

/// The engine of the process that runs plugins: never compiles.
pub(crate) fn running() -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(MAX_INSTANCES)
        .total_core_instances(MAX_INSTANCES * 4)
        .max_core_instances_per_component(32)
        .total_memories(MAX_INSTANCES)
        .max_memories_per_component(4)
        .total_tables(MAX_INSTANCES * 4)
        .max_tables_per_component(32)
        .table_elements(MAX_TABLE_ELEMENTS)
        .total_stacks(MAX_INSTANCES)
        .total_gc_heaps(MAX_INSTANCES / 4)
        .max_memory_size(MAX_MEMORY_BYTES as usize)
        // Nothing stays resident in a slot of the pool once its instance is gone.
        .max_unused_warm_slots(0);
    let mut config = settings();
    config.enable_compiler(false).allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// Names what compiled code depends on beside the component: wasmtime's version, the target,
/// the processor's features and the settings. Another fingerprint is another place in the
/// cache.
pub(crate) fn fingerprint(engine: &Engine) -> [u8; 32] {
    let text = format!(
        "sentinel engine 1; wasmtime {}; {} {}; {}; tunables {:?}; features {:?}",
        ModuleVersionStrategy::WasmtimeVersion.as_str(),
        std::env::consts::ARCH,
        std::env::consts::OS,
        processor_features(),
        (
            engine.get_memory_reservation(),
            engine.get_memory_guard_size(),
            engine.get_memory_init_cow(),
            engine.get_generate_address_map(),
            engine.get_epoch_interruption(),
            engine.get_consume_fuel(),
            engine.get_concurrency_support(),
            engine.get_signals_based_traps(),
            engine.get_max_wasm_stack(),
        ),
        engine.get_wasm_features(),
    );
    Sha256::digest(text).into()
}

/// Features of this machine that the compiler makes use of. wasmtime itself refuses code
/// whose features are not there; this only keeps a moved cache from being refused each time.
fn processor_features() -> String {
    let mut features = String::new();
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! detect {
            ($($name:tt),*) => {
                $(if std::arch::is_x86_feature_detected!($name) {
                    features.push_str(concat!($name, " "));
                })*
            };
        }
        detect!(
            "sse3",
            "ssse3",
            "sse4.1",
            "sse4.2",
            "popcnt",
            "avx",
            "avx2",
            "fma",
            "bmi1",
            "bmi2",
            "lzcnt",
            "avx512f",
            "avx512vl",
            "avx512dq",
            "avx512vbmi",
            "avx512bitalg",
            "cmpxchg16b"
        );
    }
    #[cfg(target_arch = "aarch64")]
    {
        macro_rules! detect {
            ($($name:tt),*) => {
                $(if std::arch::is_aarch64_feature_detected!($name) {
                    features.push_str(concat!($name, " "));
                })*
            };
        }
        detect!("lse", "paca", "fp16");
    }
    features
}

/// Moves the engine's epoch on while guests run, and sleeps while none does.
pub(crate) struct Ticker {
    shared: Arc<TickerShared>,
    thread: Option<JoinHandle<()>>,
}

struct TickerShared {
    running: AtomicUsize,
    stop: AtomicBool,
}

/// Ticks without a running guest after which the ticker goes to sleep.
const IDLE_TICKS: u32 = 20;

impl Ticker {
    pub(crate) fn start(engine: Engine) -> std::io::Result<Self> {
        let shared =
            Arc::new(TickerShared { running: AtomicUsize::new(0), stop: AtomicBool::new(false) });
        let seen = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("wasm-epoch".into())
            .stack_size(64 << 10)
            .spawn(move || tick(&engine, &seen))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Keeps the epoch moving until the guard is dropped.
    pub(crate) fn guard(&self) -> TickerGuard {
        // The token that `unpark` leaves makes a `park` that comes later return at once, so a
        // guest that starts while the ticker goes to sleep is not missed.
        if self.shared.running.fetch_add(1, Ordering::SeqCst) == 0
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        TickerGuard(Arc::clone(&self.shared))
    }
}

fn tick(engine: &Engine, shared: &TickerShared) {
    let mut idle = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        idle = if shared.running.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
        if idle > IDLE_TICKS {
            std::thread::park();
            idle = 0;
            continue;
        }
        std::thread::sleep(EPOCH_TICK);
        engine.increment_epoch();
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic of the ticker has been printed; there is nothing to undo.
            let _ = thread.join();
        }
    }
}

pub(crate) struct TickerGuard(Arc<TickerShared>);

impl Drop for TickerGuard {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_compiling_engine_writes_the_running_engine_takes() {
        let code = compiling().unwrap().precompile_component(b"\0asm\x0d\0\x01\0").unwrap();
        let engine = running().unwrap();
        // SAFETY: the bytes come from the compiler, one line above.
        unsafe { wasmtime::component::Component::deserialize(&engine, code) }.unwrap();
    }

    #[test]
    fn the_fingerprint_is_the_same_in_each_process_of_a_machine() {
        assert_eq!(fingerprint(&running().unwrap()), fingerprint(&running().unwrap()));
    }
}
