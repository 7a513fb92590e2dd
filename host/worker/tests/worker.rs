//! The worker put together, without any plugin to be had.

mod support;

use prometheus::Registry;
use sentinel_registry_client::NoPlugins;
use sentinel_runtime::{CompilerCommand, NoSecrets, Runtime, RuntimeOptions};
use sentinel_store::Store as _;
use sentinel_worker::config::WorkerConfig;
use sentinel_worker::{Worker, WorkerError, WorkerOptions, WorkerParts};
use std::sync::Arc;
use support::{Rig, slot, until};

fn parts(rig: &Rig) -> WorkerParts {
    let metrics = Registry::new();
    let command = CompilerCommand::hooked();
    let options = RuntimeOptions::new(rig.folder.path(), command, metrics.clone());
    WorkerParts {
        store: rig.store.clone(),
        bus: rig.bus.clone(),
        runtime: Runtime::start(options).unwrap(),
        plugins: Arc::new(NoPlugins),
        keys: rig.keys(),
        secrets: Arc::new(NoSecrets),
        clock: rig.clock.clone(),
        metrics,
    }
}

fn config() -> WorkerConfig {
    serde_json::from_value(serde_json::json!({
        "transforms": [{"slot": "shape", "plugin": "sentinel/rows"}],
        "evaluators": [{"slot": "rules", "plugin": "sentinel/alert-dsl"}],
    }))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_transform_is_missing_says_so_stores_nothing_and_goes_on_once_it_is_not() {
    let rig = Rig::new().await;
    let worker = Worker::start(WorkerOptions::new("w1", config()), parts(&rig)).await.unwrap();
    rig.publish(1, 1, rig.sample(1, 1)).await;
    let status = worker.status().await;
    let why = &status.problems[&slot("shape")];
    assert!(why.contains("knows no publisher `sentinel`"), "{why}");
    assert_eq!(status.problems.len(), 2);
    assert_eq!((rig.committed().await, rig.bus.depth().messages), (0, 1));
    let problems = worker.reconfigure(WorkerConfig::default()).await.unwrap();
    assert!(problems.is_empty());
    until("it is stored", async || rig.committed().await == 1).await;
    until("it is acknowledged", async || rig.bus.depth().messages == 0).await;
    assert_eq!(worker.status().await.ingest.samples, 1);
    worker.shutdown().await;
    let statuses = rig.store.statuses().await.unwrap();
    assert_eq!(statuses[0].0, "worker/w1");
    let json: serde_json::Value = serde_json::from_str(&statuses[0].1).unwrap();
    assert_eq!(json["ingest"]["records"]["committed"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_that_cannot_work_is_refused_whole() {
    let rig = Rig::new().await;
    let mut twice = config();
    twice.evaluators[0].slot = slot("shape");
    let refused = Worker::start(WorkerOptions::new("w1", twice.clone()), parts(&rig)).await;
    assert!(matches!(refused, Err(WorkerError::Config(_))));
    let options = WorkerOptions::new("w1", WorkerConfig::default());
    let worker = Worker::start(options, parts(&rig)).await.unwrap();
    let error = worker.reconfigure(twice).await.unwrap_err().to_string();
    assert!(error.contains("/evaluators/0/slot"), "{error}");
    assert!(worker.status().await.problems.is_empty());
    worker.shutdown().await;
}
