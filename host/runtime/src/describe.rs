//! Asking a component that nobody vouches for what it is: for packing, and for nothing else.
//!
//! Compiles in this process and calls `describe` alone, with no import behind it but a log
//! that is kept for the error text. There is no way from here to any other function.

use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;
use wasmtime::component::{Component, ComponentType, Lift, Linker};
use wasmtime::{Engine, Store, StoreLimits, StoreLimitsBuilder};

use crate::bindings::sentinel::plugin::log::Level;
use crate::engine;

/// Memory that a plugin may use to describe itself (256 MiB).
const MEMORY_BYTES: usize = 256 << 20;
/// Most bytes that it may say of itself (4 MiB).
const SAID_BYTES: usize = 4 << 20;
/// Longest time that it may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A metric that a plugin says it makes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// As in a batch: 0 gauge, 1 counter, 2 bucket, 3 sum, 4 count.
    pub kind: u8,
    /// UCUM unit.
    pub unit: String,
    /// One sentence.
    pub help: String,
}

/// What a component says of itself.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Description {
    /// JSON Schema of its config.
    pub config_schema: serde_json::Map<String, Value>,
    /// The metrics it makes.
    pub metrics: Vec<Metric>,
}

/// Why a component does not describe itself.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// It is not a component or cannot be compiled.
    #[error("it cannot be compiled: {0}")]
    Compile(String),
    /// It has no `sentinel:plugin/plugin@0.1.0` with `describe`.
    #[error("it does not export `describe` as the contract has it: {0}")]
    Export(String),
    /// It failed.
    #[error("describe: {cause}{said}")]
    Failed {
        /// How.
        cause: String,
        /// The last it logged at level error, on a line of its own; may be empty.
        said: String,
    },
    /// Its schema is not a JSON object.
    #[error("describe: its config schema is not a JSON object: {0}")]
    Schema(String),
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct SaidMetric {
    name: String,
    kind: u8,
    unit: String,
    help: String,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct Said {
    #[component(name = "config-schema")]
    config_schema: String,
    metrics: Vec<SaidMetric>,
}

struct Guarded {
    limits: StoreLimits,
    last_error: String,
}

/// Asks a component what it is. Blocks for as long as compiling takes; for programs that end
/// soon, as `sentinel plugin pack` does.
///
/// # Errors
/// [`DescribeError`].
pub fn describe(component: &[u8]) -> Result<Description, DescribeError> {
    let compile = |error: wasmtime::Error| DescribeError::Compile(format!("{error:#}"));
    let engine = engine::compiling().map_err(compile)?;
    let component = Component::new(&engine, component).map_err(compile)?;
    let mut linker = Linker::<Guarded>::new(&engine);
    link_log(&mut linker).map_err(compile)?;
    linker.allow_shadowing(false);
    linker.define_unknown_imports_as_traps(&component).map_err(compile)?;
    let limits = StoreLimitsBuilder::new().memory_size(MEMORY_BYTES).build();
    let mut store = Store::new(&engine, Guarded { limits, last_error: String::new() });
    store.limiter(|guarded| &mut guarded.limits);
    store.set_hostcall_fuel(SAID_BYTES);
    store.set_epoch_deadline(1);
    let _clock = Clock::start(engine);

    let said = call(&mut store, &linker, &component).map_err(|error| match error {
        Failure::Export(error) => DescribeError::Export(format!("{error:#}")),
        Failure::Call(error) => DescribeError::Failed {
            cause: error.root_cause().to_string(),
            said: match store.data().last_error.as_str() {
                "" => String::new(),
                said => format!("\n{said}"),
            },
        },
    })?;
    let schema = serde_json::from_str(&said.config_schema)
        .map_err(|error| DescribeError::Schema(error.to_string()))?;
    let metrics = said.metrics.into_iter().map(|metric| Metric {
        name: metric.name,
        kind: metric.kind,
        unit: metric.unit,
        help: metric.help,
    });
    Ok(Description { config_schema: schema, metrics: metrics.collect() })
}

enum Failure {
    Export(wasmtime::Error),
    Call(wasmtime::Error),
}

fn call(
    store: &mut Store<Guarded>,
    linker: &Linker<Guarded>,
    component: &Component,
) -> Result<Said, Failure> {
    let interface = format!("sentinel:plugin/plugin@{}", sentinel_trust::CONTRACT);
    let instance = linker.instantiate(&mut *store, component).map_err(Failure::Call)?;
    let index = instance
        .get_export_index(&mut *store, None, &interface)
        .and_then(|interface| instance.get_export_index(&mut *store, Some(&interface), "describe"))
        .ok_or_else(|| Failure::Export(wasmtime::format_err!("no `describe` in `{interface}`")))?;
    let describe =
        instance.get_typed_func::<(), (Said,)>(&mut *store, &index).map_err(Failure::Export)?;
    let (said,) = describe.call(&mut *store, ()).map_err(Failure::Call)?;
    Ok(said)
}

fn link_log(linker: &mut Linker<Guarded>) -> wasmtime::Result<()> {
    let name = format!("sentinel:plugin/log@{}", sentinel_trust::CONTRACT);
    linker.instance(&name)?.func_wrap(
        "write",
        |mut store: wasmtime::StoreContextMut<'_, Guarded>, (level, message): (Level, String)| {
            if matches!(level, Level::Error) {
                store.data_mut().last_error = crate::capabilities::log::one_line(&message);
            }
            Ok(())
        },
    )
}

/// Ends what runs too long, and goes when it is dropped.
struct Clock {
    _stop: mpsc::Sender<()>,
}

impl Clock {
    fn start(engine: Engine) -> Self {
        let (stop, stopped) = mpsc::channel();
        std::thread::spawn(move || {
            if stopped.recv_timeout(TIMEOUT) == Err(mpsc::RecvTimeoutError::Timeout) {
                engine.increment_epoch();
            }
        });
        Self { _stop: stop }
    }
}
