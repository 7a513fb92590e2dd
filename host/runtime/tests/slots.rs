//! Slots with plugins that behave: state, configs, compiled code, metrics.

mod plugins;

use std::sync::Arc;

use parking_lot::Mutex;
use plugins::{Host, plugin, plugin_with, spec, start};
use sentinel_model::batch::BatchBuilder;
use sentinel_model::columns::Kind;
use sentinel_model::ids::SlotName;
use sentinel_runtime::{
    CompilerCommand, KvSource, KvState, LoadCause, Runtime, RuntimeOptions, Services, Slot,
    SlotSpec,
};
use serde_json::json;

sentinel_runtime::compile_child_hook!();

/// A state that keeps what it is told to.
#[derive(Default)]
struct Kept(Mutex<Arc<KvState>>);

impl KvSource for Kept {
    fn load(&self, _: &SlotName) -> Arc<KvState> {
        Arc::clone(&self.0.lock())
    }
}

fn counter(slot: &str, rows: u32) -> SlotSpec {
    let config = json!({"slot": slot, "rows": rows});
    spec(slot, plugin("counter"), config, json!({"kv": {"max_bytes": 4096}}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_is_kept_with_the_result_or_not_at_all_and_outlives_a_swap() {
    let host = Host::new();
    let kept = Arc::new(Kept::default());
    let services = Services { kv: Arc::clone(&kept) as Arc<dyn KvSource>, ..Services::none() };
    let slot = host.slot_with(counter("a", 2), services).await;
    let values = |collected: &sentinel_runtime::Collected| {
        let rows: Vec<f64> = collected.batches.iter().flat_map(|b| b.value.clone()).collect();
        rows
    };
    let first = slot.collect().await.unwrap();
    assert_eq!(values(&first), [1.0, 2.0]);
    assert_eq!(first.batches[0].row(0).label("slot"), Some("a"));
    let again = slot.collect().await.unwrap();
    assert_eq!(values(&again), [1.0, 2.0], "the first was not kept");
    Arc::make_mut(&mut kept.0.lock()).apply(again.kv);
    let second = slot.collect().await.unwrap();
    assert_eq!(values(&second), [3.0, 4.0]);
    Arc::make_mut(&mut kept.0.lock()).apply(second.kv);
    assert_eq!(slot.swap(counter("a", 3)).await.unwrap(), 2);
    assert_eq!(values(&slot.collect().await.unwrap()), [5.0, 6.0, 7.0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_of_many_parts_comes_as_one() {
    let host = Host::new();
    let config = json!({"slot": "a", "rows": 2, "parts": 64});
    let grants = json!({"kv": {"max_bytes": 4096}});
    let slot = host.slot(spec("a", plugin("counter"), config, grants)).await;
    let collected = slot.collect().await.unwrap();
    assert_eq!(collected.batches.len(), 64);
    assert_eq!(collected.batches[63].value, [127.0, 128.0]);
    assert_eq!(collected.kv.len(), 1);
    assert_eq!(slot.status().calls, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transform_gives_the_batch_that_takes_the_place_of_its_input() {
    let host = Host::new();
    let slot = host.slot(spec("rows", plugin("rows"), json!({"rules": []}), json!({}))).await;
    let mut builder = BatchBuilder::new();
    for row in 0..2_000 {
        let core = format!("{row}");
        builder.push(
            "cpu",
            [("core", core.as_str()), ("zoé", "ü")].into_iter().take(1),
            Kind::Gauge,
            1.5,
            row,
        );
    }
    let batch = Arc::new(builder.build().unwrap());
    let output = slot.reshape(Arc::clone(&batch)).await.unwrap();
    let rows = |batch: &sentinel_model::batch::Batch| {
        let row = |row: sentinel_model::batch::Row<'_>| {
            let labels: Vec<_> = row.labels().map(|(k, v)| format!("{k}={v}")).collect();
            (row.name().to_owned(), labels, row.value(), row.time())
        };
        batch.rows().map(row).collect::<Vec<_>>()
    };
    assert_eq!(rows(&output), rows(&batch));
    let error = slot.collect().await.unwrap_err();
    assert!(error.to_string().contains("it is a transform, not a collector"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compiled_code_is_found_again_without_a_compiler() {
    let dir = tempfile::tempdir().unwrap();
    let (runtime, _) = start(dir.path());
    let slot = Slot::start(&runtime, counter("a", 1), Services::none()).await.unwrap();
    slot.stop().await;
    drop((slot, runtime));
    let options = |dir| {
        let compiler = CompilerCommand {
            program: "/nonexistent/compiler".into(),
            arguments: Vec::new(),
            environment: Vec::new(),
        };
        RuntimeOptions::new(dir, compiler, prometheus::Registry::new())
    };
    let runtime = Runtime::start(options(dir.path())).unwrap();
    Slot::start(&runtime, counter("a", 1), Services::none()).await.unwrap();
    let other = plugin_with("counter", |manifest| manifest.version.patch += 1);
    let other = SlotSpec { component: other, ..counter("a", 1) };
    let error = Slot::start(&runtime, other, Services::none()).await.unwrap_err();
    assert!(matches!(error.cause, LoadCause::Compile(_)), "{error}");
    assert!(error.to_string().contains("/nonexistent/compiler"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_code_is_not_run_but_compiled_again() {
    let dir = tempfile::tempdir().unwrap();
    let (runtime, _) = start(dir.path());
    drop(Slot::start(&runtime, counter("a", 1), Services::none()).await.unwrap());
    drop(runtime);
    for entry in std::fs::read_dir(dir.path().join("compiled")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let (runtime, metrics) = start(dir.path());
    let slot = Slot::start(&runtime, counter("a", 1), Services::none()).await.unwrap();
    slot.collect().await.unwrap();
    let families = metrics.gather();
    let misses = families.iter().find(|f| f.name() == "sentinel_compiled_cache_misses_total");
    assert_eq!(misses.unwrap().get_metric()[0].get_counter().get_value(), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_slot_takes_no_calls_and_leaves_no_metrics() {
    let host = Host::new();
    let slot = host.slot(counter("a", 1)).await;
    slot.collect().await.unwrap();
    let of_slots = |host: &Host| {
        let families = host.metrics.gather();
        families.iter().filter(|family| family.name().starts_with("sentinel_slot_")).count()
    };
    assert!(of_slots(&host) > 5);
    slot.stop().await;
    let error = slot.collect().await.unwrap_err();
    assert!(error.to_string().contains("the slot was stopped"), "{error}");
    assert!(slot.swap(counter("a", 1)).await.is_err());
    assert_eq!(slot.status().memory_bytes, 0);
    drop(slot);
    assert_eq!(of_slots(&host), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_says_what_runs_and_what_it_cost() {
    let host = Host::new();
    let slot = host.slot(counter("a", 100)).await;
    for _ in 0..3 {
        slot.collect().await.unwrap();
    }
    let status = serde_json::to_value(slot.status()).unwrap();
    for (path, value) in [
        ("/name", json!("a")),
        ("/plugin", json!("sentinel/counter")),
        ("/kind", json!("collector")),
        ("/generation", json!(1)),
        ("/state", json!("running")),
        ("/calls", json!(3)),
        ("/failures", json!({})),
        ("/last_error", json!(null)),
        ("/instances", json!(1)),
    ] {
        assert_eq!(status.pointer(path), Some(&value), "{path} in {status}");
    }
    // One that was changed in this checkout has a later number.
    assert!(status["version"].as_str().unwrap().starts_with("0.1."), "{status}");
    assert!(status["memory_bytes"].as_u64().unwrap() >= 65_536, "{status}");
    assert!(status["guest_seconds"].as_f64().unwrap() > 0.0, "{status}");
    assert!(status["latency_ms"]["p50"].as_f64().unwrap() > 0.0, "{status}");
}
