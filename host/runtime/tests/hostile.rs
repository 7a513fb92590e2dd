//! A plugin that misbehaves: its slot fails with a message that names plugin, version, export
//! and cause, and every other slot goes on.

mod plugins;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use plugins::{Host, plugin, plugin_with, spec};
use sentinel_runtime::{CallError, FailureKind, LoadError, Services, Slot, SlotSpec, SlotState};
use serde_json::{Value, json};

sentinel_runtime::compile_child_hook!();

/// Longest that a call of a slot that behaves may take beside slots that do not, beyond what the
/// machine kept a thread of this process waiting. Its own limit is not the bound here: a guest
/// that spins holds its thread for a tick of 10 ms at most.
const UNDISTURBED: Duration = Duration::from_millis(900);

fn grants() -> Value {
    json!({"http": {"origins": ["http://127.0.0.1:9"]}, "kv": {"max_bytes": 65536}})
}

fn hostile(mode: &str) -> SlotSpec {
    spec(&format!("hostile-{mode}"), plugin("hostile"), json!({"mode": mode}), grants())
}

/// Calls a slot that behaves again and again until it is stopped.
struct Neighbour {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<(u64, Duration)>,
    /// How long a thread that runs no guest was kept waiting at most.
    machine: std::thread::JoinHandle<Duration>,
}

impl Neighbour {
    async fn start(host: &Host) -> Self {
        let mut grants = grants();
        grants["limits"] = json!({"call_ms": 30_000});
        let behaves = spec("neighbour", plugin("hostile"), json!({"mode": "behave"}), grants);
        let slot = host.slot(behaves).await;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let machine = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !seen.load(Ordering::SeqCst) {
                let started = Instant::now();
                std::thread::sleep(Duration::from_millis(2));
                longest = longest.max(started.elapsed());
            }
            longest
        });
        let seen = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let (mut calls, mut longest) = (0, Duration::ZERO);
            while !seen.load(Ordering::SeqCst) {
                let started = Instant::now();
                let collected = slot.collect().await.unwrap();
                calls += 1;
                assert_eq!(collected.batches[0].value, [calls as f64], "its instance was kept");
                longest = longest.max(started.elapsed());
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            assert_eq!(slot.status().failures, [].into());
            (calls, longest)
        });
        Self { stop, task, machine }
    }

    async fn was_undisturbed(self) {
        self.stop.store(true, Ordering::SeqCst);
        let (calls, longest) = self.task.await.unwrap();
        let machine = self.machine.join().unwrap();
        assert!(calls > 10, "it was called {calls} times");
        assert!(longest < UNDISTURBED + machine, "a call took {longest:?}, a sleep {machine:?}");
    }
}

fn check(error: &CallError, mode: &str, kind: FailureKind, cause: &str) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{mode}: {text}");
    for part in [&format!("slot hostile-{mode}: sentinel/hostile 0.1.0: collect: "), cause] {
        assert!(text.contains(part), "{mode}: no {part:?} in: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_misdeed_fails_its_own_slot_with_its_cause_and_no_other_slot() {
    use FailureKind as K;
    let host = Host::new();
    let neighbour = Neighbour::start(&host).await;
    for (mode, kind, cause) in [
        ("spin", K::Timeout, "no result after 1000 ms (`limits.call_ms`), running its own code"),
        ("allocate", K::Memory, "its limit is 33554432 bytes"),
        ("overflow-stack", K::Stack, "its stack overflowed"),
        ("panic", K::Panic, "hostile in call 1, as asked"),
        ("unavailable", K::Unavailable, "unavailable: unavailable, as asked"),
        ("misconfigured", K::Misconfigured, "/mode: misconfigured, as asked"),
        ("rejected", K::Rejected, "rejected: rejected, as asked"),
        ("more-forever", K::Malformed, "more than 64 parts"),
        ("symbol-end-in-character", K::Malformed, "inside a character"),
        ("symbols-not-utf8", K::Malformed, "utf-8"),
        ("symbol-ends-go-back", K::Malformed, "less than the one before"),
        ("symbol-end-beyond-text", K::Malformed, "past the symbols"),
        ("text-beyond-symbols", K::Malformed, "symbols"),
        ("name-beyond-symbols", K::Malformed, "`name`"),
        ("label-beyond-symbols", K::Malformed, "`labels`"),
        ("offsets-go-back", K::Malformed, "`label-offsets`"),
        ("offset-beyond-labels", K::Malformed, "`label-offsets`"),
        ("offset-is-odd", K::Malformed, "`label-offsets`"),
        ("offsets-start-late", K::Malformed, "`label-offsets`"),
        ("offsets-too-few", K::Malformed, "`label-offsets`"),
        ("values-too-few", K::Malformed, "`value`"),
        ("times-too-many", K::Malformed, "`time`"),
        ("unknown-kind", K::Malformed, "not a kind"),
        ("malformed-name", K::Malformed, "name"),
        ("malformed-key", K::Malformed, "label key"),
        ("reserved-key", K::Malformed, "__"),
        ("key-twice", K::Malformed, "twice"),
        ("too-many-labels", K::Malformed, "label"),
        ("too-many-rows", K::Malformed, "rows"),
        ("symbol-too-long", K::Malformed, "1024"),
        ("return-too-much", K::TooMuch, "more than 1048576 bytes (`limits.returned_bytes`)"),
        ("huge-text", K::Malformed, "out of bounds"),
        ("huge-list", K::Malformed, "out of bounds"),
        ("unaligned-list", K::Malformed, "aligned"),
    ] {
        let slot = host.slot(hostile(mode)).await;
        let error = slot.collect().await.unwrap_err();
        check(&error, mode, kind, cause);
        let status = slot.status();
        assert_eq!(status.failures, [(kind.as_str(), 1)].into(), "{mode}");
        assert_eq!(
            status.instances,
            usize::from(!kind.is_fault()),
            "{mode}: only a fault costs the instance"
        );
        assert_eq!(status.state, SlotState::Running, "{mode}: one failure costs no wait");
    }
    neighbour.was_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_and_a_loop_say_where() {
    let host = Host::new();
    for (mode, place) in [("panic", "Hostile"), ("spin", "spin")] {
        let error = host.slot(hostile(mode)).await.collect().await.unwrap_err().to_string();
        assert!(error.contains("wasm backtrace"), "{error}");
        assert!(error.contains(place), "no {place} in: {error}");
    }
    let error = host.slot(hostile("panic")).await.collect().await.unwrap_err().to_string();
    assert!(error.contains("panicked at") && error.contains("lib.rs"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_hangs_in_a_host_function_ends_at_its_limit() {
    let host = Host::new();
    let neighbour = Neighbour::start(&host).await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", silent.local_addr().unwrap());
    // Nearly all of it is spent in the host function, however late the guest comes to it.
    let grants = json!({
        "http": {"origins": [origin]}, "kv": {"max_bytes": 65536}, "limits": {"call_ms": 3000},
    });
    let config = json!({"mode": "hang", "url": format!("{origin}/")});
    let slot = host.slot(spec("hostile-hang", plugin("hostile"), config, grants)).await;
    let started = Instant::now();
    let error = slot.collect().await.unwrap_err();
    assert!(started.elapsed() >= Duration::from_millis(3000));
    check(&error, "hang", FailureKind::Timeout, "waiting in http.send");
    assert!(slot.status().host_seconds >= 0.9, "{:?}", slot.status());
    neighbour.was_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_beyond_the_grants_is_denied_and_the_plugin_goes_on() {
    let host = Host::new();
    let slot = host.slot(hostile("ask-too-much")).await;
    let error = slot.collect().await.unwrap_err();
    check(&error, "ask-too-much", FailureKind::Unavailable, "enied");
    assert_eq!(slot.status().instances, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_messages_and_a_full_store_harm_nobody() {
    let host = Host::new();
    let slot = host.slot(hostile("flood-log")).await;
    slot.collect().await.unwrap();
    let error = host.slot(hostile("fill-kv")).await.collect().await;
    // Whatever the plugin makes of it, the writes are within the grant.
    if let Ok(collected) = error {
        let bytes: usize = collected
            .kv
            .iter()
            .map(|write| write.key.len() + write.value.as_ref().map_or(0, Vec::len))
            .sum();
        assert!((1..=65536).contains(&bytes), "{bytes}");
    }
}

async fn refused(host: &Host, spec: SlotSpec) -> LoadError {
    match Slot::start(&host.runtime, spec, Services::none()).await {
        Ok(slot) => panic!("{slot:?} was loaded"),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_misbehaves_while_it_is_loaded_is_not_loaded() {
    let host = Host::new();
    for (mode, cause) in [
        ("spin-in-configure", "configure: no result after 1000 ms"),
        ("panic-in-configure", "configure: panicked at"),
        ("refuse-config", "its config was refused:\n  - /mode: refused, as asked"),
        ("no-such-mode", "its config was refused:\n  - /mode"),
    ] {
        let error = refused(&host, hostile(mode)).await.to_string();
        let start = format!("slot hostile-{mode}: sentinel/hostile 0.1.0 was not loaded: ");
        assert!(error.starts_with(&start), "{error}");
        assert!(error.contains(cause), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_asks_for_more_than_granted_is_told_everything_that_is_missing() {
    let host = Host::new();
    let asks = spec("a", plugin("hostile"), json!({"mode": "behave"}), json!({}));
    let error = refused(&host, asks).await.to_string();
    for part in
        ["sentinel/hostile 0.1.0 was not loaded", "http.origins", "GET", "65536 bytes of state"]
    {
        assert!(error.contains(part), "no {part:?} in: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_lies_about_its_config_schema_is_not_loaded() {
    let host = Host::new();
    let lying = plugin_with("hostile", |manifest| {
        manifest.config_schema = serde_json::from_value(json!({"type": "object"})).unwrap();
    });
    let error =
        refused(&host, spec("a", lying, json!({"mode": "behave"}), grants())).await.to_string();
    assert!(error.contains("describe: its config schema differs"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_in_a_row_end_in_quarantine_and_a_new_config_ends_that() {
    let host = Host::patient();
    let slot = host.slot(hostile("panic")).await;
    assert_eq!(slot.collect().await.unwrap_err().kind(), FailureKind::Panic);
    assert_eq!(slot.collect().await.unwrap_err().kind(), FailureKind::Panic);
    let waits = slot.collect().await.unwrap_err();
    assert_eq!(waits.kind(), FailureKind::NotCalled);
    assert!(!waits.was_called() && !waits.is_fault());
    assert!(matches!(slot.status().state, SlotState::BackingOff { .. }));
    let better = SlotSpec { config: json!({"mode": "behave"}), ..hostile("panic") };
    assert_eq!(slot.swap(better).await.unwrap(), 2);
    slot.collect().await.unwrap();
    assert_eq!(slot.status().state, SlotState::Running);
}
