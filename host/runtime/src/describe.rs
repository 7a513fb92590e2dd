//! Asking a component that nobody vouches for what it is: for packing, and for nothing else.
//!
//! Compiles in this process and calls `describe` alone, with no import behind it but a log
//! that is kept for the error text, and for guests of WASI 0.2 (whose runtimes ask for clocks
//! and randomness before the first line of their author runs) an empty WASI. There is no way
//! from here to any other function.

use std::future::Future;
use std::sync::mpsc;
use std::time::Duration;

use sentinel_trust::{Need, need_of_import};
use serde_json::Value;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentType, Lift, Linker, ResourceTable};
use wasmtime::{Engine, Store, StoreLimits, StoreLimitsBuilder};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::bindings::sentinel::plugin::log::Level;
use crate::engine;

/// Memory that a plugin may use to describe itself (256 MiB).
const MEMORY_BYTES: usize = 256 << 20;
/// Most bytes that it may say of itself (4 MiB).
const SAID_BYTES: usize = 4 << 20;
/// Most bytes that it may print (1 MiB); beyond, it fails.
const PRINTED_BYTES: usize = 1 << 20;
/// Most bytes of what it printed that an error shows.
const SHOWN_BYTES: usize = 2 << 10;
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
    /// It imports what no host has.
    #[error("it imports what no host has:{0}")]
    Imports(String),
    /// It has no `sentinel:plugin/plugin@0.1.0` with `describe`.
    #[error("it does not export `describe` as the contract has it: {0}")]
    Export(String),
    /// It failed.
    #[error("describe: {cause}{said}")]
    Failed {
        /// How.
        cause: String,
        /// The last it logged at level error or printed, on lines of their own; may be empty.
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
    printed: MemoryOutputPipe,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    nowhere: Nowhere,
    table: ResourceTable,
}

impl Guarded {
    fn new() -> Self {
        let printed = MemoryOutputPipe::new(PRINTED_BYTES);
        Self {
            limits: StoreLimitsBuilder::new().memory_size(MEMORY_BYTES).build(),
            last_error: String::new(),
            wasi: WasiCtx::builder().stderr(printed.clone()).build(),
            printed,
            http: WasiHttpCtx::new(),
            nowhere: Nowhere,
            table: ResourceTable::new(),
        }
    }

    /// What it said before it failed, on lines of their own.
    fn said(&self) -> String {
        let printed = self.printed.contents();
        let tail = &printed[printed.len().saturating_sub(SHOWN_BYTES)..];
        let printed = String::from_utf8_lossy(tail);
        let lines = self.last_error.lines().chain(printed.lines());
        let shown = |line: &str| format!("\n{}", crate::capabilities::log::one_line(line));
        lines.map(shown).collect()
    }
}

impl WasiView for Guarded {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Requests go nowhere while a component describes itself.
struct Nowhere;

type Ended = Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>;
type Sent = Result<(http::Response<WasiBody>, Ended), wasmtime_wasi_http::Error>;

impl WasiHttpHooks for Nowhere {
    fn send_request(
        &mut self,
        _: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Ended,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        Box::new(async { Err(wasmtime_wasi_http::Error::HttpRequestDenied) })
    }
}

impl WasiHttpView for Guarded {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.nowhere }
    }
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
    refuse_unknown_wasi(&component)?;
    let mut linker = Linker::<Guarded>::new(&engine);
    link_log(&mut linker).map_err(compile)?;
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker).map_err(compile)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_sync(&mut linker).map_err(compile)?;
    linker.allow_shadowing(false);
    link_nothing(&mut linker, &component).map_err(compile)?;
    let mut store = Store::new(&engine, Guarded::new());
    store.limiter(|guarded| &mut guarded.limits);
    store.set_hostcall_fuel(SAID_BYTES);
    store.set_epoch_deadline(1);
    let _clock = Clock::start(engine);

    let said = call(&mut store, &linker, &component).map_err(|error| match error {
        Failure::Export(error) => DescribeError::Export(format!("{error:#}")),
        Failure::Call(error) => DescribeError::Failed {
            cause: error.root_cause().to_string(),
            said: store.data().said(),
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

/// The parts of WASI that are not there, before a missing type of theirs is complained of.
fn refuse_unknown_wasi(component: &Component) -> Result<(), DescribeError> {
    let mut refused = String::new();
    for (name, _) in component.component_type().imports(component.engine()) {
        let why = match need_of_import(name) {
            _ if !name.starts_with("wasi:") => continue,
            Need::Nothing | Need::Capability(_) => continue,
            Need::OtherContract | Need::Unknown => "build without it",
        };
        refused.push_str(&format!("\n  - `{name}`: {why}"));
    }
    if refused.is_empty() { Ok(()) } else { Err(DescribeError::Imports(refused)) }
}

/// Every function beyond what is linked, as one that fails when it is called. WASI is left
/// out: stand-ins under a guest's own version of it would go before what is linked.
fn link_nothing(linker: &mut Linker<Guarded>, component: &Component) -> wasmtime::Result<()> {
    let engine = component.engine();
    let log = format!("sentinel:plugin/log@{}", sentinel_trust::CONTRACT);
    for (name, item) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(interface) = item.ty else { continue };
        if name == log || name.starts_with("wasi:") {
            continue;
        }
        let mut linked = linker.instance(name)?;
        for (function, item) in interface.exports(engine) {
            if matches!(item.ty, ComponentItem::ComponentFunc(_)) {
                let message = format!("`{name}#{function}` is not there while it describes itself");
                linked.func_new(function, move |_, _, _, _| {
                    Err(wasmtime::format_err!("{message}"))
                })?;
            }
        }
    }
    Ok(())
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
