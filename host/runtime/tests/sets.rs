//! Several slots changed as a whole or not at all, and state that a swap carries over.

mod plugins;

use std::time::Duration;

use plugins::{Host, plugin, plugin_with, spec};
use sentinel_runtime::{Change, LoadCause, MAX_SET, Services, Slot, SlotSpec};
use serde_json::json;

sentinel_runtime::compile_child_hook!();

fn hostile(slot: &str, patch: u64, mode: &str) -> SlotSpec {
    let grants = json!({"http": {"origins": ["http://127.0.0.1:9"]}, "kv": {"max_bytes": 65536}});
    let component = plugin_with("hostile", |manifest| manifest.version.patch = patch);
    spec(slot, component, json!({"mode": mode}), grants)
}

fn rows(slot: &str, patch: u64) -> SlotSpec {
    let component = plugin_with("rows", |manifest| manifest.version.patch = patch);
    spec(slot, component, json!({"rules": []}), json!({}))
}

fn swap(slot: &Slot, spec: SlotSpec) -> Change {
    Change::Swap { slot: slot.clone(), spec }
}

fn begin(spec: SlotSpec) -> Change {
    Change::Start { spec, services: Services::none() }
}

/// Version and generation of each slot.
fn running(slots: &[&Slot]) -> Vec<(u64, u64)> {
    slots.iter().map(|slot| slot.status()).map(|it| (it.version.patch, it.generation)).collect()
}

async fn collected(slot: &Slot) -> f64 {
    slot.collect().await.unwrap().batches[0].value[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_is_applied_as_a_whole_in_the_order_it_was_given() {
    let host = Host::new();
    let b = host.slot(hostile("b", 0, "behave")).await;
    let a = host.slot(rows("a", 0)).await;
    let set =
        vec![swap(&b, hostile("b", 1, "behave")), begin(rows("c", 1)), swap(&a, rows("a", 1))];
    let committed = host.runtime.apply(set).await.unwrap();
    let said: Vec<_> =
        committed.iter().map(|one| (one.slot.name().to_string(), one.generation)).collect();
    assert_eq!(said, [("b".into(), 2), ("c".into(), 1), ("a".into(), 2)]);
    assert_eq!(running(&[&a, &b, &committed[1].slot]), [(1, 2), (1, 2), (1, 1)]);
    collected(&b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_of_which_one_slot_fails_changes_none_and_says_which() {
    let host = Host::new();
    let a = host.slot(hostile("a", 0, "behave")).await;
    let b = host.slot(hostile("b", 0, "behave")).await;
    let z = host.slot(hostile("z", 0, "behave")).await;
    for slot in [&a, &b, &z] {
        collected(slot).await;
    }
    for (bad, why) in [
        (
            swap(&b, hostile("b", 9, "refuse-config")),
            "slot b: sentinel/hostile 0.1.9 was not loaded: its config was refused",
        ),
        (
            swap(&b, hostile("b", 9, "refuse-state")),
            "slot b: sentinel/hostile 0.1.9 was not loaded: it did not take over the state of 0.1.0: rejected: refused that of 0.1.0, as asked; to begin without it, disable the slot first",
        ),
        (swap(&b, hostile("b", 9, "panic-in-restore")), "hostile in restore, as asked"),
        (swap(&b, hostile("b", 9, "spin-in-restore")), "no result after 1000 ms"),
        (
            swap(&b, rows("b", 9)),
            "slot b: sentinel/rows 0.1.9 was not loaded: it is a transform and the slot is for a collector",
        ),
        (
            begin(SlotSpec { grants: Default::default(), ..hostile("c", 9, "behave") }),
            "slot c: sentinel/hostile 0.1.9 was not loaded",
        ),
        (swap(&a, hostile("a", 9, "behave")), "the slot is named twice in one set"),
    ] {
        let set =
            vec![swap(&a, hostile("a", 1, "behave")), bad, swap(&z, hostile("z", 1, "behave"))];
        let error = host.runtime.apply(set).await.unwrap_err();
        assert!(error.to_string().contains(why), "no {why:?} in {error}");
        assert_eq!(running(&[&a, &b, &z]), [(0, 1); 3], "{why}");
    }
    for slot in [&a, &b, &z] {
        assert_eq!(collected(slot).await, 2.0, "the very instance goes on");
        assert_eq!(slot.status().failures.len(), 0);
    }
    let memory = a.status().memory_bytes;
    assert_eq!(memory, b.status().memory_bytes, "what was prepared is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_of_too_many_slots_is_refused_before_anything_is_loaded() {
    let host = Host::new();
    let component = plugin("rows");
    let one = |n: usize| {
        begin(spec(&format!("s{n}"), component.clone(), json!({"rules": []}), json!({})))
    };
    let error = host.runtime.apply((0..=MAX_SET).map(one).collect()).await.unwrap_err();
    assert!(matches!(error.cause, LoadCause::TooMany { slots: 65, most: 64 }), "{error}");
    assert!(host.metrics.gather().iter().all(|f| f.name() != "sentinel_slot_generation"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_prepared_and_dropped_has_changed_nothing() {
    let host = Host::new();
    let slot = host.slot(hostile("a", 0, "behave")).await;
    collected(&slot).await;
    let memory = slot.status().memory_bytes;
    let prepared = slot.prepare(hostile("a", 1, "behave")).await.unwrap();
    assert!(slot.status().memory_bytes > memory, "old and new are there");
    assert_eq!(prepared.spec().component.version().patch, 1);
    drop(prepared);
    assert_eq!(slot.status().memory_bytes, memory);
    assert_eq!((collected(&slot).await, slot.status().generation), (2.0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_keeps_state_goes_on_with_it_after_a_swap() {
    let host = Host::new();
    let slot = host.slot(hostile("a", 0, "behave")).await;
    for n in 1..=3 {
        assert_eq!(collected(&slot).await, f64::from(n));
    }
    slot.swap(hostile("a", 1, "behave")).await.unwrap();
    assert_eq!(collected(&slot).await, 4.0, "another version");
    slot.swap(hostile("a", 1, "unavailable")).await.unwrap();
    slot.swap(hostile("a", 1, "behave")).await.unwrap();
    assert_eq!(collected(&slot).await, 5.0, "another config");
    slot.disable("begin anew").await;
    slot.swap(hostile("a", 1, "behave")).await.unwrap();
    assert_eq!(collected(&slot).await, 1.0, "an empty slot has no state");
    let other = SlotSpec {
        config: json!({"slot": "a"}),
        component: plugin("counter"),
        ..hostile("a", 0, "behave")
    };
    slot.swap(other).await.unwrap();
    slot.swap(hostile("a", 1, "behave")).await.unwrap();
    assert_eq!(collected(&slot).await, 1.0, "nor has one plugin that of another");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_does_not_give_its_state_can_still_be_replaced() {
    let host = Host::new();
    for mode in ["spin-in-snapshot", "panic-in-snapshot", "huge-state"] {
        let slot = host.slot(hostile(mode, 0, mode)).await;
        collected(&slot).await;
        slot.swap(hostile(mode, 1, "behave")).await.unwrap();
        assert_eq!(collected(&slot).await, 1.0, "{mode}: it begins anew");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_flight_ends_before_its_state_is_handed_over() {
    let host = Host::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let grants = json!({
        "http": {"origins": [url]}, "kv": {"max_bytes": 65536}, "limits": {"call_ms": 30_000},
    });
    let waits = SlotSpec {
        config: json!({"mode": "hang", "url": url}),
        grants: serde_json::from_value(grants).unwrap(),
        ..hostile("a", 0, "hang")
    };
    let slot = host.slot(waits.clone()).await;
    let called = slot.clone();
    let call = tokio::spawn(async move { called.collect().await });
    let (connection, _) = listener.accept().await.unwrap();
    let swapped = slot.clone();
    let behaves = SlotSpec { config: json!({"mode": "behave"}), ..waits };
    let mut swap = tokio::spawn(async move { swapped.swap(behaves).await });
    let early = tokio::time::timeout(Duration::from_millis(300), &mut swap).await;
    assert!(early.is_err(), "the call in flight still changes the state");
    drop(connection);
    assert!(call.await.unwrap().is_err(), "the receiver hung up");
    assert_eq!(swap.await.unwrap().unwrap(), 2);
    assert_eq!(collected(&slot).await, 2.0, "the call that hung was counted");
}
