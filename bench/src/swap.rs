//! Swapping what runs while it is called: nothing lost, nothing twice, and how long anybody
//! waits; and how fast a plugin is there whose compiled code is in the cache.

use crate::COMPILE_CHILD;
use crate::built::Built;
use crate::row::{Better, Row};
use anyhow::{Context, Result, anyhow, ensure};
use prometheus::Registry;
use sentinel_model::batch::{Batch, BatchBuilder};
use sentinel_model::columns::Kind;
use sentinel_runtime::{CompilerCommand, Runtime, RuntimeOptions, Services, Slot, SlotSpec};
use sentinel_trust::{PublisherKey, TrustPolicy, VerifiedComponent, embed, sign, verify};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Calls that are begun a second, whether those before have ended or not.
const CALLS_A_SECOND: u32 = 10_000;
/// Calls are begun in bursts at this distance.
const BURST: Duration = Duration::from_millis(1);
/// Swaps, and the time from one to the next.
const SWAPS: u32 = 100;
const SWAP_EVERY: Duration = Duration::from_millis(100);
/// The longest that a call may wait, in milliseconds: a tenth of a second is what a person
/// takes for at once.
const PAUSE_MS: f64 = 100.0;
/// Loads of a plugin whose compiled code is cached.
const LOADS: usize = 50;

/// A plugin as it is built, and as the next release of it: another digest, the same logic.
fn releases(plugins: &Built, plugin: &str) -> Result<[Arc<VerifiedComponent>; 2]> {
    let built = plugins.plugin(plugin)?;
    let mut manifest = built.manifest().clone();
    manifest.version.patch += 1;
    let bytes = embed(built.bytes().context("it was just read")?, &manifest)?;
    let key = PublisherKey::from_secret(built.name().publisher(), &[7; 32]);
    let policy = TrustPolicy::trusting(key.publisher().clone(), key.public());
    let signatures = sign(&bytes, &key, None)?;
    let next = verify(bytes.into(), signatures.to_json().as_bytes(), &policy)?;
    Ok([built, Arc::new(next)])
}

fn spec(
    slot: &str,
    component: &Arc<VerifiedComponent>,
    config: &Value,
    grants: &Value,
) -> Result<SlotSpec> {
    Ok(SlotSpec {
        name: slot.parse()?,
        component: Arc::clone(component),
        config: config.clone(),
        grants: serde_json::from_value(grants.clone())?,
    })
}

/// A batch of one row that no other call has.
fn numbered(n: u64) -> Result<Arc<Batch>> {
    let mut builder = BatchBuilder::new();
    builder.push("call", [("job", "swap")], Kind::Gauge, n as f64, n as i64);
    Ok(Arc::new(builder.build()?))
}

/// What became of one call.
struct Call {
    begun: Instant,
    ended: Instant,
    /// Whether the answer was that of this call.
    right: bool,
}

/// Begins calls at a steady pace until told to stop.
async fn load(slot: Slot, stop: Arc<AtomicBool>) -> Result<Vec<Call>> {
    let burst = u64::from(CALLS_A_SECOND) * BURST.as_millis() as u64 / 1000;
    let mut calls = Vec::new();
    let mut due = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        for _ in 0..burst {
            let (slot, n) = (slot.clone(), calls.len() as u64);
            let batch = numbered(n)?;
            // The time that counts is when the call was due, not when there was time for it.
            let begun = due;
            calls.push(tokio::spawn(async move {
                let answer = slot.reshape(batch).await;
                let right = answer.is_ok_and(|batch| batch.value == [n as f64]);
                Call { begun, ended: Instant::now(), right }
            }));
        }
        due += BURST;
        tokio::time::sleep_until(due.into()).await;
    }
    let mut ended = Vec::with_capacity(calls.len());
    for call in calls {
        ended.push(call.await?);
    }
    Ok(ended)
}

/// A plugin that counts its calls in memory, collected from as fast as it answers: every number
/// comes once, over all swaps.
async fn collect(slot: Slot, stop: Arc<AtomicBool>) -> Result<(u64, u64, u64)> {
    let (mut calls, mut failed, mut out_of_order, mut last) = (0, 0, 0, 0.0);
    while !stop.load(Ordering::SeqCst) {
        calls += 1;
        match slot.collect().await {
            Ok(collected) => {
                let value = collected.batches[0].value[0];
                out_of_order += u64::from(value != last + 1.0);
                last = value;
            }
            Err(_) => failed += 1,
        }
        tokio::time::sleep(BURST).await;
    }
    Ok((calls, failed, out_of_order))
}

/// How late the system lets a thread go on that sleeps again and again and does nothing else, milliseconds, sorted: what
/// of a pause is the machine's.
fn lateness(stop: &AtomicBool) -> Vec<f64> {
    let mut late = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let begun = Instant::now();
        std::thread::sleep(BURST);
        late.push(milliseconds(begun.elapsed().saturating_sub(BURST)));
    }
    late.sort_by(f64::total_cmp);
    late
}

fn percentile(sorted: &[f64], of: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * of) as usize]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub(crate) fn measure() -> Result<Vec<Row>> {
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let compiler = CompilerCommand::this_program([COMPILE_CHILD])?;
    let runtime = Runtime::start(RuntimeOptions::new(dir.path(), compiler, Registry::new()))?;
    let plugins = Built::open()?;
    let mut rows = under_load(&runtime, &plugins).await?;
    rows.push(warm(&runtime, &plugins).await?);
    Ok(rows)
}

async fn under_load(runtime: &Arc<Runtime>, plugins: &Built) -> Result<Vec<Row>> {
    let transforms = releases(plugins, "sentinel/rows")?;
    let collectors = releases(plugins, "sentinel/hostile")?;
    let (rules, nothing) = (json!({ "rules": [] }), json!({}));
    let counts = json!({ "mode": "behave" });
    let asks =
        json!({ "http": { "origins": ["http://127.0.0.1:9"] }, "kv": { "max_bytes": 65536 } });
    let transform = |n: usize| spec("rows", &transforms[n % 2], &rules, &nothing);
    let collector = |n: usize| spec("counts", &collectors[n % 2], &counts, &asks);
    // Both releases are compiled before anything is measured.
    for n in [1, 0] {
        Slot::start(runtime, transform(n)?, Services::none()).await?.stop().await;
        Slot::start(runtime, collector(n)?, Services::none()).await?.stop().await;
    }
    let called = Slot::start(runtime, transform(0)?, Services::none()).await?;
    let collected = Slot::start(runtime, collector(0)?, Services::none()).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let loading = tokio::spawn(load(called.clone(), Arc::clone(&stop)));
    let collecting = tokio::spawn(collect(collected.clone(), Arc::clone(&stop)));
    let asleep = Arc::clone(&stop);
    let machine = std::thread::spawn(move || lateness(&asleep));
    let started = Instant::now();
    let mut swaps = Vec::new();
    for n in 1..=SWAPS {
        tokio::time::sleep_until((started + SWAP_EVERY * n).into()).await;
        let swap = Instant::now();
        called.swap(transform(n as usize)?).await?;
        swaps.push(milliseconds(swap.elapsed()));
        collected.swap(collector(n as usize)?).await?;
    }
    stop.store(true, Ordering::SeqCst);
    let offered_for = started.elapsed();
    let calls = loading.await??;
    let (collections, failed_collections, out_of_order) = collecting.await??;
    let late = machine.join().map_err(|_| anyhow!("the thread that sleeps panicked"))?;
    ensure!(!late.is_empty(), "it never slept");
    let rate = calls.len() as f64 / offered_for.as_secs_f64();
    ensure!(
        rate >= 0.95 * f64::from(CALLS_A_SECOND),
        "only {rate:.0} calls/s were begun where {CALLS_A_SECOND} were to be: the machine is too slow or busy"
    );
    let wrong = calls.iter().filter(|call| !call.right).count() as u64;
    // Each was made once: what the slot counted is what was begun.
    let twice = called.status().calls.abs_diff(calls.len() as u64);
    let generation = called.status().generation;
    ensure!(generation == u64::from(SWAPS) + 1, "{generation} generations");
    let mut waited: Vec<f64> =
        calls.iter().map(|call| milliseconds(call.ended - call.begun)).collect();
    waited.sort_by(f64::total_cmp);
    let longest = *waited.last().context("no call was made")?;
    swaps.sort_by(f64::total_cmp);
    let detail = json!({
        "calls": calls.len(), "calls_a_second": rate, "swaps": SWAPS,
        "wrong_or_failed": wrong, "made_twice_or_not_at_all": twice,
        "collector_with_state": {
            "calls": collections, "failed": failed_collections, "lost_or_twice": out_of_order,
        },
        "wait_ms": {
            "p50": percentile(&waited, 0.5), "p99": percentile(&waited, 0.99),
            "p99.9": percentile(&waited, 0.999), "max": longest,
        },
        "the machine's own lateness_ms": {
            "p99.9": percentile(&late, 0.999), "max": percentile(&late, 1.0),
        },
        "swap_ms": { "p50": percentile(&swaps, 0.5), "max": percentile(&swaps, 1.0) },
    });
    let lost = wrong + twice + failed_collections + out_of_order;
    Ok(vec![
        Row::new("swap-lost-calls", lost as f64, (Better::Lower, 0.0), "", detail.clone()),
        Row::new("swap-longest-pause-ms", longest, (Better::Lower, PAUSE_MS), "ms", detail),
    ])
}

/// From a verified component to a slot that takes calls, nothing of it in memory before.
async fn warm(runtime: &Arc<Runtime>, plugins: &Built) -> Result<Row> {
    let component = plugins.plugin("sentinel/rows")?;
    let (rules, nothing) = (json!({ "rules": [] }), json!({}));
    let mut loads = Vec::with_capacity(LOADS);
    for _ in 0..=LOADS {
        let spec = spec("warm", &component, &rules, &nothing)?;
        let start = Instant::now();
        let slot = Slot::start(runtime, spec, Services::none()).await?;
        loads.push(milliseconds(start.elapsed()));
        slot.stop().await;
    }
    // The first may have compiled.
    loads.remove(0);
    loads.sort_by(f64::total_cmp);
    let middle = percentile(&loads, 0.5);
    let detail = json!({
        "plugin": "sentinel/rows", "component_bytes": component.bytes().map(|bytes| bytes.len()), "loads": LOADS,
        "p99": percentile(&loads, 0.99), "max": percentile(&loads, 1.0),
    });
    Ok(Row::new("warm-load-ms", middle, (Better::Lower, 5.0), "ms", detail))
}
