//! A component that is small as a file and huge to compile: the child that compiles it is
//! bounded in memory, processor time and time, and others are not kept from being compiled.

mod plugins;

use std::sync::Arc;
use std::time::{Duration, Instant};

use plugins::{plugin, spec, trusted};
use sentinel_runtime::{
    CompileLimits, CompilerCommand, Runtime, RuntimeOptions, Services, Slot, SlotSpec,
};
use sentinel_trust::{Manifest, VerifiedComponent, embed};
use serde_json::json;
use wasm_encoder::{
    BlockType, CodeSection, Function, FunctionSection, Module, ModuleSection, TypeSection, ValType,
};

sentinel_runtime::compile_child_hook!();

/// Loops within each other, and variables that each of them changes: the compiler keeps a value
/// of every variable at the head of every loop.
const LOOPS: u32 = 2_000;
const VARIABLES: u32 = 20_000;

fn bomb() -> Arc<VerifiedComponent> {
    let mut body = Function::new([(VARIABLES, ValType::I64)]);
    let mut code = body.instructions();
    for _ in 0..LOOPS {
        code.loop_(BlockType::Empty);
    }
    for variable in 0..VARIABLES {
        code.local_get(variable).i64_const(1).i64_add().local_set(variable);
    }
    for _ in 0..LOOPS {
        code.local_get(0).i64_eqz().br_if(0).end();
    }
    code.end();
    let (mut types, mut functions, mut codes) =
        (TypeSection::new(), FunctionSection::new(), CodeSection::new());
    types.ty().function([], []);
    functions.function(0);
    codes.function(&body);
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&codes);

    let mut component = sentinel_test_components::hollow("collect");
    component.section(&ModuleSection(&module));
    let manifest = json!({
        "format": 1, "name": "sentinel/bomb", "version": "1.0.0", "kind": "collector",
        "contract": "0.1.0", "description": "Small and huge.", "license": "Apache-2.0",
        "config_schema": {"type": "object"},
    });
    let manifest = Manifest::from_json(manifest.to_string().as_bytes()).unwrap();
    trusted(embed(&component.finish(), &manifest).unwrap())
}

fn bombed(slot: &str) -> SlotSpec {
    spec(slot, bomb(), json!({}), json!({}))
}

/// Compiler children of this process that are alive.
fn children() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of_task = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children"));
    tasks
        .filter_map(|task| of_task(task.unwrap()).ok())
        .map(|all| all.split_whitespace().count())
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_component_that_is_huge_to_compile_is_given_up_with_the_bound_it_met() {
    let sound = CompileLimits::default();
    assert!(bomb().bytes().unwrap().len() < 300_000);
    for (limits, why) in [
        (
            CompileLimits { wall_ms: 1_000, ..sound },
            "compiling it took longer than 1000 ms, and the compiler was killed",
        ),
        (
            CompileLimits { cpu_seconds: 1, ..sound },
            "compiling it took more than 1 s on processors, and the compiler was killed",
        ),
        (
            CompileLimits { memory_bytes: 700 << 20, ..sound },
            "compiling it took more than 734003200 bytes of memory, and the compiler was stopped",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let metrics = prometheus::Registry::new();
        let mut options =
            RuntimeOptions::new(dir.path(), CompilerCommand::hooked(), metrics.clone());
        options.compile_limits = limits;
        let runtime = Runtime::start(options).unwrap();
        let start = |spec| Slot::start(&runtime, spec, Services::none());
        let misses = || {
            let families = metrics.gather();
            let family =
                families.iter().find(|f| f.name() == "sentinel_compiled_cache_misses_total");
            family.map_or(0.0, |family| family.get_metric()[0].get_counter().get_value())
        };
        let error = start(bombed("a")).await.unwrap_err().to_string();
        let text = format!("slot a: sentinel/bomb 1.0.0 was not loaded: {why}");
        assert!(error.starts_with(&text), "no {text:?} in {error}");
        assert_eq!((children(), misses()), (0, 1.0), "{why}");

        let other = bombed("b");
        let again = Instant::now();
        let error = start(other).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert_eq!(misses(), 1.0, "it is not tried again at once");
        assert!(again.elapsed() < Duration::from_secs(1));
        if limits.cpu_seconds == sound.cpu_seconds && limits.wall_ms == sound.wall_ms {
            let sound = spec("rows", plugin("rows"), json!({"rules": []}), json!({}));
            start(sound).await.unwrap();
        }
    }
}
