//! What may not run any more stops: loaded instances, calls in flight, what a slot could go
//! back to, compiled code.

mod plugins;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plugins::{Host, plugin, plugin_with, spec, start};
use sentinel_runtime::{
    Admission, Cause, Emptied, FailureKind, LoadCause, Refusal, Services, Slot, SlotSpec, SlotState,
};
use sentinel_trust::{Digest, PublisherKey, TrustPolicy, VerifiedComponent};
use serde_json::json;

sentinel_runtime::compile_child_hook!();

/// Longest from a withdrawal until nothing of the plugin runs, busy machines included; calls
/// have a limit of [`CALL_MS`], so whoever waits that out is found.
const SHORT: Duration = Duration::from_secs(15);
/// Time limit of calls that never end by themselves.
const CALL_MS: u64 = 30_000;

fn key() -> PublisherKey {
    PublisherKey::from_secret("sentinel".parse().unwrap(), &[7; 32])
}

/// The policy under which test plugins are verified.
fn trusting() -> TrustPolicy {
    TrustPolicy::trusting(key().publisher().clone(), key().public())
}

fn revoking(digests: &[Digest]) -> Arc<dyn Admission> {
    Arc::new(TrustPolicy {
        revoked_digests: BTreeSet::from_iter(digests.iter().copied()),
        ..trusting()
    })
}

fn hostile(slot: &str, patch: u64, mode: &str) -> SlotSpec {
    let grants = json!({
        "http": {"origins": ["http://127.0.0.1:9"]}, "kv": {"max_bytes": 65536},
        "limits": {"call_ms": CALL_MS},
    });
    let component = plugin_with("hostile", |manifest| manifest.version.patch = patch);
    spec(slot, component, json!({"mode": mode}), grants)
}

fn empty(slot: &Slot) -> (Emptied, String) {
    match slot.status().state {
        SlotState::Empty { emptied, reason, .. } => (emptied, reason),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_digest_stops_its_slots_and_no_other() {
    let host = Host::new();
    let revoked = hostile("a", 1, "behave");
    let digest = revoked.component.digest();
    let a = host.slot(revoked.clone()).await;
    let b = host.slot(hostile("b", 0, "behave")).await;
    a.collect().await.unwrap();
    let mut changes = host.runtime.changes();
    changes.mark_unchanged();
    assert!(host.runtime.enforce(Arc::new(trusting())).await.is_empty());
    assert!(!changes.has_changed().unwrap());

    let withdrawn = host.runtime.enforce(revoking(&[digest])).await;
    let said: Vec<_> = withdrawn.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 1);
    assert!(
        said[0].starts_with("slot a: sentinel/hostile 0.1.1 was stopped: the plugin was revoked"),
        "{said:?}"
    );
    assert!(changes.has_changed().unwrap());
    let (emptied, reason) = empty(&a);
    assert_eq!(emptied, Emptied::Revoked);
    assert!(reason.contains(&digest.to_string()), "{reason}");
    let status = serde_json::to_value(a.status()).unwrap();
    assert_eq!((&status["state"], &status["emptied"]), (&json!("empty"), &json!("revoked")));
    assert_eq!((a.status().instances, a.status().memory_bytes), (0, 0));
    let error = a.collect().await.unwrap_err();
    assert!(!error.was_called() && matches!(error.cause, Cause::Empty { .. }));
    assert!(
        error.to_string().contains(
            "slot a: sentinel/hostile 0.1.1: collect: not called: the slot is empty (revoked)"
        ),
        "{error}"
    );
    assert_eq!(b.collect().await.unwrap().batches[0].value, [1.0]);

    let error = a.swap(revoked).await.unwrap_err();
    assert!(matches!(error.cause, LoadCause::NotAdmitted(_)), "{error}");
    assert!(host.runtime.enforce(revoking(&[digest])).await.is_empty(), "said once");
    assert_eq!(a.swap(hostile("a", 2, "behave")).await.unwrap(), 2);
    a.collect().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_stops_everything_that_it_alone_signed() {
    let host = Host::new();
    let slots =
        [host.slot(hostile("a", 0, "behave")).await, host.slot(hostile("b", 1, "behave")).await];
    let mut policy = trusting();
    let trust = policy.publishers.get_mut(key().publisher()).unwrap();
    trust.revoked.insert(key().public().id());
    assert_eq!(host.runtime.enforce(Arc::new(policy)).await.len(), 2);
    for slot in &slots {
        assert!(empty(slot).1.contains("which was revoked"));
    }
    let error = Slot::start(&host.runtime, hostile("c", 2, "behave"), Services::none()).await;
    assert!(matches!(error.unwrap_err().cause, LoadCause::NotAdmitted(_)));
}

/// A slot with a call in flight that does not end by itself.
async fn with_endless_call(
    host: &Host,
    mode: &str,
    url: &str,
) -> (Slot, tokio::task::JoinHandle<Result<sentinel_runtime::Collected, sentinel_runtime::CallError>>)
{
    let mut spec = hostile("a", 0, mode);
    spec.config = json!({"mode": mode, "url": url, "after": 1});
    spec.grants = serde_json::from_value(json!({
        "http": {"origins": [url]}, "kv": {"max_bytes": 65536}, "limits": {"call_ms": CALL_MS},
    }))
    .unwrap();
    let slot = host.slot(spec).await;
    slot.collect().await.unwrap();
    let before = slot.status().memory_bytes;
    assert!(before > 0);
    let called = slot.clone();
    let call = tokio::spawn(async move { called.collect().await });
    // The instance is no longer idle: the call has it.
    while slot.status().instances > 0 {
        tokio::task::yield_now().await;
    }
    (slot, call)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_flight_is_stopped_whether_it_spins_or_waits() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    for mode in ["spin", "hang"] {
        for disable in [false, true] {
            let host = Host::new();
            let (slot, call) = with_endless_call(&host, mode, &url).await;
            let started = Instant::now();
            if disable {
                slot.disable("an operator said so").await;
                assert_eq!(empty(&slot), (Emptied::Disabled, "an operator said so".into()));
            } else {
                host.runtime.enforce(revoking(&[slot.status().digest])).await;
                assert_eq!(empty(&slot).0, Emptied::Revoked);
            }
            assert_eq!(slot.status().memory_bytes, 0, "{mode}: the instance is gone");
            let error = call.await.unwrap().unwrap_err();
            assert!(started.elapsed() < SHORT, "{mode}: {:?}", started.elapsed());
            assert_eq!(
                (error.kind(), error.was_called()),
                (FailureKind::Withdrawn, true),
                "{error}"
            );
            assert_eq!(slot.status().failures["withdrawn"], 1);
            assert_eq!(slot.status().restarts, 0, "the plugin is not to blame");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compiled_code_of_what_was_revoked_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (runtime, _) = start(dir.path());
    let specs = [hostile("a", 0, "behave"), hostile("b", 1, "behave")];
    let [digest, other] = specs.each_ref().map(|spec| spec.component.digest());
    let mut slots = Vec::new();
    for spec in specs {
        slots.push(Slot::start(&runtime, spec, Services::none()).await.unwrap());
    }
    let here = |digest: &Digest| {
        let folder = std::fs::read_dir(dir.path().join("compiled")).unwrap();
        let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(&digest.to_hex())).count()
    };
    assert_eq!((here(&digest), here(&other)), (1, 1));
    runtime.enforce(revoking(&[digest])).await;
    assert_eq!((here(&digest), here(&other)), (0, 1));
}

/// Calls until the slot is in a state.
async fn call_until(slot: &Slot, done: impl Fn(&Slot) -> bool) {
    while !done(slot) {
        let _ = slot.collect().await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_does_not_go_back_to_what_was_revoked() {
    let host = Host::new();
    let good = hostile("a", 0, "behave");
    let slot = host.slot(good.clone()).await;
    slot.collect().await.unwrap();
    slot.swap(hostile("a", 1, "panic")).await.unwrap();
    assert_eq!(slot.status().last_good.unwrap().digest, good.component.digest());
    assert!(host.runtime.enforce(revoking(&[good.component.digest()])).await.is_empty());
    assert_eq!(slot.status().last_good, None, "forgotten at once");
    let quarantined = |slot: &Slot| matches!(slot.status().state, SlotState::Quarantined { .. });
    call_until(&slot, quarantined).await;
    assert_eq!((slot.status().generation, slot.status().rolled_back), (2, None));
}

/// Refuses one digest from a moment on, without the runtime being told.
struct Changing(Digest, std::sync::atomic::AtomicBool);

impl Admission for Changing {
    fn admit(&self, component: &VerifiedComponent) -> Result<(), Refusal> {
        let refuses = self.1.load(std::sync::atomic::Ordering::SeqCst);
        if refuses && component.digest() == self.0 {
            return Err(Refusal("refused, as asked".into()));
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_is_asked_before_a_slot_goes_back() {
    let host = Host::new();
    let good = hostile("a", 0, "behave");
    let policy = Arc::new(Changing(good.component.digest(), false.into()));
    host.runtime.enforce(Arc::clone(&policy) as Arc<dyn Admission>).await;
    let slot = host.slot(good).await;
    slot.collect().await.unwrap();
    slot.swap(hostile("a", 1, "panic")).await.unwrap();
    assert!(slot.status().last_good.is_some());
    policy.1.store(true, std::sync::atomic::Ordering::SeqCst);
    let quarantined = |slot: &Slot| matches!(slot.status().state, SlotState::Quarantined { .. });
    call_until(&slot, quarantined).await;
    assert_eq!((slot.status().generation, slot.status().last_good), (2, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_prepared_before_a_withdrawal_does_not_come_after_it() {
    let host = Host::new();
    let slot = host.slot(hostile("a", 0, "behave")).await;
    let prepared = slot.prepare(hostile("a", 1, "behave")).await.unwrap();
    slot.disable("stop").await;
    let error = prepared.commit().await.unwrap_err();
    assert!(error.to_string().contains("the slot was disabled while it was loaded"), "{error}");
    assert_eq!(empty(&slot).0, Emptied::Disabled);

    let spec = hostile("a", 2, "behave");
    let prepared = slot.prepare(spec.clone()).await.unwrap();
    host.runtime.enforce(revoking(&[spec.component.digest()])).await;
    let error = prepared.commit().await.unwrap_err();
    assert!(matches!(error.cause, LoadCause::NotAdmitted(_)), "{error}");

    assert_eq!(slot.swap(hostile("a", 3, "behave")).await.unwrap(), 2);
    slot.stop().await;
    let error = slot.swap(hostile("a", 0, "behave")).await.unwrap_err();
    assert!(matches!(error.cause, LoadCause::Stopped), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_good_before_a_restart_is_gone_back_to_if_it_may_run() {
    let host = Host::new();
    let slot = host.slot(hostile("a", 1, "panic")).await;
    let rows = spec("a", plugin("rows"), json!({"rules": []}), json!({}));
    assert!(matches!(slot.remember_good(rows).unwrap_err().cause, LoadCause::OtherKind { .. }));
    let good = hostile("a", 0, "behave");
    host.runtime.enforce(revoking(&[good.component.digest()])).await;
    let error = slot.remember_good(good.clone()).unwrap_err();
    assert!(matches!(error.cause, LoadCause::NotAdmitted(_)));
    host.runtime.enforce(Arc::new(trusting())).await;
    slot.remember_good(good).unwrap();
    call_until(&slot, |slot| slot.status().generation == 2).await;
    let status = slot.status();
    assert_eq!((status.version.patch, status.rolled_back.unwrap().version.patch), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generation_is_good_from_its_first_result_and_the_owner_is_told_once() {
    let host = Host::new();
    let slot = host.slot(hostile("a", 0, "behave")).await;
    assert!(!slot.status().good, "not before a call gave a result");
    let mut changes = host.runtime.changes();
    for first in [true, false] {
        changes.mark_unchanged();
        slot.collect().await.unwrap();
        assert_eq!((slot.status().good, changes.has_changed().unwrap()), (true, first));
    }
}
