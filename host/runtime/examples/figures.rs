//! Figures of the runtime on this machine: compiling, loading, calling, memory.
//!
//! `figures PLUGINS` with a folder of built plugins; `figures PLUGINS rss N` for the memory of
//! a process with N slots over a cache that the first run filled.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sentinel_model::batch::{Batch, BatchBuilder};
use sentinel_model::columns::Kind;
use sentinel_runtime::{CompilerCommand, Runtime, RuntimeOptions, Services, Slot, SlotSpec};
use sentinel_trust::{PublisherKey, PublisherName, TrustPolicy, VerifiedComponent, sign, verify};
use serde_json::{Value, json};

fn trusted(path: &Path) -> Arc<VerifiedComponent> {
    let bytes = std::fs::read(path).expect("a built plugin");
    let publisher: PublisherName = "sentinel".parse().expect("a name");
    let key = PublisherKey::from_secret(publisher.clone(), &[7; 32]);
    let signatures = sign(&bytes, &key, None).expect("it has a manifest");
    let policy = TrustPolicy::trusting(publisher, key.public());
    let verified = verify(bytes.into(), signatures.to_json().as_bytes(), &policy);
    Arc::new(verified.expect("it was signed just now"))
}

fn spec(slot: &str, component: &Arc<VerifiedComponent>, config: Value, grants: Value) -> SlotSpec {
    SlotSpec {
        name: slot.parse().expect("a slot name"),
        component: Arc::clone(component),
        config,
        grants: serde_json::from_value(grants).expect("grants"),
    }
}

fn batch(rows: u32) -> Arc<Batch> {
    let mut builder = BatchBuilder::new();
    for row in 0..rows {
        let [pod, instance] = [row % 19, row % 60].map(|n| n.to_string());
        let labels = [
            ("job", "web"),
            ("namespace", "shop"),
            ("pod", pod.as_str()),
            ("zone", "eu-1"),
            ("instance", instance.as_str()),
        ];
        let name = format!("http_requests_{}_total", row % 50);
        builder.push(&name, labels, Kind::Counter, f64::from(row), 1_760_000_000_000);
    }
    Arc::new(builder.build().expect("a valid batch"))
}

fn memory(what: &str) {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process has a status");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        kib.unwrap_or_default() / 1024.0
    };
    println!(
        "{what:<44} {:>8.1} MiB resident, {:>6.1} of it anonymous",
        field("VmRSS:"),
        field("RssAnon:")
    );
}

async fn timed<T>(what: &str, work: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let value = work.await;
    println!("{what:<44} {:>8.2} ms", started.elapsed().as_secs_f64() * 1e3);
    value
}

async fn start(runtime: &Arc<Runtime>, spec: SlotSpec) -> Slot {
    Slot::start(runtime, spec, Services::none()).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn calls(slot: &Slot, batch: &Arc<Batch>, what: &str) {
    let (mut best, mut times) = (Duration::MAX, Vec::new());
    for _ in 0..300 {
        let started = Instant::now();
        slot.reshape(Arc::clone(batch)).await.unwrap_or_else(|error| panic!("{error}"));
        best = best.min(started.elapsed());
        times.push(started.elapsed());
    }
    times.sort();
    let per_row = |time: Duration| time.as_nanos() as f64 / batch.len() as f64;
    println!(
        "{what:<44} {:>8.1} us best, {:.1} us median ({:.1} and {:.1} ns a row)",
        best.as_secs_f64() * 1e6,
        times[150].as_secs_f64() * 1e6,
        per_row(best),
        per_row(times[150])
    );
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn run(arguments: &[String]) {
    let plugins = Path::new(&arguments[1]);
    let dir = std::env::temp_dir().join("sentinel-figures");
    let compiler = CompilerCommand::this_program(["compile"]).expect("this program");
    memory("start");
    let options = RuntimeOptions::new(&dir, compiler, prometheus::Registry::new());
    let started = Instant::now();
    let runtime = Runtime::start(options).expect("a runtime");
    println!("{:<44} {:>8.2} ms", "runtime started", started.elapsed().as_secs_f64() * 1e3);
    memory("runtime started");
    let system = trusted(&plugins.join("system.wasm"));
    let rows = trusted(&plugins.join("rows.wasm"));
    if arguments.get(2).is_some_and(|mode| mode == "rss") {
        let count: usize = arguments[3].parse().expect("a number of slots");
        let mut slots = Vec::new();
        for n in 0..count {
            let spec = spec(&format!("system-{n}"), &system, json!({}), json!({"system": true}));
            slots.push(start(&runtime, spec).await);
        }
        memory(&format!("{count} slots of system, loaded"));
        for _ in 0..5 {
            for slot in &slots {
                slot.collect().await.unwrap_or_else(|error| panic!("{error}"));
            }
        }
        memory(&format!("{count} slots of system, called 5 times each"));
        return;
    }
    let rules = json!({"rules": []});
    let slot =
        timed("rows loaded, first", start(&runtime, spec("a", &rows, rules.clone(), json!({}))))
            .await;
    drop(slot);
    let slot =
        timed("rows loaded from the cache", start(&runtime, spec("a", &rows, rules, json!({}))))
            .await;
    timed(
        "system loaded, first",
        start(&runtime, spec("b", &system, json!({}), json!({"system": true}))),
    )
    .await;
    calls(&slot, &batch(1), "reshape of 1 row").await;
    calls(&slot, &batch(2_000), "reshape of 2,000 rows with 5 labels, no rules").await;
    memory("at the end");
}

fn main() -> std::process::ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    if arguments.get(1).is_some_and(|argument| argument == "compile") {
        return sentinel_runtime::compile_child_main();
    }
    run(&arguments);
    std::process::ExitCode::SUCCESS
}
