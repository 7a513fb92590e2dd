//! Changing what runs in a slot while it is called.

mod plugins;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use plugins::{Host, plugin, plugin_with, spec};
use sentinel_model::batch::BatchBuilder;
use sentinel_model::columns::Kind;
use sentinel_runtime::{LoadCause, Services, Slot, SlotSpec, SlotState};
use serde_json::json;

sentinel_runtime::compile_child_hook!();

/// Calls that are in flight at once.
const CALLERS: usize = 8;
/// Calls that must have been made over all swaps.
const CALLS: u64 = 10_000;
/// Swaps.
const SWAPS: u64 = 10;

fn rows(patch: u64) -> SlotSpec {
    let component = plugin_with("rows", |manifest| manifest.version.patch = patch);
    spec("rows", component, json!({"rules": []}), json!({}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_calls_over_ten_swaps_lose_none() {
    let host = Host::new();
    let slot = host.slot(rows(0)).await;
    let mut builder = BatchBuilder::new();
    builder.push("up", [("job", "a")], Kind::Gauge, 1.0, 5);
    let batch = Arc::new(builder.build().unwrap());
    let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (slot, batch) = (slot.clone(), Arc::clone(&batch));
            let (stop, made) = (Arc::clone(&stop), Arc::clone(&made));
            tokio::spawn(async move {
                let mut answered = 0;
                while !stop.load(Ordering::SeqCst) {
                    made.fetch_add(1, Ordering::SeqCst);
                    let output = slot.reshape(Arc::clone(&batch)).await.unwrap();
                    assert_eq!(output.value, [1.0]);
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    for swap in 1..=SWAPS {
        while made.load(Ordering::SeqCst) < swap * CALLS / (SWAPS + 1) {
            tokio::task::yield_now().await;
        }
        assert_eq!(slot.swap(rows(swap)).await.unwrap(), swap + 1);
    }
    while made.load(Ordering::SeqCst) < CALLS {
        tokio::task::yield_now().await;
    }
    stop.store(true, Ordering::SeqCst);
    let mut answered = 0;
    for caller in callers {
        answered += caller.await.unwrap();
    }
    assert_eq!(answered, made.load(Ordering::SeqCst));
    let status = slot.status();
    assert_eq!((status.calls, status.failures.len()), (answered, 0));
    assert_eq!((status.generation, status.version.patch), (SWAPS + 1, SWAPS));
    assert!(status.instances <= 2, "those of old generations are gone");
}

fn hostile(mode: &str) -> SlotSpec {
    let grants = json!({"http": {"origins": ["http://127.0.0.1:9"]}, "kv": {"max_bytes": 65536}});
    spec("a", plugin("hostile"), json!({"mode": mode}), grants)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_that_fails_leaves_what_runs() {
    let host = Host::new();
    let slot = host.slot(hostile("behave")).await;
    slot.collect().await.unwrap();
    for (spec, why) in [
        (hostile("refuse-config"), "refused, as asked"),
        (hostile("spin-in-configure"), "no result after"),
        (SlotSpec { grants: Default::default(), ..hostile("behave") }, "grant"),
        (
            SlotSpec { component: plugin("rows"), ..hostile("behave") },
            "the slot is for a collector",
        ),
    ] {
        let error = slot.swap(spec).await.unwrap_err();
        assert!(error.to_string().contains(why), "no {why:?} in {error}");
        assert!(!matches!(error.cause, LoadCause::Stopped));
        let collected = slot.collect().await.unwrap();
        assert!(collected.batches[0].value[0] >= 2.0, "the very instance goes on");
        assert_eq!(slot.status().generation, 1);
    }
}

/// Calls until the slot no longer waits out a backoff, and gives its state.
async fn fail_until(slot: &Slot, done: impl Fn(&Slot) -> bool) {
    while !done(slot) {
        let _ = slot.collect().await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generation_that_fails_again_and_again_is_given_up_for_the_last_good_one() {
    let host = Host::new();
    let slot = host.slot(hostile("behave")).await;
    slot.collect().await.unwrap();
    let worse = SlotSpec {
        component: plugin_with("hostile", |manifest| manifest.version.patch = 9),
        ..hostile("panic")
    };
    assert_eq!(slot.swap(worse).await.unwrap(), 2);
    // Neither the component's bytes nor the cache are needed to go back.
    assert!(slot.spec().unwrap().component.bytes().is_none());
    std::fs::remove_dir_all(host.dir.path().join("compiled")).unwrap();
    fail_until(&slot, |slot| slot.status().generation == 3).await;
    let status = slot.status();
    let given_up = status.rolled_back.unwrap();
    assert_eq!((status.version.patch, given_up.version.patch), (0, 9));
    assert!(given_up.reason.contains("as asked"), "{given_up:?}");
    slot.collect().await.unwrap();
    assert_eq!(slot.status().state, SlotState::Running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_good_generation_a_failing_plugin_is_quarantined() {
    let host = Host::new();
    let slot = host.slot(hostile("panic")).await;
    let quarantined = |slot: &Slot| matches!(slot.status().state, SlotState::Quarantined { .. });
    fail_until(&slot, quarantined).await;
    let error = slot.collect().await.unwrap_err();
    assert!(!error.was_called());
    assert!(error.to_string().contains("quarantined after: collect: panicked at"), "{error}");
    assert_eq!(slot.status().failures["panic"], 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_without_bytes_is_loaded_while_its_code_is_somewhere_and_refused_after() {
    let host = Host::new();
    let light = || SlotSpec {
        component: Arc::new(hostile("behave").component.without_bytes()),
        ..hostile("behave")
    };
    let error = Slot::start(&host.runtime, light(), Services::none()).await.unwrap_err();
    assert!(error.to_string().contains("load it from its file"), "{error}");
    drop(host.slot(hostile("behave")).await);
    host.slot(light()).await.collect().await.unwrap();
}
